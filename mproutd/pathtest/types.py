"""The JSON of `mproutd test`, as types; see status/types.py."""

from __future__ import annotations

from typing import Literal, TypedDict

Side = Literal["local", "peer", "path", "peer or path"]


class PeerAddress(TypedDict):
    """The peer."""

    address: str
    """of the peer"""
    port: int
    """of the peer"""


class ListenerView(TypedDict):
    """What a listener saw of a test; also a line of `mproutd test --listen --json`."""

    version: int
    """of the view: 1"""
    client: str
    """ADDRESS:PORT that the connection came from; differs from `local` behind NAT"""
    mptcp_enabled: bool
    """MPTCP is enabled on the listener"""
    syn_mp_capable: bool | None
    """the SYN carried MP_CAPABLE; null where the kernel does not count it"""
    accepted: str
    """mptcp or tcp: the outcome of the handshake"""
    mptcp: bool
    """it is MPTCP now"""
    received: int
    """bytes that the client asked to be echoed"""
    pmtu: int | None
    """path MTU towards the client, as the kernel knows it"""
    mss: int | None
    """bytes in a segment that the listener sends"""
    unacked: int | None
    """segments that the client has not acknowledged yet"""


class Mtu(TypedDict):
    """Packet sizes."""

    device: int | None
    """MTU of the device"""
    forward: int | None
    """path MTU to the peer"""
    reverse: int | None
    """path MTU from the peer; null without a listener"""
    mss: int | None
    """payload of a segment that is sent"""
    verified: bool
    """full-size packets came back; false: as the kernel knows it"""


class Join(TypedDict):
    """A subflow that joined."""

    uplink: str | None
    """that the address belongs to"""
    local: str
    """local address"""
    remote: str
    """address of the peer"""


class Joins(TypedDict):
    """Further subflows."""

    expected: list[str]
    """uplinks that have an endpoint"""
    found: list[Join]
    """subflows that joined within a second"""


class PathTestResult(TypedDict):
    """mproutd test UPLINK --to HOST:PORT --json"""

    version: int
    """of this format: 1"""
    verdict: str
    """a code of the table above"""
    side: Side | None
    """where MPTCP is lost: local, peer, path, `peer or path`; null where it is not lost, or there
    was no usable connection"""
    uplink: str
    """name of the uplink"""
    device: str
    """that the sockets were bound to"""
    peer: PeerAddress | None
    """null if none was selected"""
    error: str | None
    """why there was no connection, in the words of the system"""
    local: str | None
    """local ADDRESS:PORT of the first connection"""
    connect_ms: float | None
    """milliseconds until the connection was established"""
    first_byte_ms: float | None
    """milliseconds from the first line to the first byte of the reply"""
    rtt_ms: float | None
    """smoothed round-trip time in milliseconds"""
    synack_mp_capable: bool | None
    """the SYN-ACK carried MP_CAPABLE"""
    mptcp: bool | None
    """it was MPTCP at the end, over this uplink"""
    checksums: bool | None
    """DSS checksums were in use (net.mptcp.checksum_enabled)"""
    echoed: int | None
    """bytes that came back from a listener"""
    mtu: Mtu
    """bytes in a packet"""
    joins: Joins
    """further subflows of the test's connection"""
    listener: ListenerView | None
    """the listener's view; null without a listener"""
    counters: dict[str, int]
    """MPTCP counters (`nstat`) of this machine that rose during the test"""
