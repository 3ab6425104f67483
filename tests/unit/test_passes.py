"""The order of one pass: which endpoint is deleted before its successor is there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mproutd.model import Endpoint, Limits, Operation
from tests.lab.fake_world import ManualDeleter, World, interface, run_pass, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, two_lines

ONE = uci(WAN1)
OLD, NEW = "10.1.1.2 subflow dev eth1", "10.1.1.9 subflow dev eth1"


def up(config_text: str = WAN1) -> World:
    world = two_lines()
    world.run(config_text)
    world.done.clear()
    return world


def readdress(world: World) -> None:
    """eth1 gets another address, as after a new lease."""
    world.delete_address("eth1", "10.1.1.2")
    world.device("eth1", "10.1.1.9/24", gateway="10.1.1.1")


def endpoint_steps(world: World) -> list[str]:
    return [
        f"{operation.verb} {world.show([operation.value])[0]}"
        for operation in world.done
        if isinstance(operation.value, Endpoint)
    ]


def test_the_only_endpoint_is_replaced_before_it_is_deleted() -> None:
    world = up()
    readdress(world)
    outcome = world.once(ONE)
    assert endpoint_steps(world) == [f"add {NEW}", f"delete {OLD}"]
    verbs = [(operation.verb, type(operation.value).__name__) for operation in world.done]
    assert verbs.index(("add", "Endpoint")) > max(
        at for at, verb in enumerate(verbs) if verb in (("add", "Rule"), ("replace", "Route"))
    ), "only after its routes and rules"
    assert verbs.index(("delete", "Endpoint")) < verbs.index(("delete", "Rule"))
    assert not outcome.run_again


def test_in_the_background_the_old_one_is_handed_over_after_the_new_one_is_there() -> None:
    world = up()
    readdress(world)
    deleter = ManualDeleter(world)
    outcome = run_pass(world, ONE, deleter=deleter)
    assert endpoint_steps(world) == [f"add {NEW}"]
    assert [world.show([operation.value])[0] for operation in deleter.operations] == [OLD]
    assert outcome.run_again, "its rules and routes are deleted by the next pass"
    assert any(rule.source == "10.1.1.2" for rule in world.rules)


def test_while_another_endpoint_of_the_family_stays_the_old_one_is_deleted_first() -> None:
    world = up(WAN1 + WAN2)
    readdress(world)
    world.once(uci(WAN1 + WAN2))
    assert endpoint_steps(world) == [f"delete {OLD}", f"add {NEW}"]


def test_an_endpoint_of_the_other_family_does_not_count() -> None:
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.run(WAN1)
    world.done.clear()
    readdress(world)
    world.once(ONE)
    assert endpoint_steps(world) == [f"add {NEW}", f"delete {OLD}"]


def test_without_room_for_both_the_old_one_is_deleted_first() -> None:
    world = up()
    readdress(world)
    assert world.mptcp is not None
    world.mptcp = world.mptcp._replace(max_endpoints=1, limits=Limits(1, 1))
    world.once(uci(WAN1, "config mproutd\n option subflows 1\n option add_addr_accepted 1\n"))
    assert endpoint_steps(world) == [f"delete {OLD}", f"add {NEW}"]


@pytest.mark.parametrize("mode", ["off", "handover"])
def test_an_endpoint_without_a_successor_is_deleted_first(mode: str) -> None:
    world = up(WAN1 + WAN2)
    world.once(uci(WAN1 + interface("wan2", "eth2", mode)))
    assert endpoint_steps(world) == ["delete 10.2.2.2 subflow dev eth2"]
    assert endpoints(world) == [OLD]


def test_what_left_stays_on_file_until_its_endpoint_is_being_deleted() -> None:
    """A crash between the two must not forget the address."""
    world = two_lines()
    off = uci(WAN1 + interface("wan2", "eth2", "off"))
    world.run(off)
    assert "10.2.2.2" in world.store.state.without_endpoint
    world.delete_address("eth2", "10.2.2.2")
    readdress(world)
    kept: list[bool] = []

    class Watching(ManualDeleter):
        def start(self, operations: Sequence[Operation]) -> None:
            kept.append("10.2.2.2" in world.store.state.without_endpoint)
            super().start(operations)

    run_pass(world, off, deleter=Watching(world))
    assert kept == [True]
    assert "10.2.2.2" not in world.store.state.without_endpoint
