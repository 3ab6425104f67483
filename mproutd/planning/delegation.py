"""Which uplink a delegated prefix belongs to, where no program tells.  Pure.

A DHCPv6 client that was delegated a prefix puts parts of it on other devices, and an unreachable
route for the whole into main (RFC 7084, WPD-5), so that packets to the rest do not loop.  The
provider accepts packets from the prefix only through the uplink that it was delegated by.

Invariant: a prefix counts for an uplink only if no other uplink could be the one.  A site is
assigned a /48 at most (RFC 6177), so an address of an uplink in the prefix's /48 is of the same
customer; a provider has a /32 at least, so an uplink that is the only one in the prefix's /32 is
the only one of that provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_INET6, inet_pton

from mproutd.configuration.config import Config
from mproutd.model import SCOPE_GLOBAL, Link, Snapshot, contains, split_prefix

SITE, PROVIDER = 48, 32
"""The lengths of the prefixes that a site and a provider are assigned."""


def delegated_prefixes(
    config: Config, snapshot: Snapshot, links: Mapping[str, Link]
) -> dict[str, list[str]]:
    """Device → the prefixes delegated through it, of those that are in use behind us."""
    if not snapshot.delegated:
        return {}
    devices = {
        links[uplink.device].index: uplink.device
        for uplink in config.uplinks
        if uplink.device in links
    }
    addresses = [
        address
        for address in snapshot.addresses
        if address.family == AF_INET6
        and address.scope == SCOPE_GLOBAL
        and address.address[:2] not in ("fc", "fd")
    ]
    prefixes: dict[str, list[str]] = {}
    for prefix in snapshot.delegated:
        in_use = any(
            address.link not in devices and contains(prefix, address.address)
            for address in addresses
        )
        if not in_use:
            continue
        own = [
            (devices[address.link], _common_bits(prefix, address.address))
            for address in addresses
            if address.link in devices
        ]
        same_site = {device for device, common in own if common >= SITE}
        same_provider = {device for device, common in own if common >= PROVIDER}
        unknown = {
            device
            for index, device in devices.items()
            if (index, AF_INET6) in snapshot.defaults and device not in dict(own)
        }
        owner = same_site or (set() if unknown else same_provider)
        if len(owner) == 1:
            prefixes.setdefault(owner.pop(), []).append(prefix)
    return prefixes


def _common_bits(prefix: str, address: str) -> int:
    start, _ = split_prefix(prefix, AF_INET6)
    difference = int.from_bytes(start, "big") ^ int.from_bytes(inet_pton(AF_INET6, address), "big")
    return 128 - difference.bit_length()
