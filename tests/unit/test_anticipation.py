"""What is decided in advance is what a pass finds when it happens."""

from __future__ import annotations

import pytest

from mproutd.model import Snapshot
from mproutd.planning import decision
from mproutd.planning.anticipation import MAX_UPLINKS, anticipate, likely_snapshots
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, WAN2, two_lines

BOTH = uci(WAN1 + WAN2)


def seen(world: World) -> Snapshot:
    request = snapshot_request(BOTH, world.store.state, sweep=False, full=True)
    return world.snapshot(request)


@pytest.mark.parametrize("lost", [False, True], ids=["loss", "return"])
def test_the_first_change_of_a_carrier_finds_its_decision(
    lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    if lost:
        world.set("eth2", carrier=False)
        world.run(WAN1 + WAN2)
    anticipate(BOTH, seen(world), world.store.state, Facts())

    def never(*_: object) -> None:
        raise AssertionError("planned again")

    monkeypatch.setattr(decision, "make_plan", never)
    world.set("eth2", carrier=lost)
    found = decision.decide(BOTH, seen(world), world.store.state, Facts())
    changes = found.differences
    assert changes.add_endpoints if lost else changes.delete_endpoints


def test_only_uplinks_that_may_carry_are_considered() -> None:
    world = two_lines()
    world.set("eth2", up=False)
    snapshot = seen(world)
    (only,) = likely_snapshots(BOTH, snapshot)
    changed = [link for index, link in only.links.items() if link != snapshot.links[index]]
    assert [(link.name, link.carrier) for link in changed] == [("eth1", False)]
    assert not list(likely_snapshots(uci(interface("wan1", "eth1", "off")), snapshot))
    assert not list(likely_snapshots(uci(interface("wan1", "eth9", "on")), snapshot))
    assert not list(likely_snapshots(uci(WAN1, enabled=False), snapshot))
    many = [interface(f"wan{n}", f"eth{n}", "on") for n in range(1, MAX_UPLINKS + 2)]
    assert list(likely_snapshots(uci("".join(many[:-1])), snapshot))
    assert not list(likely_snapshots(uci("".join(many)), snapshot))
