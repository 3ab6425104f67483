"""Whether an uplink can be used, by family, and if not, why.

Usable means: the link is up with carrier, there is an eligible address, there is a way
out, and no health check says otherwise.
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
    """The way out of a device, and who named it."""

    address: str
    """Empty: straight to the device."""
    origin: str
    """configuration, netifd, lease, ifupdown, main, remembered, or point-to-point."""


class Facts(NamedTuple):
    """What other sources than the kernel say."""

    gateways: Mapping[tuple[str, int], tuple[Gateway, ...]] = {}
    """(device, family) → gateways, the best source first."""
    settled: frozenset[str] | None = None
    """Uplinks that have been usable for a while; None: all that are usable."""
    failed: tuple[tuple[str, int], ...] | None = None
    """(uplink, family) that a health check takes for dead, in the order in which they failed;
    None: nobody checks now (verdicts.py)."""
    devices: Mapping[str, str] | None = None
    """Interface of network → the device that netifd gave it, empty for none; None: no netifd."""
    prefixes: Mapping[str, tuple[str, ...]] = {}
    """Device → IPv6 prefixes that the line brought for the hosts behind us."""
    tables: Mapping[tuple[str, int], int] = {}
    """(device, family) → the table in which netifd itself keeps the device's routes."""
    source_error: str = ""
    """Why a source does not answer; empty when all do."""


class Path(NamedTuple):
    """One uplink in one family."""

    family: int
    usable: bool
    reason: str
    """A key of REASONS; empty when usable."""
    eligible: tuple[Address, ...] = ()
    """What an endpoint may be made of."""
    covered: tuple[Address, ...] = ()
    """What gets a source rule: also temporary and deprecated ones, since connections use them."""
    gateway: Gateway | None = None
    onlink: bool = False
    duplicates: tuple[Address, ...] = ()
    """On the device too, but left to another uplink that has the same address."""
    prefixes: tuple[str, ...] = ()
    """What the line brought for the hosts behind us: they get a source rule as well."""
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
    """An uplink's device and its paths, as a pass sees them."""

    config: UplinkConfig
    link: Link | None
    paths: tuple[Path, Path]
    """IPv4, IPv6."""

    @property
    def usable(self) -> bool:
        return self.paths[0].usable or self.paths[1].usable


RANK = {"master": 0, "on": 1, "backup": 2, "handover": 3}
"""The order of the modes; `off` never carries anything by itself."""


def by_rank(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """master, on, backup, handover; within a mode the order of the file; never off."""
    ranked = [uplink for uplink in uplinks if uplink.config.mode in RANK]
    return sorted(ranked, key=lambda uplink: RANK[uplink.config.mode])


def by_name(links: Mapping[int, Link]) -> dict[str, Link]:
    """The devices of a snapshot by name."""
    return {link.name: link for link in links.values()}


def observe(
    config: Config,
    snapshot: Snapshot,
    state: State,
    facts: Facts,
    dead: Collection[tuple[str, int]] = (),
) -> list[ObservedUplink]:
    """Every uplink of the configuration with its paths, in the order of the file.

    `dead`: (uplink, family) that a health check takes for that.
    """
    named = by_name(snapshot.links)
    by_link: dict[int, list[Address]] = {}
    for address in snapshot.addresses:
        by_link.setdefault(address.link, []).append(address)
    seen = []
    for uplink in config.uplinks:
        link = named.get(uplink.device)
        addresses = by_link.get(link.index, []) if link else []
        known = [
            _Known(
                facts.gateways.get((uplink.device, family), ()),
                snapshot.defaults.get((link.index, family)) if link else None,
                facts.prefixes.get(uplink.device, ()) if family == AF_INET6 else (),
                facts.tables.get((uplink.device, family), 0),
            )
            for family in FAMILIES
        ]
        remembered = [state.gateways.get((uplink.device, each.address)) for each in addresses]
        failed = tuple((uplink.name, family) in dead for family in FAMILIES)
        seen.append(_observe(uplink, link, addresses, known, remembered, failed))
    return _without_duplicates(seen)


class _Known(NamedTuple):
    """What is known of a device in one family beside its addresses."""

    gateways: tuple[Gateway, ...]
    """By other sources."""
    route: Route | None
    """By main."""
    prefixes: tuple[str, ...]
    table: int


@cache_last_by(lambda uplink, *_: uplink.name)
def _observe(
    uplink: UplinkConfig,
    link: Link | None,
    addresses: list[Address],
    known: list[_Known],
    remembered: list[str | None],
    failed: tuple[bool, ...],
) -> ObservedUplink:
    if link is None:
        reason = "no-device" if uplink.device else "awaiting-device"
        absent = tuple(Path(family, False, reason) for family in FAMILIES)
        return ObservedUplink(uplink, None, (absent[0], absent[1]))
    last = {
        address.address: gateway
        for address, gateway in zip(addresses, remembered, strict=True)
        if gateway is not None
    }
    v4, v6 = (
        _path(uplink, link, family, addresses, known[place], last, failed[place])
        for place, family in enumerate(FAMILIES)
    )
    return ObservedUplink(uplink, link, (v4, v6))


def _path(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    addresses: list[Address],
    known: _Known,
    remembered: Mapping[str, str],
    failed: bool,
) -> Path:
    covered, eligible, worst = sorted_addresses(uplink, family, addresses)
    if not link.up:
        return Path(family, False, "link-down", (), covered)
    gateway = _gateway(uplink, link, family, covered, known, remembered)
    onlink = bool(gateway and gateway.address) and not any(
        contains(address.network, gateway.address) for address in covered if gateway
    )
    if gateway and ":" in gateway.address and gateway.address.startswith("fe80"):
        onlink = False
    if not link.carrier:
        reason = "no-carrier"
    elif not eligible:
        reason = worst
    elif gateway is None:
        reason = "no-gateway"
    elif failed:
        reason = "check-failed"
    else:
        reason = ""
    found = Path(family, not reason, reason, eligible, covered, gateway, onlink)
    if known.prefixes or known.table:
        return found._replace(prefixes=known.prefixes, table=known.table)
    return found


def _gateway(
    uplink: UplinkConfig,
    link: Link,
    family: int,
    covered: tuple[Address, ...],
    known: _Known,
    remembered: Mapping[str, str],
) -> Gateway | None:
    """The first source that knows."""
    configured = uplink.gateway if family == AF_INET else uplink.gateway6
    if configured:
        return Gateway(configured, "configuration")
    for gateway in known.gateways:
        if _reachable(gateway.address, covered):
            return gateway
    # dhcpcd has such a default with an IPv4LL address as its source until there is a lease, and
    # for some milliseconds longer: it leads no further than the link.
    if known.route is not None and not _is_private_to_link(known.route.source):
        return Gateway(known.route.gateway, "main")
    for address in covered:
        if address.address in remembered:
            return Gateway(remembered[address.address], "remembered")
    return Gateway("", "point-to-point") if link.pointopoint else None


def _reachable(gateway: str, covered: tuple[Address, ...]) -> bool:
    """Whether a lease's gateway belongs to the addresses that are there now.

    A lease may be older than the address.  Only beside a /32 may it be anywhere.
    """
    if not gateway or gateway.startswith("fe80"):
        return True
    return any(
        contains(address.network, gateway) or address.prefixlen == bits(address.family)
        for address in covered
    )


def _without_duplicates(seen: list[ObservedUplink]) -> list[ObservedUplink]:
    """Leave each address to one uplink: the first that can use it, else the first that has it."""
    holders: dict[str, list[tuple[str, bool]]] = {}
    for uplink in seen:
        for path in uplink.paths:
            for address in path.covered:
                usable = path.usable and address in path.eligible
                holders.setdefault(address.address, []).append((uplink.config.name, usable))
    owner = {
        address: next((name for name, usable in names if usable), names[0][0])
        for address, names in holders.items()
        if len(names) > 1
    }
    if not owner:
        return seen
    return [
        uplink._replace(
            paths=(
                _keep_own(uplink.paths[0], uplink.config.name, owner),
                _keep_own(uplink.paths[1], uplink.config.name, owner),
            )
        )
        for uplink in seen
    ]


def _keep_own(path: Path, name: str, owner: Mapping[str, str]) -> Path:
    def ours(address: Address) -> bool:
        return owner.get(address.address, name) == name

    eligible = tuple(address for address in path.eligible if ours(address))
    covered = tuple(address for address in path.covered if ours(address))
    duplicates = tuple(address for address in path.covered if not ours(address))
    path = path._replace(eligible=eligible, covered=covered, duplicates=duplicates)
    if path.usable and not eligible:
        return path._replace(usable=False, reason="address-conflict")
    return path


def is_ula(address: str) -> bool:
    """RFC 4193: fc00::/7."""
    return address[:2] in ("fc", "fd") and ":" in address


def _is_private_to_link(address: str) -> bool:
    """RFC 3927: 169.254/16 is link-local whatever scope it was given."""
    return address.startswith("169.254.")


def sorted_addresses(
    uplink: UplinkConfig, family: int, addresses: list[Address]
) -> tuple[tuple[Address, ...], tuple[Address, ...], str]:
    """(covered, eligible, the reason if none is eligible).

    Routes name the first as their source.  So the eligible come first; in IPv6, which lists
    the newest first (net/ipv6/addrconf.c, ipv6_link_dev_addr), the oldest, so that one more
    address changes no route, and an ULA, which does not lead to the world, last.
    """
    others, eligible, worst = [], [], "no-address"
    if family == AF_INET6:
        addresses = addresses[::-1]
        addresses.sort(key=lambda address: is_ula(address.address))
    for address in addresses:
        if family_of(address.address) != family or address.scope != SCOPE_GLOBAL:
            continue
        if _is_private_to_link(address.address):
            continue
        if is_ula(address.address) and not uplink.ula:
            continue
        if family == AF_INET6 and address.flags & (TENTATIVE | DAD_FAILED):
            worst = "dad-failed" if address.flags & DAD_FAILED else "tentative"
            continue
        if address.flags & DEPRECATED:
            worst = "deprecated"
            others.append(address)
        elif family == AF_INET6 and address.flags & TEMPORARY:
            others.append(address)
        else:
            eligible.append(address)
    return (*eligible, *others), tuple(eligible), worst
