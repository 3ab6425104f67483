"""A decision is found again only where everything that it depends on is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mproutd.model import SUBFLOW, Endpoint, Rule
from mproutd.netlink.kernel import SnapshotRequest
from mproutd.planning.cache import cache_recent
from mproutd.planning.decision import KEPT, Decision, decide, expected_routes
from mproutd.planning.diff import compare
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import make_plan
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, WAN2, two_lines

NO_FACTS = Facts()


def decision(world: World, text: str = WAN1 + WAN2, facts: Facts = NO_FACTS) -> Decision:
    """What the next pass decides, without making it."""
    config, state = uci(text), world.store.state
    request: SnapshotRequest = snapshot_request(config, state, sweep=True, full=True, facts=facts)
    snapshot = world.snapshot(request)
    found = decide(config, snapshot, state, facts)
    plan = make_plan(config, snapshot, state, facts)
    changes = compare(Ownership(config, state), snapshot, plan)
    assert found[:2] == (plan, changes), "as decided anew"
    assert found.expected_routes == expected_routes(plan)
    return found


def carrier(world: World, present: bool) -> None:
    world.set("eth2", carrier=present)


def lost() -> World:
    """wan2 has lost its carrier, and the passes for that have been made."""
    world = two_lines()
    world.run(WAN1 + WAN2)
    carrier(world, False)
    world.run(WAN1 + WAN2)
    return world


def test_an_uplink_that_comes_back_as_it_was_finds_the_decision_of_the_time_before() -> None:
    world = lost()
    carrier(world, True)
    first = decision(world)
    assert first.differences.add_endpoints
    world.run(WAN1 + WAN2)
    carrier(world, False)
    world.run(WAN1 + WAN2)
    carrier(world, True)
    assert decision(world) is first


def other_gateway(world: World) -> None:
    world.forget_default("eth2")
    world.default("eth2", "10.2.2.254")


def other_address(world: World) -> None:
    world.delete_address("eth2", "10.2.2.2")
    world.add_address("eth2", "10.2.2.3/24")


def other_devices_address(world: World) -> None:
    """The address is on another device now."""
    world.delete_address("eth2", "10.2.2.2")
    world.add_address("eth1", "10.2.2.2/24")


def foreign_rule(world: World) -> None:
    """Another program uses one of our tables."""
    world.foreign(Rule(2, 7502, 7002, "10.2.2.2", protocol=3))


def foreign_endpoint(world: World) -> None:
    world.foreign(Endpoint("10.2.2.2", world.link("eth2").index, SUBFLOW, 9))


CHANGES: dict[str, Callable[[World], None]] = {
    "another gateway": other_gateway,
    "another address": other_address,
    "the address elsewhere": other_devices_address,
    "a foreign rule": foreign_rule,
    "a foreign endpoint": foreign_endpoint,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_different_leads_to_a_decision_of_its_own(
    change: Callable[[World], None],
) -> None:
    world = lost()
    carrier(world, True)
    first = decision(world)
    change(world)
    assert decision(world) is not first


def test_another_mode_or_other_facts_lead_to_a_decision_of_their_own() -> None:
    world = lost()
    carrier(world, True)
    first = decision(world)
    assert decision(world, WAN1 + interface("wan2", "eth2", "backup")) is not first
    assert decision(world, facts=Facts(failed=(("wan2", 2),))) is not first
    assert decision(world) is first


def test_the_last_results_are_kept_and_the_oldest_is_forgotten() -> None:
    calls: list[int] = []

    @cache_recent(KEPT)
    def square(number: int) -> int:
        """Of a number."""
        calls.append(number)
        return number * number

    assert square.__doc__ == "Of a number."
    numbers = list(range(KEPT))
    assert [square(number) for number in numbers * 2] == [n * n for n in numbers] * 2
    assert calls == numbers
    assert square(KEPT) == KEPT**2  # in place of the one that was used least recently
    assert [square(number) for number in numbers[1:]] == [n * n for n in numbers[1:]]
    assert calls == [*numbers, KEPT]
    square(0)
    assert calls == [*numbers, KEPT, 0]
