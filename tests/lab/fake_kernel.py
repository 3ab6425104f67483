"""A strict kernel made of lists: what mproutd's pass sees and does, without netlink.

It refuses what Linux refuses, with Linux's errno, and forgets what Linux forgets without
telling.  Each behaviour is one that the tests marked `kernel` see on the real one.

    kernel.refuse(errno.EPERM, "rule")     the next change of a rule fails
    kernel.die_after = 3                   Killed is raised before the fourth change
    kernel.writes                          how many changes were tried
    kernel.after = lambda operation: ...   called between any two changes
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Sequence
from socket import AF_INET, AF_INET6

from mproutd.model import (
    ANY_DEVICE,
    BACKUP,
    FAMILIES,
    FULLMESH,
    IMPLICIT,
    LOOKUP_DESTINATION,
    NO_SELECTORS,
    SIGNAL,
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    TENTATIVE,
    TO_TABLE,
    UNICAST,
    UNREACHABLE,
    Address,
    Endpoint,
    Failure,
    Limits,
    Link,
    Mptcp,
    NexthopObject,
    Operation,
    Packet,
    Route,
    Rule,
    Selectors,
    Snapshot,
    Sysctl,
    contains,
    family_of,
    split_prefix,
)
from mproutd.netlink.kernel import SnapshotRequest
from mproutd.netlink.sock_diag import Connection, Subflow
from tests.lab.fake_nexthops import FakeNexthops

BY_KERNEL = 2
"""RTPROT_KERNEL: the protocol of what the kernel makes by itself."""


class Killed(BaseException):
    """The process is gone, between two changes."""


class FakeKernel:
    """The Kernel of mproutd/netlink/kernel.py."""

    def __init__(self, max_endpoints: int = 8, max_limit: int = 8) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: list[Address] = []
        self.routes: list[Route] = []
        self.rules = [
            Rule(AF_INET, 0, TABLE_LOCAL, protocol=BY_KERNEL),
            Rule(AF_INET, 32766, TABLE_MAIN, protocol=BY_KERNEL),
            Rule(AF_INET, 32767, TABLE_DEFAULT, protocol=BY_KERNEL),
            Rule(AF_INET6, 0, TABLE_LOCAL, protocol=BY_KERNEL),
            Rule(AF_INET6, 32766, TABLE_MAIN, protocol=BY_KERNEL),
        ]
        self.mptcp: Mptcp | None = Mptcp(max_limit=max_limit, max_endpoints=max_endpoints)
        self.mptcp_diag = True
        self.nexthops = FakeNexthops()
        self.rp_filter_all = 0
        self.sole_path: frozenset[str] = frozenset()
        self.idle_implicit: frozenset[str] = frozenset()
        self.connections: list[Connection] = []
        self.subflow_sockets: list[Subflow] = []
        self.paused = False
        """Addresses where closing would end a connection (Snapshot)."""
        self.ignored_advertisements: set[str] = set()
        """Devices with accept_ra 1 and forwarding."""
        self.closed_initial: list[str] = []
        """Addresses whose initial subflows were closed through id 0."""
        self.done: list[Operation] = []
        """Every change that was made."""
        self.writes = 0
        self.die_after: int | None = None
        self.after: Callable[[Operation], None] = lambda operation: None
        self._refusals: list[tuple[int, str]] = []
        self._last_id = 0

    def refuse(self, number: int, kind: str = "", times: int = 1) -> None:
        """The next `times` changes of a route, rule, endpoint ... fail with this errno."""
        self._refusals += [(number, kind)] * times

    # -- read -----------------------------------------------------------------------------

    def snapshot(self, want: SnapshotRequest) -> Snapshot:
        tables = set(want.tables)
        defaults, connected, sourced = {}, {}, {}
        for link in self.links.values():
            if link.up and link.name in want.devices:
                own = [address for address in self.addresses if address.link == link.index]
                connected[link.index] = self._subnets_in_main(link.index, own)
                sourced[link.index] = self._sourced_in_main(link.index, own)
                for family in FAMILIES:
                    if (link.name, family) in want.remembered:
                        anyone = self._default_in_main(ANY_DEVICE, family, want.mark)
                        if anyone is not None:
                            defaults[ANY_DEVICE, family] = anyone
                    best = self._default_in_main(link.index, family, want.mark)
                    if best is not None:
                        defaults[link.index, family] = best
        if want.any_device:
            for family in FAMILIES:
                route = self.walk(LOOKUP_DESTINATION[family], mark=want.mark)
                if route and (route.table, route.destination) == (TABLE_MAIN, "default"):
                    defaults[ANY_DEVICE, family] = route
        return Snapshot(
            dict(self.links),
            tuple(self.addresses),
            tuple(route for route in self.routes if route.table in tables),
            defaults,
            connected,
            sourced,
            tuple(
                route.destination
                for route in self.routes
                if (route.family, route.table, route.type) == (AF_INET6, TABLE_MAIN, UNREACHABLE)
                and route.destination != "default"
            ),
            tuple(self.rules),
            self.mptcp,
            self.rp_filter_all,
            self.sole_path,
            self.idle_implicit,
            self.nexthops.snapshot(want.nexthops),
            self.nexthops.resilient,
        )

    def _subnets_in_main(self, device: int, own: Sequence[Address]) -> tuple[Route, ...]:
        networks = dict.fromkeys(
            address.network
            for address in own
            if not address.scope and address.network != address.address
        )
        connected = []
        for network in networks:
            routes = [
                route
                for route in self.routes
                if (route.table, route.destination, route.device, route.gateway)
                == (TABLE_MAIN, network, device, "")
            ]
            connected += sorted(routes, key=lambda route: route.metric)[:1]
        return tuple(connected)

    def _sourced_in_main(self, device: int, own: Sequence[Address]) -> tuple[Route, ...]:
        return tuple(
            route
            for route in self.routes
            if (route.table, route.destination, route.device) == (TABLE_MAIN, "default", device)
            and route.from_prefix
            and any(
                contains(route.from_prefix, address.address) for address in own if not address.scope
            )
        )

    def _default_in_main(self, device: int, family: int, mark: int) -> Route | None:
        default = self.walk(LOOKUP_DESTINATION[family], oif=device, mark=mark)
        if default is None:
            return None
        defaults = [
            route
            for route in self.routes
            if (route.family, route.table, route.destination) == (family, TABLE_MAIN, "default")
            and (device == ANY_DEVICE or device in route.devices)
            and not route.from_prefix
        ]
        best = min(defaults, key=lambda route: route.metric, default=None)
        if best is None or best.device:
            return best
        own = [hop for hop in best.nexthops if device in (ANY_DEVICE, hop.device)]
        first = best._replace(device=own[0].device, gateway=own[0].gateway)
        return first if device == ANY_DEVICE else first._replace(nexthops=())

    def lookups(self, questions: Sequence[tuple[str, int]]) -> list[Route | None]:
        return [
            self.walk(LOOKUP_DESTINATION[family_of(address)], source=address, oif=device)
            if any(own.address == address for own in self.addresses)
            else None
            for address, device in questions
        ]

    def subflows(self, addresses: Collection[str]) -> tuple[list[Connection] | None, list[Subflow]]:
        return (self.connections if self.mptcp_diag else None), self.subflow_sockets

    def mptcp_paused(self) -> bool:
        return self.paused

    def lists_connections(self) -> bool:
        return self.mptcp_diag

    def packet_routes(self, packets: Sequence[Packet]) -> list[Route | None]:
        return [
            self._resolved(
                self.walk(
                    packet.destination or LOOKUP_DESTINATION[packet.family],
                    source=packet.source,
                    iif=self.links[packet.iif].name if packet.iif else "",
                    mark=packet.mark,
                    selectors=packet.selectors,
                )
            )
            for packet in packets
        ]

    def _resolved(self, route: Route | None) -> Route | None:
        if route is None or not route.nexthop_id:
            return route
        return route._replace(nexthops=self.nexthops.hops(route.nexthop_id))

    def real_name(self, name: str) -> str:
        return name

    def blackhole_defaults(self) -> list[Route]:
        return [
            route
            for route in self.routes
            if (route.table, route.destination) == (TABLE_MAIN, "default") and route.type != UNICAST
        ]

    def default_tables(self, device: int, family: int) -> set[int]:
        return {
            route.table
            for route in self.routes
            if (route.family, route.device, route.destination) == (family, device, "default")
        }

    def ignores_advertisements(self, device: str) -> bool:
        return device in self.ignored_advertisements

    def walk(
        self,
        destination: str,
        *,
        source: str = "",
        oif: int = 0,
        iif: str = "",
        mark: int = 0,
        selectors: Selectors = NO_SELECTORS,
    ) -> Route | None:
        """The route that the rules lead to (fib_rules_lookup); None for none or unreachable."""
        family = family_of(destination)
        name = self.links[oif].name if oif in self.links else ""
        for rule in self.rules:
            if rule.family != family:
                continue
            selected = (
                not (mark ^ rule.fwmark) & rule.fwmask
                and rule.selectors in (NO_SELECTORS, selectors)
                and rule.oif in ("", name)
                and rule.iif in ("", iif)
                and (not rule.source or bool(source and contains(rule.source, source)))
                and (not rule.destination or contains(rule.destination, destination))
            )
            if selected == rule.inverted:
                continue
            if rule.action != TO_TABLE:
                return None
            route = self.match(rule.table, destination, oif, source=source)
            if route is None:
                continue
            if route.type != UNICAST:  # not suppressed, however short it is
                return None
            if split_prefix(route.destination, family)[1] <= rule.suppress_prefixlength:
                continue
            return route
        return None

    def match(
        self, table: int, destination: str, oif: int, direct: bool = False, source: str = ""
    ) -> Route | None:
        """The longest prefix, then the lowest metric; `direct` wants one without a gateway."""
        family = family_of(destination)
        fit = [
            route
            for route in self.routes
            if route.table == table
            and route.family == family
            and contains(route.destination, destination)
            and any(not index or self.links[index].up for index in self._devices(route))
            and (not oif or not {0, oif}.isdisjoint(self._devices(route)))
            and not (direct and (route.gateway or route.nexthops or route.nexthop_id))
            and (not route.from_prefix or (source and contains(route.from_prefix, source)))
        ]
        return min(
            fit,
            key=lambda route: (
                -split_prefix(route.destination, family)[1],
                -split_prefix(route.from_prefix or "default", family)[1],
                route.metric,
            ),
            default=None,
        )

    def _devices(self, route: Route) -> tuple[int, ...]:
        if route.nexthop_id:
            return tuple(hop.device for hop in self.nexthops.hops(route.nexthop_id))
        return route.devices

    def flush_unreachable_neighbours(self, neighbours: Sequence[tuple[str, int]]) -> None:
        for _, device in neighbours:
            assert device in self.links

    # -- change ---------------------------------------------------------------------------

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        failures = []
        for operation in operations:
            if self.die_after is not None:
                if not self.die_after:
                    raise Killed
                self.die_after -= 1
            self.writes += 1
            number = self._refusal(operation) or self._change(operation)
            if number:
                failures.append(Failure(operation, number, os.strerror(number)))
            else:
                self.done.append(operation)
            self.after(operation)
        return failures

    def _refusal(self, operation: Operation) -> int:
        for index, (number, kind) in enumerate(self._refusals):
            if kind in ("", type(operation.value).__name__.lower()):
                del self._refusals[index]
                return number
        return 0

    def _change(self, operation: Operation) -> int:
        value = operation.value
        if isinstance(value, Route):
            return self.change_route(operation.verb, value)
        if isinstance(value, Rule):
            return self.change_rule(operation.verb, value)
        if isinstance(value, NexthopObject):
            return self._change_nexthop(operation.verb, value)
        if isinstance(value, Endpoint):
            return self._change_endpoint(operation.verb, value)
        if isinstance(value, Limits):
            return self._change_limits(value)
        return self._change_sysctl(value)

    def _change_nexthop(self, verb: str, value: NexthopObject) -> int:
        if verb != "delete" and not value.members:
            number = self._route_is_wrong(
                Route(
                    value.family, TABLE_MAIN, "", value.device, value.gateway, onlink=value.onlink
                )
            )
            if number:
                return number
        number = self.nexthops.change(verb, value)
        self._drop_routes_without_nexthop()
        return number

    def flush_nexthops(self, device: int) -> None:
        """What goes silently with a link or its carrier (nexthop_flush_dev)."""
        self.nexthops.flush(device)
        self._drop_routes_without_nexthop()

    def _drop_routes_without_nexthop(self) -> None:
        self.routes = [
            route
            for route in self.routes
            if not route.nexthop_id or self.nexthops.hops(route.nexthop_id)
        ]

    def change_route(self, verb: str, route: Route) -> int:
        if verb == "delete":
            return self._delete_route(route)
        number = self._route_is_wrong(route)
        if number:
            return number
        same = [other for other in self.routes if other.key == route.key]
        if same and verb == "add":
            return errno.EEXIST
        if same:
            self.routes[self.routes.index(same[0])] = route
        else:
            self.routes.append(route)
        return 0

    def _route_is_wrong(self, route: Route) -> int:
        """The errno of fib_check_nh, ip6_route_info_create and fib_valid_prefsrc."""
        if route.type != UNICAST:
            return 0
        if route.nexthop_id:
            exists = bool(self.nexthops.hops(route.nexthop_id))
            return 0 if exists and not route.from_prefix else errno.EINVAL
        if route.nexthops and len(set(route.devices)) > 1:
            return self._multipath_is_wrong(route)
        if route.device not in self.links:
            return errno.ENODEV
        if not self.links[route.device].up:
            return errno.ENETDOWN
        if route.source and not any(
            own.address == route.source and not own.flags & TENTATIVE for own in self.addresses
        ):
            return errno.EINVAL
        if not route.gateway or route.onlink or route.gateway.startswith("fe80"):
            return 0
        nexthop = self.match(route.table, route.gateway, route.device, direct=True)
        if nexthop is None or nexthop.type != UNICAST:  # a reject route there does not decide
            nexthop = self.walk(route.gateway, oif=route.device)
        if nexthop is None or nexthop.gateway or nexthop.device != route.device:
            return errno.ENETUNREACH if route.family == AF_INET else errno.EHOSTUNREACH
        return 0

    def _multipath_is_wrong(self, route: Route) -> int:
        """ip6_route_multipath_add, fib_get_nhs."""
        if route.family == AF_INET6 and not all(hop.gateway for hop in route.nexthops):
            return errno.EINVAL
        ways = (
            route._replace(device=hop.device, gateway=hop.gateway, onlink=hop.onlink, nexthops=())
            for hop in route.nexthops
        )
        return next((number for way in ways if (number := self._route_is_wrong(way))), 0)

    def _delete_route(self, route: Route) -> int:
        def same(other: Route) -> bool:
            if route.family == AF_INET and not route.metric:
                other = other._replace(metric=0)  # any metric
            if route.family == AF_INET6:
                other = other._replace(source=route.source)  # it is not compared
            return other == route

        hits = sorted(filter(same, self.routes), key=lambda other: other.metric)
        if not hits:
            return errno.ESRCH
        self.routes.remove(hits[0])
        return 0

    def change_rule(self, verb: str, rule: Rule) -> int:
        if verb == "add":
            if rule in self.rules:
                return errno.EEXIST
            self.rules.append(rule)
            self.rules.sort(key=lambda other: other.priority)  # the older one first: stable
            return 0
        assert verb == "delete"
        for other in self.rules:
            if _stands_for(other, rule):
                self.rules.remove(other)
                return 0
        return errno.ENOENT

    def _change_endpoint(self, verb: str, value: Endpoint) -> int:
        assert self.mptcp is not None
        endpoints = list(self.mptcp.endpoints)
        index = next(
            (n for n, other in enumerate(endpoints) if value.id and other.id == value.id), -1
        )
        if verb == "add":
            return self.add_endpoint(value)
        if verb == "delete":
            if not value.id:
                self.closed_initial.append(value.address)
                return 0
            if index < 0:
                return errno.EINVAL
            del endpoints[index]
        else:
            if index < 0:
                return errno.EINVAL
            live = BACKUP | FULLMESH
            flags = endpoints[index].flags & ~live | value.flags & live
            endpoints[index] = endpoints[index]._replace(flags=flags)
        self.mptcp = self.mptcp._replace(endpoints=tuple(endpoints))
        return 0

    def add_endpoint(self, value: Endpoint) -> int:
        """mptcp_pm_nl_append_new_local_addr."""
        assert self.mptcp is not None
        if value.flags & SIGNAL and value.flags & FULLMESH:
            return errno.EINVAL
        endpoints = list(self.mptcp.endpoints)
        same = [
            endpoint
            for endpoint in endpoints
            if (endpoint.address, endpoint.port) == (value.address, value.port)
        ]
        number = value.id
        if len(endpoints) >= self.mptcp.max_endpoints:
            return errno.ERANGE
        if same:
            if number or not same[0].flags & IMPLICIT:
                return errno.EEXIST
            number = same[0].id
            endpoints.remove(same[0])
        if any(number and endpoint.id == number for endpoint in endpoints):
            return errno.EBUSY
        if not number:
            self._last_id = number = self._last_id % 255 + 1
        endpoints.append(value._replace(id=number))
        self.mptcp = self.mptcp._replace(endpoints=tuple(endpoints))
        return 0

    def _change_limits(self, value: Limits) -> int:
        assert self.mptcp is not None
        if max(value) > self.mptcp.max_limit:
            return errno.EINVAL
        self.mptcp = self.mptcp._replace(limits=value)
        return 0

    def _change_sysctl(self, value: Sysctl) -> int:
        for link in self.links.values():
            if link.name == value.device:
                self.links[link.index] = link._replace(**{value.key: value.value})
                return 0
        return errno.ENOENT


def _stands_for(rule: Rule, named: Rule) -> bool:
    """Whether a delete that names this takes that rule (rule_find): what it leaves out is any."""
    return (
        (rule.family, rule.priority, rule.table, rule.protocol)
        == (named.family, named.priority, named.table, named.protocol)
        and named.source in ("", rule.source)
        and named.destination in ("", rule.destination)
        and named.iif in ("", rule.iif)
        and named.oif in ("", rule.oif)
        and (not named.fwmask or (named.fwmark, named.fwmask) == (rule.fwmark, rule.fwmask))
        and named.suppress_prefixlength in (-1, rule.suppress_prefixlength)
    )
