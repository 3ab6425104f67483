"""The JSON of other traffic in `status`, as types; see types.py."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

Family = Literal["ipv4", "ipv6"]


class Defaults(TypedDict, total=False):
    """Address family → uplink."""

    ipv4: str
    """an uplink's name"""
    ipv6: str
    """an uplink's name"""


class OtherTraffic(TypedDict):
    """Where the kernel sends traffic without a mark, a device or an uplink's address."""

    family: Family
    """ipv4 or ipv6"""
    origin: str | None
    """null for this host, and for the hosts behind it unless listed; else the device of a LAN whose
traffic leaves elsewhere, or the user, protocol or ports of this host's traffic that another
program's rule leads elsewhere, as ip rule prints them"""
    uplink: str | None
    """the uplink that carries it; null for a device that is no uplink (a VPN), and for none"""
    device: str | None
    """the device; null when it is unreachable"""
    table: Annotated[int, ("minimum", 0)] | None
    """the routing table that decides: 7000 beside a master, 254 is main"""
    barred: list[str]
    """where it is unreachable: the uplinks with a way out that may not carry it, because they are
off"""
