"""Where an uplink's packets go first: its gateway, and what main says of the way there.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from socket import AF_INET
from typing import NamedTuple

from mproutd.configuration.config import UplinkConfig
from mproutd.model import (
    DAD_FAILED,
    FAMILIES,
    NO_METRICS,
    PROTOCOL,
    SCOPE_GLOBAL,
    SCOPE_LINK,
    TENTATIVE,
    Address,
    Link,
    Route,
    Snapshot,
    bits,
    contains,
)
from mproutd.planning.state import State

BY_KERNEL, ROUTER_ADVERTISEMENT = 2, 9
"""linux/rtnetlink.h: RTPROT_KERNEL, RTPROT_RA."""


LOCAL = "local"
"""The origin for an uplink with default_route 0: its subnets need no gateway, and that is all."""


class Gateway(NamedTuple):
    """The way out of a device, and who named it."""

    address: str
    """Empty: straight to the device."""
    origin: str
    """configuration, netifd, lease, ifupdown, main, remembered, point-to-point, or LOCAL."""


class DeviceFacts(NamedTuple):
    """What is known of a device in one family beside its addresses."""

    gateways: tuple[Gateway, ...]
    """By other sources."""
    main_default: Route | None
    """By main, for any source; or by another program in the uplink's pinned table."""
    sourced: tuple[Route, ...]
    """By main, for some sources."""
    connected: tuple[Route, ...]
    """Main's routes to the device's subnets."""
    prefixes: tuple[str, ...]
    table: int
    default_origin: str = "main"
    """main, or table: where that route is."""
    remembered: tuple[Route, ...] = ()
    """Main's earlier routes by the gateway last known for each address; their prefix is the
    address."""
    withdrawn: bool = False
    dropped: bool = False
    """See Path."""


class MainRoutes(NamedTuple):
    """What an uplink's table copies from main, in one family."""

    onlink: bool
    """Whether the default needs RTNH_F_ONLINK."""
    connected: tuple[Route, ...] = ()
    default: Route | None = None
    sourced: tuple[Route, ...] = ()


def find_gateway(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    covered: tuple[Address, ...],
    known: DeviceFacts,
) -> tuple[Gateway | None, DeviceFacts]:
    """The first source that knows, and what is known with it."""
    if not uplink.default_route:
        return Gateway("", LOCAL), known._replace(main_default=None, sourced=())
    configured = uplink.gateway if family == AF_INET else uplink.gateway6
    if configured:
        return Gateway(configured, "configuration"), known
    for gateway in known.gateways:
        if _is_current(gateway.address, covered):
            return gateway, known
    # dhcpcd has such a default with an IPv4LL address as its source until there is a lease, and
    # for some milliseconds longer: it leads no further than the link.
    if known.main_default is not None and not is_ipv4ll(known.main_default.source):
        return Gateway(known.main_default.gateway, known.default_origin), known
    for route in known.sourced:
        if any(contains(route.from_prefix, address.address) for address in covered):
            return Gateway(route.gateway, "main"), known
    for address in covered:
        for route in known.remembered:
            if route.destination == address.address:
                default = route._replace(destination="default")
                return Gateway(route.gateway, "remembered"), known._replace(main_default=default)
    return Gateway("", "point-to-point") if link.pointopoint else None, known


def is_memorable(gateway: Gateway, default: Route | None) -> bool:
    """Whether a gateway may be used for a while after its source has stopped naming it.

    Not one from a router advertisement: the kernel keeps that route for as long as the router
    has promised, so where it is gone the router has resigned or is silent.
    """
    if gateway.origin in ("main", "table"):
        return default is None or default.protocol not in (BY_KERNEL, ROUTER_ADVERTISEMENT)
    return gateway.origin in ("netifd", "lease", "ifupdown")


def foreign_default(
    snapshot: Snapshot, uplink: UplinkConfig, device: int, family: int
) -> Route | None:
    """Another program's default through the uplink's device in the table pinned for it."""
    if not uplink.table or not device:
        return None
    defaults = (
        route
        for route in snapshot.routes
        if (route.table, route.family, route.device, route.destination)
        == (uplink.table, family, device, "default")
        and route.protocol != PROTOCOL
        and not route.from_prefix
    )
    return min(defaults, key=lambda route: route.metric, default=None)


def with_remembered_gateways(
    snapshot: Snapshot,
    state: State,
    withdrawn: Collection[tuple[str, int]],
    uplink: UplinkConfig,
    addresses: list[Address],
    known: list[DeviceFacts],
) -> list[DeviceFacts]:
    """Add the gateways last known for these addresses, in families where main names none.

    Where the route of ours by that gateway is gone as well, the kernel dropped both with the link
    or the address; else somebody deleted main's.
    """
    remembered: dict[int, list[Route]] = {}
    dropped: dict[int, bool] = {}
    for address in addresses:
        key = (uplink.device, address.address)
        gateway = state.gateways.get(key)
        family = address.family
        if gateway is None or known[FAMILIES.index(family)].main_default is not None:
            continue
        source, metrics = state.attributes.get(key, ("", NO_METRICS))
        scope = SCOPE_LINK if family == AF_INET and not gateway else SCOPE_GLOBAL
        route = Route(
            family, 0, address.address, address.link, gateway, source, 0, scope, metrics=metrics
        )
        remembered.setdefault(family, []).append(route)
        dropped[family] = key in state.dropped or not any(
            route.gateway == gateway
            and (route.family, route.device, route.destination, route.protocol)
            == (family, address.link, "default", PROTOCOL)
            for route in snapshot.routes
        )
    if not remembered:
        return known
    return [
        facts
        if family not in remembered
        else facts._replace(withdrawn=True)
        if (uplink.device, family) in withdrawn
        else facts._replace(remembered=tuple(remembered[family]), dropped=dropped[family])
        for family, facts in zip(FAMILIES, known, strict=True)
    ]


def _is_current(gateway: str, covered: tuple[Address, ...]) -> bool:
    """Whether a lease's gateway belongs to the addresses that are there now.

    A lease may be older than the address.  Only beside a /32 may it be anywhere.
    """
    if not gateway or gateway.startswith("fe80"):
        return True
    return any(
        contains(address.network, gateway) or address.prefixlen == bits(address.family)
        for address in covered
    )


def is_ipv4ll(address: str) -> bool:
    """RFC 3927: 169.254/16 is link-local whatever scope it was given."""
    return address.startswith("169.254.")


def main_routes(
    gateway: Gateway | None, covered: tuple[Address, ...], known: DeviceFacts
) -> MainRoutes:
    """Those of main's routes that the table of a path with this gateway copies."""
    networks = dict.fromkeys(address.network for address in covered)
    connected = tuple(
        route for network in networks for route in known.connected if route.destination == network
    )
    if gateway is None:
        return MainRoutes(False, connected, None, known.sourced)
    address = gateway.address
    candidates = (*((known.main_default,) if known.main_default else ()), *known.sourced)
    default = next((route for route in candidates if address in route.gateways), None)
    onlink = default is not None and default.onlink
    if address and not address.startswith("fe80") and not onlink:
        # The kernel accepts a gateway only where a route leads to it without another one.
        # Main may have lost that route after it accepted this gateway.
        onlink = not any(contains(route.destination, address) for route in connected)
    return MainRoutes(onlink, connected, default, known.sourced)


def without_gateway(
    gateway: Gateway, covered: tuple[Address, ...], routes: MainRoutes, source: str
) -> tuple[Address, ...]:
    """The addresses that the gateway does not serve; `source` is what the default route names.

    An IPv4 address in a subnet of its own does not leave by a gateway in another subnet of the
    device, unless main or the configuration says so; a modem that shares a port with the uplink
    drops its packets.  An address that is alone on its prefix may be routed by any gateway.
    """
    if gateway.origin == "configuration":
        return ()
    if routes.default is not None and routes.default.from_prefix:
        return tuple(
            address
            for address in covered
            if not any(contains(route.from_prefix, address.address) for route in routes.sourced)
        )
    served = [
        address
        for address in covered
        if gateway.address and contains(address.network, gateway.address)
    ]
    if not served or served[0].family != AF_INET:
        return ()
    return tuple(
        address
        for address in covered
        if address not in served and address.prefixlen < bits(AF_INET) and address.address != source
    )


def without_gateways_of(default: Route | None, addresses: tuple[Address, ...]) -> Route | None:
    """A default without those of its ways that lead to a gateway in these addresses' subnets."""
    if default is None or not default.nexthops or not addresses:
        return default
    hops = tuple(
        hop
        for hop in default.nexthops
        if not hop.gateway
        or not any(contains(address.network, hop.gateway) for address in addresses)
    )
    if len(hops) != 1:
        return default._replace(nexthops=hops)
    return default._replace(gateway=hops[0].gateway, onlink=hops[0].onlink, nexthops=())


def with_named_sources(
    snapshot: Snapshot, addresses: list[Address], known: list[DeviceFacts]
) -> tuple[list[Address], list[DeviceFacts]]:
    """Add the addresses that main's routes name as their source and that are elsewhere (on lo).

    A source that this machine does not have is left out: the kernel refuses such a route.
    """
    own = {address.address for address in addresses}
    if all(
        not route or not route.source or route.source in own
        for facts in known
        for route in (facts.main_default, *facts.sourced, *facts.remembered)
    ):
        return addresses, known
    elsewhere = {
        address.address: address
        for address in snapshot.addresses
        if address.address not in own and not address.flags & (TENTATIVE | DAD_FAILED)
    }
    own |= elsewhere.keys()

    def checked(route: Route) -> Route:
        return route if not route.source or route.source in own else route._replace(source="")

    routes = [
        route
        for facts in known
        for route in (facts.main_default, *facts.sourced, *facts.remembered)
        if route
    ]
    named = dict.fromkeys(route.source for route in routes if route.source in elsewhere)
    return [*addresses, *(elsewhere[source] for source in named)], [
        facts._replace(
            main_default=checked(facts.main_default) if facts.main_default else None,
            sourced=tuple(map(checked, facts.sourced)),
            remembered=tuple(map(checked, facts.remembered)),
        )
        for facts in known
    ]
