"""The JSON of `mproutd connections`, as types; see status/types.py."""

from __future__ import annotations

from typing import Literal, TypedDict

from mproutd.status.types import Count, Seconds


class SubflowStatus(TypedDict):
    """A subflow of an MPTCP connection."""

    uplink: str | None
    """its uplink; null for none"""
    device: str | None
    """the device that it is bound to; null for none"""
    local: str
    """ADDRESS:PORT; [ADDRESS]:PORT for IPv6"""
    remote: str
    """ADDRESS:PORT; [ADDRESS]:PORT for IPv6"""
    state: str
    """of its TCP socket: established, syn-sent, fin-wait-1 …"""
    local_id: Count
    """the id of its endpoint; 0 for the initial subflow"""
    remote_id: Count
    """the peer's id for its address"""
    backup: bool
    """this host requested backup priority from the peer"""
    backup_by_peer: bool
    """the peer requested backup priority"""
    rtt_ms: Seconds | None
    """smoothed round-trip time in milliseconds; null before the first sample"""
    retransmitted: Count | None
    """retransmitted segments"""
    sent: Count | None
    """bytes of payload"""
    received: Count | None
    """bytes of payload"""


class ConnectionStatus(TypedDict):
    """An MPTCP connection."""

    token: str | None
    """eight hexadecimal digits (ss(8) omits leading zeros); null when it has none"""
    local: str
    """local end of the MPTCP socket"""
    remote: str
    """remote end of the MPTCP socket"""
    state: str
    """of the MPTCP socket, named as for a subflow"""
    fallback: bool
    """whether it fell back to plain TCP: the peer or a middlebox does not support MPTCP"""
    sent: Count | None
    """bytes; before Linux 6.5, of the current subflows only"""
    received: Count | None
    """bytes; before Linux 6.5, of the current subflows only"""
    subflows: list[SubflowStatus]
    """the initial subflow first, then by endpoint"""


class ConnectionList(TypedDict):
    """mproutd connections --json"""

    version: Count
    """of this format: 1"""
    connections: list[ConnectionStatus]
    """the MPTCP connections of this network namespace"""


class ConnectionGroup(TypedDict):
    """The connections of a peer, or at a local port, together."""

    key: str
    """the peer's address at which its connections began, or the local port"""
    addresses: list[str]
    """every remote address of these connections and their subflows"""
    connections: Count
    """how many there are"""
    fallback: Count
    """how many of them fell back to plain TCP"""
    subflows: Count
    """subflows of all of them"""
    sent: Count | None
    """bytes that these connections sent since they began"""
    received: Count | None
    """bytes that these connections received since they began"""
    sent_rate: Count | None
    """bits per second during the sample"""
    received_rate: Count | None
    """bits per second during the sample"""


class ConnectionGroups(TypedDict):
    """mproutd connections --by peer --json"""

    version: Count
    """of this format: 1"""
    by: Literal["peer", "port"]
    """what the key of a group is"""
    seconds: Seconds
    """length of the sample that the rates are from"""
    groups: list[ConnectionGroup]
    """those with the most bytes first"""
