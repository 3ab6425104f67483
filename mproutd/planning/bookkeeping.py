"""What is written down before it is done; pure.

Endpoints, limits and sysctls carry no mark of ours in the kernel: what stands in the memory
is ours, and only that is ever taken away again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mproutd.configuration.config import Config
from mproutd.model import PROTOCOL, Endpoint, Limits, Snapshot, Sysctl
from mproutd.planning.endpoints import active, foreign_addresses, is_ours
from mproutd.planning.numbering import Numbers
from mproutd.planning.state import REMEMBERED_GATEWAYS, State
from mproutd.planning.tunables import OURS, limits_to_remember, settings
from mproutd.planning.uplinks import ObservedUplink, by_name

RULE_SPAN = 900
"""Our rules lie in rule_priority .. +WINDOW-1, and at two priorities just before main."""


def remember(
    config: Config,
    state: State,
    numbers: Mapping[str, Numbers],
    uplinks: Sequence[ObservedUplink],
    endpoints: Mapping[Endpoint, str],
    snapshot: Snapshot,
    limits: Limits | None,
    sysctls: Mapping[Sysctl, str],
) -> State:
    """What has to be on file before the kernel is changed."""
    found = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    others = foreign_addresses(found, state)
    own = {
        (endpoint.address, endpoint.device)
        for endpoint in endpoints
        if endpoint.address not in others
    }
    with_endpoint = {endpoint.address for endpoint in endpoints} - others
    without_endpoint = frozenset(
        address.address
        for uplink in uplinks
        for path in uplink.paths
        if path.usable
        for address in path.eligible
        if address.address not in with_endpoint
    )
    # An address that was left keeps its place here until its subflows are to be closed.
    held = {
        address.address for uplink in uplinks for path in uplink.paths for address in path.covered
    }
    if active(uplinks):
        without_endpoint |= state.without_endpoint & ((held | snapshot.sole_path) - with_endpoint)
    else:
        without_endpoint |= state.without_endpoint
    pruned = prune(state, snapshot)
    before = dict(pruned.sysctls)
    values = settings(snapshot.links)
    named = by_name(snapshot.links)
    for device, key, value in sysctls:
        place = (named[device].index, key)
        if values[place] != value:
            before[place] = values[place]
    return State(
        slots={name: own.slot for name, own in numbers.items()},
        tables=pruned.tables | {own.table for own in numbers.values()} | {config.table_base},
        priorities=pruned.priorities | {config.rule_priority},
        gateways=_gateways(state, uplinks),
        endpoints=pruned.endpoints | own,
        without_endpoint=without_endpoint,
        limits=limits_to_remember(snapshot, state, limits),
        sysctls=before,
    )


def prune(state: State, snapshot: Snapshot) -> State:
    """Without what is over: endpoints that are gone, settings that somebody has changed since."""
    found = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    values = settings(snapshot.links)
    return state._replace(
        tables=state.tables
        & {route.table for route in snapshot.routes if route.protocol == PROTOCOL},
        priorities=frozenset(
            base
            for base in state.priorities
            if any(
                rule.protocol == PROTOCOL and 0 <= rule.priority - base < RULE_SPAN
                for rule in snapshot.rules
            )
        ),
        endpoints=frozenset(
            (endpoint.address, endpoint.device) for endpoint in found if is_ours(endpoint, state)
        ),
        limits=limits_to_remember(snapshot, state, None),
        sysctls={
            (device, key): before
            for (device, key), before in state.sysctls.items()
            if key in OURS and values.get((device, key)) == OURS[key]
        },
    )


def _gateways(state: State, uplinks: Sequence[ObservedUplink]) -> dict[tuple[str, str], str]:
    """What was known before, and what is known now; of the rest, the oldest is forgotten."""
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
