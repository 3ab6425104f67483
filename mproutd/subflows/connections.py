"""Which MPTCP connections lack a subflow, and which addresses are some connection's only path.
Pure.

Facts that the rules follow from (net/mptcp/pm_kernel.c):

- Only the end that began a connection can add subflows in practice.  The kernel tries our
  endpoints for connections from clients too, but at the client's source port, where nothing
  listens.
- A connection that fell back to plain TCP has one path for good.
- Whether a peer accepts further subflows is known only once one has joined.
- A connection that began at a LAN's address has its peer there, not behind an uplink.

Invariants: no retry for a connection that it cannot help, and none that closes a subflow which
its connection may not get back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mproutd.netlink.sock_diag import Connection, Subflow


class ConnectionSnapshot(NamedTuple):
    """The connections of this machine as sock_diag reports them."""

    connections: Sequence[Connection] | None
    """None: this kernel does not report them (no mptcp_diag)."""
    subflows: Sequence[Subflow]

    def initiated_locally(self) -> dict[int, bool]:
        """Token → whether this end began the connection, where the subflows show it.

        The initial subflow does.  Where it is gone, those that joined do: the end that began the
        connection adds subflows, and the attempts of its peer fail, so an attempt shows nothing.
        """
        initiated: dict[int, bool] = {}
        for subflow in sorted(self.subflows, key=lambda subflow: subflow.initial):
            token, locally = subflow.token, subflow.initiated_locally
            if subflow.initial:
                initiated[token] = locally
            elif subflow.established:
                initiated[token] = locally or initiated.get(token, False)
        return initiated

    def beyond_help(self, lan_addresses: Collection[str]) -> set[int]:
        """The tokens of connections that no endpoint of an uplink can help: those that the peer
        began, and those that began at one of `lan_addresses`."""
        accepted = {token for token, locally in self.initiated_locally().items() if not locally}
        return accepted | {
            connection.token
            for connection in self.connections or ()
            if connection.address in lan_addresses
        }

    def ended(self, tokens: Collection[int]) -> set[int]:
        """Those of these connections that no longer exist."""
        if self.connections is None:
            return set()
        present = {connection.token for connection in self.connections}
        return set(tokens) - present.union(subflow.token for subflow in self.subflows)

    def missing(
        self, addresses: Collection[str], lan_addresses: Collection[str] = ()
    ) -> set[tuple[int, str]]:
        """(token, address) for each of `addresses` that a connection could use and does not.

        Only addresses of the connection's own family count, since the peer's address in the other
        is unknown.  Connections at their subflow limit, or not known to have begun here, lack
        nothing.
        """
        used = {(subflow.token, subflow.address) for subflow in self.subflows}
        hopeless = self.beyond_help(lan_addresses)
        return {
            (connection.token, address)
            for connection in self.connections or ()
            if _may_add_subflow(connection) and connection.token not in hopeless
            for address in addresses
            if (":" in address) == (":" in connection.address)
            and (connection.token, address) not in used
        }

    def departed(self, present: Collection[str]) -> set[str]:
        """The addresses that are not `present` any more, where connections began that all have a
        subflow at one that is."""
        paths = self._paths()
        began: dict[str, set[int]] = {}
        for subflow in self.subflows:
            if subflow.initial and subflow.established and subflow.address not in present:
                began.setdefault(subflow.address, set()).add(subflow.token)
        return {
            address
            for address, tokens in began.items()
            if not any(paths.get(token, set()).isdisjoint(present) for token in tokens)
        }

    def established(self) -> set[tuple[str, int]]:
        """(address, token) of the established subflows."""
        return {
            (subflow.address, subflow.token) for subflow in self.subflows if subflow.established
        }

    def joined(self) -> Counter[int]:
        """Token → established subflows beside the initial one: those that peers limit."""
        return Counter(
            subflow.token
            for subflow in self.subflows
            if subflow.established and not subflow.initial
        )

    def sole_paths(self) -> set[str]:
        """The addresses where closing subflows could cost a connection its only path for good.

        Plain TCP has no other path.  A connection that its program closed counts while it may
        still be sending.
        """
        plain = {connection.address for connection in self._relevant() if connection.fallback}
        return plain.union(self.irreplaceable())

    def irreplaceable(self) -> dict[str, set[int]]:
        """Address → tokens of the MPTCP connections that could not replace their subflows there.

        A connection that the peer began gets none from this end.  One that began here gets its
        path back only if its peer accepts subflows, as one that joined proves.
        """
        initiated = self.initiated_locally()
        with_join = {subflow.token for subflow in self.subflows if _has_joined(subflow)}
        plain = {connection.token for connection in self.connections or () if connection.fallback}
        irreplaceable: dict[str, set[int]] = {}
        for token, addresses in self._paths().items():
            if token in plain:
                continue
            if not initiated.get(token) or (token not in with_join and len(addresses) == 1):
                for address in addresses:
                    irreplaceable.setdefault(address, set()).add(token)
        return irreplaceable

    def all_joined(self, endpoint: int, tokens: Collection[int]) -> set[int]:
        """Those of these connections whose subflows all joined the endpoint with this id."""
        elsewhere = {
            subflow.token
            for subflow in self.subflows
            if subflow.established and (subflow.initial or subflow.local_id != endpoint)
        }
        return set(tokens) - elsewhere

    def replaceable(self) -> set[str]:
        """The addresses with subflows of connections that this end began, and can add to."""
        initiated = self.initiated_locally()
        return {
            address
            for token, addresses in self._paths().items()
            if initiated.get(token)
            for address in addresses
        }

    def _relevant(self) -> list[Connection]:
        return [
            connection
            for connection in self.connections or ()
            if connection.open or connection.delivering
        ]

    def _paths(self) -> dict[int, set[str]]:
        """Token → addresses of established subflows."""
        tokens = {connection.token for connection in self._relevant()}
        paths: dict[int, set[str]] = {}
        for subflow in self.subflows:
            if subflow.established and (self.connections is None or subflow.token in tokens):
                paths.setdefault(subflow.token, set()).add(subflow.address)
        return paths


def _has_joined(subflow: Subflow) -> bool:
    return subflow.established and not subflow.initial


def _may_add_subflow(connection: Connection) -> bool:
    return (
        connection.open
        and connection.can_send
        and not connection.fallback
        and connection.extra_subflows < connection.max_extra_subflows
    )


def off_uplink_addresses(
    addresses: Iterable[tuple[int, str]], uplinks: Collection[int]
) -> set[str]:
    """Of (ifindex, address): the addresses on devices that are not among `uplinks` (ifindex)."""
    return {address for index, address in addresses if index not in uplinks}
