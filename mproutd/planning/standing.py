"""What of the MPTCP connections stands: who misses a subflow, and whose is the only one.  Pure.

What must hold: nothing is tried for a connection that cannot have it, and no try takes a
subflow that its connection may not get back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mproutd.netlink.diag import Connection, Subflow


class Standing(NamedTuple):
    """The connections of the machine, as sock_diag shows them."""

    connections: Sequence[Connection]
    subflows: Sequence[Subflow]

    def began_here(self) -> dict[int, bool]:
        """Token → whether this end began the connection, for those whose subflows tell it.

        The initial subflow knows.  Where it is gone, those that joined do: the end that began
        asks for them, and the other end's attempts are refused, so one that only tries tells
        nothing.
        """
        told: dict[int, bool] = {}
        for each in sorted(self.subflows, key=lambda each: each.initial):
            if each.initial:
                told[each.token] = each.by_us
            elif each.stands:
                told[each.token] = each.by_us or told.get(each.token, False)
        return told

    def useless(self, inside: Collection[str]) -> set[int]:
        """The tokens of connections that no endpoint of an uplink can help.

        Those that the peer began: the kernel tries our endpoints for them too, at the port that
        the peer connected from, where nobody listens.  And those that began at an address
        `inside`, on a device that is no uplink: their peer is not behind the uplinks.
        """
        theirs = {token for token, ours in self.began_here().items() if not ours}
        return theirs | {each.token for each in self.connections if each.address in inside}

    def missing(
        self, addresses: Collection[str], inside: Collection[str] = ()
    ) -> set[tuple[int, str]]:
        """(token, address) for each of `addresses` by which a connection could go and does not.

        Of one family: the peer's address in the other one is not known.  What may have no more
        subflows misses none, and who began a connection that has none left is not known.
        """
        there = {(each.token, each.address) for each in self.subflows}
        useless = self.useless(inside)
        return {
            (each.token, address)
            for each in self.connections
            if each.open and each.sends and not each.plain and each.others < each.most
            if each.token not in useless
            for address in addresses
            if (":" in address) == (":" in each.address) and (each.token, address) not in there
        }

    def needed(self) -> set[str]:
        """Addresses that are the only one of a connection that may not get it back.

        Plain TCP cannot.  An MPTCP connection can if its peer accepts subflows, and that one
        did is only known where one that joined is there.
        """
        held = {each.token for each in self.connections if each.open}
        places: dict[int, set[str]] = {}
        joined = set()
        for each in self.subflows:
            if each.stands:
                places.setdefault(each.token, set()).add(each.address)
                if not each.initial:
                    joined.add(each.token)
        only = (
            places[token] for token in held.intersection(places) - joined if len(places[token]) == 1
        )
        plain = {each.address for each in self.connections if each.open and each.plain}
        return plain.union(*only)


def inside(addresses: Iterable[tuple[int, str]], uplinks: Collection[int]) -> set[str]:
    """Of (ifindex, address): those on devices that are no uplinks."""
    return {address for index, address in addresses if index not in uplinks}
