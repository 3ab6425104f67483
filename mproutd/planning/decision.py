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
from mproutd.planning.diff import Differences, compare
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan, make_plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts

KEPT = 8
"""Decisions: an uplink that goes and comes back needs up to five."""


class Decision(NamedTuple):
    """The result of planning."""

    plan: Plan
    differences: Differences


@cache_recent(KEPT)
def decide(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> Decision:
    """What should be in the kernel now, and what to change for that."""
    plan = make_plan(config, snapshot, state, facts)
    return Decision(plan, compare(Ownership(config, state), snapshot, plan))
