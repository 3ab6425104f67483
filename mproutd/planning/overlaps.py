"""Which of the uplinks' subnets are not theirs alone; pure.

Main knows a subnet by its prefix, not by the address that speaks.  Where two devices are in
one subnet, or in two that overlap, main's connected route leads to one of them, so what an
uplink's address says to its own subnet needs a rule of its own (plan.py, SHARED).
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
    """The uplink's subnets by (family, length)."""
    found = []
    for path in uplink.paths if uplink.link and uplink.link.up else ():
        for address in (*path.covered, *path.duplicates):
            network = address.network
            if network != address.address:
                start, length = leading_bits(network)
                subnet = _Subnet(uplink.config.name, address.address, network, start)
                found.append(((path.family, length), subnet))
    return found


@cache_last
def subnet_keys(uplinks: tuple[ObservedUplink, ...]) -> frozenset[tuple[int, int, int]]:
    """The uplinks' subnets as (family, length, leading bits): what another device that has one
    of these changes, when it comes and when it goes."""
    return frozenset(
        (*kind, subnet.start) for uplink in uplinks for kind, subnet in _subnets(uplink)
    )


def shared_subnets(
    observed: Sequence[ObservedUplink], addresses: Iterable[Address]
) -> dict[str, list[str]]:
    """Address → its subnets that another uplink's subnet overlaps, or some other device has too.

    Two prefixes overlap when the longer one begins with the shorter one's bits.  An address
    that an uplink has left to another still has its subnet in main.
    """
    by_length: dict[tuple[int, int], dict[int, list[_Subnet]]] = {}
    for uplink in observed:
        for kind, subnet in _subnets(uplink):
            by_length.setdefault(kind, {}).setdefault(subnet.start, []).append(subnet)
    shared: dict[str, list[str]] = {}

    def share(subnet: _Subnet) -> None:
        networks = shared.setdefault(subnet.address, [])
        if subnet.network not in networks:
            networks.append(subnet.network)

    for (family, length), long_ones in by_length.items():
        for (other_family, shorter), short_ones in by_length.items():
            if other_family != family or shorter > length:
                continue
            for start, inner in long_ones.items():
                outer = short_ones.get(start >> length - shorter)
                if outer is None or (outer is inner and len(inner) == 1):
                    continue
                together = {*inner, *outer}
                if len({subnet.uplink for subnet in together}) > 1:
                    for subnet in sorted(together):
                        share(subnet)
    uplinks = {uplink.link.index for uplink in observed if uplink.link}
    elsewhere = {address.network for address in addresses if address.link not in uplinks}
    for starts in by_length.values():
        for subnets in starts.values():
            for subnet in subnets:
                if subnet.network in elsewhere:
                    share(subnet)
    return shared
