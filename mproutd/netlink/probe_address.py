"""The address by which a route to a subnet is looked up.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from socket import inet_ntop

from mproutd.model import bits, family_of, split_prefix


def address_within(network: str, taken: Collection[str]) -> str:
    """An address in the prefix `network` that is not `taken` and no host's by convention.

    In the middle, where neither gateways nor the kernel's broadcast addresses are.
    """
    family = family_of(network)
    base, length = split_prefix(network, family)
    start, host_bits = int.from_bytes(base, "big"), bits(family) - length
    offset = 1 << host_bits >> 1
    text = ""
    for distance in range(min(1 << host_bits, 256)):
        number = offset ^ distance
        if host_bits > 1 and number in (0, (1 << host_bits) - 1):
            continue
        text = inet_ntop(family, (start + number).to_bytes(bits(family) // 8, "big"))
        if text not in taken:
            break
    return text
