"""What the kernel holds when a quota is used up or an uplink overflows, in `ip` syntax."""

from __future__ import annotations

from socket import AF_INET

import pytest

from mproutd.configuration.config import Config
from mproutd.planning.plan import Outcome
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from mproutd.status.changes import decisions
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, part, two_lines

LTE = interface("wan3", "eth3", "backup")
HANDOVER = interface("wan3", "eth3", "handover")
E1, E2, E3 = (f"10.{n}.{n}.2 subflow dev eth{n}" for n in (1, 2, 3))
B1, B2, B3 = (f"10.{n}.{n}.2 subflow backup dev eth{n}" for n in (1, 2, 3))
DEFAULT = ("default", "table 7000")


def limited(network: str, *uplinks: str, action: str = "backup", hard: bool = False) -> Config:
    """With a quota for these uplinks."""
    hard_option = " option quota_hard 1\n" if hard else ""
    return uci(
        network,
        "".join(
            f"config uplink {name}\n option quota 1G\n option quota_action {action}\n{hard_option}"
            for name in uplinks
        ),
    )


def overflowing(network: str, percent: int = 80) -> Config:
    return uci(network, f"config uplink wan3\n option overflow {percent}\n")


def three() -> World:
    world = two_lines()
    world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    return world


def run(world: World, config: Config, *over: str, carrying: str = "") -> Outcome:
    overflow = frozenset([carrying] if carrying else [])
    return world.run(config, Facts(over_quota=frozenset(over), overflowing=overflow))


def default(world: World) -> list[str]:
    return part(world.ours(), *DEFAULT)


# -- quotas -------------------------------------------------------------------------------


def test_backup_only_changes_the_flag() -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan2")
    run(world, config)
    assert set(endpoints(world)) == {E1, E2}
    outcome = world.once(config, Facts(over_quota=frozenset(["wan2"])))
    assert [operation.verb for operation in outcome.done] == ["change"]
    assert set(endpoints(world)) == {E1, B2}
    run(world, config)
    assert set(endpoints(world)) == {E1, E2}


def test_a_master_gives_other_traffic_away_and_gets_it_back() -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan1")
    run(world, config)
    assert default(world) == ["default via 10.1.1.1 dev eth1 table 7000"]
    run(world, config, "wan1")
    assert default(world) == ["default via 10.2.2.1 dev eth2 table 7000"]
    assert set(endpoints(world)) == {B1, E2}
    run(world, config)
    assert default(world) == ["default via 10.1.1.1 dev eth1 table 7000"]


@pytest.mark.parametrize("action", ["handover", "off"])
def test_handover_and_off_have_no_endpoint_while_another_is_usable(action: str) -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan1", action=action)
    run(world, config)
    run(world, config, "wan1")
    assert endpoints(world) == [E2]
    assert default(world)[0] == "default via 10.2.2.1 dev eth2 table 7000"
    assert part(world.ours(), "lookup 7001") != []  # bound sockets still use it


@pytest.mark.parametrize("action", ["backup", "handover", "off"])
def test_the_last_usable_uplink_stays(action: str) -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan1", action=action)
    run(world, config, "wan1")
    world.set("eth2", carrier=False)
    outcome = run(world, config, "wan1")
    assert endpoints(world) == [B1 if action == "backup" else E1]
    assert default(world) == ["default via 10.1.1.1 dev eth1 table 7000"]
    assert outcome.plan.uplinks[0].config.mode != "off"
    world.set("eth2", carrier=True)
    run(world, config, "wan1")
    assert set(endpoints(world)) == ({B1, E2} if action == "backup" else {E2})


def test_hard_takes_even_the_last_one() -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan1", action="off", hard=True)
    run(world, config)
    world.set("eth2", carrier=False)
    run(world, config, "wan1")
    assert not [line for line in endpoints(world) if "eth1" in line]
    assert default(world) == ["unreachable default table 7000 metric 4278198272"]


def test_of_several_without_volume_one_stays() -> None:
    world, config = two_lines(), limited(WAN1 + WAN2, "wan1", "wan2", action="off")
    run(world, config, "wan1", "wan2")
    assert endpoints(world) == [E1]
    assert default(world)[0] == "default via 10.1.1.1 dev eth1 table 7000"


def test_one_without_volume_comes_behind_others_of_its_mode() -> None:
    world = three()
    config = limited(WAN1 + interface("wan2", "eth2", "backup") + LTE, "wan1", "wan2")
    world.set("eth1", carrier=False)
    run(world, config, "wan2")
    assert default(world) == ["default via 10.3.3.1 dev eth3 table 7000"]
    run(world, config)
    assert default(world) == ["default via 10.2.2.1 dev eth2 table 7000"]


def test_a_lower_mode_is_never_raised() -> None:
    world = three()
    run(world, limited(WAN1 + WAN2 + HANDOVER, "wan3"), "wan3")
    assert set(endpoints(world)) == {E1, E2}
    off = interface("wan3", "eth3", "off")
    outcome = run(world, limited(WAN1 + WAN2 + off, "wan3", action="backup"), "wan3")
    assert outcome.plan.uplinks[2].config.mode == "off"


def test_a_failed_check_counts_before_a_quota() -> None:
    """wan2 fails its check: wan1 without volume is better than wan2 that does not work."""
    world = two_lines()
    config = uci(
        WAN1 + WAN2,
        "config uplink wan1\n option quota 1G\n option quota_action off\n"
        "config uplink wan2\n list track_ip 9.9.9.9\n",
    )
    facts = Facts(over_quota=frozenset(["wan1"]), failed=(("wan2", 2),))
    world.run(config, facts)
    assert endpoints(world) == [E1]


def test_without_the_option_nothing_counts() -> None:
    world = two_lines()
    run(world, uci(WAN1 + WAN2), "wan1", carrying="wan2")
    assert set(endpoints(world)) == {E1, E2}


def test_a_plain_connection_keeps_its_only_path() -> None:
    """`handover` and `off` at the limit: no connection is lost."""
    for action in ("handover", "off"):
        world, config = two_lines(), limited(WAN1 + WAN2, "wan1", action=action)
        run(world, config)
        world.sole_path = frozenset(["10.1.1.2"])
        run(world, config, "wan1")
        assert set(endpoints(world)) == {B1, E2}, action
        world.sole_path = frozenset()
        run(world, config, "wan1")
        assert endpoints(world) == [E2], action


@pytest.mark.parametrize(
    ("action", "over", "carrying", "mode", "suspect"),
    [
        ("backup", "wan1", "", "backup", set()),
        ("off", "", "", "backup", set()),
        ("off", "wan1", "", "backup", {"eth1"}),
        ("handover", "wan1", "", "backup", {"eth1"}),
        ("backup", "", "", "handover", {"eth3"}),
        ("backup", "", "wan3", "handover", set()),
    ],
)
def test_where_the_kernel_is_asked_for_plain_connections(
    action: str, over: str, carrying: str, mode: str, suspect: set[str]
) -> None:
    """Where an endpoint may go although its path works."""
    config = uci(
        WAN1 + WAN2 + interface("wan3", "eth3", mode),
        f"config uplink wan1\n option quota 1G\n option quota_action {action}\n"
        "config uplink wan3\n option overflow 80\n",
    )
    facts = Facts(
        over_quota=frozenset([over] if over else []),
        overflowing=frozenset([carrying] if carrying else []),
    )
    request = snapshot_request(config, State(), sweep=False, full=False, facts=facts)
    assert set(request.suspect_devices) == suspect


# -- overflow -----------------------------------------------------------------------------


def test_a_backup_loses_its_flag() -> None:
    world, config = three(), overflowing(WAN1 + WAN2 + LTE)
    run(world, config)
    assert set(endpoints(world)) == {E1, E2, B3}
    outcome = world.once(config, Facts(overflowing=frozenset(["wan3"])))
    assert [operation.verb for operation in outcome.done] == ["change"]
    assert set(endpoints(world)) == {E1, E2, E3}
    run(world, config)
    assert set(endpoints(world)) == {E1, E2, B3}


def test_a_handover_uplink_gets_an_endpoint() -> None:
    world, config = three(), overflowing(WAN1 + WAN2 + HANDOVER)
    run(world, config)
    assert set(endpoints(world)) == {E1, E2}
    run(world, config, carrying="wan3")
    assert set(endpoints(world)) == {E1, E2, E3}
    run(world, config)
    assert set(endpoints(world)) == {E1, E2}


def test_other_traffic_stays_with_regular_uplinks() -> None:
    world = three()
    network = LTE + WAN1 + WAN2  # first in the file
    run(world, overflowing(network), carrying="wan3")
    world.set("eth1", carrier=False)
    run(world, overflowing(network), carrying="wan3")
    assert default(world) == ["default via 10.2.2.1 dev eth2 table 7000"]


def test_without_volume_it_does_not_overflow() -> None:
    world = three()
    config = uci(WAN1 + WAN2 + LTE, "config uplink wan3\n option overflow 80\n option quota 1G\n")
    run(world, config, "wan3", carrying="wan3")
    assert set(endpoints(world)) == {E1, E2, B3}


# -- reports ------------------------------------------------------------------------------


def test_only_a_configured_change_is_reported_as_one() -> None:
    """The services say why a mode changes by itself."""
    world = three()
    config = overflowing(WAN1 + WAN2 + LTE)
    idle = run(world, config).plan
    carrying = run(world, config, carrying="wan3").plan
    assert decisions(idle, carrying) == decisions(carrying, idle) == []
    other = run(world, uci(WAN1 + WAN2 + HANDOVER)).plan
    assert [each.text for each in decisions(idle, other)] == ["wan3 changes its mode to handover"]


# -- restarts -----------------------------------------------------------------------------


def test_a_restart_changes_nothing() -> None:
    """Before its services know, the state file counts."""
    world = three()
    config = uci(
        WAN1 + WAN2 + LTE,
        "config uplink wan3\n option overflow 80\nconfig uplink wan2\n option quota 1G\n",
    )
    run(world, config, "wan2", carrying="wan3")
    before = world.state()
    outcome = world.run(config, Facts())
    assert world.state() == before
    assert outcome.plan.state.over_quota == {"wan2"}
    assert outcome.plan.state.overflowing == {"wan3"}
    run(world, config)
    assert world.run(config, Facts()).plan.state.over_quota == frozenset()


# -- shared by weight ---------------------------------------------------------------------


@pytest.mark.parametrize("action", ["backup", "handover", "off"])
def test_without_volume_it_leaves_its_group_and_returns(action: str) -> None:
    world = two_lines()
    config = uci(
        WAN1 + WAN2,
        "config uplink wan1\n option weight 3\n"
        f"config uplink wan2\n option weight 1\n option quota 1G\n option quota_action {action}\n",
    )
    both = (("wan1", 3), ("wan2", 1))
    assert run(world, config).plan.shares[AF_INET] == both
    assert run(world, config, "wan2").plan.shares[AF_INET] == (("wan1", 3),)
    world.set("eth1", carrier=False)
    assert run(world, config, "wan2").plan.shares[AF_INET] == (("wan2", 1),)
    world.set("eth1", carrier=True)
    assert run(world, config).plan.shares[AF_INET] == both


def test_an_uplink_that_overflows_joins_no_group() -> None:
    world = three()
    config = uci(
        WAN1 + WAN2 + LTE,
        "config uplink wan1\n option weight 3\nconfig uplink wan3\n option overflow 80\n",
    )
    both = (("wan1", 3), ("wan2", 1))
    assert run(world, config).plan.shares[AF_INET] == both
    assert run(world, config, carrying="wan3").plan.shares[AF_INET] == both
