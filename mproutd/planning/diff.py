"""From what is found to what is planned: ordered lists of operations.  Pure.

Only what is ours is changed or deleted: see ownership.py.

Order: connected route, default route, rule, endpoint; deletions in the reverse order.  Nothing
is deleted before its successor is there, except where the kernel allows only one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from mproutd.model import (
    BACKUP,
    FAMILIES,
    FULLMESH,
    IMPLICIT,
    TABLE_MAIN,
    Endpoint,
    Mptcp,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    family_of,
)
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan
from mproutd.planning.tunables import sysctl_value
from mproutd.planning.uplinks import by_name


class Differences(NamedTuple):
    """Everything in which the kernel differs from the plan, in the order in which it is made."""

    delete_endpoints: list[Operation]
    add_routes: list[Operation]
    """Sysctls, nexthop objects, routes and rules that come or change."""
    delete_steering: list[Operation]
    """Rules by mark, incoming device or destination.  No endpoint uses them, so they do not wait
    for one: what they led to a lost uplink moves at once."""
    add_endpoints: list[Operation]
    """Limits, endpoints that change, endpoints that come."""
    delete_routes: list[Operation]
    """Rules, then routes, then nexthop objects."""

    @property
    def operations(self) -> list[Operation]:
        return [operation for step in self for operation in step]


def compare(ownership: Ownership, snapshot: Snapshot, plan: Plan) -> Differences:
    """What to change for the kernel to become as planned."""
    add_routes, delete_steering, delete_routes = routing(ownership, snapshot, plan)
    delete_endpoints, add_endpoints = endpoints(ownership, snapshot, plan)
    return Differences(delete_endpoints, add_routes, delete_steering, add_endpoints, delete_routes)


def own_endpoint_deletions(
    ownership: Ownership, snapshot: Snapshot, addresses: Collection[str]
) -> list[Operation]:
    """Delete our endpoints at these addresses."""
    if snapshot.mptcp is None or not addresses:
        return []
    return [
        Operation("delete", endpoint)
        for endpoint in snapshot.mptcp.endpoints
        if endpoint.address in addresses
        and not endpoint.flags & IMPLICIT
        and ownership.owns_endpoint(endpoint)
    ]


def routing(
    ownership: Ownership, snapshot: Snapshot, plan: Plan
) -> tuple[list[Operation], list[Operation], list[Operation]]:
    """(additions, deletions of steering rules, other deletions).

    Additions: sysctls, connected routes, nexthop objects, other routes, rules.  Deletions: rules,
    then routes and nexthop objects, to be made once the endpoints that used them are gone.
    """
    routes = ownership.own_routes(snapshot.routes)
    rules = ownership.own_rules(snapshot.rules)
    new_routes = [item for item in plan.routes.items() if item[0] not in routes]
    keys = {route.key for route in routes} if new_routes else set()
    if new_routes and len(routes) < len(snapshot.routes):
        foreign = {route.key: route for route in snapshot.routes if route not in routes}
        new_routes = [
            item for item in new_routes if not _is_equivalent(foreign.get(item[0].key), item[0])
        ]
    ordered = [
        Operation("replace" if route.key in keys else "add", route, uplink)
        for route, uplink in sorted(new_routes, key=_connected_first)
    ]
    connected = sum(not _connected_first(item) for item in new_routes)
    new_objects, old_objects = _nexthops(ownership, snapshot, plan)
    additions = _sysctls(ownership, snapshot, plan)
    additions += [*ordered[:connected], *new_objects, *ordered[connected:]]
    replaced = {route.key for route, _ in new_routes}
    additions += [
        Operation("add", rule, uplink) for rule, uplink in plan.rules.items() if rule not in rules
    ]
    old_rules = sorted(rules - plan.rules.keys(), key=_rule_order)
    steering = [Operation("delete", rule) for rule in old_rules if _is_steering(rule)]
    deletions = [Operation("delete", rule) for rule in old_rules if not _is_steering(rule)]
    deletions += [
        Operation("delete", route)
        for route in sorted(routes - plan.routes.keys(), key=_default_first)
        if route.key not in replaced
    ]
    return additions, steering, deletions + old_objects


def _is_steering(rule: Rule) -> bool:
    """Not the rule for mproutd's own lookups in main."""
    by_destination = bool(rule.destination) and not rule.source
    return rule.table != TABLE_MAIN and bool(rule.fwmask or rule.iif or by_destination)


def _nexthops(
    ownership: Ownership, snapshot: Snapshot, plan: Plan
) -> tuple[list[Operation], list[Operation]]:
    """The nexthop objects that come or change, members before groups, and those to delete."""
    existing = snapshot.nexthops or ()
    if not existing and not plan.nexthops:
        return [], []
    own = {nexthop.id: nexthop for nexthop in existing if ownership.owns_nexthop(nexthop)}
    additions = [
        Operation("replace" if nexthop.id in own else "add", nexthop, uplink)
        for nexthop, uplink in plan.nexthops.items()
        if own.get(nexthop.id) != nexthop
    ]
    planned = {nexthop.id for nexthop in plan.nexthops}
    unplanned = [nexthop for number, nexthop in own.items() if number not in planned]
    unplanned.sort(key=lambda nexthop: not nexthop.members)
    return additions, [Operation("delete", nexthop) for nexthop in unplanned]


def _is_equivalent(foreign: Route | None, wanted: Route) -> bool:
    """Whether another program's route is in the place of ours and will do.

    The kernel allows one of them; that happens in a table that others keep as well.
    """
    if foreign is None or wanted.nexthop_id or wanted.type != foreign.type:
        return False
    return (foreign.devices, foreign.gateways) == (wanted.devices, wanted.gateways)


def _connected_first(item: tuple[Route, str]) -> bool:
    """A gateway has to be reachable before it is used.  The table for other traffic stays last."""
    return item[0].destination == "default"


def _default_first(route: Route) -> tuple[bool, tuple[int, int, str, int, str]]:
    return (route.destination != "default", route.key)


def _rule_order(rule: Rule) -> tuple[int, int, str, str, str]:
    return (rule.priority, rule.family, rule.source, rule.destination, rule.oif or rule.iif)


def endpoints(
    ownership: Ownership, snapshot: Snapshot, plan: Plan
) -> tuple[list[Operation], list[Operation]]:
    """(deletions, additions).

    Each deletion takes the kernel an RCU grace period.  Additions: limits, endpoints that
    change, endpoints that come.
    """
    if snapshot.mptcp is None:
        return [], []
    foreign = ownership.foreign_keys(snapshot.mptcp.endpoints)
    own = {
        endpoint.key: endpoint
        for endpoint in snapshot.mptcp.endpoints
        if ownership.owns_endpoint(endpoint) and not endpoint.flags & IMPLICIT
    }
    deletions: list[Operation] = []
    additions: list[Operation] = []
    if plan.limits and plan.limits != snapshot.mptcp.limits:
        additions.append(Operation("change", plan.limits))
    kept = set()
    for endpoint, uplink in plan.endpoints.items():
        if endpoint.key in foreign:
            continue
        existing = own.get(endpoint.key)
        if existing is None:
            additions.append(Operation("add", endpoint, uplink))
            continue
        kept.add(endpoint.key)
        if not _changeable_to(existing, endpoint):
            deletions.append(Operation("delete", existing, uplink))
            additions.append(Operation("add", endpoint, uplink))
        elif existing.flags != endpoint.flags:
            additions.append(Operation("change", endpoint._replace(id=existing.id), uplink))
    deletions += [Operation("delete", endpoint) for key, endpoint in own.items() if key not in kept]
    yielding = snapshot.idle_implicit.union(plan.over_cap)
    deletions += _implicit_in_the_way(snapshot.mptcp, yielding, deletions, additions)
    departed = ownership.state.without_endpoint - plan.state.without_endpoint
    departed -= {endpoint.address for endpoint in own.values()}
    deletions += _close_departed(snapshot, snapshot.mptcp.endpoints, departed)
    return deletions, additions


def _implicit_in_the_way(
    mptcp: Mptcp,
    yielding: Collection[str],
    deletions: Sequence[Operation],
    additions: Sequence[Operation],
) -> list[Operation]:
    """Delete implicit endpoints for which there is no room: at the addresses of the additions, and
    at `yielding`.

    The kernel adds one for a subflow from an address without an endpoint, never deletes it, and
    replaces it by ours only while an endpoint is free (mptcp_pm_nl_append_new_local_addr).
    """
    coming = {
        operation.value.address
        for operation in additions
        if operation.verb == "add" and isinstance(operation.value, Endpoint)
    }
    if len(coming) <= mptcp.max_endpoints - len(mptcp.endpoints) + len(deletions):
        return []
    going = coming.union(yielding)
    return [
        Operation("delete", endpoint)
        for endpoint in mptcp.endpoints
        if endpoint.flags & IMPLICIT and endpoint.address in going
    ]


def _changeable_to(existing: Endpoint, wanted: Endpoint) -> bool:
    """Whether the existing endpoint can become the wanted one (MPTCP_PM_CMD_SET_FLAGS)."""
    fixed = ~(BACKUP | FULLMESH)
    return existing.device == wanted.device and existing.flags & fixed == wanted.flags & fixed


def _close_departed(
    snapshot: Snapshot, existing: Collection[Endpoint], addresses: Collection[str]
) -> list[Operation]:
    """Close what began at addresses that are on no device any more.

    By id 0, or by the implicit endpoint that the kernel made there: it would take up one of the
    kernel's few slots for good.
    """
    present = {address.address for address in snapshot.addresses}
    implicit = {endpoint.address: endpoint for endpoint in existing if endpoint.flags & IMPLICIT}
    return [
        Operation("delete", implicit.get(address, Endpoint(address)))
        for address in sorted(addresses)
        if address not in present
    ]


def _sysctls(ownership: Ownership, snapshot: Snapshot, plan: Plan) -> list[Operation]:
    """The sysctls that are to be set, then those that get their original value back."""
    links, named = snapshot.links, by_name(snapshot.links)
    changes = [
        Operation("change", sysctl, uplink)
        for sysctl, uplink in plan.sysctls.items()
        if getattr(named[sysctl.device], sysctl.key) != sysctl.value
    ]
    planned = {(named[sysctl.device].index, sysctl.key) for sysctl in plan.sysctls}
    if not plan.state.sysctls:
        return changes
    recorded = Ownership(ownership.config, plan.state)
    changes += [
        Operation("change", Sysctl(links[device].name, key, original))
        for (device, key), original in plan.state.sysctls.items()
        if (device, key) not in planned
        and recorded.owns_sysctl(device, key, sysctl_value(links, device, key))
    ]
    return changes


def replaces_all(snapshot: Snapshot, plan: Plan, deletions: Sequence[Operation]) -> bool:
    """Whether no endpoint of some family would remain between the deletions and the additions.

    Then additions come first, as far as the kernel has room for both, so that connections have
    a path to move to.
    """
    if snapshot.mptcp is None or not deletions or not plan.endpoints:
        return False
    existing = {endpoint.address for endpoint in snapshot.mptcp.endpoints}
    planned = {endpoint.address for endpoint in plan.endpoints}
    if len(existing | planned) > snapshot.mptcp.max_endpoints:
        return False
    deleted = {
        operation.value.address for operation in deletions if isinstance(operation.value, Endpoint)
    }
    return any(
        old.isdisjoint(new) and not old.isdisjoint(deleted)
        for old, new in zip(_by_family(existing), _by_family(planned), strict=True)
        if new
    )


def _by_family(addresses: Collection[str]) -> list[set[str]]:
    return [
        {address for address in addresses if family_of(address) == family} for family in FAMILIES
    ]


def new_gateways(plan: Plan, additions: Sequence[Operation]) -> list[tuple[str, int]]:
    """(gateway, ifindex) of the paths that are about to get an endpoint."""
    devices = {
        operation.value.device
        for operation in additions
        if operation.verb == "add" and isinstance(operation.value, Endpoint)
    }
    return [
        (gateway, uplink.link.index)
        for uplink in plan.uplinks
        if uplink.link and uplink.link.index in devices
        for path in uplink.paths
        if path.usable
        for gateway in path.all_gateways
    ]
