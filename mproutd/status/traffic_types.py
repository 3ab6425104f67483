"""The JSON of other traffic in `status`, as types; see types.py."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

Family = Literal["ipv4", "ipv6"]


class Defaults(TypedDict, total=False):
    """Address family → uplink; the first one where several share other traffic."""

    ipv4: str
    """an uplink's name"""
    ipv6: str
    """an uplink's name"""


class Share(TypedDict):
    """A device through which traffic leaves, and its part of it."""

    uplink: str | None
    """null for a device that is no uplink"""
    device: str
    """the device"""
    weight: Annotated[int, ("minimum", 1)]
    """its part, in proportion to the other weights"""


class OtherTraffic(TypedDict):
    """Where the kernel sends traffic without a mark, a device or an uplink's address."""

    family: Family
    """ipv4 or ipv6"""
    origin: str | None
    """null for this host, and for the hosts behind it unless listed; else the device of a LAN whose
traffic leaves elsewhere, or the user, protocol or ports of this host's traffic that another
program's rule leads elsewhere, as ip rule prints them"""
    uplink: str | None
    """the uplink that carries it, the first of `shares`; null for a device that is no uplink (a
VPN), and for none"""
    device: str | None
    """the device, the first of `shares`; null when it is unreachable"""
    shares: list[Share]
    """the devices that share it by weight: one without sharing, none when it is unreachable"""
    table: Annotated[int, ("minimum", 0)] | None
    """the routing table that decides: 7000 beside a master, 254 is main"""
    barred: list[str]
    """where it is unreachable: the uplinks with a way out that may not carry it, because they are
off"""
