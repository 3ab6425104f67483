"""Reads what a pass decides on; a second time only what may have changed since.

A pass without news of a kind does not read that kind again, so that what happens to one
uplink costs the same beside thirty others.  What is kept is the kernel's own last answer,
and it is dropped by the events that announce a change, and by those that announce what the
kernel does without announcing it: with an address, a link or its carrier, IPv4 routes of
that device vanish from every table (net/ipv4/fib_frontend.c), so an event for a device
drops every table that had a route by it.  Events that wake nobody (eventfilter.concerns)
count as well: a LAN's address decides something once an uplink has its subnet too.

What must hold: endpoints and limits, whose changes nobody announces, are not kept here;
forget() drops everything, and is called where events were lost, at every resync, and for
whatever a person reads.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from mproutd.model import (
    FALLBACK_DESTINATION,
    FAMILIES,
    LOOKUP_DESTINATION,
    TABLE_MAIN,
    Address,
    Link,
    Operation,
    Route,
    Rule,
    Sysctl,
    contains,
)
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nlmsg import NLM_F_REPLACE, U32, DecodeCache, Message
from mproutd.netlink.sockets import Encode, Requests

_LINKS = (rtnl_decode.RTM_NEWLINK, rtnl_decode.RTM_DELLINK)
_ADDRESSES = (rtnl_decode.RTM_NEWADDR, rtnl_decode.RTM_DELADDR)
_ROUTES = (rtnl_decode.RTM_NEWROUTE, rtnl_decode.RTM_DELROUTE)

_SEVERAL = 8
"""Devices whose addresses are asked for one by one; of more, one question about all costs less."""


class RtnlSnapshot(NamedTuple):
    """rtnetlink's part of a Snapshot."""

    links: dict[int, Link]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    defaults: dict[tuple[int, int], Route]
    rules: tuple[Rule, ...]


class RtnlCache:
    """The kernel's answers, as long as they hold."""

    def __init__(self, requests_socket: Requests) -> None:
        self._requests = requests_socket
        self._link = rtnl_decode.LinkCache()
        self._address: DecodeCache[Address | None] = DecodeCache(rtnl_decode.address)
        self._rule: DecodeCache[Rule | None] = DecodeCache(rtnl_decode.rule)
        self._route: DecodeCache[tuple[Route, ...]] = DecodeCache(rtnl_decode.routes)
        self.invalidate()

    # -- what still holds -----------------------------------------------------------------

    def invalidate(self) -> None:
        """Read everything again."""
        self._links: dict[int, Link] | None = None
        self._addresses: dict[int, tuple[Address, ...]] | None = None
        self._stale_addresses: set[int] = set()
        self._rules: tuple[Rule, ...] | None = None
        self._tables: dict[int, tuple[Route, ...]] = {}
        self._defaults: dict[tuple[int, int], Route | None] = {}

    def on_event(self, message: Message) -> None:
        """Drop what an event says is no longer so."""
        kind, body = message.type, message.body
        if kind in _LINKS or kind in _ADDRESSES:
            index = U32.unpack_from(body, 4)[0] if len(body) >= 8 else 0
            if kind in _LINKS:
                self._links = None
            if index not in self._stale_addresses:
                self._stale_addresses.add(index)
                self._invalidate_device(index)
        elif kind in _ROUTES:
            self._on_route_event(message)
        else:
            self._rules = None
            self._defaults.clear()

    def _invalidate_device(self, index: int) -> None:
        for table, routes in list(self._tables.items()):
            if any(route.device == index for route in routes):
                del self._tables[table]
        for family in FAMILIES:
            self._defaults.pop((index, family), None)

    def _on_route_event(self, message: Message) -> None:
        routes = rtnl_decode.routes(message.body)
        if not routes or message.flags & NLM_F_REPLACE:
            # Whose route was replaced is not said.
            self._defaults.clear()
        for route in routes:
            self._tables.pop(route.table, None)
            self._defaults.pop((route.device, route.family), None)

    def on_applied(self, operations: Iterable[Operation], certain: bool) -> None:
        """Take account of our own changes, whose echoes never arrive.

        Rules that the kernel has acknowledged are taken over; of the rest, and of everything
        where something failed, what may be untrue is dropped.
        """
        for operation in operations:
            value = operation.value
            if isinstance(value, Route):
                self._tables.pop(value.table, None)
            elif isinstance(value, Rule):
                if not certain or self._rules is None:
                    self._rules = None
                elif operation.verb == "add":
                    self._rules += (value,)
                else:
                    self._rules = tuple(rule for rule in self._rules if rule != value)
                if value.table == TABLE_MAIN:
                    self._defaults.clear()
            elif isinstance(value, Sysctl):
                self._links = None

    def link(self, name: str) -> Link | None:
        """What a pass took a device for; None when nobody has asked."""
        return next((link for link in (self._links or {}).values() if link.name == name), None)

    # -- reading --------------------------------------------------------------------------

    def read(self, devices: Collection[str], tables: Sequence[int], mark: int) -> RtnlSnapshot:
        """All of it, for the devices by name whose default matters.  OSError."""
        try:
            links = self._read_links()
            indexes = [link.index for link in links.values() if link.up and link.name in devices]
            rules = self._read_rules()
            # With the rule for the question in place, an answer from a table of ours says that
            # main had none: the lookup went on to the uplink's own rule.
            asked = any(rule.fwmark == rule.fwmask == mark for rule in rules if rule.fwmask)
            own = frozenset(tables) if asked else frozenset()
            return RtnlSnapshot(
                links,
                self._read_addresses(),
                tuple(chain.from_iterable(self._read_table(table) for table in tables)),
                self._read_defaults(indexes, mark, own),
                rules,
            )
        except OSError:
            self.invalidate()
            raise

    def _read_links(self) -> dict[int, Link]:
        if self._links is None:
            found = map(self._link.__getitem__, self._requests.dump(rtnl_encode.dump_links))
            self._links = {link.index: link for link in found if link is not None}
        return self._links

    def _read_addresses(self) -> tuple[Address, ...]:
        if self._addresses is None or len(self._stale_addresses) > _SEVERAL:
            self._addresses = {}
            for address in self._dump_addresses(0):
                earlier = self._addresses.get(address.link, ())
                self._addresses[address.link] = (*earlier, address)
        else:
            for index in self._stale_addresses:
                self._addresses[index] = self._dump_addresses(index)
        self._stale_addresses.clear()
        return tuple(chain.from_iterable(self._addresses.values()))

    def _dump_addresses(self, index: int) -> tuple[Address, ...]:
        """Of one device, or all (0); none where the device is gone."""
        try:
            bodies = self._requests.dump(lambda n: rtnl_encode.dump_addresses(n, device=index))
        except OSError as error:
            if not index or error.errno != errno.ENODEV:
                raise
            return ()
        return tuple(found for body in bodies if (found := self._address[body]) is not None)

    def _read_rules(self) -> tuple[Rule, ...]:
        if self._rules is None:
            found = map(self._rule.__getitem__, self._requests.dump(rtnl_encode.dump_rules))
            self._rules = tuple(rule for rule in found if rule is not None)
        return self._rules

    def _read_table(self, table: int) -> tuple[Route, ...]:
        routes = self._tables.get(table)
        if routes is None:
            bodies = self._requests.dump(lambda n: rtnl_encode.dump_routes(n, table))
            routes = tuple(chain.from_iterable(self._route[body] for body in bodies))
            self._tables[table] = routes
        return routes

    def _read_defaults(
        self, indexes: Sequence[int], mark: int, own: frozenset[int]
    ) -> dict[tuple[int, int], Route]:
        """Main's default route by each device: one lookup each, however large main is.

        What brought none is asked for a second destination: main may have a longer route to the
        first.  A lookup that somebody else's rule answered is asked again as a dump, which is
        slow only where main is large.  `own` are the tables whose answer means that there is none.
        """
        known = self._defaults
        keys = [(index, family) for index in indexes for family in FAMILIES]
        unknown = [key for key in keys if key not in known]
        for destination in (LOOKUP_DESTINATION, FALLBACK_DESTINATION):
            answers = self._matches(unknown, destination, mark)
            asked, unknown = unknown, []
            for (index, family), routes in zip(asked, answers, strict=True):
                foreign = any(
                    route.table != TABLE_MAIN and route.table not in own for route in routes
                )
                if foreign:
                    routes = self._main_routes(index, family)
                known[index, family] = default = min(
                    (
                        route
                        for route in routes
                        if route.table == TABLE_MAIN
                        and route.destination == "default"
                        and route.device == index
                    ),
                    key=lambda route: route.metric,
                    default=None,
                )
                if default is None and not foreign:
                    unknown.append((index, family))
        return {key: route for key in keys if (route := known[key]) is not None}

    def _matches(
        self, keys: Sequence[tuple[int, int]], destination: Mapping[int, str], mark: int
    ) -> list[Sequence[Route]]:
        """The route that main has to there by each (ifindex, family); () for none."""
        questions: list[Encode] = [
            lambda n, index=index, family=family: rtnl_encode.lookup(  # type: ignore[misc]
                n, destination[family], device=index, mark=mark, match=True
            )
            for index, family in keys
        ]
        answers = self._requests.query(questions)
        return [() if isinstance(each, OSError) else self._route[each.body] for each in answers]

    def _main_routes(self, index: int, family: int) -> list[Route]:
        bodies = self._requests.dump(
            lambda n: rtnl_encode.dump_routes(n, TABLE_MAIN, family=family, device=index)
        )
        return [route for body in bodies for route in rtnl_decode.routes(body)]

    def blackhole_defaults(self) -> list[Route]:
        """Main's routes that throw away what it has no better ones for, however far it goes.

        For a status that has to say why nothing leaves; slow where main is large.
        """
        found: list[Route] = []
        for kind in rtnl_decode.DISCARD_TYPES:
            bodies = self._requests.dump(
                lambda n, kind=kind: rtnl_encode.dump_routes(n, TABLE_MAIN, kind=kind)  # type: ignore[misc]
            )
            found += [route for body in bodies for route in rtnl_decode.routes(body)]
        return [
            each for each in found if contains(each.destination, FALLBACK_DESTINATION[each.family])
        ]
