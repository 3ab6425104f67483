"""What a pass does about what it has read: the plan, and in what the kernel differs.  Pure.

An uplink that comes back as it was is seen with the same snapshot, state and facts as the time
before.  Equal input has equal results, so its operations lie ready: the last decisions are kept.
Whatever is different this time (a gateway, an address, a mode, somebody else's route) is part of
the input, so that none of them is found.
"""

from __future__ import annotations

from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import Snapshot
from mproutd.planning.cache import cache_recent
from mproutd.planning.diff import Differences, compare, new_gateways, replaces_all
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan, make_plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts

KEPT = 12
"""Decisions: an uplink that goes and comes back needs up to five; see also anticipation.py."""


class ExpectedRoute(NamedTuple):
    """How packets from an endpoint's address should leave."""

    address: str
    bound_to: int
    """ifindex of the endpoint's device; 0 for none."""
    device: int
    gateways: tuple[str, ...]
    """Any of these."""


class Decision(NamedTuple):
    """The result of planning."""

    plan: Plan
    differences: Differences
    expected_routes: tuple[ExpectedRoute, ...]
    """Of the planned endpoints."""
    new_gateways: tuple[tuple[str, int], ...]
    """(gateway, ifindex) of the paths that are about to get an endpoint."""
    replaces_all: bool
    """New endpoints come before the old ones go."""


@cache_recent(KEPT)
def decide(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> Decision:
    """What should be in the kernel now, and what to change for that."""
    plan = make_plan(config, snapshot, state, facts)
    differences = compare(Ownership(config, state), snapshot, plan)
    gateways = new_gateways(plan, differences.add_endpoints)
    return Decision(
        plan,
        differences,
        expected_routes(plan),
        tuple(gateways),
        replaces_all(snapshot, plan, differences.delete_endpoints),
    )


def expected_routes(plan: Plan) -> tuple[ExpectedRoute, ...]:
    """How packets from the planned endpoints should leave, where their uplink leads out."""
    expected: dict[str, tuple[int, tuple[str, ...]]] = {}
    concerned = set(plan.endpoints.values())
    for uplink in plan.uplinks:
        if uplink.config.name not in concerned:
            continue
        for path in uplink.paths:
            if path.usable and path.leads_out and uplink.link:
                for address in path.eligible:
                    gateways = path.gateways(address.address)
                    expected[address.address] = (uplink.link.index, gateways)
    return tuple(
        ExpectedRoute(endpoint.address, endpoint.device, *expected[endpoint.address])
        for endpoint in plan.endpoints
        if endpoint.address in expected
    )
