"""The JSON of resolvers in `status`, as types; see types.py."""

from __future__ import annotations

from typing import Literal, TypedDict

NoRule = Literal["unusable", "link-local", "local", "shared"]


class ResolverStatus(TypedDict):
    """A DNS server of an uplink's provider."""

    address: str
    """its address"""
    origin: str
    """who named it: configuration, netifd, lease (a DHCP client's hook), ifupdown, networkd, or
resolvconf (also dhcpcd)"""
    in_use: bool
    """whether it is in resolv.conf of the runtime directory: the uplink is usable in its family and
not off"""
    rule: str | None
    """the rule that leads queries to this uplink; null for none"""
    no_rule: NoRule | None
    """why there is none: unusable (the uplink is), link-local (the device is part of the address),
local (in a directly connected network), or shared; null where there is one"""
    shared_with: list[str]
    """the other uplinks that name it"""
