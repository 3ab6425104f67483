"""The rtnetlink part of a snapshot, read again only where an event says that it may have changed.

Without news of a kind of object, a pass does not read that kind again, so an event on one uplink
costs the same beside thirty others.  What is kept is the kernel's last reply.  It is dropped by
the events that announce a change, and by those that announce what the kernel does silently: with
an address or when a link goes down, IPv4 routes of that device vanish from every table
(net/ipv4/fib_frontend.c), so such an event drops every table with a route through it.  A new
address and a link that is up leave all routes where they are, so that a carrier that comes or goes
costs no lookup in main; but with ignore_routes_with_linkdown, whose changes count too, a lookup
finds them only while the link has carrier, and those with a nexthop object go with it.
Events that trigger no pass (bpf.is_relevant) count too: the address of a LAN matters as soon as
an uplink has its subnet as well.

Invariants: endpoints and limits, whose changes no event announces, are not kept here.
invalidate() drops everything; it is called after lost events, at every resync, and before
anything that a person reads.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from mproutd.model import (
    FALLBACK_DESTINATION,
    FAMILIES,
    TABLE_MAIN,
    Address,
    Link,
    NexthopObject,
    Operation,
    Route,
    Rule,
    Sysctl,
    contains,
)
from mproutd.netlink import rtnl_decode, rtnl_encode, sysctls
from mproutd.netlink.bpf import ALL_DEVICES, FUTURE_DEVICES, changes_lookups, netconf_ifindex
from mproutd.netlink.main_table import MainLookups, MainTable
from mproutd.netlink.nexthop_table import NexthopTable
from mproutd.netlink.nlmsg import (
    NLM_F_REPLACE,
    U32,
    DecodeCache,
    DecodeError,
    Message,
    attribute,
)
from mproutd.netlink.rtnl_nexthops import RTM_DELNEXTHOP, RTM_NEWNEXTHOP
from mproutd.netlink.sockets import Requests

_LINK_EVENTS = (rtnl_decode.RTM_NEWLINK, rtnl_decode.RTM_DELLINK)
_ADDRESS_EVENTS = (rtnl_decode.RTM_NEWADDR, rtnl_decode.RTM_DELADDR)
_ROUTE_EVENTS = (rtnl_decode.RTM_NEWROUTE, rtnl_decode.RTM_DELROUTE)
_NEXTHOP_EVENTS = (RTM_NEWNEXTHOP, RTM_DELNEXTHOP)

_MAX_SINGLE_READS = 8
"""Devices that are read one by one, or their addresses; for more, a full dump costs less."""


class RtnlSnapshot(NamedTuple):
    """The rtnetlink part of a Snapshot."""

    links: dict[int, Link]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    defaults: dict[tuple[int, int], Route]
    connected: dict[int, tuple[Route, ...]]
    sourced: dict[int, tuple[Route, ...]]
    delegated: tuple[str, ...]
    rules: tuple[Rule, ...]


class RtnlCache:
    """Links, addresses, rules and routes, as far as no event made them stale."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self.nexthops = NexthopTable(requests)
        self._main = MainTable(requests, self.nexthops)
        self._decode_link = rtnl_decode.LinkCache()
        self._decode_address: DecodeCache[Address | None] = DecodeCache(rtnl_decode.address)
        self._decode_rule: DecodeCache[Rule | None] = DecodeCache(rtnl_decode.rule)
        self._decode_routes: DecodeCache[tuple[Route, ...]] = DecodeCache(rtnl_decode.routes)
        self._decode_event: DecodeCache[tuple[Route, ...]] = DecodeCache(rtnl_decode.routes, 32)
        self.invalidate()

    # -- invalidation ---------------------------------------------------------------------

    def invalidate(self) -> None:
        """Read everything again."""
        self._links: dict[int, Link] | None = None
        self._stale_links: set[int] = set()
        self._mtus: dict[int, bytes | None] = {}
        """Of the links as they were read."""
        self._addresses: dict[int, tuple[Address, ...]] | None = None
        self._stale_addresses: set[int] = set()
        self._stale_routes: set[int] = set()
        """Devices whose tables were dropped since the last read."""
        self._rules: tuple[Rule, ...] | None = None
        self._tables: dict[int, tuple[Route, ...]] = {}
        self._main.invalidate()
        self.nexthops.invalidate()

    def on_event(self, message: Message) -> None:
        """Drop what this event makes stale.  DecodeError for a broken route message."""
        kind, body = message.type, message.body
        if kind in _LINK_EVENTS or kind in _ADDRESS_EVENTS:
            self._on_device_event(kind, body)
        elif kind in _ROUTE_EVENTS:
            self._on_route_event(message)
        elif kind == rtnl_decode.RTM_NEWNETCONF:
            index = netconf_ifindex(message.body)
            if index != FUTURE_DEVICES:
                self._stale_links.add(index)
                if changes_lookups(message.body):
                    self._main.invalidate_lookups()
        elif kind in _NEXTHOP_EVENTS:
            self._main.invalidate_lookups()
            self._drop_nexthops()
        else:
            self._rules = None
            self._main.invalidate_lookups()

    def _on_device_event(self, kind: int, body: bytes) -> None:
        """An address or a link: what can be gone with it is read again."""
        index = U32.unpack_from(body, 4)[0] if len(body) >= 8 else 0
        families: Sequence[int] = FAMILIES
        if kind in _LINK_EVENTS:
            self._stale_links.add(index)
            self._drop_nexthops()
            is_up = len(body) >= 16 and bool(U32.unpack_from(body, 8)[0] & rtnl_decode.IFF_UP)
            if is_up and self._keeps_routes(index, body):
                return
            self._main.drop_any_device()
            if is_up:
                self._main.drop_device(index)
                return
        elif body and body[0] in FAMILIES:
            families = body[:1]
        self._stale_addresses.add(index)
        if kind == rtnl_decode.RTM_NEWADDR:
            self._main.drop_subnets(index, families)
            return
        self._main.drop_device(index, families)
        if index not in self._stale_routes:
            self._stale_routes.add(index)
            self._drop_routes_through(index)

    def _keeps_routes(self, index: int, body: bytes) -> bool:
        """Whether main is as before: the link was up already, and at most its carrier changed.

        Not with another MTU, which IPv6 routes inherit, nor where routes are ignored without
        carrier or go with a nexthop object.
        """
        link = self._links.get(index) if self._links else None
        try:
            return (
                link is not None
                and link.up
                and _mtu(body) == self._mtus.get(index)
                and not self.nexthops.others_used
                and not sysctls.ignores_dead_links(link.name)
            )
        except DecodeError:
            return False

    def _drop_routes_through(self, index: int) -> None:
        for table, routes in list(self._tables.items()):
            if any(
                route.device == index or (route.nexthops and index in route.devices)
                for route in routes
            ):
                del self._tables[table]

    def _drop_nexthops(self) -> None:
        """Nexthop objects, and the tables with routes that use them, where any were read."""
        if not self.nexthops.known:
            return
        self.nexthops.invalidate()
        for table, routes in list(self._tables.items()):
            if any(route.nexthop_id for route in routes):
                del self._tables[table]

    def _on_route_event(self, message: Message) -> None:
        routes = self._decode_event[message.body]
        if not routes:
            self._main.invalidate_lookups()
        for route in routes:
            self._tables.pop(route.table, None)
            replaced = bool(message.flags & NLM_F_REPLACE) or bool(route.nexthop_id)
            self._main.drop(route, replaced)

    def on_applied(self, operations: Iterable[Operation], certain: bool) -> None:
        """Account for our own changes, whose events are filtered out.

        `certain`: the kernel acknowledged all of them.  Then rules are taken over; of everything
        else, and after a failure, what may be stale is dropped.
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
                    self._main.invalidate_lookups()
            elif isinstance(value, NexthopObject):
                self._drop_nexthops()
            elif isinstance(value, Sysctl):
                self._links = None

    def link(self, name: str) -> Link | None:
        """The link of this name as last read; None when it was not."""
        return next((link for link in (self._links or {}).values() if link.name == name), None)

    # -- reading --------------------------------------------------------------------------

    def read(
        self,
        devices: Collection[str],
        tables: Sequence[int],
        mark: int,
        remembered: Collection[tuple[str, int]] = (),
        any_device: bool = False,
    ) -> RtnlSnapshot:
        """Everything; the default routes of main for `devices` (names).  OSError.

        `mark` is the mark whose rule sends a lookup to main; 0 for none.  `remembered`,
        `any_device`: see SnapshotRequest.
        """
        try:
            links = self._read_links()
            indexes = [link.index for link in links.values() if link.up and link.name in devices]
            rules = self._read_rules()
            # With the mark's rule in place, a reply from one of our tables means that main had no
            # route: the lookup went on to the uplink's own rule.
            has_mark_rule = any(rule.fwmark == rule.fwmask == mark for rule in rules if rule.fwmask)
            lookups = MainLookups(mark, frozenset(tables) if has_mark_rule else frozenset())
            addresses = self._read_addresses()
            routes = tuple(chain.from_iterable(self._read_table(table) for table in tables))
            self._stale_routes.clear()
            main = self._main.read(indexes, addresses, lookups, FAMILIES if any_device else ())
            if remembered and not any_device:
                families = {
                    family
                    for family in FAMILIES
                    for index in indexes
                    if (index, family) not in main.defaults
                    and (links[index].name, family) in remembered
                }
                others = self._main.read_any_default(families, lookups)
                main = main._replace(defaults={**main.defaults, **others})
            return RtnlSnapshot(links, addresses, routes, *main, rules)
        except OSError:
            self.invalidate()
            raise

    def _read_links(self) -> dict[int, Link]:
        stale = self._stale_links
        if self._links is None or ALL_DEVICES in stale or len(stale) > _MAX_SINGLE_READS:
            bodies = self._requests.dump(rtnl_encode.dump_links)
            self._mtus = {U32.unpack_from(body, 4)[0]: _mtu(body) for body in bodies}
            links = map(self._decode_link.__getitem__, bodies)
            self._links = {link.index: link for link in links if link is not None}
        elif stale:
            self._links = dict(self._links)  # the last snapshot has the old one
            indexes = list(stale)
            requests = [partial(rtnl_encode.get_link, index=index) for index in indexes]
            for index, reply in zip(indexes, self._requests.query(requests), strict=True):
                link = None
                if not isinstance(reply, OSError):
                    link = self._decode_link[reply.body]
                    self._mtus[index] = _mtu(reply.body)
                elif reply.errno != errno.ENODEV:
                    raise reply
                if link is None:
                    self._links.pop(index, None)
                else:
                    self._links[index] = link
        stale.clear()
        return self._links

    def _read_addresses(self) -> tuple[Address, ...]:
        if self._addresses is None or len(self._stale_addresses) > _MAX_SINGLE_READS:
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
        """Of one device, or of all (0); none where the device is gone."""
        try:
            bodies = self._requests.dump(partial(rtnl_encode.dump_addresses, device=index))
        except OSError as error:
            if not index or error.errno != errno.ENODEV:
                raise
            return ()
        addresses = map(self._decode_address.__getitem__, bodies)
        return tuple(address for address in addresses if address is not None)

    def _read_rules(self) -> tuple[Rule, ...]:
        if self._rules is None:
            bodies = self._requests.dump(rtnl_encode.dump_rules)
            rules = map(self._decode_rule.__getitem__, bodies)
            self._rules = tuple(rule for rule in rules if rule is not None)
        return self._rules

    def _read_table(self, table: int) -> tuple[Route, ...]:
        routes = self._tables.get(table)
        if routes is None:
            bodies = self._requests.dump(partial(rtnl_encode.dump_routes, table=table))
            routes = tuple(chain.from_iterable(self._decode_routes[body] for body in bodies))
            routes = self.nexthops.resolve(routes)
            self._tables[table] = routes
        return routes

    def blackhole_defaults(self) -> list[Route]:
        """Routes in main that discard all traffic without a better route.

        For a status that must explain why nothing leaves; slow where main is large.
        """
        routes: list[Route] = []
        for kind in rtnl_decode.DISCARD_TYPES:
            dump = partial(rtnl_encode.dump_routes, table=TABLE_MAIN, kind=kind)
            routes += chain.from_iterable(map(rtnl_decode.routes, self._requests.dump(dump)))
        return [
            route
            for route in routes
            if contains(route.destination, FALLBACK_DESTINATION[route.family])
        ]

    def default_tables(self, device: int, family: int) -> set[int]:
        """The tables with a default route through this device.

        Like blackhole_defaults() for a status only: slow where main is large.
        """
        dump = partial(rtnl_encode.dump_routes, table=0, family=family, device=device)
        return {
            route.table
            for body in self._requests.dump(dump)
            for route in rtnl_decode.routes(body)
            if route.destination == "default" and route.device == device
        }


def _mtu(body: bytes) -> bytes | None:
    """Of a link's message."""
    return attribute(body, 16, rtnl_decode.IFLA_MTU)
