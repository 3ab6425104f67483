"""What carries nothing does not keep a handover uplink idle."""

from __future__ import annotations

from socket import AF_INET

import pytest

from mproutd.model import BACKUP, IMPLICIT, SIGNAL, SUBFLOW, UNREACHABLE, Endpoint, Route, Rule
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import endpoints

WAN1 = interface("wan1", "eth1", "master")
WAN2 = interface("wan2", "eth2", "handover")
WAN3 = interface("wan3", "eth3", "handover")
SERVER = "config mproutd 'globals'\n\toption role 'server'\n"


def prohibit(n: int) -> Rule:
    """To a table that leads nowhere."""
    return Rule(AF_INET, 500, 99, source=f"10.{n}.{n}.2", protocol=4)


def three_uplinks() -> World:
    world = World()
    for n in (1, 2, 3):
        world.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
    world.foreign(Route(AF_INET, 99, "default", type=UNREACHABLE, protocol=4))
    return world


def test_a_misrouted_uplink_is_replaced_until_it_is_routed_again() -> None:
    world = three_uplinks()
    world.run(WAN1 + WAN2 + WAN3)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    world.foreign(prohibit(1))
    outcome = world.run(WAN1 + WAN2 + WAN3)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    assert outcome.withheld == {"10.1.1.2"}
    world.foreign(prohibit(2))
    outcome = world.run(WAN1 + WAN2 + WAN3)
    assert endpoints(world) == ["10.3.3.2 subflow dev eth3"]
    assert outcome.withheld == {"10.1.1.2", "10.2.2.2"}
    world.rules.remove(prohibit(2))
    world.run(WAN1 + WAN2 + WAN3)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    world.rules.remove(prohibit(1))
    world.run(WAN1 + WAN2 + WAN3)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_the_endpoint_comes_before_the_misrouted_one_goes() -> None:
    world = three_uplinks()
    config = uci(WAN1 + WAN2)
    world.run(config)
    world.foreign(prohibit(1))
    first = world.once(config)
    assert first.run_again
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"], "nothing is closed yet"


def test_where_none_carries_all_stay_planned() -> None:
    """So that their routing is verified."""
    world = three_uplinks()
    for n in (1, 2, 3):
        world.foreign(prohibit(n))
    outcome = world.run(WAN1 + WAN2 + WAN3)
    assert [each[:4] for each in outcome.misrouted] == ["10.1", "10.2", "10.3"]
    outcome = world.run(WAN2 + WAN3)
    assert outcome.misrouted == ("10.2.2.2", "10.3.3.2")
    assert endpoints(world) == []
    world.rules.remove(prohibit(3))
    world.run(WAN2 + WAN3)
    assert endpoints(world) == ["10.3.3.2 subflow dev eth3"]


def test_in_one_family_it_is_a_backup() -> None:
    world = three_uplinks()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.foreign(prohibit(1))
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "10.2.2.2 subflow backup dev eth2",
        "2001:db8:1::2 subflow dev eth1",
    ]


@pytest.mark.parametrize(
    ("foreign", "role", "in_place"),
    [
        (Endpoint("10.1.1.2", 0, SUBFLOW), "", False),
        (Endpoint("10.1.1.2", 0, SUBFLOW | BACKUP), "", False),
        (Endpoint("10.1.1.2", 0, SIGNAL), "", True),
        (Endpoint("10.1.1.2", 2, SUBFLOW), "", False),
        (Endpoint("10.1.1.2", 3, SUBFLOW), "", True),
        (Endpoint("10.1.1.2", 0, SIGNAL), SERVER, False),
        (Endpoint("10.1.1.2", 0, SUBFLOW), SERVER, True),
        (Endpoint("10.1.1.2", 0, SIGNAL, port=5000), "", False),
        (Endpoint("10.1.1.2", 0, IMPLICIT), "", False),
        (Endpoint("10.7.7.2", 0, SIGNAL), "", False),
    ],
)
def test_in_place_of_an_endpoint_that_serves_something_else(
    foreign: Endpoint, role: str, in_place: bool
) -> None:
    world = three_uplinks()
    assert [world.link(f"eth{n}").index for n in (1, 2)] == [2, 3]
    world.foreign(foreign)
    world.run(uci(WAN1 + WAN2, role))
    assert ("10.2.2.2" in "".join(endpoints(world))) == in_place


def test_a_foreign_endpoint_at_an_uplink_without_a_device_is_no_matter() -> None:
    world = three_uplinks()
    world.foreign(Endpoint("10.1.1.2", 0, SIGNAL))
    world.remove("eth1")
    world.run(WAN1 + WAN2)
    assert "10.2.2.2 subflow dev eth2" in endpoints(world)
