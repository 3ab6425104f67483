"""Which devices and subnets matter to the daemon's filter of events."""

from __future__ import annotations

from socket import AF_INET

from mproutd.planning.relevance import Relevance, relevance
from tests.lab.fake_world import uci
from tests.unit.test_plan import WAN1, WAN2, two_lines


def test_before_the_first_pass_only_names_are_known() -> None:
    names = frozenset({"eth1", "eth2"})
    assert relevance(uci(WAN1 + WAN2), None, ()) == Relevance(frozenset(), names, frozenset())


def test_the_devices_of_uplinks_and_of_mains_default_matter_and_the_uplinks_subnets() -> None:
    world = two_lines()
    world.device("eth3", "10.3.3.3/24")
    world.default("eth3", "10.3.3.1", metric=1)
    outcome = world.run(WAN1 + WAN2)
    found = relevance(uci(WAN1 + WAN2), outcome.snapshot, outcome.plan.uplinks)
    index = {name: world.link(name).index for name in ("eth1", "eth2", "eth3")}
    assert found.indexes == set(index.values())
    assert (AF_INET, 24, 10 << 16 | 1 << 8 | 1) in found.networks
    assert (AF_INET, 24, 10 << 16 | 3 << 8 | 3) not in found.networks
