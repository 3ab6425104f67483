"""The decisions that the log reports between two plans: each change once, with its facts."""

from __future__ import annotations

from mproutd.planning.plan import Plan
from mproutd.planning.uplinks import REASONS
from mproutd.status.changes import decisions
from tests.lab.fake_world import World, interface
from tests.unit.test_uplinks import unplugged, usual, without_default

ONE = interface("wan1", "eth1", "on")
MASTER = interface("wan1", "eth1", "master")
OK, BAD = True, False


def plan(world: World, text: str = ONE) -> Plan:
    return world.run(text).plan


def check(before: Plan | None, now: Plan, *expected: tuple[str, bool, str]) -> None:
    """Each decision: its uplink, whether it is good, and words that its text has, in order."""
    decided = decisions(before, now)
    assert [(decision.uplink, decision.good) for decision in decided] == [
        decision[:2] for decision in expected
    ]
    for decision, (_, _, words) in zip(decided, expected, strict=True):
        rest = decision.text
        for word in words.split(" … "):
            assert word in rest, f"{word!r} in {decision.text!r}"
            rest = rest.partition(word)[2]


def test_the_first_plan_reports_every_uplink() -> None:
    now = plan(usual(), MASTER + interface("wan2", "eth2", "on"))
    check(
        None,
        now,
        ("wan1", OK, "IPv4 … 10.1.1.2 … 10.1.1.1 … main"),
        ("wan1", OK, "IPv6 … 2001:db8:1::2 … fe80::1 … main"),
        ("wan2", BAD, REASONS["no-device"]),
        ("wan1", OK, "IPv4"),
        ("wan1", OK, "IPv6"),
    )
    assert [decision.device for decision in decisions(None, now)] == [
        "eth1",
        "eth1",
        "eth2",
        "",
        "",
    ]


def test_nothing_changed_nothing_reported() -> None:
    world = usual()
    before = plan(world)
    check(before, plan(world))
    without_default(world)  # the gateway is remembered: its origin has changed
    again = plan(world)
    check(
        before,
        again,
        ("wan1", OK, "10.1.1.1 … last known"),
        ("wan1", OK, "fe80::1 … last known"),
    )
    check(again, plan(world))


def test_a_loss_and_a_return() -> None:
    world = usual()
    before = plan(world, MASTER)
    unplugged(world)
    lost = plan(world, MASTER)
    check(
        before,
        lost,
        ("wan1", BAD, f"IPv4 … {REASONS['no-carrier']}"),
        ("wan1", BAD, f"IPv6 … {REASONS['no-carrier']}"),
        ("", OK, "IPv4 … table main"),
        ("", OK, "IPv6 … table main"),
    )
    world.set("eth1", carrier=True)
    assert "wan1" in decisions(lost, plan(world, MASTER))[-1].text


def test_a_family_without_any_address_is_not_reported() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    before = plan(world)
    check(None, before, ("wan1", OK, "IPv4 … 10.1.1.2"))
    unplugged(world)
    now = plan(world)
    check(before, now, ("wan1", BAD, f"IPv4 … {REASONS['no-carrier']}"))
    check(now, plan(world))


def test_no_address_at_all_is_reported_once() -> None:
    world = World()
    world.device("eth1")
    before = plan(world)
    check(None, before, ("wan1", BAD, REASONS["no-address"]))
    check(before, plan(world))
    unplugged(world)
    now = plan(world)
    check(before, now, ("wan1", BAD, REASONS["no-carrier"]))
    check(now, plan(world))
    check(now, plan(world, interface("wan1", "eth1", "backup")), ("wan1", OK, "mode … backup"))


def test_several_addresses_a_tunnel_and_a_new_mode() -> None:
    world = World()
    world.create("eth1", pointopoint=True)
    world.add_address("eth1", "10.1.1.2/24")
    before = plan(world)
    check(None, before, ("wan1", OK, "10.1.1.2 … without a gateway"))
    world.add_address("eth1", "10.1.1.3/24")
    check(
        before,
        plan(world, interface("wan1", "eth1", "backup")),
        ("wan1", OK, "10.1.1.2, 10.1.1.3"),
        ("wan1", OK, "mode … backup"),
    )


def test_an_uplink_that_left_the_file() -> None:
    world = usual()
    check(plan(world), plan(world, ""), ("wan1", OK, "no longer"))
