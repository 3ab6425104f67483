"""What the kernel holds when a check has failed, in `ip` syntax, on the fake kernel."""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6

from hypothesis import given, settings
from hypothesis import strategies as st

from mproutd.configuration.config import Config
from mproutd.planning.health import effective
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, part, two_lines

FOUR = {n: f"10.{n}.{n}.2 subflow dev eth{n}" for n in (1, 2)}
SIX = {n: f"2001:db8:{n}::2 subflow dev eth{n}" for n in (1, 2)}
LTE = interface("wan3", "eth3", "handover")
V4 = tuple((f"wan{n}", AF_INET) for n in range(4))
"""V4[2]: wan2 has failed in IPv4."""


def checked(network: str) -> Config:
    """With a check for every uplink."""
    names = re.findall(r"interface '(\w+)'", network)
    return uci(network, "".join(f"config uplink {n}\n list track_ip 9.9.9.9\n" for n in names))


def two_stacks() -> World:
    """Both uplinks with IPv4 and IPv6."""
    world = two_lines()
    for n in (1, 2):
        world.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
    return world


def run(world: World, *failed: tuple[str, int], network: str = WAN1 + WAN2) -> Outcome:
    return world.run(checked(network), Facts(failed=failed))


def usable(outcome: Outcome) -> list[str]:
    return [uplink.config.name for uplink in outcome.plan.uplinks if uplink.usable]


def test_a_failed_uplink_keeps_what_probes_need_and_nothing_else() -> None:
    world = two_lines()
    run(world)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]
    run(world, V4[1])
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    ours = world.ours()
    assert part(ours, "lookup 7001") == [
        "7301: from all oif eth1 lookup 7001",
        "7501: from 10.1.1.2 lookup 7001",
    ]
    assert part(ours, "default", "table 7001") == ["default via 10.1.1.1 dev eth1 table 7001"]
    assert part(ours, "table 7000") == ["default via 10.2.2.1 dev eth2 table 7000"]
    run(world)
    assert sorted(endpoints(world)) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]
    assert part(world.ours(), "table 7000") == ["default via 10.1.1.1 dev eth1 table 7000"]


def test_handover_takes_over() -> None:
    world = two_lines()
    world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    network = WAN1 + WAN2 + LTE
    run(world, V4[1], network=network)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    run(world, V4[1], V4[2], network=network)
    assert endpoints(world) == ["10.3.3.2 subflow dev eth3"]


def test_one_family_fails_and_the_other_goes_on() -> None:
    world = two_stacks()
    run(world, ("wan1", AF_INET6))
    assert set(endpoints(world)) == {FOUR[1], FOUR[2], SIX[2]}
    assert part(world.ours(), "default", "table 7000") == [
        "default via 10.1.1.1 dev eth1 table 7000",
        "-6 default via fe80::2 dev eth2 table 7000 metric 1024",
    ]


def test_a_family_that_only_checks_would_take_away_stays() -> None:
    """The IPv4 hosts are dead, for all lines: that IPv6 works is no reason to give IPv4 up."""
    world = two_stacks()
    outcome = run(world, V4[1], V4[2])
    assert set(endpoints(world)) == {SIX[1], FOUR[2], SIX[2]}
    assert usable(outcome) == ["wan1", "wan2"]
    run(world, V4[2], V4[1])
    assert set(endpoints(world)) == {FOUR[1], SIX[1], SIX[2]}


def test_the_only_uplink_with_ipv6_keeps_it_while_it_works() -> None:
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    run(world, ("wan1", AF_INET6))
    assert set(endpoints(world)) == {FOUR[1], SIX[1], FOUR[2]}
    run(world, V4[1], ("wan1", AF_INET6))
    backup = SIX[1].replace("subflow", "subflow backup")
    assert set(endpoints(world)) == {FOUR[2], backup}, "both have failed, and so has the uplink"


def test_a_handover_uplink_with_the_family_is_better() -> None:
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.device("eth3", "2001:db8:3::2/64", gateway6="fe80::3")
    run(world, ("wan1", AF_INET6), network=WAN1 + WAN2 + LTE)
    assert set(endpoints(world)) == {
        FOUR[1],
        FOUR[2],
        "2001:db8:3::2 subflow backup dev eth3",
    }


def test_the_last_that_failed_stays_in_use() -> None:
    world = two_lines()
    assert usable(run(world, V4[1], V4[2])) == ["wan2"]
    assert usable(run(world, V4[2], V4[1])) == ["wan1"]
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_the_last_uplink_with_a_carrier_is_used_whatever_its_check_reports() -> None:
    world = two_lines()
    assert usable(run(world, V4[1])) == ["wan2"]
    world.set("eth2", carrier=False)
    assert usable(run(world, V4[1])) == ["wan1"]
    world.set("eth2", carrier=True)
    assert usable(run(world, V4[1])) == ["wan2"]


def test_both_families_of_the_last_one_stay_usable() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", "2001:db8:1::2/64", gateway="10.1.1.1", gateway6="fe80::1")
    outcome = run(world, ("wan1", AF_INET), ("wan1", AF_INET6), network=WAN1)
    assert [path.usable for path in outcome.plan.uplinks[0].paths] == [True, True]


def test_an_uplink_that_is_off_is_not_the_last_one() -> None:
    world = two_lines()
    off = interface("wan2", "eth2", "off")
    assert usable(run(world, V4[1], network=WAN1 + off)) == ["wan1", "wan2"]
    assert usable(run(world, V4[2], network=WAN1 + off)) == ["wan1"]
    only = interface("wan1", "eth1", "off") + off
    assert usable(run(world, V4[2], V4[1], network=only)) == ["wan1"]


def test_no_check_runs_any_more() -> None:
    world = two_lines()
    run(world, V4[1])
    assert usable(world.run(uci(WAN1 + WAN2), Facts())) == ["wan1", "wan2"]
    assert world.store.state.failed == ()


def test_the_verdict_outlives_the_daemon() -> None:
    """Before the first check of a new daemon, and in a command without one, the last one stands."""
    world = two_lines()
    run(world, V4[1])
    before, saves = world.state(), world.store.saves
    outcome = world.run(checked(WAN1 + WAN2), Facts())
    assert usable(outcome) == ["wan2"]
    assert (outcome.done, world.state(), world.store.saves) == ((), before, saves)


def test_initial_state() -> None:
    world = two_lines()
    own = "config uplink wan2\n list track_ip 9.9.9.9\n option initial_state offline\n"
    config = uci(WAN1 + WAN2, own)
    assert usable(world.run(config)) == ["wan1"]
    assert usable(world.run(config, Facts(failed=()))) == ["wan1", "wan2"]
    assert usable(world.run(config)) == ["wan1", "wan2"]  # it is known from before


def test_initial_state_of_an_uplink_that_comes_while_others_are_checked() -> None:
    """What `reconcile --dry-run` says beside a daemon, whose checks do not know it yet."""
    world = two_lines()
    run(world, network=WAN1)
    own = "config uplink wan2\n list track_ip 9.9.9.9\n option initial_state offline\n"
    facts = Facts(failed=(("wan2", AF_INET6),))
    uplinks = effective(uci(WAN1 + WAN2, own), world.store.state, facts)
    assert uplinks == (("wan2", AF_INET6), ("wan2", AF_INET))


def test_where_all_begin_offline_the_first_is_used() -> None:
    own = "".join(
        f"config uplink wan{n}\n list track_ip 9.9.9.9\n option initial_state offline\n"
        for n in (1, 2)
    )
    assert usable(two_lines().run(uci(WAN1 + WAN2, own))) == ["wan1"]


FAILED = st.lists(
    st.tuples(st.sampled_from(["wan1", "wan2", "wan3", "wan9"]), st.sampled_from([2, 10])),
    unique=True,
).map(tuple)


@given(FAILED, st.sets(st.sampled_from(["eth1", "eth2", "eth3"])))
@settings(deadline=None)
def test_no_check_takes_the_last_uplink(failed: tuple[tuple[str, int], ...], out: set[str]) -> None:
    world = two_lines()
    world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    for device in out:
        world.set(device, carrier=False)
    before = usable(run(world, network=WAN1 + WAN2 + LTE))
    outcome = run(world, *failed, network=WAN1 + WAN2 + LTE)
    after = usable(outcome)
    assert set(after) <= set(before)
    assert bool(after) == bool(before)
    dead = {name for name, family in failed if family == AF_INET}
    assert set(before) - dead <= set(after)
    if set(before) - dead:
        assert dead.isdisjoint(after)
    # A clean start from what is remembered, and the same facts, ends the same.
    again = run(world, *outcome.plan.state.failed, network=WAN1 + WAN2 + LTE)
    assert (again.done, usable(again)) == ((), after)
