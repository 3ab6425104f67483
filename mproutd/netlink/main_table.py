"""What main says about the ways out of some devices: defaults, and routes to their subnets.

Main may hold a million routes, so it is not dumped but looked up, a few microseconds each, and
only for a device that an event concerned.  See docs/design.md for how a lookup reaches main.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache, partial
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

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
    contains,
    family_of,
    leading_bits,
)
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nexthop_table import NexthopTable
from mproutd.netlink.nlmsg import DecodeCache
from mproutd.netlink.probe_address import address_within
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
        for route in routes:  # not any(): this is called for every lookup
            if route.table not in (TABLE_MAIN, TABLE_LOCAL) and route.table not in self.own_tables:
                return True
        return False


class _Question(NamedTuple):
    """One lookup in main."""

    device: int
    destination: str
    source: str = ""


def _question(device: int, family: int) -> _Question:
    """For the default route of a device, for any source."""
    return _Question(device, LOOKUP_DESTINATION[family])


class MainTable:
    """Main's routes of the devices asked about, as far as no event made them stale."""

    def __init__(self, requests: Requests, nexthops: NexthopTable) -> None:
        self._requests, self._nexthops = requests, nexthops
        self._decode_routes: DecodeCache[tuple[Route, ...]] = DecodeCache(nexthops.decode)
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
        self._last: tuple[tuple[Sequence[int], Collection[int]], MainRoutes] | None = None
        """What read() was asked for and returned, until something is dropped."""

    def drop_device(self, index: int, families: Iterable[int] = FAMILIES) -> None:
        """Look up everything of this device again, in these families: routes may be gone."""
        self._last = None
        for family in families:
            self._defaults.pop((index, family), None)
            best = self._defaults.get((ANY_DEVICE, family))
            if best is not None and index in best.devices:
                del self._defaults[ANY_DEVICE, family]
            self._connected.pop((index, family), None)
            if family == AF_INET6:
                self._sourced.pop(index, None)

    def drop_subnets(self, index: int, families: Iterable[int]) -> None:
        """Look up again what a new address of this device may bring: no route is gone."""
        self._last = None
        for family in families:
            self._connected.pop((index, family), None)
            if family == AF_INET6:
                self._sourced.pop(index, None)

    def drop_any_device(self) -> None:
        """Look up again the default for traffic without a device."""
        self._last = None
        for family in FAMILIES:
            self._defaults.pop((ANY_DEVICE, family), None)

    def drop(self, route: Route, replaced: bool) -> None:
        """Look up again what this route, which came or went, may have changed.

        `replaced`: the event does not tell every device that is concerned.
        """
        self._last = None
        family = route.family
        known: dict[tuple[int, int], Any] = self._defaults
        if route.destination != "default":
            known = self._connected
        elif route.from_prefix:
            if replaced:
                self._sourced.clear()
            self._sourced.pop(route.device, None)
            return
        devices = [index for index, other in known if other == family] if replaced else []
        for index in (*devices, route.device):
            known.pop((index, family), None)
        if known is self._defaults:
            best = known.get((ANY_DEVICE, family))
            if best is None or route.metric <= best.metric:
                known.pop((ANY_DEVICE, family), None)

    def read(
        self,
        indexes: Sequence[int],
        addresses: Sequence[Address],
        lookups: MainLookups,
        any_families: Collection[int] = (),
    ) -> MainRoutes:
        """Of the devices `indexes`; `addresses` are all of the machine.  OSError.

        In `any_families`, also main's best default through any device, with ifindex ANY_DEVICE.
        """
        wanted = (indexes, any_families)
        if self._last is not None and self._last[0] == wanted:
            return self._last[1]
        keys: list[tuple[int, int]] = [(i, family) for i in indexes for family in FAMILIES]
        keys += [(ANY_DEVICE, family) for family in any_families]
        self._look_up_unknown(indexes, addresses, lookups, keys)
        routes = MainRoutes(
            self._known_defaults(keys),
            {
                index: routes
                for index in indexes
                if (routes := self._connected[index, AF_INET] + self._connected[index, AF_INET6])
            },
            {index: routes for index in indexes if (routes := self._sourced[index])},
            self._read_delegated(indexes, addresses),
        )
        self._last = wanted, routes
        return routes

    def read_any_default(
        self, families: Collection[int], lookups: MainLookups
    ) -> dict[tuple[int, int], Route]:
        """Main's best default through any device, with ifindex ANY_DEVICE.  OSError."""
        keys = [(ANY_DEVICE, family) for family in families]
        questions = [_question(*key) for key in keys if key not in self._defaults]
        self._take_defaults(questions, self._look_up_main(lookups.mark, questions), lookups)
        return self._known_defaults(keys)

    def _known_defaults(self, keys: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Route]:
        known = self._defaults
        return {key: route for key in keys if (route := known[key]) is not None}

    def _look_up_unknown(
        self,
        indexes: Sequence[int],
        addresses: Sequence[Address],
        main: MainLookups,
        keys: Sequence[tuple[int, int]],
    ) -> None:
        """Look up whatever is not known, in one send unless main lacks a default.

        For a device whose routes may have changed: one lookup for the default route of each family,
        one for each subnet, and one for each IPv6 address, which may have a default of its own.
        """
        connected = self._connected
        unknown = [key for key in keys if key not in connected and key[0] != ANY_DEVICE]
        changed = [index for index in indexes if index not in self._sourced]
        subnets: dict[tuple[int, str], None] = {}
        sources: list[_Question] = []
        for assigned in addresses if unknown or changed else ():
            link, address, scope = assigned.link, assigned.address, assigned.scope
            family = AF_INET6 if ":" in address else AF_INET
            if scope == SCOPE_GLOBAL and (link, family) in unknown:
                if (network := assigned.network) not in (address, "default"):
                    subnets[link, network] = None
            if scope == SCOPE_GLOBAL and family == AF_INET6 and link in changed:
                sources.append(_Question(link, LOOKUP_DESTINATION[family], address))
        taken = {address.address for address in addresses} if subnets else ()
        networks = [_Question(index, address_within(network, taken)) for index, network in subnets]
        defaults = [_question(*key) for key in keys if key not in self._defaults]
        replies = self._look_up_main(main.mark, [*networks, *defaults, *sources])
        if unknown:
            self._take_connected(unknown, list(subnets), replies, main)
        for index in changed:
            self._sourced[index] = ()
        self._take_defaults([*defaults, *sources], replies[len(networks) :], main)

    def _take_connected(
        self,
        unknown: Iterable[tuple[int, int]],
        subnets: Sequence[tuple[int, str]],
        replies: Sequence[Sequence[Route]],
        main: MainLookups,
    ) -> None:
        """Record main's routes to the `subnets`, to which the first replies belong."""
        connected: dict[tuple[int, int], tuple[Route, ...]] = dict.fromkeys(unknown, ())
        for (index, network), routes in zip(subnets, replies, strict=False):
            family = family_of(network)
            if main.hides_main(routes) or any(_is_within(route, network) for route in routes):
                routes = self._dump_main(index, family)
            connected[index, family] += _connected(routes, index, network)[:1]
        self._connected |= connected

    def _take_defaults(
        self,
        questions: Sequence[_Question],
        replies: Sequence[Sequence[Route]],
        main: MainLookups,
    ) -> None:
        """Record main's default route of each device, and those for its IPv6 addresses.

        A lookup without a default is repeated for a second destination, since main may have a
        more specific route to the first.  Where a foreign rule answered instead of main, main is
        dumped, which is slow only if it is large.
        """
        while questions:
            again: list[_Question] = []
            for question, routes in zip(questions, replies, strict=True):
                index, destination, source = question
                family = AF_INET6 if ":" in destination else AF_INET
                foreign = main.hides_main(routes)
                if foreign:
                    # Without a device main may be large, and the foreign rule wins in any case.
                    routes = self._dump_main(index, family) if index != ANY_DEVICE else ()
                if source:
                    sourced = _sourced(routes, index, source)
                    known = self._sourced[index]
                    self._sourced[index] += tuple(route for route in sourced if route not in known)
                    missing = not any(route.destination == "default" for route in routes)
                else:
                    self._defaults[index, family] = default = _best_default(routes, index)
                    missing = default is None
                if not missing or foreign:
                    continue
                if destination == LOOKUP_DESTINATION[family]:
                    again.append(question._replace(destination=FALLBACK_DESTINATION[family]))
                elif family == AF_INET and index != ANY_DEVICE:
                    self._defaults[index, family] = self._hidden_default(index)
            questions, replies = again, self._look_up_main(main.mark, again) if again else []

    def _hidden_default(self, index: int) -> Route | None:
        """Main's IPv4 default through a device, where a lookup finds none.

        A lookup for a device ends at the first default with a nexthop object through another
        device, although main has further ones (net/ipv4/fib_trie.c, fib_table_lookup).
        """
        if not self._nexthops.others_exist():
            return None
        return _best_default(self._dump_main(index, AF_INET), index)

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

    def _look_up_main(self, mark: int, questions: Sequence[_Question]) -> list[tuple[Route, ...]]:
        """The route in main for each; () for none."""
        requests = [_encoded(mark, *question) for question in questions]
        replies = self._requests.query(requests) if requests else ()
        resolve, decoded = self._nexthops.resolve, self._decode_routes
        return [
            () if isinstance(reply, OSError) else resolve(decoded[reply.body], question.device)
            for question, reply in zip(questions, replies, strict=True)
        ]

    def _dump_main(self, index: int, family: int) -> list[Route]:
        dump = partial(rtnl_encode.dump_routes, table=TABLE_MAIN, family=family, device=index)
        bodies = self._requests.dump(dump)
        decode, resolve = self._nexthops.decode, self._nexthops.resolve
        return [route for body in bodies for route in resolve(decode(body), index)]


@lru_cache(1024)
def _encoded(mark: int, device: int, destination: str, source: str) -> Encode:
    return partial(
        rtnl_encode.lookup,
        destination=destination,
        source=source,
        device=device,
        mark=mark,
        match=True,
    )


def _best_default(routes: Iterable[Route], index: int) -> Route | None:
    """The default route of main through this device with the lowest metric.

    Through any device (ANY_DEVICE), it has the nexthops of all.
    """
    best: Route | None = None
    for route in routes:
        if (
            route.destination == "default"
            and route.table == TABLE_MAIN
            and not route.from_prefix
            and index in (ANY_DEVICE, route.device)
            and (best is None or route.metric < best.metric)
        ):
            best = route
    if best is None or index != ANY_DEVICE:
        return best
    same = [route for route in routes if route.key == best.key]
    hops = [Nexthop(gateway, device=route.device) for route in same for gateway in route.gateways]
    return best._replace(nexthops=tuple(hops)) if len(hops) > 1 else best


def _connected(routes: Iterable[Route], index: int, network: str) -> tuple[Route, ...]:
    """Main's routes straight to the subnet `network` through this device, the best first."""
    connected = [
        route
        for route in routes
        if route.destination == network
        and (route.table, route.device) == (TABLE_MAIN, index)
        and not route.gateway
    ]
    if len(connected) > 1:
        connected.sort(key=lambda route: route.metric)
    return tuple(connected)


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
