"""What the state file must hold before the kernel is changed.  Pure.

Endpoints, limits and sysctls carry no mark of ours in the kernel, so they are recorded before
they are written, and what is not on record is never removed: see ownership.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mproutd.configuration.options import RULE_SPAN
from mproutd.model import ANY_DEVICE, Endpoint, Limits, Metrics, Snapshot, Sysctl
from mproutd.planning.endpoints import active
from mproutd.planning.gateways import is_memorable
from mproutd.planning.numbering import Numbers, assign_policy_numbers, tables_in_use
from mproutd.planning.ownership import Ownership
from mproutd.planning.sharing import uses_nexthops
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
    existing = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    foreign = ownership.foreign_keys(existing)
    own = [endpoint for endpoint in endpoints if endpoint.key not in foreign]
    pruned = prune(ownership, snapshot)
    gateways = _gateways(ownership.state, uplinks)
    original_sysctls = dict(pruned.sysctls)
    named = by_name(snapshot.links)
    for device, key, value in sysctls:
        link = named[device]
        if (existing_value := getattr(link, key)) != value:
            original_sysctls[link.index, key] = existing_value
    slots = {name: own_numbers.slot for name, own_numbers in numbers.items()}
    return State(
        slots=slots,
        policies=_policies(ownership),
        tables=pruned.tables | tables_in_use(config, slots, ownership.state.policies),
        priorities=pruned.priorities | {config.rule_priority},
        gateways=gateways,
        attributes=_attributes(ownership.state, uplinks, gateways),
        dropped=_dropped(ownership.state, uplinks) & gateways.keys(),
        endpoints=pruned.endpoints | _without_port(own),
        ports=pruned.ports | _with_port(own),
        without_endpoint=_without_endpoint(
            ownership.state, snapshot, uplinks, {endpoint.address for endpoint in own}
        ),
        limits=recorded_limits(ownership, snapshot, limits),
        sysctls=original_sysctls,
        nexthops=pruned.nexthops or uses_nexthops(config),
    )


def _without_port(endpoints: Iterable[Endpoint]) -> frozenset[tuple[str, int]]:
    return frozenset((one.address, one.device) for one in endpoints if not one.port)


def _with_port(endpoints: Iterable[Endpoint]) -> frozenset[tuple[str, int, int]]:
    return frozenset((one.address, one.device, one.port) for one in endpoints if one.port)


def _policies(ownership: Ownership) -> dict[str, int]:
    if not ownership.config.policies:
        return {}
    numbers = assign_policy_numbers(ownership.config, ownership.state.policies)
    return {name: own.number for name, own in numbers.items()}


def prune(ownership: Ownership, snapshot: Snapshot) -> State:
    """The state without what is over: endpoints that are gone, values changed by somebody else."""
    state = ownership.state
    existing = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    own = [endpoint for endpoint in existing if ownership.owns_endpoint(endpoint)]
    own_rules = ownership.own_rules(snapshot.rules)
    return state._replace(
        tables=state.tables & {route.table for route in ownership.own_routes(snapshot.routes)},
        priorities=frozenset(
            base
            for base in state.priorities
            if any(0 <= rule.priority - base < RULE_SPAN for rule in own_rules)
        ),
        endpoints=_without_port(own),
        ports=_with_port(own),
        limits=recorded_limits(ownership, snapshot, None),
        nexthops=any(map(ownership.owns_nexthop, snapshot.nexthops or ())),
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
    if earlier and active(uplinks):
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
        if path.gateway and is_memorable(path.gateway, path.default)
        for address in path.covered
    }
    withdrawn = {
        (uplink.config.device, address.address)
        for uplink in uplinks
        for path in uplink.paths
        if path.withdrawn or (path.gateway and path.gateway.origin in ("main", "table"))
        for address in path.covered
    }
    gateways = {key: gateway for key, gateway in state.gateways.items() if key not in withdrawn}
    gateways |= current
    surplus = len(gateways) - max(REMEMBERED_GATEWAYS, len(current))
    for key in [key for key in gateways if key not in current][: max(0, surplus)]:
        del gateways[key]
    return gateways


def _attributes(
    state: State, uplinks: Sequence[ObservedUplink], gateways: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], tuple[str, Metrics]]:
    """Source and metrics of main's routes by the remembered gateways."""
    attributes = {
        key: attributes for key, attributes in state.attributes.items() if key in gateways
    }
    for uplink in uplinks:
        for path in uplink.paths:
            if path.default is None:
                continue
            for address in path.covered:
                key = (uplink.config.device, address.address)
                attributes.pop(key, None)
                if key in gateways and (path.default.source or path.default.metrics):
                    attributes[key] = (path.default.source, path.default.metrics)
    return attributes


def _dropped(state: State, uplinks: Sequence[ObservedUplink]) -> frozenset[tuple[str, str]]:
    """The addresses whose remembered gateway's route went with the link or the address."""
    known = {
        (uplink.config.device, address.address): path.dropped
        for uplink in uplinks
        for path in uplink.paths
        if path.gateway is not None
        for address in path.covered
    }
    kept = {key for key in state.dropped if known.get(key, True)}
    return frozenset(kept | {key for key, dropped in known.items() if dropped})


def remembered_gateways(
    snapshot: Snapshot, uplinks: Sequence[ObservedUplink]
) -> tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int]]]:
    """(device, family) whose gateway is remembered, and those where nothing justifies it.

    Justified: the kernel dropped main's route itself, or another default has replaced it, through
    a device that is no uplink (a VPN).
    """
    own = {uplink.link.index for uplink in uplinks if uplink.link}
    remembered, deleted = set(), set()
    for uplink in uplinks:
        for path in uplink.paths:
            if path.gateway is None or path.gateway.origin != "remembered":
                continue
            key = (uplink.config.device, path.family)
            remembered.add(key)
            default = snapshot.defaults.get((ANY_DEVICE, path.family))
            if not path.dropped and (default is None or default.device in own):
                deleted.add(key)
    return frozenset(remembered), frozenset(deleted)
