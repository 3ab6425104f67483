"""Which connections would lose their last path, and which miss one, from sock_diag(7).

Deleting id 0 closes the initial subflow of every connection from an address: of those with
other subflows, which is the aim, but also of those that have no other, and even of those
that fell back to plain TCP.  So the kernel is asked first.  Struct codec, no I/O; the
answers' layout is that of linux/inet_diag.h and linux/mptcp.h.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error
from typing import NamedTuple

from mproutd.netlink.wire import NLM_F_DUMP, U32, DecodeError, attributes, put, request

SOCK_DIAG_BY_FAMILY = 20
_REQ_PROTOCOL, _INFO, _ULP_INFO, _ULP_MPTCP = 3, 2, 19, 3
_TOKEN_LOC, _FLAGS = 2, 8
_MCAP_REM, _MCAP_LOC, _JOIN_LOC = 1 << 0, 1 << 1, 1 << 3
"""linux/mptcp.h, MPTCP_SUBFLOW_ATTR_* and MPTCP_SUBFLOW_FLAG_*."""
_TCP, _MPTCP = 6, 262
_WANT_INFO = 1 << (_INFO - 1)
_ALIVE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
"""net/tcp_states.h: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT."""
_HELD = 1 << 1 | 1 << 8
_SYN_SENT = 2
_COMING = 1 << _SYN_SENT
"""ESTABLISHED and CLOSE_WAIT: there may be more to send.  SYN_SENT: about to join."""

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
    others: int
    """Subflows beside the initial one (mptcpi_subflows)."""
    plain: bool
    """It fell back to plain TCP (MPTCP_INFO_FLAG_FALLBACK): it can never have another path."""
    open: bool
    """A program still has it; the kernel only sees the others to their end."""
    token: int = 0
    most: int = 0
    """How many `others` may be (mptcpi_subflows_max)."""


def dump_subflows(sequence: int, family: int) -> bytes:
    """Ask for the TCP sockets of a family that stand, or are about to.

    INFO is wanted for what comes with it: without, Linux 6.18 leaves ULP_INFO out too.
    """
    body = _REQUEST.pack(family, _TCP, _WANT_INFO, _HELD | _COMING)
    return request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, body)


def dump(sequence: int, family: int, *, held: bool = False) -> bytes:
    """Ask for the MPTCP sockets of a family; ENOENT where the kernel has no mptcp_diag.

    `held`: without those that are about to end.
    """
    # MPTCP's number does not fit into sdiag_protocol; the attribute counts instead.
    body = _REQUEST.pack(family, _TCP, _WANT_INFO, _HELD if held else _ALIVE)
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
            _own_address(body), info[0], bool(flags & _FALLBACK), program, token, info[_INFO_MOST]
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
    by_us: bool
    """This end asked for it."""
    stands: bool = True
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
        by_us = bool(flags & (_MCAP_LOC | _JOIN_LOC))
        return Subflow(token, _own_address(body), initial, by_us, body[_STATE] != _SYN_SENT)
    except (IndexError, KeyError, ValueError, error) as problem:
        raise DecodeError(str(problem)) from None


def began_here(subflows: Iterable[Subflow]) -> dict[int, bool]:
    """Token → whether this end began the connection, for those whose subflows tell it.

    The initial subflow knows.  Where it is gone, those that joined do: the end that began asks
    for them, and the other end's attempts are refused, so one that only tries tells nothing.
    """
    told: dict[int, bool] = {}
    for each in sorted(subflows, key=lambda each: each.initial):
        if each.initial:
            told[each.token] = each.by_us
        elif each.stands:
            told[each.token] = each.by_us or told.get(each.token, False)
    return told


def missing(
    connections: Iterable[Connection], subflows: Collection[Subflow], addresses: Collection[str]
) -> set[tuple[int, str]]:
    """(token, address) for each of `addresses` by which a connection of ours could go and does not.

    Of one family: the peer's address in the other one is not known.  What may have no more
    subflows misses none, and who began a connection that has none left is not known.
    """
    there = {(each.token, each.address) for each in subflows}
    began = began_here(subflows)
    return {
        (each.token, address)
        for each in connections
        if each.open and not each.plain and each.others < each.most and began.get(each.token, True)
        for address in addresses
        if (":" in address) == (":" in each.address) and (each.token, address) not in there
    }
