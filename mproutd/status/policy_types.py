"""The JSON of policies in `status`, as types; see types.py."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from mproutd.status.traffic_types import Family


class Carrier(TypedDict):
    """A member that carries traffic of a policy."""

    uplink: str
    """an uplink's name"""
    weight: Annotated[int, ("minimum", 1)]
    """its part, in proportion to the other weights"""


class PolicyWay(TypedDict):
    """Where the traffic of a policy leaves in one family."""

    family: Family
    """ipv4 or ipv6"""
    uplinks: list[Carrier]
    """the members that carry it; none while its last resort applies"""
    next: list[str]
    """the uplinks that carry it when these are not usable"""


class PolicyStatus(TypedDict):
    """A policy, or an uplink that a rule names itself."""

    name: str
    """of the policy, or of the uplink"""
    table: Annotated[int, ("minimum", 1)]
    """its routing table"""
    mark: str
    """by which a packet is led there, with the mask"""
    last_resort: Literal["unreachable", "blackhole", "default"]
    """what happens while no member is usable"""
    rules: list[str]
    """the rules that name it, in the order of the file"""
    ways: list[PolicyWay]
    """by family"""
