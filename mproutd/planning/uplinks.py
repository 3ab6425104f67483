"""Whether an uplink is usable in each address family, and if not, why.  Pure.

Usable: the link is up and has carrier, there is an eligible address and a gateway (or none is
needed), and no health check has failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.model import (
    DAD_FAILED,
    DEPRECATED,
    FAMILIES,
    SCOPE_GLOBAL,
    TEMPORARY,
    TENTATIVE,
    Address,
    Link,
    Route,
    Snapshot,
    bits,
    contains,
    family_of,
)
from mproutd.planning.cache import cache_last_by
from mproutd.planning.state import State

REASONS = {
    "awaiting-device": "netifd has not assigned a device to the interface yet",
    "no-device": "the device does not exist",
    "link-down": "the link is down",
    "no-carrier": "the link has no carrier",
    "no-address": "the device has no usable address",
    "tentative": "duplicate address detection is still running",
    "dad-failed": "duplicate address detection failed",
    "deprecated": "the address is deprecated",
    "no-gateway": "no gateway is known",
    "check-failed": "the health check failed",
    "address-conflict": "another uplink has the same address and takes precedence",
}
"""Why a path is not usable; status prints the text, JSON carries the key."""


class Gateway(NamedTuple):
    """The next hop of a device's default route, and which source knows it."""

    address: str
    """Empty for a device that needs none."""
    origin: str
    """configuration, netifd, lease, ifupdown, main, remembered, or point-to-point."""


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
    tables: Mapping[tuple[str, int], int] = {}
    """(device, family) → the table in which netifd itself keeps the device's routes."""
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
    """The gateway is in no subnet of the device's addresses."""
    duplicates: tuple[Address, ...] = ()
    """Addresses of the device that another uplink has as well, and that count as that one's."""
    prefixes: tuple[str, ...] = ()
    """Prefixes delegated through the uplink, for the hosts behind us; they get a source rule."""
    table: int = 0
    """Where netifd keeps the routes, with rules of its own; 0: the table is ours."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses and prefixes whose packets belong to this path."""
        return (*(address.address for address in self.covered), *self.prefixes)

    @property
    def routable(self) -> bool:
        """Whether a table with a default route can be kept, usable or not."""
        return bool(self.sources) and self.gateway is not None


class ObservedUplink(NamedTuple):
    """An uplink with its device and paths, as a pass finds them."""

    config: UplinkConfig
    link: Link | None
    """None: there is no such device."""
    paths: tuple[Path, Path]
    """IPv4, IPv6: in the order of FAMILIES."""

    @property
    def usable(self) -> bool:
        return self.paths[0].usable or self.paths[1].usable


RANK = {"master": 0, "on": 1, "backup": 2, "handover": 3}
"""The order of the modes; an uplink that is `off` is used for nothing that does not ask for it."""


def by_rank(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """master, on, backup, handover; within a mode the order of the file; never off."""
    ranked = [uplink for uplink in uplinks if uplink.config.mode in RANK]
    return sorted(ranked, key=lambda uplink: RANK[uplink.config.mode])


def by_name(links: Mapping[int, Link]) -> dict[str, Link]:
    """The devices of a snapshot by name."""
    return {link.name: link for link in links.values()}


class _DeviceFacts(NamedTuple):
    """What is known of a device in one family beside its addresses."""

    gateways: tuple[Gateway, ...]
    main_default: Route | None
    """Its default route in main."""
    prefixes: tuple[str, ...]
    table: int


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
    by_link: dict[int, list[Address]] = {}
    for address in snapshot.addresses:
        by_link.setdefault(address.link, []).append(address)
    uplinks = []
    for uplink in config.uplinks:
        device = uplink.device
        link = named.get(device)
        addresses = by_link.get(link.index, []) if link else []
        known = [
            _DeviceFacts(
                facts.gateways.get((device, family), ()),
                snapshot.defaults.get((link.index, family)) if link else None,
                facts.prefixes.get(device, ()) if family == AF_INET6 else (),
                facts.tables.get((device, family), 0),
            )
            for family in FAMILIES
        ]
        remembered = [state.gateways.get((device, address.address)) for address in addresses]
        failures = tuple((uplink.name, family) in failed for family in FAMILIES)
        uplinks.append(_observe(uplink, link, addresses, known, remembered, failures))
    return _without_duplicates(uplinks)


@cache_last_by(lambda uplink, *_: uplink.name)
def _observe(
    uplink: UplinkConfig,
    link: Link | None,
    addresses: list[Address],
    known: list[_DeviceFacts],
    remembered: list[str | None],
    failed: tuple[bool, ...],
) -> ObservedUplink:
    """One uplink; `remembered` are the gateways last known for its addresses, one each."""
    if link is None:
        reason = "no-device" if uplink.device else "awaiting-device"
        absent = tuple(Path(family, False, reason) for family in FAMILIES)
        return ObservedUplink(uplink, None, (absent[0], absent[1]))
    last_gateways = {
        address.address: gateway
        for address, gateway in zip(addresses, remembered, strict=True)
        if gateway is not None
    }
    v4, v6 = (
        _path(uplink, link, family, addresses, known[index], last_gateways, failed[index])
        for index, family in enumerate(FAMILIES)
    )
    return ObservedUplink(uplink, link, (v4, v6))


def _path(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    addresses: list[Address],
    known: _DeviceFacts,
    last_gateways: Mapping[str, str],
    failed: bool,
) -> Path:
    covered, eligible, no_address = sorted_addresses(uplink, family, addresses)
    if not link.up:
        return Path(family, False, "link-down", (), covered)
    gateway = _gateway(uplink, link, family, covered, known, last_gateways)
    if not link.carrier:
        reason = "no-carrier"
    elif not eligible:
        reason = no_address
    elif gateway is None:
        reason = "no-gateway"
    elif failed:
        reason = "check-failed"
    else:
        reason = ""
    path = Path(
        family, not reason, reason, eligible, covered, gateway, _is_onlink(gateway, covered)
    )
    if known.prefixes or known.table:
        return path._replace(prefixes=known.prefixes, table=known.table)
    return path


def _gateway(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    covered: tuple[Address, ...],
    known: _DeviceFacts,
    last_gateways: Mapping[str, str],
) -> Gateway | None:
    """From the first source that knows one."""
    configured = uplink.gateway if family == AF_INET else uplink.gateway6
    if configured:
        return Gateway(configured, "configuration")
    for gateway in known.gateways:
        if _is_current(gateway.address, covered):
            return gateway
    # dhcpcd has such a default with an IPv4LL address as its source until there is a lease, and
    # for some milliseconds longer: it leads no further than the link.
    if known.main_default is not None and not _is_ipv4ll(known.main_default.source):
        return Gateway(known.main_default.gateway, "main")
    for address in covered:
        if address.address in last_gateways:
            return Gateway(last_gateways[address.address], "remembered")
    return Gateway("", "point-to-point") if link.pointopoint else None


def _is_current(gateway: str, covered: tuple[Address, ...]) -> bool:
    """Whether a lease's gateway belongs to the addresses that are there now.

    The lease may be older than the address.  Only with a /32 may the gateway be anywhere.
    """
    if not gateway or gateway.startswith("fe80"):
        return True
    return any(
        contains(address.network, gateway) or address.prefixlen == bits(address.family)
        for address in covered
    )


def _is_onlink(gateway: Gateway | None, covered: tuple[Address, ...]) -> bool:
    if gateway is None or not gateway.address or gateway.address.startswith("fe80"):
        return False
    return not any(contains(address.network, gateway.address) for address in covered)


def _without_duplicates(uplinks: list[ObservedUplink]) -> list[ObservedUplink]:
    """Each address counts for one uplink: the first usable with it, else the first that has it."""
    holders: dict[str, list[tuple[str, bool]]] = {}
    for uplink in uplinks:
        for path in uplink.paths:
            for address in path.covered:
                usable = path.usable and address in path.eligible
                holders.setdefault(address.address, []).append((uplink.config.name, usable))
    owners = {
        address: next((name for name, usable in names if usable), names[0][0])
        for address, names in holders.items()
        if len(names) > 1
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
    path = path._replace(eligible=eligible, covered=covered, duplicates=duplicates)
    if path.usable and not eligible:
        return path._replace(usable=False, reason="address-conflict")
    return path


# -- addresses ----------------------------------------------------------------------------


def is_ula(address: str) -> bool:
    """RFC 4193: fc00::/7."""
    return address[:2] in ("fc", "fd") and ":" in address


def _is_ipv4ll(address: str) -> bool:
    """RFC 3927: 169.254/16 is link-local whatever scope it was given."""
    return address.startswith("169.254.")


def sorted_addresses(
    uplink: UplinkConfig, family: int, addresses: list[Address]
) -> tuple[tuple[Address, ...], tuple[Address, ...], str]:
    """(covered, eligible, the reason where none is eligible).

    Routes have the first address as their source.  So the eligible ones come first.  IPv6 lists
    the newest first (net/ipv6/addrconf.c, ipv6_link_dev_addr): the oldest comes first here, so
    that one more address changes no route, and a ULA, which is not routed on the internet, last.
    """
    others, eligible, reason = [], [], "no-address"
    if family == AF_INET6:
        addresses = addresses[::-1]
        addresses.sort(key=lambda address: is_ula(address.address))
    for address in addresses:
        if family_of(address.address) != family or address.scope != SCOPE_GLOBAL:
            continue
        if _is_ipv4ll(address.address) or (is_ula(address.address) and not uplink.ula):
            continue
        if family == AF_INET6 and address.flags & (TENTATIVE | DAD_FAILED):
            reason = "dad-failed" if address.flags & DAD_FAILED else "tentative"
        elif address.flags & DEPRECATED:
            reason = "deprecated"
            others.append(address)
        elif family == AF_INET6 and address.flags & TEMPORARY:
            others.append(address)
        else:
            eligible.append(address)
    return (*eligible, *others), tuple(eligible), reason
