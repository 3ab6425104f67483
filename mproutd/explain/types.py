"""The JSON of `mproutd explain`, as types; see mproutd/status/types.py."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

Family = Literal["ipv4", "ipv6"]
Kind = Literal["own", "forwarded", "to-host"]
Count = Annotated[int, ("minimum", 0)]


class FlowStatus(TypedDict):
    """The flow, as far as it is known."""

    family: Family
    """ipv4 or ipv6"""
    source: str | None
    """null for this host's own where the kernel chooses the address"""
    destination: str
    """the address that it goes to"""
    protocol: str | None
    """its name or number; null when it was not given"""
    source_port: Count | None
    """null when it was not given"""
    destination_port: Count | None
    """null when it was not given"""
    iif: str | None
    """the device that it arrives by; null for this host's own"""
    uid: Count | None
    """the user whose process sends it; null for forwarded traffic"""
    mac: str | None
    """the sender's Ethernet address; null when it was not given"""
    dscp: Count
    """the code point"""


class RuleStatus(TypedDict):
    """A rule of the configuration."""

    name: str
    """its name"""
    location: str
    """FILE:LINE"""
    policy: str
    """its policy, uplink, or default"""


class OpenRule(TypedDict):
    """A rule that would match if an argument that was not given has the right value."""

    name: str
    """its name"""
    location: str
    """FILE:LINE"""
    arguments: list[str]
    """what decides: --mac, --port …"""


class MemberStatus(TypedDict):
    """An uplink in line."""

    uplink: str
    """its name"""
    usable: bool
    """whether it can carry this flow now"""
    reason: str | None
    """why not, a code as in mproutd status; null when usable"""


class Explanation(TypedDict):
    """mproutd explain --json"""

    version: Count
    """of this format: 1"""
    flow: FlowStatus
    """what was asked"""
    kind: Kind
    """own (this host sends it), forwarded, or to-host (its destination is this host)"""
    rule: RuleStatus | None
    """the first rule of the configuration that matches; null for none"""
    applies: bool
    """whether that rule decides: not for a connection that keeps its uplink, nor where another ip
rule matches first"""
    open_rules: list[OpenRule]
    """earlier rules that were taken for not matching"""
    kept_uplink: str | None
    """the uplink that the flow keeps; null for none"""
    kept_by: Literal["connection", "sticky"] | None
    """what keeps it: a tracked connection, or a sticky rule and an earlier connection of the same
sender; null for none"""
    mark: str | None
    """VALUE/MASK of the packet's mark that selects the table; null for none"""
    ip_rule: str | None
    """the ip rule that leads to the table; null where it is not known"""
    table: Count | None
    """the routing table; null without a route"""
    route: str | None
    """its entry, as ip route prints it; null without a route"""
    uplink: str | None
    """the uplink that the flow leaves by; null for none"""
    device: str | None
    """the device that it leaves by; null for none"""
    gateway: str | None
    """the next router; null where the destination is a neighbour"""
    source: str | None
    """the source address: this host's, before the firewall translates anything"""
    error: str | None
    """why it does not leave; null when it does"""
    standby: list[MemberStatus]
    """the uplinks that are next, in order"""
    last_resort: str | None
    """what happens without any of them: unreachable, blackhole, main; null where that is not
known"""
    notes: list[str]
    """what else matters"""
