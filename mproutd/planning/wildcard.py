"""New subflows from a device, by an endpoint without an address that exists for a moment.  Pure.

Facts (net/mptcp/pm_kernel.c and subflow.c, measured on Linux 6.18):

- Such an endpoint has every connection open one subflow through its device, as far as the limits
  and the peer permit.  Routing chooses the address.
- The subflow gets the id of the endpoint at that address; 0 at the address where the connection
  began; and where neither is so, that of an implicit endpoint, which the kernel adds.
- Deleting an endpoint closes the subflows that have both its address and its id.  No subflow has
  the wildcard address, so deleting this endpoint closes none, and no RM_ADDR is sent.

Invariant: nothing here closes a subflow.
"""

from __future__ import annotations

from collections.abc import Collection
from socket import AF_INET, AF_INET6

from mproutd.model import (
    BACKUP,
    DEPRECATED,
    SCOPE_GLOBAL,
    SUBFLOW,
    Address,
    Endpoint,
    Mptcp,
    Operation,
    family_of,
)

ADDRESS: dict[int, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}


def open_subflows(endpoint: Endpoint, existing: Collection[Endpoint]) -> list[Operation]:
    """Have connections open a subflow from the device of this endpoint.

    `existing`: the endpoints that are there then.  It has to be at the address that routing
    chooses: see chosen_address().
    """
    used = {other.id for other in existing}
    free = next(number for number in range(1, 256) if number not in used)
    wildcard = Endpoint(
        ADDRESS[family_of(endpoint.address)],
        endpoint.device,
        SUBFLOW | endpoint.flags & BACKUP,
        free,
    )
    return [Operation("add", wildcard), Operation("delete", wildcard)]


def has_room(mptcp: Mptcp) -> bool:
    return len(mptcp.endpoints) < min(mptcp.max_endpoints, 255)


def chosen_address(addresses: Collection[Address], device: int, family: int) -> str:
    """The address that routing chooses for what is bound to this device; empty where there are
    several, since the choice is then the kernel's."""
    candidates = [
        address.address
        for address in addresses
        if (address.link, address.family, address.scope) == (device, family, SCOPE_GLOBAL)
        and not address.flags & DEPRECATED
    ]
    return candidates[0] if len(candidates) == 1 else ""
