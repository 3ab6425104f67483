"""Which addresses of a device count, and for what; pure."""

from __future__ import annotations

from socket import AF_INET6

from mproutd.configuration.config import Uplink
from mproutd.model import (
    DAD_FAILED,
    DEPRECATED,
    SCOPE_GLOBAL,
    TEMPORARY,
    TENTATIVE,
    Address,
    family_of,
)


def is_ula(address: str) -> bool:
    """RFC 4193: fc00::/7."""
    return address[:2] in ("fc", "fd") and ":" in address


def _is_private_to_link(address: str) -> bool:
    """RFC 3927: 169.254/16 is link-local whatever scope it was given."""
    return address.startswith("169.254.")


def sorted_addresses(
    uplink: Uplink, family: int, addresses: list[Address]
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
            worst = "duplicate" if address.flags & DAD_FAILED else "tentative"
            continue
        if address.flags & DEPRECATED:
            worst = "deprecated"
            others.append(address)
        elif family == AF_INET6 and address.flags & TEMPORARY:
            others.append(address)
        else:
            eligible.append(address)
    return (*eligible, *others), tuple(eligible), worst
