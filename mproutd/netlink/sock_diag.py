"""MPTCP connections and their subflows, from sock_diag(7).

Closing an endpoint, or deleting id 0, closes the subflows of every connection from an address:
of those with others, but also of those that have no other, and even of those that fell back to
plain TCP.  So the kernel is asked first.  Struct codec, no I/O; the answers' layout is that of
linux/inet_diag.h and linux/mptcp.h.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error
from typing import NamedTuple

from mproutd.netlink.nlmsg import NLM_F_DUMP, U32, DecodeError, attributes, put, request

SOCK_DIAG_BY_FAMILY = 20
_REQ_PROTOCOL, _INFO, _ULP_INFO, _ULP_MPTCP = 3, 2, 19, 3
_TOKEN_LOC, _FLAGS = 2, 8
_MCAP_REM, _MCAP_LOC, _JOIN_LOC = 1 << 0, 1 << 1, 1 << 3
"""linux/mptcp.h, MPTCP_SUBFLOW_ATTR_* and MPTCP_SUBFLOW_FLAG_*."""
_TCP, _MPTCP = 6, 262
_WANT_INFO = 1 << (_INFO - 1)
_ALIVE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
"""net/tcp_states.h: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT."""
_SYN_SENT, _SENDING = 2, (1, 8)
_STANDING = 1 << 1 | 1 << 8 | 1 << _SYN_SENT
"""SYN_SENT: about to join.  ESTABLISHED and CLOSE_WAIT: there may be more to send."""

_REQUEST = Struct("=BBBxI48x")
_STATE, _SOURCE, _INODE, _ANSWER_SIZE = 1, 8, 68, 72
_INFO_FLAGS, _INFO_TOKEN, _INFO_MOST, _FALLBACK = 8, 12, 3, 1
"""linux/mptcp.h: where mptcpi_flags, _token and _subflows_max are in struct mptcp_info, and
MPTCP_INFO_FLAG_FALLBACK."""
_MAPPED = bytes(10) + b"\xff\xff"


class Connection(NamedTuple):
    """An MPTCP socket, plain TCP by now or not."""

    address: str
    """Where it began at this end."""
    extra_subflows: int
    """Subflows beside the initial one (mptcpi_subflows)."""
    fallback: bool
    """It fell back to plain TCP (MPTCP_INFO_FLAG_FALLBACK): it can never have another path."""
    open: bool
    """A program still has it; the kernel only sees the others to their end."""
    token: int = 0
    max_extra_subflows: int = 0
    """How many `others` may be (mptcpi_subflows_max)."""
    can_send: bool = True
    """This end has not closed its half: subflows may still join."""


def dump_tcp(sequence: int, family: int) -> bytes:
    """Ask for the TCP sockets of a family that stand, or are about to.

    INFO is wanted for what comes with it: without, Linux 6.18 leaves ULP_INFO out too.
    """
    body = _REQUEST.pack(family, _TCP, _WANT_INFO, _STANDING)
    return request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body)


def dump_mptcp(sequence: int, family: int) -> bytes:
    """Ask for the MPTCP sockets of a family; ENOENT where the kernel has no mptcp_diag."""
    # MPTCP's number does not fit into sdiag_protocol; the attribute counts instead.
    body = _REQUEST.pack(family, _TCP, _WANT_INFO, _ALIVE)
    return request(
        SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body + put(_REQ_PROTOCOL, U32.pack(_MPTCP))
    )


def _own_address(body: bytes) -> str:
    packed = body[_SOURCE : _SOURCE + 16]
    if body[0] == AF_INET:
        return inet_ntop(AF_INET, packed[:4])
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[12:])
    return inet_ntop(AF_INET6, packed)


def connection(body: bytes) -> Connection:
    """One answer to dump().  DecodeError."""
    try:
        info = attributes(body, _ANSWER_SIZE)[_INFO]
        (flags,) = U32.unpack_from(info, _INFO_FLAGS)
        (token,) = U32.unpack_from(info, _INFO_TOKEN) if len(info) >= _INFO_TOKEN + 4 else (0,)
        program = body[_INODE:_ANSWER_SIZE] != bytes(4)
        return Connection(
            _own_address(body),
            info[0],
            bool(flags & _FALLBACK),
            program,
            token,
            info[_INFO_MOST],
            body[_STATE] in _SENDING,
        )
    except (IndexError, KeyError, ValueError, error) as problem:
        raise DecodeError(str(problem)) from None


class Subflow(NamedTuple):
    """A TCP socket of an MPTCP connection."""

    token: int
    address: str
    """Its own."""
    initial: bool
    """The connection began with it; else it joined later."""
    initiated_locally: bool
    """This end asked for it."""
    established: bool = True
    """The peer has answered."""


def subflow(body: bytes) -> Subflow | None:
    """One answer to dump_subflows(); None for a socket that is no subflow.  DecodeError."""
    try:
        told = attributes(attributes(body, _ANSWER_SIZE).get(_ULP_INFO, b""))
        mptcp = attributes(told.get(_ULP_MPTCP, b""))
        if _TOKEN_LOC not in mptcp:
            return None
        (token,) = U32.unpack(mptcp[_TOKEN_LOC])
        (flags,) = U32.unpack(mptcp[_FLAGS])
        initial = bool(flags & (_MCAP_LOC | _MCAP_REM))
        initiated_locally = bool(flags & (_MCAP_LOC | _JOIN_LOC))
        return Subflow(
            token, _own_address(body), initial, initiated_locally, body[_STATE] != _SYN_SENT
        )
    except (IndexError, KeyError, ValueError, error) as problem:
        raise DecodeError(str(problem)) from None
