"""What the state file must hold before the kernel is changed.  Pure.

Endpoints, limits and sysctls carry no mark of ours in the kernel, so they are recorded before
they are written, and what is not on record is never removed: see ownership.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mproutd.configuration.options import RULE_SPAN
from mproutd.model import Endpoint, Limits, Snapshot, Sysctl
from mproutd.planning.endpoints import active
from mproutd.planning.numbering import Numbers
from mproutd.planning.ownership import Ownership
from mproutd.planning.state import REMEMBERED_GATEWAYS, State
from mproutd.planning.tunables import recorded_limits, sysctl_value
from mproutd.planning.uplinks import ObservedUplink, by_name


def next_state(
    ownership: Ownership,
    snapshot: Snapshot,
    numbers: Mapping[str, Numbers],
    uplinks: Sequence[ObservedUplink],
    endpoints: Mapping[Endpoint, str],
    limits: Limits | None,
    sysctls: Mapping[Sysctl, str],
) -> State:
    """The state to save before the plan with these objects is applied."""
    config = ownership.config
    found = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    foreign = ownership.foreign_addresses(found)
    own = {
        (endpoint.address, endpoint.device)
        for endpoint in endpoints
        if endpoint.address not in foreign
    }
    pruned = prune(ownership, snapshot)
    original_sysctls = dict(pruned.sysctls)
    named = by_name(snapshot.links)
    for device, key, value in sysctls:
        link = named[device]
        if (found_value := getattr(link, key)) != value:
            original_sysctls[link.index, key] = found_value
    return State(
        slots={name: own_numbers.slot for name, own_numbers in numbers.items()},
        tables=pruned.tables | {own.table for own in numbers.values()} | {config.table_base},
        priorities=pruned.priorities | {config.rule_priority},
        gateways=_gateways(ownership.state, uplinks),
        endpoints=pruned.endpoints | own,
        without_endpoint=_without_endpoint(
            ownership.state, snapshot, uplinks, {address for address, _ in own}
        ),
        limits=recorded_limits(ownership, snapshot, limits),
        sysctls=original_sysctls,
    )


def prune(ownership: Ownership, snapshot: Snapshot) -> State:
    """The state without what is over: endpoints that are gone, values changed by somebody else."""
    state = ownership.state
    found = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    own_priorities = {rule.priority for rule in ownership.own_rules(snapshot.rules)}
    return state._replace(
        tables=state.tables & {route.table for route in ownership.own_routes(snapshot.routes)},
        priorities=frozenset(
            base
            for base in state.priorities
            if any(0 <= priority - base < RULE_SPAN for priority in own_priorities)
        ),
        endpoints=frozenset(
            (endpoint.address, endpoint.device)
            for endpoint in found
            if ownership.owns_endpoint(endpoint)
        ),
        limits=recorded_limits(ownership, snapshot, None),
        sysctls={
            (device, key): original
            for (device, key), original in state.sysctls.items()
            if ownership.owns_sysctl(device, key, sysctl_value(snapshot.links, device, key))
        },
    )


def _without_endpoint(
    state: State,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    with_endpoint: Collection[str],
) -> frozenset[str]:
    """The addresses where connections may have begun that no endpoint of ours would close.

    A departed address stays on this list until its subflows can be closed: until there is an
    uplink to move them to.
    """
    usable = frozenset(
        address.address
        for uplink in uplinks
        for path in uplink.paths
        if path.usable
        for address in path.eligible
        if address.address not in with_endpoint
    )
    earlier = state.without_endpoint
    if active(uplinks):
        present = {
            address.address
            for uplink in uplinks
            for path in uplink.paths
            for address in path.covered
        }
        earlier &= (present | snapshot.sole_path).difference(with_endpoint)
    return usable | earlier


def _gateways(state: State, uplinks: Sequence[ObservedUplink]) -> dict[tuple[str, str], str]:
    """The gateways known now and those known before; beyond the limit the oldest are dropped."""
    current = {
        (uplink.config.device, address.address): path.gateway.address
        for uplink in uplinks
        for path in uplink.paths
        if path.gateway and path.gateway.origin in ("netifd", "lease", "ifupdown", "main")
        for address in path.covered
    }
    gateways = {**state.gateways, **current}
    surplus = len(gateways) - max(REMEMBERED_GATEWAYS, len(current))
    for key in [key for key in gateways if key not in current][: max(0, surplus)]:
        del gateways[key]
    return gateways
