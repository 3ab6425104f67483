"""How connections outlive the endpoints that their subflows came from.  Pure.

Deleting an endpoint closes its subflows.  That matters where no other endpoint of the family
remains: at a flush, when multipath is disabled, and when another role or mode takes all of them.
A connection without a subflow ends after net.mptcp.close_timeout.  Therefore:

- The endpoints are deleted one by one, the best uplink's last.  In its place a wildcard endpoint
  has every connection open a subflow that belongs to no endpoint (planning/wildcard.py), one round
  trip later.
- A connection that would not get one keeps the endpoint of its only path: one that the peer began,
  or whose peer is not known to accept another subflow.  The next pass tries again.

Invariant: no connection loses its last subflow here, unless it is replaced or `force` is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from mproutd.model import IMPLICIT, SUBFLOW, Endpoint, Operation, Snapshot, family_of
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
    """The endpoints to be deleted that work, in families that keep no endpoint for subflows."""
    deleted = {
        operation.value.address: operation.value
        for operation in deletions
        if isinstance(operation.value, Endpoint) and operation.value.id
    }
    if not deleted:
        return []
    families = {
        family_of(endpoint.address)
        for endpoint in plan.endpoints
        if endpoint.flags & SUBFLOW and endpoint.address not in deleted
    }
    present = {(address.address, address.link) for address in snapshot.addresses}
    return [
        endpoint
        for endpoint in deleted.values()
        if family_of(endpoint.address) not in families
        and not endpoint.flags & IMPLICIT
        and (endpoint.address, endpoint.device) in present
        and (link := snapshot.links.get(endpoint.device))
        and link.up
        and link.carrier
    ]


def relocate(
    snapshot: Snapshot,
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
        endpoint.address: len(irreplaceable[endpoint.address])
        for endpoint in last
        if endpoint.address in irreplaceable
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

    for family in {family_of(endpoint.address) for endpoint in going}:
        candidates = [each for each in going if family_of(each.address) == family]
        if in_use.isdisjoint(each.address for each in candidates):
            continue
        best = max(candidates, key=preference)
        moved = [operation for operation in ordered if operation.value == best]
        ordered = [operation for operation in ordered if operation.value != best]
        ordered += [*moved, *open_subflows(best, existing)]
    return Relocation(ordered, kept)


def without(operations: Sequence[Operation], addresses: Collection[str]) -> list[Operation]:
    """The operations that concern no endpoint at these addresses."""
    return [
        operation
        for operation in operations
        if not (isinstance(operation.value, Endpoint) and operation.value.address in addresses)
    ]
