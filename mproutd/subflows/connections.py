"""What of the MPTCP connections stands: who misses a subflow, and whose is the only one.  Pure.

What must hold: nothing is tried for a connection that cannot have it, and no try takes a
subflow that its connection may not get back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mproutd.netlink.sock_diag import Connection, Subflow


class ConnectionSnapshot(NamedTuple):
    """The connections of the machine, as sock_diag shows them."""

    connections: Sequence[Connection] | None
    """None: this kernel cannot tell (no mptcp_diag)."""
    subflows: Sequence[Subflow]

    def initiated_locally(self) -> dict[int, bool]:
        """Token → whether this end began the connection, for those whose subflows tell it.

        The initial subflow knows.  Where it is gone, those that joined do: the end that began
        asks for them, and the other end's attempts are refused, so one that only tries tells
        nothing.
        """
        told: dict[int, bool] = {}
        for each in sorted(self.subflows, key=lambda each: each.initial):
            if each.initial:
                told[each.token] = each.initiated_locally
            elif each.established:
                told[each.token] = each.initiated_locally or told.get(each.token, False)
        return told

    def beyond_help(self, lan_addresses: Collection[str]) -> set[int]:
        """The tokens of connections that no endpoint of an uplink can help.

        Those that the peer began: the kernel tries our endpoints for them too, at the port that
        the peer connected from, where nobody listens.  And those that began at an address
        `inside`, on a device that is no uplink: their peer is not behind the uplinks.
        """
        theirs = {token for token, ours in self.initiated_locally().items() if not ours}
        return theirs | {
            each.token for each in self.connections or () if each.address in lan_addresses
        }

    def ended(self, tokens: Collection[int]) -> set[int]:
        """Those of these connections that have ended."""
        if self.connections is None:
            return set()
        there = {each.token for each in self.connections}
        return set(tokens) - there.union(each.token for each in self.subflows)

    def missing(
        self, addresses: Collection[str], lan_addresses: Collection[str] = ()
    ) -> set[tuple[int, str]]:
        """(token, address) for each of `addresses` by which a connection could go and does not.

        Of one family: the peer's address in the other one is not known.  What may have no more
        subflows misses none, and who began a connection that has none left is not known.
        """
        there = {(each.token, each.address) for each in self.subflows}
        hopeless = self.beyond_help(lan_addresses)
        return {
            (each.token, address)
            for each in self.connections or ()
            if each.open
            and each.can_send
            and not each.fallback
            and each.extra_subflows < each.max_extra_subflows
            if each.token not in hopeless
            for address in addresses
            if (":" in address) == (":" in each.address) and (each.token, address) not in there
        }

    def sole_paths(self) -> set[str]:
        """Addresses that a connection may not do without, since no subflow would come back there.

        Plain TCP has no other.  A connection that the peer began gets none from this end.  One of
        ours does if its peer accepts subflows; that it did is only known where one that joined is
        there.  What its program has closed counts while there may be something left to send.
        """
        held = [each for each in self.connections or () if each.open or not each.can_send]
        tokens = {each.token for each in held}
        ours = self.initiated_locally()
        places: dict[int, set[str]] = {}
        joined = set()
        for each in self.subflows:
            if each.established and (self.connections is None or each.token in tokens):
                places.setdefault(each.token, set()).add(each.address)
                if not each.initial:
                    joined.add(each.token)
        only = (
            there
            for token, there in places.items()
            if not ours.get(token) or (token not in joined and len(there) == 1)
        )
        return {each.address for each in held if each.fallback}.union(*only)


def off_uplink_addresses(
    addresses: Iterable[tuple[int, str]], uplinks: Collection[int]
) -> set[str]:
    """Of (ifindex, address): those on devices that are no uplinks."""
    return {address for index, address in addresses if index not in uplinks}
