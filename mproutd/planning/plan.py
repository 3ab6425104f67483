"""The plan: what should be in the kernel, from configuration, state, facts and snapshot.  Pure.

make_plan() is the table of contents; each step is a module of its own.  No step looks at what
an earlier pass planned, so any history leads to the same kernel state as a clean start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import (
    Endpoint,
    Failure,
    Limits,
    NexthopObject,
    Object,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
)
from mproutd.planning.bookkeeping import next_state, prune
from mproutd.planning.cache import cache_last
from mproutd.planning.endpoints import plan_endpoints, without_service
from mproutd.planning.health import effective, keep_last_usable
from mproutd.planning.modes import Verdicts, is_standby, switch_off, with_effective_modes
from mproutd.planning.numbering import Numbers, assign_numbers, assign_policy_numbers
from mproutd.planning.overlaps import shared_subnets
from mproutd.planning.ownership import Ownership
from mproutd.planning.resolvers import UplinkResolver, plan_resolvers, resolver_rules
from mproutd.planning.routes import NO_STEERING, Steering, plan_routing
from mproutd.planning.state import State
from mproutd.planning.tunables import original_limits, plan_limits, plan_sysctls
from mproutd.planning.uplinks import Facts, ObservedUplink, observe


class Plan(NamedTuple):
    """What should be there.  The dicts are ordered sets; the values name the uplink."""

    routes: dict[Route, str]
    rules: dict[Rule, str]
    endpoints: dict[Endpoint, str]
    limits: Limits | None
    sysctls: dict[Sysctl, str]
    uplinks: tuple[ObservedUplink, ...]
    numbers: dict[str, Numbers]
    default: dict[int, str]
    """Family → the uplink that carries other traffic; empty without a master."""
    main_default: dict[int, int]
    """Family → the device, no uplink, through which main leads other traffic despite a master."""
    barred: frozenset[int]
    """Families in which other traffic has no way out once no uplink may carry it."""
    over_cap: dict[str, str]
    """Address → uplink, for which the kernel has no room for an endpoint."""
    state: State
    """What the state file must hold before any of this is applied."""
    shares: Mapping[int, tuple[tuple[str, int], ...]] = {}
    """Family → (uplink, weight) of all that carry it; the first of them is in `default`."""
    nexthops: Mapping[NexthopObject, str] = {}
    """The nexthop objects that routes use, a group after its members."""
    resolvers: tuple[UplinkResolver, ...] = ()
    """The DNS servers of all uplinks, in the order of their use."""


class Outcome(NamedTuple):
    """What a pass saw and did."""

    snapshot: Snapshot
    plan: Plan
    done: tuple[Operation, ...] = ()
    failures: tuple[Failure, ...] = ()
    misrouted: tuple[str, ...] = ()
    """Addresses that the kernel routes by another device: no endpoint is kept there."""
    run_again: bool = False
    """Something that this pass did may change what the next one sees."""
    missing: tuple[Object, ...] = ()
    """What is wanted and not there yet: refused, rate-limited, or waiting for something else."""
    withheld: frozenset[str] = frozenset()
    """The misrouted addresses whose grace period is over."""
    kept: Mapping[str, int] = {}
    """Address → connections for which an endpoint stays that is to be deleted."""


@cache_last
def make_plan(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> Plan:
    """What should be in the kernel now."""
    ownership = Ownership(config, state)
    if not config.enabled:
        standby = is_standby(config, state, facts) if config.pair else None
        return _empty_plan(ownership, snapshot, standby)
    numbers = assign_numbers(config, state.slots)
    failed = effective(config, state, facts)
    verdicts = Verdicts(config, state, facts)
    observed = observe(with_effective_modes(config, verdicts), snapshot, state, facts, failed)
    uplinks = switch_off(keep_last_usable(observed, failed), verdicts.over_quota)
    withheld = facts.withheld | without_service(ownership, snapshot.mptcp, uplinks)
    if withheld:
        uplinks = [uplink._replace(withheld=withheld) for uplink in uplinks]
    shared = shared_subnets(uplinks, snapshot.addresses)
    steering = _plan_policies(config, snapshot, state, uplinks, numbers)
    routing = plan_routing(config, snapshot, uplinks, numbers, shared, steering)
    resolvers = plan_resolvers(config, snapshot, facts, uplinks)
    if resolvers:
        routing.rules.update(resolver_rules(config, uplinks, numbers, resolvers, routing.rules))
    endpoints, over_cap = plan_endpoints(ownership, snapshot, uplinks, facts.settled)
    limits = plan_limits(ownership, snapshot, uplinks, endpoints, routing.shares)
    sysctls = plan_sysctls(ownership, snapshot, uplinks, endpoints, routing.rules, shared)
    new_state = next_state(ownership, snapshot, numbers, uplinks, endpoints, limits, sysctls)
    return Plan(
        routes=routing.routes,
        rules=routing.rules,
        nexthops=routing.nexthops,
        resolvers=resolvers,
        endpoints=endpoints,
        limits=limits,
        sysctls=sysctls,
        uplinks=tuple(uplinks),
        numbers=numbers,
        default=routing.default,
        shares=routing.shares,
        main_default=routing.main_default,
        barred=routing.barred,
        over_cap=over_cap,
        state=new_state._replace(
            failed=failed,
            over_quota=verdicts.over_quota,
            overflowing=verdicts.overflowing,
            standby=verdicts.standby if config.pair else None,
        ),
    )


def _plan_policies(
    config: Config,
    snapshot: Snapshot,
    state: State,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
) -> Steering:
    if not config.rules:
        return NO_STEERING
    from mproutd.planning.policies import plan_policies

    policy_numbers = assign_policy_numbers(config, state.policies)
    return plan_policies(config, snapshot, uplinks, numbers, policy_numbers)


def _empty_plan(ownership: Ownership, snapshot: Snapshot, standby: bool | None) -> Plan:
    """Nothing of ours, and the limits as they were found; `standby` counts once it is enabled."""
    limits = original_limits(ownership, snapshot)
    state = prune(ownership, snapshot)._replace(standby=standby)
    return Plan({}, {}, {}, limits, {}, (), {}, {}, {}, frozenset(), {}, state)
