"""Which connections would lose their last path, from sock_diag(7).

Deleting id 0 closes the initial subflow of every connection from an address: of those with
other subflows, which is the aim, but also of those that have no other, and even of those
that fell back to plain TCP.  So the kernel is asked first.  Struct codec, no I/O; the
answers' layout is that of linux/inet_diag.h and linux/mptcp.h.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error
from typing import NamedTuple

from mproutd.netlink.wire import NLM_F_DUMP, U32, DecodeError, attributes, put, request

SOCK_DIAG_BY_FAMILY = 20
_REQ_PROTOCOL, _INFO = 3, 2
_TCP, _MPTCP = 6, 262
_WANT_INFO = 1 << (_INFO - 1)
_ALIVE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
"""net/tcp_states.h: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT."""

_REQUEST = Struct("=BBBxI48x")
_SOURCE, _INODE, _ANSWER_SIZE = 8, 68, 72
_INFO_FLAGS, _FALLBACK = 8, 1
"""linux/mptcp.h: where mptcpi_flags is in struct mptcp_info, MPTCP_INFO_FLAG_FALLBACK."""
_MAPPED = bytes(10) + b"\xff\xff"


class Connection(NamedTuple):
    """An MPTCP socket, plain TCP by now or not."""

    address: str
    """Where it began at this end."""
    others: int
    """Subflows beside the initial one (mptcpi_subflows)."""
    plain: bool
    """It fell back to plain TCP (MPTCP_INFO_FLAG_FALLBACK): it can never have another path."""
    open: bool
    """A program still has it; the kernel only sees the others to their end."""


def dump(sequence: int, family: int) -> bytes:
    """Ask for the MPTCP sockets of a family; ENOENT where the kernel has no mptcp_diag."""
    # MPTCP's number does not fit into sdiag_protocol; the attribute counts instead.
    body = _REQUEST.pack(family, _TCP, _WANT_INFO, _ALIVE)
    return request(
        SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body + put(_REQ_PROTOCOL, U32.pack(_MPTCP))
    )


def connection(body: bytes) -> Connection:
    """One answer to dump().  DecodeError."""
    try:
        packed = body[_SOURCE : _SOURCE + 16]
        if body[0] == AF_INET:
            address = inet_ntop(AF_INET, packed[:4])
        elif packed.startswith(_MAPPED):
            address = inet_ntop(AF_INET, packed[12:])
        else:
            address = inet_ntop(AF_INET6, packed)
        info = attributes(body, _ANSWER_SIZE)[_INFO]
        (flags,) = U32.unpack_from(info, _INFO_FLAGS)
        program = body[_INODE:_ANSWER_SIZE] != bytes(4)
        return Connection(address, info[0], bool(flags & _FALLBACK), program)
    except (IndexError, KeyError, ValueError, error) as problem:
        raise DecodeError(str(problem)) from None
