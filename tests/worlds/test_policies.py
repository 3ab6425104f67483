"""Policies with real programs: each match in both families, failover, last resort, shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.lab import SERVER, SERVER6, Daemon, Echo, eventually, subflows
from tests.lab.forwarding import Datagrams
from tests.lab.policies import BY_WAN2, NETWORK, PolicyWorld, use
from tests.lab.wan import address
from tests.worlds.test_pinned_flows import goes_on

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def world() -> Iterator[PolicyWorld]:
    with PolicyWorld() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(world: PolicyWorld) -> Iterator[Daemon]:
    with Daemon(world.gateway, NETWORK) as made:
        made.settle()
        yield made


def rule(*options: str, policy: str = "by_wan2") -> str:
    lines = ["config rule 'r'", f"\toption use_policy '{policy}'"]
    lines += [f"\t{one}" if one.startswith("list") else f"\toption {one}" for one in options]
    return BY_WAN2 + "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", [4, 6])
def test_each_match_leads_to_the_policy_and_nothing_else_does(
    world: PolicyWorld, daemon: Daemon, family: int
) -> None:
    source, other = (
        ("192.168.70.10", "192.168.70.11")
        if family == 4
        else ("2001:db8:70::10", "2001:db8:70::11")
    )
    mac = world.lan.run("cat", "/sys/class/net/eth0/address").strip()
    udp = {"kind": "SOCK_DGRAM"}
    for option, matching, others in (
        (f"src_ip '{source}'", {}, None),
        (f"src_ip '{other}'", None, {}),
        (f"src_ip '!{other}'", {}, None),
        (f"src_mac '{mac}'", {}, None),
        ("src_mac '02:00:00:00:00:99'", None, {}),
        ("src_iface 'lan'", {}, None),
        ("src_iface '!lan'", None, {}),
        ("proto 'udp'", udp, {}),
        ("list proto 'tcp'\n\toption dest_port '9'", {"port": 9}, {"port": 7}),
        ("list proto 'tcp'\n\toption dest_port '!8-10'", {"port": 7}, {"port": 9}),
        ("list proto 'udp'\n\toption src_port '5000-5010'", {**udp, "sport": 5005}, udp),
        ("dscp 'ef'", {"tos": 0xB8}, {"tos": 0xA0}),
        ("dscp 'cs5,ef'", {"tos": 0xA0}, {}),
        (f"family 'ipv{family}'", {}, None),
        (f"family 'ipv{10 - family}'", None, {}),
    ):
        use(daemon, rule(option))
        if matching is not None:
            assert world.uplink(family, **matching) == "wan2", option
        if others is not None:
            assert world.uplink(family, **others) == "wan1", option


def member(name: str, uplink: str, metric: int = 1, weight: int = 1) -> str:
    return (
        f"config member '{name}'\n\toption interface '{uplink}'\n"
        f"\toption metric '{metric}'\n\toption weight '{weight}'\n"
    )


def policy(name: str, *members: str, resort: str = "unreachable") -> str:
    lines = "".join(f"\tlist use_member '{one}'\n" for one in members)
    return f"config policy '{name}'\n{lines}\toption last_resort '{resort}'\n"


FAILOVER = member("a", "wan2") + member("b", "wan1", 2)
ALL_BY_P = "config rule 'r'\n\toption src_iface 'lan'\n\toption use_policy 'p'\n"


def carries(daemon: Daemon, name: str, family: str = "ipv4") -> bool:
    (status,) = daemon.query_status()["policies"]
    (way,) = [way for way in status["ways"] if way["family"] == family]
    return [one["uplink"] for one in way["uplinks"]] == [name]


def test_failover_keeps_connections_and_the_last_resort_lets_nothing_out(
    world: PolicyWorld, daemon: Daemon
) -> None:
    use(daemon, FAILOVER + policy("p", "a") + ALL_BY_P)
    assert world.uplink() == world.uplink(6) == "wan2"
    world.unplug(2)
    try:
        eventually(lambda: world.uplink() == "", 20)
        assert world.uplink(6) == ""
        assert "nreachable" in world.ping()
        use(daemon, FAILOVER + policy("p", "a", resort="blackhole") + ALL_BY_P)
        assert "nreachable" not in world.ping()
        use(daemon, FAILOVER + policy("p", "a", resort="default") + ALL_BY_P)
        assert world.uplink() == world.uplink(6) == "wan1"
        use(daemon, FAILOVER + policy("p", "a", "b") + ALL_BY_P)
        assert world.uplink() == world.uplink(6) == "wan1"
        with Echo(world.lan, world.server, SERVER, mptcp=False) as flow:
            goes_on(flow)
            world.plug(2)
            eventually(lambda: carries(daemon, "wan2"), 20)
            assert world.uplink() == "wan2", "new ones"
            goes_on(flow)
    finally:
        world.plug(2)
        daemon.settle()


def test_a_connection_of_a_policy_never_leaves_by_another_uplink(
    world: PolicyWorld, daemon: Daemon
) -> None:
    """It is pinned to an uplink that is lost; without a second mark it would take the default."""
    use(daemon, FAILOVER + policy("p", "a") + ALL_BY_P)
    flow = Datagrams(world)
    assert flow.comes_from(address(2))
    seen = world.counted(1)
    world.unplug(2)
    try:
        assert flow.falls_silent()
        assert world.counted(1) == seen
    finally:
        flow.stop()
        world.plug(2)
        daemon.settle()


def test_members_share_by_weight(world: PolicyWorld, daemon: Daemon) -> None:
    shares = member("a", "wan1", weight=3) + member("b", "wan2")
    use(daemon, shares + policy("p", "a", "b") + ALL_BY_P)
    for family in (4, 6):
        found = [world.uplink(family) for _ in range(24)]
        assert set(found) == {"wan1", "wan2"}
    use(daemon, shares.replace("'3'", "'1'") + policy("p", "b") + ALL_BY_P)
    assert world.uplink() == "wan2"
    assert "nexthop" not in world.gateway.ip("route show table 7257")


@pytest.mark.parametrize("family", [4, 6])
def test_own_traffic_by_user(world: PolicyWorld, daemon: Daemon, family: int) -> None:
    own = rule("user '1234-1235'")
    use(daemon, own)
    assert world.uplink(family, own_user=1235) == "wan2"
    assert world.uplink(family, own_user=1236) == "wan1"
    assert world.uplink(family) == "wan1", "what is forwarded has no user"
    host = SERVER if family == 4 else SERVER6
    use(daemon, rule("user 'all'", f"dest_ip '{host}'", "proto 'tcp'", "dest_port '9'"))
    assert world.uplink(family, port=9, own_user=0) == "wan2"
    assert world.uplink(family, port=7, own_user=0) == "wan1"
    assert world.uplink(family, port=9) == "wan1"
    first = rule("user '1234'", policy="default").replace("'r'", "'first'")
    use(daemon, first + rule("user 'all'").replace(BY_WAN2, ""))
    assert world.uplink(family, own_user=1234) == "wan1"
    assert world.uplink(family, own_user=1235) == "wan2"


def test_subflows_keep_their_uplinks_beside_rules_for_all_users(
    world: PolicyWorld, daemon: Daemon
) -> None:
    use(daemon, rule("user 'all'"))
    with Echo(world.gateway, world.server, SERVER) as echo:
        eventually(lambda: len(subflows(world.gateway, echo.port)) == 2, 20)
        locals_ = {subflow.local for subflow in subflows(world.gateway, echo.port)}
        assert locals_ == {address(1), address(2)}
        goes_on(echo)


def test_sticky_holds_a_host_on_its_uplink(world: PolicyWorld, daemon: Daemon) -> None:
    both = member("a", "wan1") + member("b", "wan2") + policy("p", "a", "b")
    sticky = (
        "config rule 'r'\n\toption use_policy 'p'\n\toption sticky '1'\n\toption timeout '300'\n"
    )
    use(daemon, both + sticky)
    first = world.uplink()
    assert {world.uplink() for _ in range(12)} == {first}
    ways = {world.uplink(6) for _ in range(12)}
    assert len(ways) == 1
    elements = world.gateway.run("nft", f"list set inet mproutd sticky_r_{first}_4")
    assert "192.168.70.10" in elements
    number = int(first[-1])
    other = "wan2" if number == 1 else "wan1"
    world.unplug(number)
    try:
        eventually(lambda: world.uplink() == other, 20)
    finally:
        world.plug(number)
        daemon.settle()
    assert {world.uplink() for _ in range(6)} == {other}, "it stays where it is"


def test_a_set_that_others_fill_outlives_a_reload(world: PolicyWorld, daemon: Daemon) -> None:
    use(daemon, rule("set 'tv'"))
    assert world.uplink() == "wan1"
    world.gateway.run("nft", "add element inet mproutd tv_4 { 10.9.0.0/16 }")
    world.gateway.run("nft", f"add element inet mproutd tv_6 {{ {SERVER6} }}")
    assert world.uplink() == world.uplink(6) == "wan2"
    use(daemon, rule("set 'tv'", "proto 'tcp'"))
    assert "tcp" in world.table()
    assert world.uplink() == world.uplink(6) == "wan2"
    world.gateway.run("nft", "add rule inet mproutd incoming counter")
    eventually(lambda: "counter" not in world.table(), 20)
    assert world.uplink() == "wan2", "also where another program has changed a rule"


def test_a_reload_of_one_rule_under_load_moves_nothing_else(
    world: PolicyWorld, daemon: Daemon
) -> None:
    """Pinned connections stay, and no packet of another rule takes another uplink meanwhile."""
    steady = rule("proto 'udp'").replace("'r'", "'steady'")
    steady += "config rule 'tcp'\n\toption proto 'tcp'\n\toption use_policy 'by_wan2'\n"
    changing = "config rule 'changing'\n\toption dscp '{}'\n\toption use_policy 'wan1'\n"
    use(daemon, steady + changing.format("ef"))
    seen = world.counted(1)
    flow = Datagrams(world)
    assert flow.comes_from(address(2))
    with Echo(world.lan, world.server, SERVER, mptcp=False) as echo:
        goes_on(echo)
        flood = world.lan.popen(sys.executable, "-c", FLOOD, SERVER)
        world.started.append(flood)
        for number in range(10, 30):
            use(daemon, steady + changing.format(number))
        goes_on(echo)
        assert flood.poll() is None
        flood.kill()
        assert flow.comes_from(address(2))
        flow.stop()
    assert world.counted(2) > 200, "it was under load"
    assert world.counted(1) == seen


FLOOD = """
import itertools, socket, sys, time
for port in itertools.cycle(range(10000, 30000)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port))
    for _ in range(3):
        s.sendto(b"?", (sys.argv[1], 7))
    s.close()
    time.sleep(0.001)
"""
"""A new UDP connection every millisecond, from a port that no other test uses: it would be pinned
to the uplink of an earlier connection from that port."""


def test_five_hundred_rules(world: PolicyWorld, daemon: Daemon) -> None:
    """More than fits into a socket's usual buffer; the last one matches."""
    rules = "".join(
        f"config rule 'r{n}'\n\toption src_ip '10.77.{n // 250}.{n % 250}'\n"
        f"\toption proto 'tcp'\n\toption use_policy 'by_wan2'\n"
        for n in range(500)
    )
    use(daemon, BY_WAN2 + rules + "config rule 'last'\n\toption use_policy 'by_wan2'\n")
    assert world.table().count("goto use_by_wan2") == 502
    assert [world.uplink(), world.uplink(6)] == ["wan2", "wan2"]
    use(daemon, "")
    assert "rules4" not in world.table()


def test_a_pass_writes_nothing_and_a_flush_leaves_nothing(
    world: PolicyWorld, daemon: Daemon
) -> None:
    own = "config rule 'o'\n\toption user '5'\n\toption proto 'tcp'\n\toption dest_port '80-90,9'\n"
    use(daemon, FAILOVER + policy("p", "a", "b") + ALL_BY_P + own + "\toption use_policy 'p'\n")
    daemon.settle()
    assert daemon.call("reconcile", "--dry-run").out == ""
    writes = daemon.query_status()["counts"]["writes"]
    daemon.reconcile()
    assert daemon.query_status()["counts"]["writes"] == writes
    daemon.stop()
    assert daemon.call("flush").code == 0
    assert "proto 77" not in world.gateway.ip("rule show")
    assert "proto 77" not in world.gateway.ip("route show table all")
    assert world.table() == ""
    daemon.start()
    daemon.settle()
