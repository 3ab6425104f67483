"""Which addresses of a device may have an endpoint, and which only get a source rule.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from socket import AF_INET6

from mproutd.configuration.config import UplinkConfig
from mproutd.model import (
    DAD_FAILED,
    DEPRECATED,
    SCOPE_GLOBAL,
    TEMPORARY,
    TENTATIVE,
    Address,
    family_of,
)
from mproutd.planning.gateways import is_ipv4ll


def is_ula(address: str) -> bool:
    """RFC 4193: fc00::/7."""
    return address[:2] in ("fc", "fd") and ":" in address


def addresses_by_link(
    addresses: Iterable[Address], virtual: Collection[str] = ()
) -> dict[int, list[Address]]:
    """ifindex → its addresses.

    The `virtual` ones come and go with the other gateway of a pair.  So they count as deprecated
    where the device has an address of its own: packets from them leave by it, and no subflow begins
    there.
    """
    by_link: dict[int, list[Address]] = {}
    for address in addresses:
        by_link.setdefault(address.link, []).append(address)
    for link, listed in by_link.items() if virtual else ():
        own = {
            address.family
            for address in listed
            if address.address not in virtual and address.scope == SCOPE_GLOBAL
        }
        by_link[link] = [
            address._replace(flags=address.flags | DEPRECATED)
            if address.address in virtual and address.family in own
            else address
            for address in listed
        ]
    return by_link


def sorted_addresses(
    uplink: UplinkConfig, family: int, addresses: list[Address]
) -> tuple[tuple[Address, ...], tuple[Address, ...], str]:
    """(covered, eligible, the reason where none is eligible).

    Routes have the first address as their source.  So the eligible ones come first.  IPv6 lists
    the newest first (net/ipv6/addrconf.c, ipv6_link_dev_addr): the oldest comes first here, so
    that one more address changes no route, and a ULA, which is not routed on the internet, last.
    """
    ula = uplink.ula or not uplink.default_route
    others, eligible, reason = [], [], "no-address"
    if family == AF_INET6:
        addresses = addresses[::-1]
        addresses.sort(key=lambda address: is_ula(address.address))
    for address in addresses:
        if family_of(address.address) != family or address.scope != SCOPE_GLOBAL:
            continue
        if is_ipv4ll(address.address) or (is_ula(address.address) and not ula):
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
