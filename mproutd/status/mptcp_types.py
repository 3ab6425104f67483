"""The JSON of the kernel's MPTCP in `status`, as types; see types.py."""

from __future__ import annotations

from typing import Annotated, TypedDict

Count = Annotated[int, ("minimum", 0)]


class Limits(TypedDict):
    """Limits for each MPTCP connection."""

    subflows: Count
    """additional subflows"""
    add_addr_accepted: Count
    """accepted announced addresses"""


class LimitsComparison(TypedDict):
    """The limits for each MPTCP connection."""

    actual: Limits
    """the kernel's"""
    desired: Limits
    """the ones mproutd sets"""


class MptcpStatus(TypedDict):
    """The kernel's MPTCP."""

    enabled: bool
    """net.mptcp.enabled"""
    path_manager: str
    """net.mptcp.path_manager"""
    limit_max: Count
    """the highest limit that the kernel accepts"""
    endpoints_max: Count
    """how many endpoints the kernel accepts"""
    limits: LimitsComparison
    """limits for each connection"""
    foreign_endpoints: list[str]
    """endpoints of other programs, which are left unchanged"""
