"""What a socket knows of itself: the structs that getsockopt(2) gives, read.  Pure.

Sources: linux/mptcp.h (struct mptcp_info, mptcp_subflow_data, mptcp_subflow_addrs),
linux/tcp.h (struct tcp_info), net/mptcp/mib.c (the counters).  The structs grow at their end
from one kernel to the next: what a kernel does not tell is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error
from typing import NamedTuple

SOL_MPTCP = 284
MPTCP_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS = 1, 2, 3
IPPROTO_MPTCP = 262

_FALLBACK, _REMOTE_KEY = 1 << 0, 1 << 1
_FLAGS, _UNACKED, _CHECKSUMS = 8, 24, 42
_U16, _U32, _U64 = Struct("=H"), Struct("=I"), Struct("=Q")
_SUBFLOW_DATA = Struct("=IIII")
_STORAGE = 128
"""sizeof(struct sockaddr_storage): a subflow is two of them, its own end first."""
_UNACKED_SEGMENTS, _PMTU, _SND_MSS, _RTT, _RECEIVED = 24, 60, 16, 68, 128
"""Where struct tcp_info has tcpi_unacked, _pmtu, _snd_mss, _rtt, _bytes_received."""


class Multipath(NamedTuple):
    """An MPTCP socket that is one still, or that says that it is one no more."""

    fallback: bool
    key_received: bool
    """The peer's SYN-ACK carried MPTCP."""
    checksums: bool
    """The two ends protect the data by DSS checksums (RFC 8684, 3.3)."""
    unacked: int
    """Bytes that were sent and that the peer's MPTCP did not acknowledge yet."""


FALLEN = Multipath(True, False, False, 0)
"""What is known of a socket whose kernel says EOPNOTSUPP: so a newer one (seen on 6.18) answers
once the socket is plain TCP, where an older one sets a flag."""


class Tcp(NamedTuple):
    """A TCP socket, or the first subflow of an MPTCP one."""

    mss: int | None
    """Bytes in a segment that is sent, without headers and options."""
    pmtu: int | None
    """Bytes in a packet: what the kernel believes of the way there."""
    rtt_ms: float | None
    unacked: int | None
    """Segments that nobody acknowledged yet."""
    received: int | None
    """Bytes that came by this very line, in order."""


UNKNOWN = Tcp(None, None, None, None, None)


def multipath(data: bytes) -> Multipath:
    """struct mptcp_info."""
    flags = _at(_U32, data, _FLAGS) or 0
    written, acked = _at(_U64, data, _UNACKED - 8), _at(_U64, data, _UNACKED)
    unacked = 0 if written is None or acked is None else (written - acked) % (1 << 64)
    return Multipath(
        bool(flags & _FALLBACK),
        bool(flags & _REMOTE_KEY),
        len(data) > _CHECKSUMS and data[_CHECKSUMS] != 0,
        unacked,
    )


def tcp(data: bytes) -> Tcp:
    """struct tcp_info."""
    rtt = _at(_U32, data, _RTT)
    return Tcp(
        _at(_U32, data, _SND_MSS) or None,
        _at(_U32, data, _PMTU) or None,
        rtt / 1000 if rtt else None,
        _at(_U32, data, _UNACKED_SEGMENTS),
        _at(_U64, data, _RECEIVED),
    )


_SIZES = {MPTCP_TCPINFO: 104, MPTCP_SUBFLOW_ADDRS: 2 * _STORAGE}
_ALIVE = (1, 4, 5, 8, 9, 11)
"""net/tcp_states.h: established, and those in which a connection ends in peace."""


def subflow_request(option: int, room: int = 8) -> bytes:
    """What getsockopt(2) wants to be given, with room for so many subflows."""
    size = _SIZES[option]
    return _SUBFLOW_DATA.pack(_SUBFLOW_DATA.size, 0, 0, size) + bytes(room * size)


def subflows(infos: bytes, addresses: bytes) -> list[tuple[str, str]]:
    """Own and peer's address of each subflow that stands.

    From the answers to MPTCP_TCPINFO and MPTCP_SUBFLOW_ADDRS, which have one order and tell of
    those that have not joined yet as well.
    """
    return [
        (_address(ends[:_STORAGE]), _address(ends[_STORAGE:]))
        for info, ends in zip(_pieces(infos), _pieces(addresses), strict=False)
        if info and info[0] in _ALIVE and len(ends) == 2 * _STORAGE
    ]


def _pieces(data: bytes) -> list[bytes]:
    try:
        head, count, _, size = _SUBFLOW_DATA.unpack_from(data)
    except error:
        return []
    if not size:
        return []
    most = min(count, len(data) // size)  # whatever the count says
    return [data[head + n * size : head + (n + 1) * size] for n in range(most)]


def _address(storage: bytes) -> str:
    family = _at(_U16, storage, 0)
    if family == AF_INET and len(storage) >= 8:
        return inet_ntop(AF_INET, storage[4:8])
    if family == AF_INET6 and len(storage) >= 24:
        return inet_ntop(AF_INET6, storage[8:24])
    return ""


def counters(text: str) -> dict[str, int]:
    """The MPTCP counters of /proc/net/netstat; empty where the kernel has none."""
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("MPTcpExt:")]
    if len(rows) != 2 or not all(value.isdecimal() for value in rows[1]):
        return {}
    return dict(zip(rows[0], map(int, rows[1]), strict=False))


def counted(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What the kernel counted in between, for all of its connections."""
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value > before.get(name, 0)
    }


def _at(what: Struct, data: bytes, offset: int) -> int | None:
    return int(what.unpack_from(data, offset)[0]) if len(data) >= offset + what.size else None
