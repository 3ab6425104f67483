"""The JSON of `mproutd monitor`, as types; see status/types.py."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from mproutd.status.types import Count, Time

EventKind = Literal[
    "begin",
    "decision",
    "change",
    "failure",
    "configuration",
    "action",
    "quota",
    "overflow",
    "standby",
    "conntrack",
    "nftables",
    "prefix",
    "connection",
    "subflow",
    "address",
    "listener",
    "other",
    "overrun",
    "dropped",
    "end",
]


class MonitorEvent(TypedDict):
    """mproutd monitor --json"""

    version: Count
    """of this format: 1"""
    time: Time
    """epoch seconds"""
    kind: EventKind
    """a kind of the table below"""
    uplink: str | None
    """the uplink that it concerns; null for none"""
    device: str | None
    """the device that it concerns; null for none"""
    text: str
    """the event in words"""
    event: NotRequired[str]
    """the kernel's name of the event (MPTCP_EVENT_* in linux/mptcp.h), such as sub-established"""
    token: NotRequired[str]
    """token of the connection, eight hexadecimal digits"""
    local: NotRequired[str]
    """ADDRESS:PORT; [ADDRESS]:PORT for IPv6"""
    local_id: NotRequired[Count]
    """the id of the local address"""
    remote: NotRequired[str]
    """ADDRESS:PORT; [ADDRESS]:PORT for IPv6"""
    remote_id: NotRequired[Count]
    """the peer's id for its address"""
    backup_by_peer: NotRequired[bool]
    """the peer requested backup priority"""
    error: NotRequired[str | None]
    """why a subflow was closed; null for a regular close"""
    count: NotRequired[Count]
    """events that were dropped before this one"""
