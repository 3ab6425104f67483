"""Which of the uplinks' subnets other devices have as well.  Pure.

Main has one connected route for a subnet, whatever the source address.  Where two devices are in
one subnet, or in two that overlap, that route points to one of them, so traffic from an uplink's
address to its own subnet needs a rule of its own (routes.py, SHARED_SUBNET).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mproutd.model import Address, leading_bits
from mproutd.planning.cache import cache_last, cache_last_by
from mproutd.planning.uplinks import ObservedUplink


class _Subnet(NamedTuple):
    uplink: str
    address: str
    network: str
    start: int
    """The network's leading bits as a number."""


@cache_last_by(lambda uplink: uplink.config.name)
def _subnets(uplink: ObservedUplink) -> list[tuple[tuple[int, int], _Subnet]]:
    """The uplink's subnets, each with its (family, prefix length)."""
    subnets = []
    for path in uplink.paths if uplink.link and uplink.link.up else ():
        for address in (*path.covered, *path.duplicates):
            network = address.network
            if network != address.address:
                start, length = leading_bits(network)
                subnet = _Subnet(uplink.config.name, address.address, network, start)
                subnets.append(((path.family, length), subnet))
    return subnets


@cache_last
def subnet_keys(uplinks: tuple[ObservedUplink, ...]) -> frozenset[tuple[int, int, int]]:
    """The uplinks' subnets as (family, prefix length, leading bits).

    An address of another device that is in one of them matters when it comes and when it goes.
    """
    return frozenset(
        (*kind, subnet.start) for uplink in uplinks for kind, subnet in _subnets(uplink)
    )


def shared_subnets(
    uplinks: Sequence[ObservedUplink], addresses: Iterable[Address]
) -> dict[str, list[str]]:
    """Address → its subnets that overlap another uplink's, or that some other device has too.

    `addresses` are those of all devices.  Two prefixes overlap when the longer one begins with
    the bits of the shorter one.  The subnet of an address that counts for another uplink is in
    main all the same.
    """
    by_length: dict[tuple[int, int], dict[int, list[_Subnet]]] = {}
    for uplink in uplinks:
        for kind, subnet in _subnets(uplink):
            by_length.setdefault(kind, {}).setdefault(subnet.start, []).append(subnet)
    shared: dict[str, list[str]] = {}

    def share(subnet: _Subnet) -> None:
        networks = shared.setdefault(subnet.address, [])
        if subnet.network not in networks:
            networks.append(subnet.network)

    for (family, length), longer_subnets in by_length.items():
        for (other_family, shorter), shorter_subnets in by_length.items():
            if other_family != family or shorter > length:
                continue
            for start, inner in longer_subnets.items():
                outer = shorter_subnets.get(start >> length - shorter)
                if outer is None or (outer is inner and len(inner) == 1):
                    continue
                together = {*inner, *outer}
                if len({subnet.uplink for subnet in together}) > 1:
                    for subnet in sorted(together):
                        share(subnet)
    devices = {uplink.link.index for uplink in uplinks if uplink.link}
    lengths = {length for _, length in by_length}
    elsewhere = {
        address.network
        for address in addresses
        if address.prefixlen in lengths and address.link not in devices
    }
    for starts in by_length.values():
        for subnets in starts.values():
            for subnet in subnets:
                if subnet.network in elsewhere:
                    share(subnet)
    return shared
