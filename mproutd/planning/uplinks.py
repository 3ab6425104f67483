"""Whether an uplink is usable in each address family, and if not, why.  Pure.

Usable: the link is up and has carrier, there is an eligible address and a gateway (or none is
needed), and no health check has failed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from socket import AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.model import (
    FAMILIES,
    Address,
    Link,
    Route,
    Snapshot,
    contains,
    family_of,
    leading_bits,
)
from mproutd.planning.addresses import addresses_by_link, sorted_addresses
from mproutd.planning.cache import cache_last_by
from mproutd.planning.delegation import delegated_prefixes
from mproutd.planning.gateways import (
    LOCAL,
    DeviceFacts,
    Gateway,
    find_gateway,
    foreign_default,
    main_routes,
    with_named_sources,
    with_remembered_gateways,
    without_gateway,
    without_gateways_of,
)
from mproutd.planning.resolver_sources import Resolver
from mproutd.planning.state import State

REASONS = {
    "awaiting-device": "netifd has not assigned a device to the interface yet",
    "no-device": "the device does not exist",
    "link-down": "the link is down",
    "no-carrier": "the link has no carrier",
    "bridge-port": "the device is a port of a bridge or a bond, which takes its packets",
    "no-address": "the device has no usable address",
    "tentative": "duplicate address detection is still running",
    "dad-failed": "duplicate address detection failed",
    "deprecated": "the address is deprecated",
    "no-gateway": "no gateway is known",
    "check-failed": "the health check failed",
    "address-conflict": "another uplink has the same address and takes precedence",
}
"""Why a path is not usable; status prints the text, JSON carries the key."""


class Facts(NamedTuple):
    """What sources other than the kernel and the configuration know."""

    gateways: Mapping[tuple[str, int], tuple[Gateway, ...]] = {}
    """(device, family) → gateways, the preferred source first."""
    settled: frozenset[str] | None = None
    """Uplinks that have been usable for a while; None: all that are usable."""
    failed: tuple[tuple[str, int], ...] | None = None
    """(uplink, family) whose health check has failed, in the order in which they failed; None
    while no checks run: see health.py."""
    devices: Mapping[str, str] | None = None
    """Interface of network → the device that netifd gave it, empty for none; None: no netifd."""
    prefixes: Mapping[str, tuple[str, ...]] = {}
    """Device → IPv6 prefixes delegated to us through it."""
    resolvers: Mapping[str, tuple[Resolver, ...]] = {}
    """Device → its provider's DNS servers."""
    tables: Mapping[tuple[str, int], int] = {}
    """(device, family) → the table in which netifd itself keeps the device's routes."""
    withdrawn: frozenset[tuple[str, int]] = frozenset()
    """(device, family) where main's route was deleted too long ago to use a remembered gateway."""
    withheld: frozenset[str] = frozenset()
    """Addresses that were misrouted when they were verified last, beyond the grace period."""
    over_quota: frozenset[str] | None = None
    """Uplinks whose quota is used up; None while nothing is counted: see modes.py."""
    overflowing: frozenset[str] | None = None
    """Uplinks that carry because the regular ones are full; None while nothing is measured."""
    standby: bool | None = None
    """The other gateway of the pair carries; None while nothing says so: see modes.py."""
    source_error: str = ""
    """Why a source does not reply; empty when all do."""


class Path(NamedTuple):
    """One uplink in one family."""

    family: int
    usable: bool
    reason: str
    """A key of REASONS; empty when usable."""
    eligible: tuple[Address, ...] = ()
    """Addresses that may get an endpoint."""
    covered: tuple[Address, ...] = ()
    """Addresses that get a source rule: the eligible ones, and temporary and deprecated ones,
    since connections still use them."""
    gateway: Gateway | None = None
    onlink: bool = False
    """The default route needs RTNH_F_ONLINK."""
    connected: tuple[Route, ...] = ()
    """Main's routes to the subnets of the covered addresses."""
    default: Route | None = None
    """Main's default route through this gateway, which ours is a copy of; None where main has
    none."""
    sourced: tuple[Route, ...] = ()
    """Main's IPv6 defaults for some sources only (`default from PREFIX`), to be copied as well."""
    duplicates: tuple[Address, ...] = ()
    """Addresses of the device that another uplink has as well, and that count as that one's."""
    prefixes: tuple[str, ...] = ()
    """Prefixes delegated through the uplink, for the hosts behind us; they get a source rule."""
    withdrawn: bool = False
    """A remembered gateway is not used any more, since main's route to it was deleted."""
    dropped: bool = False
    """The gateway is remembered, and the kernel itself dropped main's route to it."""
    without_gateway: tuple[Address, ...] = ()
    """In a subnet of their own, of which no gateway is known: the path's leads elsewhere."""
    table: int = 0
    """Where netifd keeps the routes, with rules of its own; 0: the table is ours."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses and prefixes whose packets belong to this path."""
        return (*(address.address for address in self.covered), *self.prefixes)

    @property
    def source(self) -> str:
        """The source address that the default route names; empty for the kernel's choice."""
        if self.default is not None:
            return self.default.source
        if self.family == AF_INET6:
            # The kernel chooses by RFC 6724; naming one would hide temporary addresses.
            return ""
        addresses = (*self.eligible, *self.covered)
        gateway = self.gateway.address if self.gateway else ""
        return next(
            (address.address for address in _near(addresses, gateway)),
            addresses[0].address if addresses else "",
        )

    @property
    def probe_source(self) -> str:
        """The address from which a health check speaks, as other traffic of this machine does."""
        gateway = self.gateway.address if self.gateway else ""
        return self.source or next(_near(self.eligible, gateway), self.eligible[0]).address

    def gateways(self, address: str) -> tuple[str, ...]:
        """Where packets from an address of this path may go first."""
        matching = [route for route in self.sourced if contains(route.from_prefix, address)]
        if matching:
            return max(matching, key=lambda route: leading_bits(route.from_prefix)[1]).gateways
        if self.default is not None:
            return self.default.gateways
        return (self.gateway.address,) if self.gateway else ()

    @property
    def all_gateways(self) -> tuple[str, ...]:
        """Every gateway of the path; none where packets go straight to the device."""
        routes = (*((self.default,) if self.default else ()), *self.sourced)
        known = dict.fromkeys((self.gateway.address,) if self.gateway else ())
        known |= dict.fromkeys(gateway for route in routes for gateway in route.gateways)
        return tuple(gateway for gateway in known if gateway)

    @property
    def only_for_sources(self) -> bool:
        """Whether all its defaults are for some sources, by several routers."""
        default = self.default
        return default is not None and bool(default.from_prefix) and len(self.all_gateways) > 1

    @property
    def leads_out(self) -> bool:
        """Whether its table has a default route, usable or not."""
        gateway = self.gateway
        return bool(self.sources) and gateway is not None and gateway.origin != LOCAL


class ObservedUplink(NamedTuple):
    """An uplink with its device and paths, as a pass finds them."""

    config: UplinkConfig
    """With the effective mode: see modes.py."""
    link: Link | None
    """None: there is no such device."""
    paths: tuple[Path, Path]
    """IPv4, IPv6: in the order of FAMILIES."""
    withheld: frozenset[str] = frozenset()
    """Addresses without an endpoint that opens subflows: see Facts, and endpoints.py."""
    over_quota: bool = False
    """Its quota is used up, so it comes last among those of its mode."""

    @property
    def usable(self) -> bool:
        return self.paths[0].usable or self.paths[1].usable


OFF, OVERFLOW, STANDBY = "off", "overflow", "standby"
RANK = {"master": 0, "on": 1, OVERFLOW: 2, "backup": 3, "handover": 4}
"""The order of the modes; an uplink that is `off` is used for nothing that does not ask for it.
Nobody configures `overflow` and `standby`: see modes.py."""


def by_rank(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """master, on, overflow, backup, handover; within a mode the order of the file.

    Neither those that are off, nor those that have no way to the internet: see local_only().
    """
    ranked = [
        uplink for uplink in uplinks if uplink.config.mode in RANK and uplink.config.default_route
    ]
    return sorted(ranked, key=lambda uplink: (RANK[uplink.config.mode], uplink.over_quota))


def local_only(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """Those that lead only to their own subnets (default_route 0) and are not off."""
    return [
        uplink
        for uplink in uplinks
        if uplink.config.mode in RANK and not uplink.config.default_route
    ]


def by_name(links: Mapping[int, Link]) -> dict[str, Link]:
    """The devices of a snapshot by name."""
    return {link.name: link for link in links.values()}


def observe(
    config: Config,
    snapshot: Snapshot,
    state: State,
    facts: Facts,
    failed: Collection[tuple[str, int]] = (),
) -> list[ObservedUplink]:
    """Every uplink of the configuration with its paths, in the order of the file.

    `failed`: (uplink, family) whose health check has failed.
    """
    named = by_name(snapshot.links)
    by_link = addresses_by_link(snapshot.addresses, config.virtual_address)
    # With netifd, its answer is complete.
    delegated = delegated_prefixes(config, snapshot, named) if facts.devices is None else {}
    uplinks = []
    for uplink in config.uplinks:
        device = uplink.device
        link = named.get(device)
        index = link.index if link else 0
        addresses = by_link.get(index, []) if link else []
        prefixes = (*uplink.prefix, *facts.prefixes.get(device, ()), *delegated.get(device, ()))
        known = [
            DeviceFacts(
                facts.gateways.get((device, family), ()),
                snapshot.defaults.get((index, family)),
                snapshot.sourced.get(index, ()) if family == AF_INET6 else (),
                snapshot.connected.get(index, ()),
                _of_family(prefixes, family) if prefixes else (),
                facts.tables.get((device, family), 0),
            )
            for family in FAMILIES
        ]
        for i, family in enumerate(FAMILIES if uplink.table else ()):
            route = foreign_default(snapshot, uplink, index, family)
            if route is not None:
                known[i] = known[i]._replace(main_default=route, default_origin="table")
        known = with_remembered_gateways(snapshot, state, facts.withdrawn, uplink, addresses, known)
        addresses, known = with_named_sources(snapshot, addresses, known)
        failures = tuple((uplink.name, family) in failed for family in FAMILIES)
        uplinks.append(_observe(uplink, link, addresses, known, failures))
    return _without_duplicates(uplinks)


def _near(addresses: Iterable[Address], gateway: str) -> Iterator[Address]:
    """Those whose subnet the gateway is in."""
    return (address for address in addresses if gateway and contains(address.network, gateway))


def _of_family(prefixes: Sequence[str], family: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prefix for prefix in prefixes if family_of(prefix) == family))


@cache_last_by(lambda uplink, *_: uplink.name)
def _observe(
    uplink: UplinkConfig,
    link: Link | None,
    addresses: list[Address],
    known: list[DeviceFacts],
    failed: tuple[bool, ...],
) -> ObservedUplink:
    if link is None:
        reason = "no-device" if uplink.device else "awaiting-device"
        absent = tuple(Path(family, False, reason) for family in FAMILIES)
        return ObservedUplink(uplink, None, (absent[0], absent[1]))
    v4, v6 = (
        _path(uplink, link, family, addresses, known[index], failed[index])
        for index, family in enumerate(FAMILIES)
    )
    return ObservedUplink(uplink, link, (v4, v6))


def _path(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    addresses: list[Address],
    known: DeviceFacts,
    failed: bool,
) -> Path:
    covered, eligible, no_address = sorted_addresses(uplink, family, addresses)
    if not link.up:
        return Path(family, False, "link-down", (), covered)
    gateway, known = find_gateway(uplink, link, family, covered, known)
    routes = main_routes(gateway, covered, known)
    path = Path(family, False, "", eligible, covered, gateway, *routes)
    unserved = () if gateway is None else without_gateway(gateway, covered, routes, path.source)
    if unserved:
        eligible = tuple(address for address in eligible if address not in unserved)
        no_address = no_address if not path.eligible or eligible else "no-gateway"
        default = without_gateways_of(path.default, unserved)
        path = path._replace(eligible=eligible, without_gateway=unserved, default=default)
    if not link.carrier:
        reason = "no-carrier"
    elif link.port:
        reason = "bridge-port"
    elif not eligible:
        reason = no_address
    elif gateway is None:
        reason = "no-gateway"
    elif failed:
        reason = "check-failed"
    else:
        reason = ""
    return path._replace(
        usable=not reason,
        reason=reason,
        prefixes=known.prefixes,
        table=known.table,
        withdrawn=known.withdrawn,
        dropped=known.dropped and gateway is not None and gateway.origin == "remembered",
    )


def _without_duplicates(uplinks: list[ObservedUplink]) -> list[ObservedUplink]:
    """Each address counts for one uplink: the first usable with it, else the first that has it."""
    holders: dict[str, list[tuple[str, Path, Address]]] = {}
    for uplink in uplinks:
        for path in uplink.paths:
            for address in path.covered:
                holder = uplink.config.name, path, address
                holders.setdefault(address.address, []).append(holder)
    owners = {
        text: next(
            (name for name, path, address in found if path.usable and address in path.eligible),
            found[0][0],
        )
        for text, found in holders.items()
        if len(found) > 1
    }
    if not owners:
        return uplinks
    return [
        uplink._replace(
            paths=(
                _own_addresses(uplink.paths[0], uplink.config.name, owners),
                _own_addresses(uplink.paths[1], uplink.config.name, owners),
            )
        )
        for uplink in uplinks
    ]


def _own_addresses(path: Path, uplink: str, owners: Mapping[str, str]) -> Path:
    """The path without the addresses that count for another uplink."""

    def is_own(address: Address) -> bool:
        return owners.get(address.address, uplink) == uplink

    eligible = tuple(address for address in path.eligible if is_own(address))
    covered = tuple(address for address in path.covered if is_own(address))
    duplicates = tuple(address for address in path.covered if not is_own(address))
    networks = {address.network for address in covered}
    path = path._replace(
        eligible=eligible,
        covered=covered,
        duplicates=duplicates,
        connected=tuple(route for route in path.connected if route.destination in networks),
    )
    if path.usable and not eligible:
        return path._replace(usable=False, reason="address-conflict")
    return path
