"""What main says about the ways out of some devices: defaults, and routes to their subnets.

Main may hold a million routes, so it is not dumped but looked up, a few microseconds each, and
only for a device that an event concerned.  See docs/design.md for how a lookup reaches main.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.model import (
    ANY_DEVICE,
    FALLBACK_DESTINATION,
    FAMILIES,
    LOOKUP_DESTINATION,
    SCOPE_GLOBAL,
    TABLE_LOCAL,
    TABLE_MAIN,
    UNREACHABLE,
    Address,
    Nexthop,
    Route,
    address_within,
    contains,
    family_of,
    leading_bits,
)
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nexthop_table import NexthopTable
from mproutd.netlink.nlmsg import DecodeCache
from mproutd.netlink.sockets import Encode, Requests

MIN_DELEGATION = 48
"""Bits of the largest prefix that a site is delegated (RFC 6177)."""


class MainRoutes(NamedTuple):
    """What was read; the fields are those of Snapshot."""

    defaults: dict[tuple[int, int], Route]
    connected: dict[int, tuple[Route, ...]]
    sourced: dict[int, tuple[Route, ...]]
    delegated: tuple[str, ...]


class MainLookups(NamedTuple):
    """How main is looked up in one reading."""

    mark: int
    """The mark whose rule sends a lookup to main; 0 for none."""
    own_tables: frozenset[int]
    """With the mark's rule in place, a reply from one of these means that main has no route."""

    def hides_main(self, routes: Iterable[Route]) -> bool:
        """Whether the reply to a lookup comes from a foreign table, whose rule precedes main's."""
        return any(
            route.table not in (TABLE_MAIN, TABLE_LOCAL) and route.table not in self.own_tables
            for route in routes
        )


class MainTable:
    """Main's routes of the devices asked about, as far as no event made them stale."""

    def __init__(self, requests: Requests, nexthops: NexthopTable) -> None:
        self._requests, self._nexthops = requests, nexthops
        self._decode_routes: DecodeCache[tuple[Route, ...]] = DecodeCache(rtnl_decode.routes)
        self.invalidate()

    def invalidate(self) -> None:
        """Look up everything again."""
        self.invalidate_lookups()
        self._delegated: tuple[str, ...] | None = None

    def invalidate_lookups(self) -> None:
        """Look up again everything but what takes a dump."""
        self._defaults: dict[tuple[int, int], Route | None] = {}
        self._connected: dict[tuple[int, int], tuple[Route, ...]] = {}
        self._sourced: dict[int, tuple[Route, ...]] = {}
        self._last: tuple[Sequence[int], MainRoutes] | None = None
        """What read() returned for these devices, until something is dropped."""

    def drop_device(self, index: int, families: Iterable[int] = FAMILIES) -> None:
        """Look up everything of this device again, in these families."""
        self._last = None
        for family in families:
            own = self._defaults.pop((index, family), None)
            best = self._defaults.get((ANY_DEVICE, family))
            if best is not None and (own is not None or index in best.devices):
                del self._defaults[ANY_DEVICE, family]
            self._connected.pop((index, family), None)
            if family == AF_INET6:
                self._sourced.pop(index, None)

    def drop(self, route: Route) -> None:
        """Look up again what this route, which came or went, may have changed."""
        self._last = None
        if route.destination != "default":
            self._connected.pop((route.device, route.family), None)
            return
        self._defaults.pop((route.device, route.family), None)
        self._defaults.pop((ANY_DEVICE, route.family), None)
        if route.family == AF_INET6:
            self._sourced.pop(route.device, None)

    def read(
        self, indexes: Sequence[int], addresses: Sequence[Address], lookups: MainLookups
    ) -> MainRoutes:
        """Of the devices `indexes`; `addresses` are all of the machine.  OSError."""
        if self._last is not None and self._last[0] == indexes:
            return self._last[1]
        self._read_subnets(indexes, addresses, lookups)
        routes = MainRoutes(
            self._read_defaults(
                [(index, family) for index in indexes for family in FAMILIES], lookups
            ),
            {
                index: found
                for index in indexes
                if (found := self._connected[index, AF_INET] + self._connected[index, AF_INET6])
            },
            {index: found for index in indexes if (found := self._sourced[index])},
            self._read_delegated(indexes, addresses),
        )
        self._last = indexes, routes
        return routes

    def read_any_default(
        self, families: Collection[int], lookups: MainLookups
    ) -> dict[tuple[int, int], Route]:
        """Main's best default through any device, with ifindex ANY_DEVICE.  OSError."""
        return self._read_defaults([(ANY_DEVICE, family) for family in families], lookups)

    def _read_subnets(
        self, indexes: Sequence[int], addresses: Sequence[Address], main: MainLookups
    ) -> None:
        """Main's routes to the subnets of these devices, and its defaults for their addresses.

        One lookup for each subnet and each IPv6 address of a device whose routes may have changed.
        """
        unknown = {
            (index, family)
            for index in indexes
            for family in FAMILIES
            if (index, family) not in self._connected
        }
        changed = {index for index in indexes if index not in self._sourced}
        if not unknown and not changed:
            return
        taken = {address.address for address in addresses}
        own = [
            each
            for each in addresses
            if each.scope == SCOPE_GLOBAL
            and ((each.link, each.family) in unknown or each.link in changed)
        ]
        subnets = list(
            dict.fromkeys(
                (each.link, each.network)
                for each in own
                if (each.link, each.family) in unknown
                and each.network not in (each.address, "default")
            )
        )
        sources = [
            (each.link, each.address)
            for each in own
            if each.family == AF_INET6 and each.link in changed
        ]
        replies = self._look_up_main(
            main.mark,
            [(index, address_within(network, taken), "") for index, network in subnets]
            + [(index, LOOKUP_DESTINATION[AF_INET6], source) for index, source in sources],
        )
        connected: dict[tuple[int, int], list[Route]] = {}
        sourced: dict[int, list[Route]] = {}
        for (index, network), routes in zip(subnets, replies, strict=False):
            family = family_of(network)
            if main.hides_main(routes) or any(_is_within(route, network) for route in routes):
                routes = self._dump_main(index, family)
            found = connected.setdefault((index, family), [])
            found += _connected(routes, index, network)[:1]
        for (index, source), routes in zip(sources, replies[len(subnets) :], strict=True):
            if main.hides_main(routes):
                routes = self._dump_main(index, AF_INET6)
            found = sourced.setdefault(index, [])
            found += [route for route in _sourced(routes, index, source) if route not in found]
        self._connected |= {key: tuple(connected.get(key, ())) for key in unknown}
        self._sourced |= {index: tuple(sourced.get(index, ())) for index in changed}

    def _read_defaults(
        self, keys: Sequence[tuple[int, int]], main: MainLookups
    ) -> dict[tuple[int, int], Route]:
        """Main's default route through each device: one lookup each, however large main is.

        A lookup without a default is repeated for a second destination, since main may have a
        more specific route to the first.  Where a foreign rule answered instead of main, main is
        dumped, which is slow only if it is large.
        """
        known = self._defaults
        unknown = [key for key in keys if key not in known]
        for destination in (LOOKUP_DESTINATION, FALLBACK_DESTINATION):
            requested, unknown = unknown, []
            replies = self._look_up_main(
                main.mark, [(index, destination[family], "") for index, family in requested]
            )
            for (index, family), routes in zip(requested, replies, strict=True):
                foreign = main.hides_main(routes)
                if foreign:
                    # Without a device main may be large, and the foreign rule wins in any case.
                    routes = self._dump_main(index, family) if index != ANY_DEVICE else ()
                known[index, family] = default = _best_default(routes, index)
                if default is None and not foreign:
                    unknown.append((index, family))
        return {key: route for key in keys if (route := known[key]) is not None}

    def _read_delegated(
        self, indexes: Sequence[int], addresses: Sequence[Address]
    ) -> tuple[str, ...]:
        """Prefixes with an unreachable route in main, of which another device has addresses.

        This takes a dump, so it is read again only with everything else.
        """
        if self._delegated is None:
            behind = [
                address.address
                for address in addresses
                if address.family == AF_INET6
                and address.scope == SCOPE_GLOBAL
                and address.link not in indexes
            ]
            routes: Iterable[Route] = ()
            if behind:
                dump = partial(
                    rtnl_encode.dump_routes, table=TABLE_MAIN, family=AF_INET6, kind=UNREACHABLE
                )
                bodies = self._requests.dump(dump)
                routes = [route for body in bodies for route in rtnl_decode.routes(body)]
            self._delegated = tuple(
                route.destination
                for route in routes
                if route.destination != "default"
                and leading_bits(route.destination)[1] >= MIN_DELEGATION
                and any(contains(route.destination, address) for address in behind)
            )
        return self._delegated

    def _look_up_main(
        self, mark: int, keys: Sequence[tuple[int, str, str]]
    ) -> list[Sequence[Route]]:
        """The route in main for each (ifindex, destination, source); () for none."""
        requests: list[Encode] = [
            partial(
                rtnl_encode.lookup,
                destination=destination,
                source=source,
                device=index,
                mark=mark,
                match=True,
            )
            for index, destination, source in keys
        ]
        replies = self._requests.query(requests)
        return [
            () if isinstance(reply, OSError) else self._resolved(self._decode_routes[reply.body])
            for reply in replies
        ]

    def _dump_main(self, index: int, family: int) -> list[Route]:
        dump = partial(rtnl_encode.dump_routes, table=TABLE_MAIN, family=family, device=index)
        bodies = self._requests.dump(dump)
        return [route for body in bodies for route in self._resolved(rtnl_decode.routes(body))]

    def _resolved(self, routes: Sequence[Route]) -> Sequence[Route]:
        if any(route.nexthop_id for route in routes):
            return self._nexthops.resolve(routes)
        return routes


def _best_default(routes: Iterable[Route], index: int) -> Route | None:
    """The default route of main through this device with the lowest metric.

    Through any device, it has the nexthops of all devices.
    """
    found = [
        route
        for route in routes
        if route.table == TABLE_MAIN
        and route.destination == "default"
        and not route.from_prefix
        and index in (ANY_DEVICE, route.device)
    ]
    best = min(found, key=lambda route: route.metric, default=None)
    if best is not None and len(found) > 1:
        hops = [
            Nexthop(gateway, device=route.device)
            for route in found
            if route.metric == best.metric
            for gateway in route.gateways
        ]
        best = best._replace(nexthops=tuple(hops))
    return best


def _connected(routes: Iterable[Route], index: int, network: str) -> list[Route]:
    """Main's routes straight to the subnet `network` through this device, the best first."""
    found = [
        route
        for route in routes
        if (route.table, route.device, route.destination) == (TABLE_MAIN, index, network)
        and not route.gateway
    ]
    return sorted(found, key=lambda route: route.metric)


def _sourced(routes: Iterable[Route], index: int, source: str) -> list[Route]:
    """Main's defaults through this device for a prefix that covers `source`."""
    return [
        route
        for route in routes
        if (route.table, route.device, route.destination) == (TABLE_MAIN, index, "default")
        and route.from_prefix
        and contains(route.from_prefix, source)
    ]


def _is_within(route: Route, network: str) -> bool:
    """Whether a route of main is more specific than `network`, and so hides that one's route."""
    if route.table != TABLE_MAIN or route.destination == "default":
        return False
    return leading_bits(route.destination)[1] > leading_bits(network)[1]
