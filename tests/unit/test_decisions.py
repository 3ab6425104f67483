"""What the log says between two plans: each change once, in words."""

from __future__ import annotations

from mproutd.planning.plan import Plan
from mproutd.status.changes import Decision, decisions
from tests.lab.fake_world import World, interface
from tests.unit.test_uplinks import unplugged, usual, without_default

ONE = interface("wan1", "eth1", "on")
MASTER = interface("wan1", "eth1", "master")


def plan(world: World, text: str = ONE) -> Plan:
    return world.run(text).plan


def told(before: Plan | None, now: Plan) -> list[str]:
    return [each.text for each in decisions(before, now)]


def test_the_first_plan_says_where_everything_stands() -> None:
    world = usual()
    now = plan(world, MASTER + interface("wan2", "eth2", "on"))
    assert decisions(None, now) == [
        Decision("wan1 usable: address 10.1.1.2, gateway 10.1.1.1 from main", "wan1", "eth1", True),
        Decision(
            "wan1 usable: address 2001:db8:1::2, gateway fe80::1 from main", "wan1", "eth1", True
        ),
        Decision("wan2 not usable: the device does not exist", "wan2", "eth2", False),
        Decision("other traffic (IPv4) leaves by wan1", "wan1"),
        Decision("other traffic (IPv6) leaves by wan1", "wan1"),
    ]


def test_nothing_changed_nothing_said() -> None:
    world = usual()
    before = plan(world)
    assert told(before, plan(world)) == []
    without_default(world)  # it is remembered: said, since the source is another
    again = plan(world)
    assert told(before, again) == [
        "wan1 usable: address 10.1.1.2, gateway 10.1.1.1 as last known",
        "wan1 usable: address 2001:db8:1::2, gateway fe80::1 as last known",
    ]
    assert told(again, plan(world)) == []


def test_a_loss_and_a_return() -> None:
    world = usual()
    before = plan(world, MASTER)
    unplugged(world)
    lost = plan(world, MASTER)
    assert told(before, lost) == [
        "wan1 not usable (IPv4): the link has no carrier",
        "wan1 not usable (IPv6): the link has no carrier",
        "other traffic (IPv4) leaves as main says",
        "other traffic (IPv6) leaves as main says",
    ]
    assert [each.good for each in decisions(before, lost)][:2] == [False, False]
    world.set("eth1", carrier=True)
    assert told(lost, plan(world, MASTER))[-1] == "other traffic (IPv6) leaves by wan1"


def test_a_family_that_never_was_is_no_news() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    before = plan(world)
    assert told(None, before) == ["wan1 usable: address 10.1.1.2, gateway 10.1.1.1 from main"]
    unplugged(world)
    now = plan(world)
    assert told(before, now) == ["wan1 not usable (IPv4): the link has no carrier"]
    assert told(now, plan(world)) == []


def test_no_address_at_all_is_said_once() -> None:
    world = World()
    world.device("eth1")
    before = plan(world)
    assert told(None, before) == ["wan1 not usable: the device has no address that can be used"]
    assert told(before, plan(world)) == []
    unplugged(world)
    now = plan(world)
    assert told(before, now) == ["wan1 not usable: the link has no carrier"]
    assert told(now, plan(world)) == []


def test_several_addresses_a_tunnel_and_a_new_mode() -> None:
    world = World()
    world.create("eth1", pointopoint=True)
    world.add_address("eth1", "10.1.1.2/24")
    before = plan(world)
    assert told(None, before) == ["wan1 usable: address 10.1.1.2, straight to the device"]
    world.add_address("eth1", "10.1.1.3/24")
    assert told(before, plan(world, interface("wan1", "eth1", "backup"))) == [
        "wan1 usable: addresses 10.1.1.2, 10.1.1.3, straight to the device",
        "wan1 is now backup",
    ]


def test_an_uplink_that_left_the_file() -> None:
    world = usual()
    assert told(plan(world), plan(world, "")) == ["wan1 is no longer managed"]
