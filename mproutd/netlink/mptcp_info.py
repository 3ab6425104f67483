"""What the kernel says of one MPTCP or TCP socket: struct mptcp_info and struct tcp_info.  Pure.

The only reader of these structs: sock_diag(7) carries them for every socket of the machine,
getsockopt(2) returns them for one's own.  Both structs grow at their end from one kernel to the
next; a field that the running kernel does not have is None.

Sources: linux/mptcp.h (struct mptcp_info, mptcp_subflow_data, mptcp_subflow_addrs), linux/tcp.h
(struct tcp_info), net/mptcp/mib.c (the counters).
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
"""MPTCP_INFO_FLAG_*."""
_MPTCP_INFO = Struct("=BxxB4xIIQQ10xB13xQQ")
"""mptcpi_subflows, _subflows_max, _flags, _token, _write_seq, _snd_una, _csum_enabled,
_bytes_sent, _bytes_received; the last two since Linux 6.5."""
_BYTES_SENT_END, _BYTES_RECEIVED_END = 64, 72

_TCP_INFO = Struct("=16xI4xI32xI4xI28xI24xQ64xQ")
"""tcpi_snd_mss, _unacked, _pmtu, _rtt, _total_retrans, _bytes_received, _bytes_sent."""
_TCP_INFO_ENDS = (20, 28, 64, 72, 104, 136, 208)

_FAMILY = Struct("=H")
_SUBFLOW_DATA = Struct("=IIII")
_STORAGE_BYTES = 128
"""sizeof(struct sockaddr_storage): a subflow is two of them, its local address first."""
_RECORD_BYTES = {MPTCP_TCPINFO: 104, MPTCP_SUBFLOW_ADDRS: 2 * _STORAGE_BYTES}
_CONNECTED = (1, 4, 5, 8, 9, 11)
"""net/tcp_states.h: ESTABLISHED, and the states of an orderly close."""


class MptcpInfo(NamedTuple):
    """struct mptcp_info."""

    extra_subflows: int = 0
    """Subflows beside the initial one."""
    max_extra_subflows: int = 0
    fallback: bool = False
    """The connection fell back to plain TCP, for good."""
    key_received: bool = False
    """The peer's SYN-ACK carried MP_CAPABLE."""
    token: int = 0
    write_seq: int = 0
    snd_una: int = 0
    checksums: bool = False
    """Both ends use DSS checksums (RFC 8684, section 3.3)."""
    bytes_sent: int | None = None
    bytes_received: int | None = None

    @property
    def unacked(self) -> int:
        """Bytes that were sent and not yet acknowledged by the peer's MPTCP (DATA_ACK)."""
        return (self.write_seq - self.snd_una) % (1 << 64)


FALLBACK_INFO = MptcpInfo(fallback=True)
"""For a socket that answers MPTCP_INFO with EOPNOTSUPP: newer kernels (seen on 6.18) do so after
the fallback to plain TCP, older ones set a flag."""


class TcpInfo(NamedTuple):
    """struct tcp_info, of a TCP socket or of the first subflow of an MPTCP socket."""

    mss: int | None = None
    """Bytes in a segment that is sent, without headers and options."""
    pmtu: int | None = None
    """Bytes in a packet: the path MTU as the kernel knows it."""
    rtt_ms: float | None = None
    unacked: int | None = None
    """Segments that were sent and not yet acknowledged."""
    received: int | None = None
    """Bytes received in order, over this socket alone."""
    sent: int | None = None
    retransmitted: int | None = None
    """Segments, since the beginning."""


NO_TCP_INFO = TcpInfo()


def parse_mptcp_info(data: bytes) -> MptcpInfo:
    """struct mptcp_info of any length; what is missing reads as zero, or None for byte counts."""
    size = len(data)
    if size < _MPTCP_INFO.size:
        data = data.ljust(_MPTCP_INFO.size, b"\0")
    extra, limit, flags, token, write_seq, snd_una, checksums, sent, received = (
        _MPTCP_INFO.unpack_from(data)
    )
    return MptcpInfo(
        extra,
        limit,
        flags & _FALLBACK != 0,
        flags & _REMOTE_KEY != 0,
        token,
        write_seq,
        snd_una,
        checksums != 0,
        sent if size >= _BYTES_SENT_END else None,
        received if size >= _BYTES_RECEIVED_END else None,
    )


def parse_tcp_info(data: bytes) -> TcpInfo:
    """struct tcp_info of any length."""
    fields = _TCP_INFO.unpack_from(data.ljust(_TCP_INFO.size, b"\0"))
    mss, unacked, pmtu, rtt, retransmitted, received, sent = (
        value if len(data) >= end else None
        for value, end in zip(fields, _TCP_INFO_ENDS, strict=True)
    )
    rtt_ms = rtt / 1000 if rtt else None
    return TcpInfo(mss or None, pmtu or None, rtt_ms, unacked, received, sent, retransmitted)


def subflow_request(option: int, count: int = 8) -> bytes:
    """The buffer that getsockopt(2) fills for MPTCP_TCPINFO or MPTCP_SUBFLOW_ADDRS, with room
    for `count` subflows."""
    size = _RECORD_BYTES[option]
    return _SUBFLOW_DATA.pack(_SUBFLOW_DATA.size, 0, 0, size) + bytes(count * size)


def parse_subflows(infos: bytes, addresses: bytes) -> list[tuple[str, str]]:
    """Local and remote address of each connected subflow.

    `infos` and `addresses` are the answers to MPTCP_TCPINFO and MPTCP_SUBFLOW_ADDRS.  Both list
    the same subflows in the same order, including those that have not joined yet.
    """
    return [
        (_address(pair[:_STORAGE_BYTES]), _address(pair[_STORAGE_BYTES:]))
        for info, pair in zip(_records(infos), _records(addresses), strict=False)
        if info and info[0] in _CONNECTED and len(pair) == 2 * _STORAGE_BYTES
    ]


def _records(data: bytes) -> list[bytes]:
    """The records behind a struct mptcp_subflow_data; never more than `data` can hold."""
    try:
        start, count, _, size = _SUBFLOW_DATA.unpack_from(data)
    except error:
        return []
    if not size:
        return []
    count = min(count, len(data) // size)
    return [data[start + n * size : start + (n + 1) * size] for n in range(count)]


def _address(storage: bytes) -> str:
    """The address in a struct sockaddr_storage; empty for none."""
    family = _FAMILY.unpack_from(storage)[0] if len(storage) >= _FAMILY.size else 0
    if family == AF_INET and len(storage) >= 8:
        return inet_ntop(AF_INET, storage[4:8])
    if family == AF_INET6 and len(storage) >= 24:
        return inet_ntop(AF_INET6, storage[8:24])
    return ""


def parse_counters(text: str) -> dict[str, int]:
    """The MPTCP counters of /proc/net/netstat; empty where the kernel has none."""
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("MPTcpExt:")]
    if len(rows) != 2 or not all(value.isdecimal() for value in rows[1]):
        return {}
    return dict(zip(rows[0], map(int, rows[1]), strict=False))


def counter_increase(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """The counters that rose, and by how much."""
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value > before.get(name, 0)
    }
