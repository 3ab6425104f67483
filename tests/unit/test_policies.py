"""Policies: from configuration and uplinks to routes and rules, in `ip` syntax."""

from __future__ import annotations

import pytest

from mproutd.configuration.config import Config
from mproutd.model import Rule, Selectors
from mproutd.planning.numbering import PolicyNumbers, assign_policy_numbers, tables_in_use
from mproutd.planning.ownership import Ownership
from mproutd.planning.policies import usable_members
from mproutd.planning.sharing import NEXTHOP_IDS, uses_nexthops
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import part

NETWORK = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")
NETWORK += interface("wan3", "eth3", "off")
MEMBERS = "".join(
    f"config member 'm{n}'\n option interface 'wan{n}'\n option metric '{n}'\n" for n in (1, 2, 3)
)
LAST = "unreachable default table 7257 metric 4278198272"


def policy(*members: str, name: str = "p", resort: str = "unreachable") -> str:
    lines = [f" list use_member '{member}'" for member in members]
    return "\n".join([f"config policy '{name}'", *lines, f" option last_resort '{resort}'", ""])


def rule(*options: str, name: str = "r", to: str = "p") -> str:
    lines = [f" option {option}" for option in options]
    return "\n".join([f"config rule '{name}'", f" option use_policy '{to}'", *lines, ""])


def config(*sections: str, network: str = NETWORK) -> Config:
    return uci(network, MEMBERS + "".join(sections))


def world(ipv6: bool = False) -> World:
    made = World()
    for n in (1, 2, 3):
        made.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        if ipv6:
            made.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
    return made


def steered(made: World, table: int = 7257) -> list[str]:
    """The routes of a policy's table, and the rules to it."""
    routes = part(made.ours(), f"table {table}")
    return [*routes, *part(made.ours(), f"lookup {table}")]


def test_the_best_member_and_the_last_resort() -> None:
    made = world()
    made.run(config(policy("m1", "m2"), rule()))
    mark = "7300: from all fwmark 0x100/0x3f00 lookup 7257"
    assert steered(made) == ["default via 10.1.1.1 dev eth1 table 7257", LAST, mark]
    made.set("eth1", carrier=False)
    made.run(config(policy("m1", "m2"), rule()))
    assert steered(made) == ["default via 10.2.2.1 dev eth2 table 7257", LAST, mark]
    made.set("eth2", carrier=False)
    made.run(config(policy("m1", "m2"), rule()))
    assert steered(made) == [LAST, mark]
    made.run(config(policy("m1", "m2", resort="blackhole"), rule()))
    assert steered(made) == [LAST.replace("unreachable", "blackhole"), mark]
    made.run(config(policy("m1", "m2", resort="default"), rule()))
    assert steered(made) == [mark]
    made.run(config())
    assert steered(made) == []


def test_a_change_of_the_member_is_one_route() -> None:
    made = world()
    wanted = config(policy("m1", "m2"), rule())
    made.run(wanted)
    made.set("eth1", carrier=False)
    changes = [
        (operation.verb, type(operation.value).__name__)
        for operation in made.once(wanted).done
        if getattr(operation.value, "table", 0) == 7257
    ]
    assert changes == [("replace", "Route")]


def test_both_families_where_the_host_has_ipv6() -> None:
    made = world(ipv6=True)
    made.run(config(policy("m3"), rule("family 'ipv4'")))
    assert part(made.ours(), "table 7257") == [
        "default via 10.3.3.1 dev eth3 table 7257",
        LAST,
        "-6 default via fe80::3 dev eth3 table 7257 metric 1024",
        f"-6 {LAST}",
    ]
    assert part(made.ours(), "7300:") == [
        "7300: from all fwmark 0x100/0x3f00 lookup 7257",
        "-6 7300: from all fwmark 0x100/0x3f00 lookup 7257",
    ]


def test_members_with_one_metric_share_by_weight() -> None:
    made = world()
    equal = "config member 'e'\n option interface 'wan2'\n option weight '3'\n"
    wanted = config(equal, policy("m1", "e"), rule())
    assert uses_nexthops(wanted)
    assert not uses_nexthops(config(policy("m1", "m2"), rule()))
    made.run(wanted)
    first, second, group = NEXTHOP_IDS[1], NEXTHOP_IDS[2], NEXTHOP_IDS[401]
    assert part(made.ours(), "nexthop id") == [
        f"nexthop id {first} via 10.1.1.1 dev eth1",
        f"nexthop id {second} via 10.2.2.1 dev eth2",
        f"nexthop id {group} group {first},1/{second},3 type resilient buckets 1024 idle_timer 1",
    ]
    assert part(made.ours(), "table 7257") == [f"default nhid {group} table 7257", LAST]
    made.set("eth1", carrier=False)
    made.run(wanted)
    assert part(made.ours(), "table 7257") == ["default via 10.2.2.1 dev eth2 table 7257", LAST]
    assert not part(made.ours(), "nexthop id")


def test_which_members_are_usable_and_which_come_next() -> None:
    made = world()
    network = NETWORK + "config interface 'lan'\n option device 'eth4'\n option multipath 'on'\n"
    local = "config uplink 'lan'\n option default_route '0'\n"
    members = local + "config member 'm4'\n option interface 'lan'\n"
    quota = "config uplink 'wan2'\n option quota '1G'\n option quota_action 'off'\n"
    quota += "config uplink 'wan1'\n option quota '1G'\n"
    made.device("eth4", "10.4.4.2/24")
    wanted = config(members, quota, policy("m4", "m3", "m2", "m1"), rule(), network=network)
    (own,) = wanted.policies

    def groups(**facts: object) -> list[list[str]]:
        uplinks = made.run(wanted, Facts(**facts)).plan.uplinks  # type: ignore[arg-type]
        found = usable_members(own, uplinks, 0)
        return [[usable.member.uplink for usable in group] for group in found]

    assert groups() == [["wan1"], ["wan2"], ["wan3"]]
    assert groups(over_quota=frozenset(["wan1"])) == [["wan2"], ["wan3"], ["wan1"]]
    assert groups(over_quota=frozenset(["wan2"])) == [["wan1"], ["wan3"]]
    assert usable_members(own, (), 0) == []
    made.remove("eth1")
    assert groups() == [["wan3"], ["wan2"]], "the state file remembers the quota"


def test_own_traffic_is_selected_by_rules_behind_those_of_addresses() -> None:
    made = world()
    made.run(
        config(
            policy("m3"),
            rule("user '1000-1999'", "proto 'tcp udp'", "dest_port '443'"),
            rule("user 'all'", "dest_ip '192.0.2.0/24,2001:db8::/32'", name="s", to="wan2"),
            rule("user '5'", "src_ip '0.0.0.0/0'", "proto 'udp'", "src_port '1-9'", name="t"),
        )
    )
    assert part(made.ours(), "iif lo") == [
        "7900: from all iif lo uidrange 1000-1999 ipproto tcp dport 443 lookup 7257",
        "7901: from all iif lo uidrange 1000-1999 ipproto udp dport 443 lookup 7257",
        "7902: from all to 192.0.2.0/24 iif lo lookup 7258",
        "7903: from all iif lo uidrange 5-5 ipproto udp sport 1-9 lookup 7257",
    ]
    assert not part(made.ours(), "-6")


@pytest.mark.parametrize("master", ["master", "on"])
def test_own_traffic_may_be_left_to_other_traffic(master: str) -> None:
    made = world()
    network = NETWORK.replace("'master'", f"'{master}'")
    made.run(config(rule("user '5'", to="default"), network=network))
    lookups = ["main suppress_prefixlength 0", "7000", "main"] if master == "master" else ["main"]
    assert part(made.ours(), "iif lo") == [
        f"{7900 + n}: from all iif lo uidrange 5-5 lookup {table}"
        for n, table in enumerate(lookups)
    ]
    made.run(config(network=network))
    assert not part(made.ours(), "iif lo")


def test_rules_with_selectors_are_ours_only_where_own_traffic_has_its_place() -> None:
    ownership = Ownership(config(), State())
    own = Rule(2, 7900, 7257, iif="lo", selectors=Selectors(uids=(5, 5)))
    foreign = (own._replace(priority=7501), own._replace(protocol=3), own._replace(plain=False))
    assert ownership.own_rules((own, *foreign)) == {own}


def test_numbers_stay_with_their_policies() -> None:
    first = config(policy("m1"), policy("m2", name="q"), rule(), rule(name="s", to="q"))
    assert assign_policy_numbers(first, {}) == {
        "p": PolicyNumbers(1, 7257, 0x100),
        "q": PolicyNumbers(2, 7258, 0x200),
    }
    sticky = config(policy("m2", name="q"), rule("sticky '1'", name="s", to="q"))
    known = {"p": 1, "q": 2, "q/s": 2, "r": 99}
    assert assign_policy_numbers(sticky, known) == {
        "q": PolicyNumbers(2, 7258, 0x200),
        "q/s": PolicyNumbers(1, 7258, 0x100),
    }
    assert assign_policy_numbers(first, {"p": 64, "q": 63})["p"].number == 1
    assert tables_in_use(first, {}, {"q": 9}) == {7000, 7001, 7002, 7003, 7257, 7265}
    made = world()
    made.run(first)
    assert made.run(sticky).plan.state.policies == {"q": 2, "q/s": 1}
    assert sorted(part(made.ours(), "7300:")) == [
        "7300: from all fwmark 0x100/0x3f00 lookup 7258",
        "7300: from all fwmark 0x200/0x3f00 lookup 7258",
    ]
    assert made.run(config()).plan.state.policies == {}
