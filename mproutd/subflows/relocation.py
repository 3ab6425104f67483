"""How connections outlive the endpoints that their subflows came from.  Pure.

Deleting an endpoint closes its subflows.  That matters where no other endpoint of the family
remains: at a flush, when multipath is disabled, and when another role or mode takes all of them.
A connection without a subflow ends after net.mptcp.close_timeout.  Therefore:

- The endpoints are deleted one by one, the best uplink's last.  In its place a wildcard endpoint
  has every connection open a subflow that belongs to no endpoint (planning/wildcard.py), one round
  trip later.
- A connection that would not get one keeps the endpoint of its only path, with the routing that it
  needs: one that the peer began, or whose peer is not known to accept another subflow.  The next
  pass tries again.

Invariant: no connection loses its last subflow here, unless it is replaced or `force` is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET
from typing import NamedTuple

from mproutd.model import (
    IMPLICIT,
    PROTOCOL,
    SUBFLOW,
    Endpoint,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    family_of,
)
from mproutd.planning.ownership import OUR_SYSCTLS
from mproutd.planning.plan import Plan
from mproutd.planning.wildcard import open_subflows
from mproutd.subflows.connections import ConnectionSnapshot


class Relocation(NamedTuple):
    """What to do instead of the deletions that were planned."""

    deletions: list[Operation]
    """And what opens new subflows, in this order."""
    kept: dict[str, int]
    """Address → connections that would end with the endpoint there, which is not deleted."""

    @property
    def wildcards(self) -> frozenset[tuple[str, int]]:
        """(address, device) of the endpoints that are there for a moment."""
        return frozenset(
            (operation.value.address, operation.value.device)
            for operation in self.deletions
            if operation.verb == "add" and isinstance(operation.value, Endpoint)
        )


def last_endpoints(
    snapshot: Snapshot, plan: Plan, deletions: Sequence[Operation]
) -> list[Endpoint]:
    """The endpoints to be deleted that work, and are replaced at their address or the last ones:
    those in families that keep no endpoint for subflows."""
    deleted = _deleted(deletions)
    if not deleted:
        return []
    families = _remaining(plan, deleted)
    replaced = {endpoint.address for endpoint in plan.endpoints}
    present = {(address.address, address.link) for address in snapshot.addresses}
    return [
        endpoint
        for endpoint in deleted.values()
        if (family_of(endpoint.address) not in families or endpoint.address in replaced)
        and not endpoint.flags & IMPLICIT
        and (endpoint.address, endpoint.device) in present
        and (link := snapshot.links.get(endpoint.device))
        and link.up
        and link.carrier
    ]


def _deleted(deletions: Sequence[Operation]) -> dict[str, Endpoint]:
    return {
        operation.value.address: operation.value
        for operation in deletions
        if isinstance(operation.value, Endpoint) and operation.value.id
    }


def _remaining(plan: Plan, deleted: Collection[str]) -> set[int]:
    """The families that keep an endpoint for subflows."""
    return {
        family_of(endpoint.address)
        for endpoint in plan.endpoints
        if endpoint.flags & SUBFLOW and endpoint.address not in deleted
    }


def relocate(
    snapshot: Snapshot,
    plan: Plan,
    deletions: Sequence[Operation],
    last: Sequence[Endpoint],
    connections: ConnectionSnapshot,
    *,
    force: bool = False,
) -> Relocation:
    """Delete without ending connections; `last` is from last_endpoints()."""
    unknown = connections.connections is None
    irreplaceable = {} if force or unknown else connections.irreplaceable()
    kept = {
        endpoint.address: len(ending)
        for endpoint in last
        if (ending := _ending(endpoint, irreplaceable, connections))
    }
    ordered = [
        operation
        for operation in deletions
        if not (isinstance(operation.value, Endpoint) and operation.value.address in kept)
    ]
    going = [endpoint for endpoint in last if endpoint.address not in kept]
    in_use = connections.replaceable()
    begun = Counter(subflow.address for subflow in connections.subflows if subflow.initial)
    existing = snapshot.mptcp.endpoints if snapshot.mptcp else ()

    def preference(endpoint: Endpoint) -> tuple[bool, int, int]:
        """Main leads there when our routes are gone, and most connections began there."""
        route = snapshot.defaults.get((endpoint.device, family_of(endpoint.address)))
        metric = route.metric if route else 0
        return (route is not None, -metric, begun[endpoint.address])

    families = {family_of(endpoint.address) for endpoint in going}
    for family in families - _remaining(plan, _deleted(deletions)):
        candidates = [endpoint for endpoint in going if family_of(endpoint.address) == family]
        if in_use.isdisjoint(endpoint.address for endpoint in candidates):
            continue
        best = max(candidates, key=preference)
        moved = [operation for operation in ordered if operation.value == best]
        ordered = [operation for operation in ordered if operation.value != best]
        ordered += [*moved, *open_subflows(best, existing)]
    return Relocation(ordered, kept)


def _ending(
    endpoint: Endpoint, irreplaceable: Mapping[str, set[int]], connections: ConnectionSnapshot
) -> set[int]:
    """The connections that would end with an endpoint.

    With one that has a port, the kernel closes only what joined by that port.
    """
    tokens = irreplaceable.get(endpoint.address, set())
    return connections.all_joined(endpoint.id, tokens) if endpoint.port else tokens


def without(
    operations: Sequence[Operation], kept: Collection[str], snapshot: Snapshot
) -> list[Operation]:
    """The operations that take nothing away from the endpoints at these addresses: neither the
    endpoint, nor its source rule, the table behind that, or our sysctls of its device."""
    if not kept:
        return list(operations)
    tables = {
        rule.table for rule in snapshot.rules if rule.source in kept and rule.protocol == PROTOCOL
    }
    devices = {
        snapshot.links[address.link].name
        for address in snapshot.addresses
        if address.address in kept
        and address.family == AF_INET  # which these sysctls are for
        and address.link in snapshot.links
    }

    def takes_away(operation: Operation) -> bool:
        value = operation.value
        if isinstance(value, Endpoint):
            return value.address in kept
        if isinstance(value, Sysctl):
            return value.device in devices and value.value != OUR_SYSCTLS.get(value.key)
        if operation.verb != "delete":
            return False
        if isinstance(value, Rule):
            return value.source in kept
        return isinstance(value, Route) and value.table in tables

    return [operation for operation in operations if not takes_away(operation)]
