"""MPTCP connections and their subflows over sock_diag(7).  Struct codec, no I/O.

A connection is two kinds of socket to the kernel: one MPTCP socket, and a TCP socket for each
subflow.  They share a token.  Each kind has its own dump, whose replies decode to a
`Connection` or a `Subflow`.

Kernels before 6.18 show the token of a subflow to CAP_NET_ADMIN only (net/ipv4/tcp_diag.c).
Layouts: linux/inet_diag.h, linux/mptcp.h.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error
from typing import NamedTuple

from mproutd.netlink.mptcp_info import IPPROTO_MPTCP, parse_mptcp_info
from mproutd.netlink.nlmsg import (
    NLM_F_DUMP,
    U32,
    DecodeError,
    attributes,
    put,
    request,
)

SOCK_DIAG_BY_FAMILY = 20
_IPPROTO_TCP = 6
_REQ_PROTOCOL = 3
"""INET_DIAG_REQ_PROTOCOL: MPTCP's number does not fit into the eight bits of sdiag_protocol."""
INET_DIAG_INFO, INET_DIAG_ULP_INFO = 2, 19
WANT_INFO = 1 << (INET_DIAG_INFO - 1)
"""idiag_ext.  Linux 6.18 omits ULP_INFO from a reply unless INFO is requested too."""
_ULP_NAME, _ULP_MPTCP = 1, 3
_TOKEN_LOC, _FLAGS, _ID_REM, _ID_LOC = 2, 8, 9, 10
_MCAP_REM, _MCAP_LOC, _JOIN_LOC = 1 << 0, 1 << 1, 1 << 3
_BACKUP_REM, _BACKUP_LOC = 1 << 4, 1 << 5
"""linux/mptcp.h, MPTCP_SUBFLOW_ATTR_* and MPTCP_SUBFLOW_FLAG_*."""

ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, _LAST_ACK, _CLOSING = 1, 2, 4, 5, 8, 9, 11
"""net/tcp_states.h."""
_DELIVERING_STATES = (FIN_WAIT1, _CLOSING, _LAST_ACK)
"""This end has closed, and the peer has not acknowledged everything."""
_MPTCP_STATES = sum(
    1 << state for state in (ESTABLISHED, FIN_WAIT2, CLOSE_WAIT, *_DELIVERING_STATES)
)
_TCP_STATES = 1 << ESTABLISHED | 1 << SYN_SENT | 1 << CLOSE_WAIT
"""Subflows that can still carry data from this end, or are about to join."""
_SENDING_STATES = (ESTABLISHED, CLOSE_WAIT)
CONNECTED_STATES = _MPTCP_STATES | _TCP_STATES
"""Every state of a connection, for a listing."""

_REQUEST = Struct("=BBBxI48x")
"""struct inet_diag_req_v2: family, protocol, ext, states; no address."""
_MESSAGE = Struct("=BB6x16s44xI")
"""struct inet_diag_msg: family, state, source address, inode."""
_PORTS, _INTERFACE = Struct("!4xHH"), Struct("=40xI")
"""Of the same struct, for a listing: both ports, and idiag_if behind both addresses."""
_DESTINATION = 24
_MAPPED = bytes(10) + b"\xff\xff"
"""::ffff:0:0/96 (RFC 4291): IPv4 over an IPv6 socket."""


class Socket(NamedTuple):
    """One socket for a listing, with its structs still undecoded."""

    source: str
    sport: int
    destination: str
    dport: int
    device: int
    """ifindex that the socket is bound to; 0 for none."""
    state: int
    """net/tcp_states.h."""
    info: bytes = b""
    """INET_DIAG_INFO: struct tcp_info or struct mptcp_info."""
    ulp: bytes = b""
    """INET_DIAG_ULP_INFO: attributes; empty for a plain TCP socket."""


class Connection(NamedTuple):
    """An MPTCP socket, whether or not it fell back to plain TCP."""

    address: str
    """Local address of the initial subflow."""
    extra_subflows: int
    """Subflows beside the initial one (mptcpi_subflows)."""
    fallback: bool
    """Plain TCP by now, and for good (MPTCP_INFO_FLAG_FALLBACK): no other path is possible."""
    open: bool
    """A program has the socket open."""
    token: int = 0
    max_extra_subflows: int = 0
    """Limit of `extra_subflows` (mptcpi_subflows_max)."""
    can_send: bool = True
    """This end has not closed its half: subflows may still join."""
    delivering: bool = False
    """This end has closed, and the kernel may still be sending what is left."""


class Subflow(NamedTuple):
    """A TCP socket of an MPTCP connection."""

    token: int
    """Of the connection, on this machine; 0 where the kernel hides it."""
    address: str
    """Local address."""
    initial: bool
    """The connection began with this subflow; else it joined later."""
    initiated_locally: bool
    """This end sent the SYN."""
    established: bool = True
    """The peer has answered the SYN."""
    local_id: int = 0
    remote_id: int = 0
    backup: bool = False
    """Backup by local configuration."""
    backup_by_peer: bool = False
    """Backup on the peer's request (MP_PRIO, or B in its MP_JOIN)."""


def dump_mptcp(family: int, sequence: int, states: int = _MPTCP_STATES) -> bytes:
    """Request the live MPTCP sockets of a family; ENOENT where the kernel has no mptcp_diag."""
    body = _REQUEST.pack(family, _IPPROTO_TCP, WANT_INFO, states)
    body += put(_REQ_PROTOCOL, U32.pack(IPPROTO_MPTCP))
    return request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body)


def dump_tcp(family: int, sequence: int, states: int = _TCP_STATES) -> bytes:
    """Request the TCP sockets of a family, subflows and others, that are or will be connected."""
    body = _REQUEST.pack(family, _IPPROTO_TCP, WANT_INFO, states)
    return request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body)


def connection(body: bytes) -> Connection:
    """Decode a reply to dump_mptcp().  DecodeError."""
    try:
        family, state, source, inode = _MESSAGE.unpack_from(body)
        info = parse_mptcp_info(attributes(body, _MESSAGE.size)[INET_DIAG_INFO])
    except (KeyError, error) as problem:
        raise DecodeError(str(problem)) from None
    return Connection(
        _address(family, source),
        info.extra_subflows,
        info.fallback,
        inode != 0,
        info.token,
        info.max_extra_subflows,
        state in _SENDING_STATES,
        state in _DELIVERING_STATES,
    )


def subflow(body: bytes) -> Subflow | None:
    """Decode a reply to dump_tcp(); None for a socket that is no subflow.  DecodeError."""
    ulp = attributes(body, _MESSAGE.size).get(INET_DIAG_ULP_INFO)
    if ulp is None:
        return None
    family, state, source, _ = _MESSAGE.unpack_from(body)
    return subflow_of(ulp, _address(family, source), state)


def parse_socket(body: bytes) -> Socket:
    """Decode a reply to either dump, for a listing.  DecodeError."""
    attrs = attributes(body, _MESSAGE.size)
    try:
        family, state, source, _ = _MESSAGE.unpack_from(body)
        sport, dport = _PORTS.unpack_from(body)
        (device,) = _INTERFACE.unpack_from(body)
    except error as problem:
        raise DecodeError(str(problem)) from None
    destination = body[_DESTINATION : _DESTINATION + 16]
    return Socket(
        _address(family, source),
        sport,
        _address(family, destination),
        dport,
        device,
        state,
        attrs.get(INET_DIAG_INFO, b""),
        attrs.get(INET_DIAG_ULP_INFO, b""),
    )


def subflow_of(ulp: bytes, address: str, state: int) -> Subflow | None:
    """The subflow that INET_DIAG_ULP_INFO describes; None for another protocol over TCP, such as
    TLS.  DecodeError."""
    names = attributes(ulp)
    parts = attributes(names.get(_ULP_MPTCP, b""))
    if _TOKEN_LOC not in parts:
        # Without CAP_NET_ADMIN, older kernels report the name alone.
        is_mptcp = _ULP_MPTCP in names or names.get(_ULP_NAME, b"").startswith(b"mptcp")
        return Subflow(0, address, False, False) if is_mptcp else None
    try:
        (token,) = U32.unpack(parts[_TOKEN_LOC])
        (flags,) = U32.unpack(parts[_FLAGS])
        return Subflow(
            token,
            address,
            flags & (_MCAP_LOC | _MCAP_REM) != 0,
            flags & (_MCAP_LOC | _JOIN_LOC) != 0,
            state != SYN_SENT,
            parts.get(_ID_LOC, b"\0")[0],
            parts.get(_ID_REM, b"\0")[0],
            flags & _BACKUP_LOC != 0,
            flags & _BACKUP_REM != 0,
        )
    except (IndexError, KeyError, error) as problem:
        raise DecodeError(str(problem)) from None


def _address(family: int, packed: bytes) -> str:
    """IPv4-mapped addresses appear as IPv4."""
    if family == AF_INET:
        return inet_ntop(AF_INET, packed[:4])
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[12:])
    return inet_ntop(AF_INET6, packed)
