"""Which connections have to be forgotten so that they move to another uplink.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mproutd.model import Address, Route, contains
from mproutd.netlink.conntrack import Flow
from mproutd.planning.sharing import by_preference
from mproutd.planning.uplinks import ObservedUplink

UplinkFamily = tuple[str, int]
"""(uplink, family)."""


class Hosts(NamedTuple):
    """Who is on this side of the uplinks."""

    own: frozenset[str]
    """The addresses of this host."""
    behind: tuple[str, ...]
    """The networks of the hosts behind it."""

    def may_move(self, flow: Flow) -> bool:
        """Whether a host behind us began it, so that it can begin anew by another uplink.

        Connections of this host itself move by themselves, or cannot, and those that came in from
        an uplink belong to it.
        """
        if flow.source in self.own or flow.destination in self.own:
            return False
        return not any(contains(network, flow.destination) for network in self.behind)


def hosts(addresses: Iterable[Address], uplinks: Sequence[ObservedUplink]) -> Hosts:
    """`addresses` are those of all devices."""
    listed = list(addresses)
    devices = {uplink.link.index for uplink in uplinks if uplink.link}
    networks = [address.network for address in listed if address.link not in devices]
    delegated = [prefix for uplink in uplinks for path in uplink.paths for prefix in path.prefixes]
    return Hosts(
        frozenset(address.address for address in listed),
        tuple(dict.fromkeys([*networks, *delegated])),
    )


def default_uplinks(
    routes: Iterable[Route], table: int, uplinks: Sequence[ObservedUplink]
) -> dict[int, str]:
    """Family → the uplink by which `table`, that of other traffic, has its default route."""
    names = {uplink.link.index: uplink.config.name for uplink in uplinks if uplink.link}
    return {
        route.family: names[route.device]
        for route in routes
        if route.table == table and route.destination == "default" and route.device in names
    }


def failing_back(
    uplinks: Sequence[ObservedUplink],
    before: Mapping[int, str],
    now: Mapping[int, Sequence[tuple[str, int]]],
) -> list[UplinkFamily]:
    """The uplinks with `failback` move that come after one to which other traffic has moved back.

    `before`: family → the uplink that carried other traffic, the first of several; `now`: family →
    (uplink, weight) of all that carry it, whose connections stay.
    """
    ranked = [uplink.config for uplink in by_preference(uplinks)]
    names = [uplink.name for uplink in ranked]
    moved = []
    for family, shares in now.items():
        carriers = [name for name, _ in shares]
        better, worse = carriers[0], before.get(family, "")
        if better in names and worse in names and names.index(better) < names.index(worse):
            moved += [
                (uplink.name, family)
                for uplink in ranked[names.index(better) + 1 :]
                if uplink.failback == "move" and uplink.name not in carriers
            ]
    return moved


def lost(
    before: frozenset[UplinkFamily], uplinks: Iterable[ObservedUplink]
) -> tuple[frozenset[UplinkFamily], list[UplinkFamily]]:
    """(what is usable now, what was usable `before` and is not), without `strict` uplinks.

    What a strict uplink's rules select goes by no other, so there is nothing to move.
    """
    usable = frozenset(
        (uplink.config.name, path.family)
        for uplink in uplinks
        if not uplink.config.strict
        for path in uplink.paths
        if path.usable
    )
    return usable, sorted(before - usable)
