"""The table that you read is the truth: every problem by its code, from a world that has it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest

from mproutd.configuration.config import ConfigError
from mproutd.hints import hints_directory
from mproutd.model import PROTOCOL, SIGNAL, Endpoint, Failure, Mptcp, Operation, Route, Rule
from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.planning.uplinks import REASONS
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile
from mproutd.status.build import build_status as build_status
from mproutd.status.changes import changes, planned_changes
from mproutd.status.problems import PROBLEMS
from mproutd.status.render import status_lines
from tests.lab.fake_world import ENABLED, World, interface
from tests.unit.test_pacing import Clock
from tests.unit.test_plan import WAN1, WAN2, two_lines


class Site:
    """A keeper on the fake kernel, with its two directories."""

    def __init__(self, root: Path, world: World | None = None) -> None:
        self.world = world or two_lines()
        self.root, self.clock = root, Clock()
        self.runtime = root / "run"
        self.runtime.mkdir()
        self.state = StateFile(str(self.runtime))
        self.reconciler = Reconciler(self.world, self.state, str(root), self.clock)  # type: ignore[arg-type]
        self.write(WAN1 + WAN2)

    def write(self, network: str, own: str = "") -> None:
        (self.root / "network").write_text(ENABLED + network)
        (self.root / "mproutd").write_text(own)

    def settle(self) -> None:
        self.reconciler.configure()
        self.reconciler.converge()

    def status(self) -> dict[str, Any]:
        return build_status(self.reconciler.inspect())

    def problems(self) -> list[dict[str, Any]]:
        problems: list[dict[str, Any]] = self.status()["problems"]
        return problems


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def mptcp(site: Site) -> Mptcp:
    assert site.world.mptcp is not None
    return site.world.mptcp


def failed_in_use(site: Site) -> None:
    own = "".join(f"config uplink wan{n}\n list track_ip 9.9.9.9\n" for n in (1, 2))
    site.write(WAN1 + WAN2, own)
    failed = (("wan2", AF_INET), ("wan1", AF_INET))
    site.reconciler.add_service_facts = lambda facts: facts._replace(failed=failed)
    site.settle()


def address_without_gateway(site: Site) -> None:
    site.world.add_address("eth2", "192.168.8.100/24")
    site.settle()


def gateway_remembered(site: Site) -> None:
    """The link went down and up, and nobody has restored main's route."""
    site.settle()
    site.world.down("eth2")
    site.settle()
    site.world.up("eth2")
    site.settle()
    site.clock.now += 61


def endpoint_in_use(site: Site) -> None:
    """The role changes while a peer has a connection to 10.1.1.2."""
    site.settle()
    site.world.connections = [Connection("10.1.1.2", 0, False, True, token=7)]
    site.world.subflow_sockets = [Subflow(7, "10.1.1.2", initial=True, initiated_locally=False)]
    site.write(WAN1 + WAN2, "config mproutd 'globals'\n\toption role 'both'\n")
    site.settle()
    assert site.world.show(mptcp(site).endpoints) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 signal subflow dev eth2",
    ]


def no_mptcp(site: Site) -> None:
    site.world.mptcp = None
    site.settle()


def no_mptcp_diag(site: Site) -> None:
    site.world.mptcp_diag = False
    site.settle()


def mptcp_disabled(site: Site) -> None:
    site.world.mptcp = mptcp(site)._replace(enabled=False)
    site.settle()


def family_unusable(site: Site) -> None:
    site.world.add_address("eth2", "2001:db8:2::2/64")
    site.settle()


def main_not_looked_up(site: Site) -> None:
    site.write(WAN1.replace("master", "on") + WAN2)
    site.settle()
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 32766]


def mptcp_paused(site: Site) -> None:
    site.world.paused = True
    site.settle()


def path_manager(site: Site) -> None:
    site.world.mptcp = mptcp(site)._replace(path_manager="bpf")
    site.settle()


def configuration_rejected(site: Site) -> None:
    site.settle()
    site.write("config interface 'wan1'\n option device 'eth1'\n option multipath 'onn'\n")
    with pytest.raises(ConfigError):
        site.reconciler.configure()


def state_file_error(site: Site) -> None:
    (site.runtime / "state.json").write_text("{")
    site.state.load()
    site.reconciler.configure()


def hints_ignored(site: Site) -> None:
    hints = Path(hints_directory(str(site.runtime)))
    hints.mkdir()
    hints.chmod(0o777)
    site.settle()


def netifd_unreachable(site: Site) -> None:
    site.reconciler.add_service_facts = lambda facts: facts._replace(
        source_error="no answer within 3 s"
    )
    site.settle()


def endpoint_limit(site: Site) -> None:
    site.world.mptcp = mptcp(site)._replace(max_endpoints=2)
    site.world.foreign(Endpoint("192.0.2.7", 0, SIGNAL))
    site.settle()


def foreign_endpoint(site: Site) -> None:
    site.world.foreign(Endpoint("10.2.2.2", 0, SIGNAL))
    site.settle()


def misrouted(site: Site) -> None:
    world = site.world
    world.foreign(Route(2, 100, "default", world.link("eth2").index, "10.2.2.9", protocol=4))
    world.foreign(Rule(2, 99, 100, "10.2.2.2", protocol=0))
    site.settle()


def blackhole_default(site: Site) -> None:
    """FRR's Null0: main has a default by eth1, and for all others one that throws away."""
    world = site.world
    site.settle()
    world.foreign(Route(2, 254, "default", metric=254, type=6, protocol=4))
    world.forget_default("eth2")
    site.settle()


def limit_not_lowered(site: Site) -> None:
    site.write(WAN1 + WAN2, "config mproutd 'globals'\n option subflows '1'\n")
    site.settle()


def announced_addresses(site: Site) -> None:
    """Main's default with the lowest metric leaves via eth1."""
    paid = interface("wan1", "eth1", "handover")
    own = "config mproutd 'globals'\n option add_addr_accepted '4'\n"
    site.write(paid + WAN2, own)
    site.settle()


def no_nexthop_objects(site: Site) -> None:
    site.world.nexthops.supported = False
    site.write(WAN1 + WAN2, "config uplink 'wan2'\n option weight '2'\n")
    site.settle()


def laminar_unsupported(site: Site) -> None:
    site.world.mptcp = mptcp(site)._replace(laminar=False)
    site.write(WAN1 + WAN2, "config uplink 'wan2'\n option laminar '1'\n")
    site.settle()


def resolver_diverted(site: Site) -> None:
    site.write(WAN1 + WAN2, "config uplink wan1\n list dns 198.51.100.1\n")
    site.settle()
    index = site.world.link("eth2").index
    site.world.foreign(Route(AF_INET, 254, "198.51.100.1", index, "10.2.2.1", protocol=4))


def resolver_shared(site: Site) -> None:
    """A VPN has a route to it."""
    own = "".join(f"config uplink wan{n}\n list dns 9.9.9.9\n" for n in (1, 2))
    site.write(WAN1 + WAN2, own)
    site.world.device("wg0", "10.8.0.2/24")
    site.settle()
    index = site.world.link("wg0").index
    site.world.foreign(Route(AF_INET, 254, "9.9.9.9", index, "10.8.0.1", protocol=4))


def no_mark(site: Site) -> None:
    own = "config mproutd 'globals'\n option mark_mask '0x3'\n"
    site.write(WAN1 + WAN2, own + "config uplink 'wan2'\n option table '7003'\n")
    site.settle()


def policy_unusable(site: Site) -> None:
    own = "config member 'm'\n option interface 'wan2'\nconfig policy 'p'\n"
    own += " list use_member 'm'\nconfig rule 'r'\n option use_policy 'p'\n"
    site.write(WAN1 + WAN2, own)
    site.world.set("eth2", carrier=False)
    site.settle()


def take_a_rule_away(site: Site) -> None:
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 7502]
    site.reconciler.reconcile()


def removed_externally(site: Site) -> None:
    site.settle()
    take_a_rule_away(site)


def rate_limited(site: Site) -> None:
    site.settle()
    for _ in range(7):
        take_a_rule_away(site)


def operation_failed(site: Site) -> None:
    site.world.refuse(errno.EPERM, "rule", times=99)
    site.settle()
    site.world._refusals.clear()


def foreign_rule(site: Site) -> None:
    """wg-quick after mproutd: without a priority its rule comes before all others."""
    world = site.world
    site.settle()
    world.device("wg0", "10.8.0.2/24")
    world.foreign(Route(2, 51820, "default", world.link("wg0").index, "10.8.0.1", protocol=4))
    rule = Rule(2, 6999, 51820, fwmark=51820, fwmask=0xFFFFFFFF, protocol=0)
    world.foreign(rule._replace(plain=False, inverted=True))
    site.settle()


def mark_follows_main(site: Site) -> None:
    """Tailscale's rule, while the master has no carrier and main's default still leads there."""
    site.world.foreign(Rule(2, 5210, 254, fwmark=0x80000, fwmask=0xFF0000, protocol=0))
    site.settle()
    assert site.problems() == []
    site.world.set("eth1", carrier=False)
    site.settle()


def traffic_diverted(site: Site) -> None:
    """Somebody's IPv6 route in table 7000 is better than ours."""
    world = site.world
    for n in (1, 2):
        world.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
    index = world.link("eth2").index
    world.foreign(Route(10, 7000, "default", index, "fe80::2", metric=1, protocol=4))
    site.settle()


def off_has_default(site: Site) -> None:
    site.write(interface("wan1", "eth1", "off") + interface("wan2", "eth2", "master"))
    site.settle()


def limits_above_max(site: Site) -> None:
    site.write(WAN1 + WAN2, "config mproutd 'globals'\n option subflows '100'\n")
    site.settle()


WORLDS: dict[str, Callable[[Site], None]] = {
    name.replace("_", "-"): make
    for name, make in [
        (make.__name__, make)
        for make in (
            failed_in_use,
            policy_unusable,
            resolver_diverted,
            resolver_shared,
            address_without_gateway,
            gateway_remembered,
            endpoint_in_use,
            no_mptcp,
            no_mptcp_diag,
            mptcp_paused,
            family_unusable,
            main_not_looked_up,
            mptcp_disabled,
            path_manager,
            configuration_rejected,
            state_file_error,
            hints_ignored,
            netifd_unreachable,
            endpoint_limit,
            laminar_unsupported,
            no_nexthop_objects,
            foreign_endpoint,
            misrouted,
            blackhole_default,
            no_mark,
            removed_externally,
            rate_limited,
            operation_failed,
            limits_above_max,
            foreign_rule,
            mark_follows_main,
            traffic_diverted,
            off_has_default,
            limit_not_lowered,
            announced_addresses,
        )
    ]
}


def test_every_problem_has_a_world() -> None:
    # Those of the command alone and of a service have one in tests/lab/faulty_worlds.py.
    of_services = {
        "announcer-ignores-kernel",
        "nat6-failed",
        "nat6-without-prefix",
        "prefix-not-deprecated",
        "active-without-address",
        "standby-with-address",
        "capacity-unknown",
        "check-idle",
        "flows-not-pinned",
        "ledger-error",
        "mark-overwritten",
        "no-conntrack-netlink",
        "quota-in-use",
        "quota-reached",
        "resolv-conf-error",
        "resolved-unchanged",
    }
    assert {*WORLDS, *of_services, "mptcpd-running"} == set(PROBLEMS)


def test_traffic_that_main_discards_is_carried_by_no_uplink(site: Site) -> None:
    """The other uplink is out, and main's own default with it."""
    blackhole_default(site)
    assert site.status()["default"]["ipv4"] == "wan1"
    site.world.set("eth1", carrier=False)
    site.world.forget_default("eth1")
    site.settle()
    assert "ipv4" not in site.status()["default"]
    problems = {problem["code"]: problem for problem in site.problems()}
    assert problems["blackhole-default"]["uplink"] == "wan2"


@pytest.mark.parametrize("code", WORLDS)
def test_the_problem_is_named(site: Site, code: str) -> None:
    WORLDS[code](site)
    reported = site.problems()
    assert {problem["code"] for problem in reported} == {code}
    status = site.status()
    assert status["degraded"] is True
    lines = status_lines(status)
    unbroken = " ".join(line.strip() for line in lines)
    assert all(f"! {problem['text']}" in unbroken for problem in reported)
    # said once, after the last that it is about
    assert f"! {reported[-1]['text']} → {reported[-1]['advice']}" in unbroken
    assert unbroken.count(f"→ {reported[-1]['advice']}") == 1
    words = max(len(word) for line in lines for word in line.split())
    assert all(len(line) <= max(80, words + 4) for line in lines)
    assert all(len(problem["text"].splitlines()) == 1 for problem in reported)


def test_all_is_well(site: Site) -> None:
    site.settle()
    status = site.status()
    assert status["degraded"] is False
    assert (status["problems"], status["drift"]) == ([], [])
    assert status["default"] == {"ipv4": "wan1"}
    now = status["uplinks"][0]["since"] + 5
    assert status_lines(status, now=now) == [
        "UPLINK  MODE    DEVICE  STATE  FOR  IN  OUT",
        "wan1    master  eth1    up     5 s  -   -",
        "    10.1.1.2  via 10.1.1.1 (main)  endpoint 1 subflow",
        "wan2    on      eth2    up     5 s  -   -",
        "    10.2.2.2  via 10.2.2.1 (main)  endpoint 2 subflow",
        "other traffic: IPv4 via wan1",
    ]
    [first, _] = status["uplinks"]
    for kind in ("routes", "rules"):
        assert first[kind]["desired"], kind
        assert set(first[kind]["desired"]) <= set(first[kind]["actual"]), kind


def test_thirty_addresses_without_an_endpoint_are_one_problem(site: Site) -> None:
    for n in range(100, 130):
        site.world.add_address("eth2", f"10.2.2.{n}/24")
    site.settle()
    (problem,) = site.problems()
    assert (problem["code"], problem["uplink"]) == ("endpoint-limit", "wan2")
    assert f"no endpoint for {problem['address']} and 23 others: " in problem["text"]
    assert problem["text"] == problem["template"].format(**problem)
    assert len({problem["address"], *problem["others"]}) == 24
    assert sum(line.startswith("!") for line in status_lines(site.status())) == 1


def test_one_program_that_removes_all_our_rules_is_one_problem(site: Site) -> None:
    site.settle()
    rules = [rule for rule in site.world.rules if rule.protocol == PROTOCOL]
    for rule in rules:
        site.world.change_rule("delete", rule)
    site.settle()
    (problem,) = site.problems()
    assert problem["code"] == "removed-externally"
    assert len(problem["others"]) == len(rules) - 1


def test_much_drift_is_counted(site: Site) -> None:
    site.settle()
    for rule in [rule for rule in site.world.rules if rule.protocol == PROTOCOL]:
        site.world.change_rule("delete", rule)
    status = site.status()
    lines = [line for line in status_lines(status) if line.startswith("! drift")]
    assert len(lines) == 5
    # Nothing is repaired while no daemon runs.
    assert lines[-1] == f"! drift: and {len(status['drift']) - 4} more"
    status["running"] = True
    lines = [line for line in status_lines(status) if line.startswith("! drift")]
    assert lines[-1] == f"! drift, repairing: and {len(status['drift']) - 4} more"


def test_what_drifts_is_listed(site: Site) -> None:
    site.settle()
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 7502]
    status = site.status()
    assert status["degraded"] is True
    assert status["drift"] == ["ip rule add from 10.2.2.2 lookup 7002 protocol 77 priority 7502"]


def test_an_uplink_that_is_not_usable_says_why(site: Site) -> None:
    site.world.set("eth2", carrier=False)
    site.settle()
    status = site.status()
    assert status["degraded"] is True
    assert status["problems"] == []
    now = status["uplinks"][1]["since"] + 3700
    family = status["uplinks"][1]["families"][0]
    assert (family["reason"], family["text"]) == ("no-carrier", REASONS["no-carrier"])
    *table, line, advice = status_lines(status, now=now)
    assert any(row.startswith("wan2 ") and " 1 h" in row for row in table)
    assert line == f"! wan2 is not usable: {family['text']}"
    assert advice == f"  → {family['advice']}"


def test_an_endpoint_that_is_missing_or_differs(site: Site) -> None:
    site.settle()
    first = mptcp(site).endpoints[0]
    changed = (first._replace(flags=first.flags | 4),)
    site.world.mptcp = mptcp(site)._replace(endpoints=changed)
    states = [uplink["endpoints"][0]["state"] for uplink in site.status()["uplinks"]]
    assert states == ["differs", "missing"]


def test_others_endpoints_are_listed_the_one_with_a_port_too(site: Site) -> None:
    site.settle()
    index = site.world.link("eth1").index
    site.world.foreign(Endpoint("10.1.1.2", index, SIGNAL, port=5000))
    assert site.status()["mptcp"]["foreign_endpoints"] == [
        "10.1.1.2 id 3 signal dev eth1 port 5000"
    ]


def test_not_enabled(site: Site) -> None:
    (site.root / "network").write_text(WAN1)
    site.settle()
    status = site.status()
    assert status["degraded"] is False
    assert status["enabled"] is False
    assert status_lines(status)[0].startswith("multipath is not enabled")


def test_the_advice_names_the_table_that_has_the_default(site: Site) -> None:
    index = site.world.link("eth2").index
    site.world.routes = [route for route in site.world.routes if route.destination != "default"]
    site.world.foreign(Route(AF_INET, 150, "default", index, "10.2.2.1", protocol=3))
    site.settle()
    family = site.status()["uplinks"][1]["families"][0]
    assert family["reason"] == "no-gateway"
    assert "table 150 has a default route via eth2" in family["advice"]


def test_the_advice_names_advertisements_that_the_kernel_ignores(site: Site) -> None:
    site.world.add_address("eth2", "2001:db8:2::2/64")
    site.world.ignored_advertisements = {"eth2"}
    site.settle()
    family = site.status()["uplinks"][1]["families"][1]
    assert family["reason"] == "no-gateway"
    assert "sysctl -w net/ipv6/conf/eth2/accept_ra=2" in family["advice"]


def test_the_process_that_answers_is_named(site: Site) -> None:
    site.settle()
    inspection = site.reconciler.inspect()
    assert build_status(inspection, pid=4711)["pid"] == 4711
    assert "pid" not in build_status(inspection)


def test_a_failed_change_has_a_reason(site: Site) -> None:
    site.reconciler.configure()
    site.world.refuse(errno.EPERM, "endpoint", times=1)
    failed = [change for change in changes(site.reconciler.converge()) if change["error"]]
    assert [change["error"] for change in failed] == ["Operation not permitted"]
    assert failed[0]["command"].startswith("ip mptcp endpoint add 10.1.1.2")


# -- the keeper -----------------------------------------------------------------------------


def test_what_fails_is_tried_again_ever_more_rarely(site: Site) -> None:
    site.reconciler.configure()
    site.world.refuse(errno.EPERM, "rule", times=1000)
    waits = []
    for _ in range(12):
        site.reconciler.reconcile()
        at = site.reconciler.next_at()
        assert at is not None
        waits.append(at - site.clock.now)
        site.clock.now = at
    assert waits[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert waits[-1] == pytest.approx(30.0)
    site.world._refusals.clear()
    site.reconciler.reconcile()
    assert site.reconciler.next_at() is None


def test_a_refusal_that_lasts_is_no_removal(site: Site) -> None:
    site.reconciler.configure()
    site.world.refuse(errno.EPERM, "rule", times=1000)
    for _ in range(10):
        site.reconciler.reconcile()
    assert {problem["code"] for problem in site.problems()} == {"operation-failed"}


def test_a_foreign_object_in_place_of_ours_is_reported_once(site: Site) -> None:
    """An endpoint of others came between our reading and our writing."""
    site.reconciler.configure()
    site.world.refuse(errno.EEXIST, "endpoint", times=1)
    site.reconciler.reconcile()
    assert {problem["code"] for problem in site.problems()} == {"operation-failed"}
    (refused,) = [problem for problem in site.problems() if problem["code"] == "operation-failed"]
    address = refused["command"].split()[4]
    site.world.foreign(Endpoint(address, 0, SIGNAL))
    assert {problem["code"] for problem in site.problems()} == {"foreign-endpoint"}


def test_a_loop_of_removals_is_answered_at_a_bounded_rate(site: Site) -> None:
    site.settle()
    site.world.done.clear()
    for _ in range(300):
        take_a_rule_away(site)
        site.clock.now += 0.1
    assert 12 <= len(site.world.done) <= 16


def test_flush_leaves_nothing_and_forgets(site: Site) -> None:
    before = two_lines().state()
    site.settle()
    assert (site.runtime / "state.json").exists()
    site.reconciler.flush()
    assert site.world.state() == before
    assert not (site.runtime / "state.json").exists()


def test_the_kernels_explanation_comes_before_the_error(site: Site) -> None:
    site.settle()
    route = Route(AF_INET, 7001, "default", 2, "10.1.1.1")
    failure = Failure(Operation("add", route), errno.EINVAL, "Nexthop has invalid gateway")
    [change] = changes([site.reconciler.converge()[-1]._replace(done=(), failures=(failure,))])
    assert change["error"] == "Nexthop has invalid gateway (Invalid argument)"


def test_a_preview_changes_nothing_and_lists_the_changes(site: Site) -> None:
    before = site.world.state()
    reported = [change["command"] for change in planned_changes(site.reconciler.preview())]
    assert site.world.state() == before
    site.reconciler.configure()
    done = [change["command"] for change in changes(site.reconciler.converge())]
    assert reported == done
