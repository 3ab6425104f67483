"""The generic netlink family mptcp_pm: endpoints, limits and the path manager's events.

What must hold: nothing here is ever a flush, since that hits everybody's endpoints,
and a probe for the cap changes nothing (see probe()).  Broken input raises
DecodeError and nothing else; what cannot be sent raises ValueError.

The numbers are those of linux/mptcp_pm.h and linux/genetlink.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct, error
from typing import NamedTuple

from mproutd.model import Endpoint, Limits, Operation, family_of
from mproutd.netlink.nlmsg import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    S32,
    U8,
    U16,
    U32,
    Ack,
    DecodeError,
    attributes,
    put,
    put_address,
    put_u8,
    put_u32,
    request,
    text,
)

FAMILY, EVENTS_GROUP = "mptcp_pm", "mptcp_pm_events"
GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME, _CTRL_MCAST_GROUPS = 1, 2, 7
_GROUP_NAME, _GROUP_ID = 1, 2

_ADD_ADDR, _DEL_ADDR, _GET_ADDR, _SET_LIMITS, _GET_LIMITS, _SET_FLAGS = 1, 2, 3, 5, 6, 7
_ADDR, _RCV_ADD_ADDRS, _SUBFLOWS = 1, 2, 3
_FAMILY, _ID, _ADDR4, _ADDR6, _PORT, _FLAGS, _IF_IDX = 1, 2, 3, 4, 5, 6, 7

DEFAULT_CAP = 8
"""The cap of every kernel that does not say which attribute was at fault."""

_GENL = Struct("=BBxx")
_BE16 = Struct("!H")
_TOO_MANY = 0xFFFFFFFF
_FIRST, _SECOND = 20, 28


class Family(NamedTuple):
    """A generic netlink family of the running kernel; the numbers change with each boot."""

    id: int
    """The message type of its requests, answers and events."""
    groups: Mapping[str, int]
    """Multicast group name → number, for NETLINK_ADD_MEMBERSHIP."""


class Event(NamedTuple):
    """What happened to an MPTCP connection (enum mptcp_event_type)."""

    kind: str
    """A name of EVENTS, or the number of one that came later."""
    token: int = 0
    """The connection's local token, as ss(8) prints it; 0 for a listener's event."""
    local_id: int = 0
    remote_id: int = 0
    source: str = ""
    destination: str = ""
    sport: int = 0
    dport: int = 0
    device: int = 0
    """ifindex that the subflow is bound to; 0 for none."""
    backup: bool = False
    """The other end asked for it; our own wish is not told (MP_PRIO is its receiver's event)."""
    error: int = 0
    """errno(3) that closed the subflow; 0 for none."""
    flags: int = 0
    timeout: int = 0
    reset_reason: int = 0
    """RFC 8684, section 3.6: of the MP_TCPRST that closed the subflow."""
    server_side: bool = False


EVENTS = {
    1: "created",
    2: "established",
    3: "closed",
    6: "announced",
    7: "removed",
    10: "sub-established",
    11: "sub-closed",
    13: "sub-priority",
    15: "listener-created",
    16: "listener-closed",
}
_SERVER_SIDE = 0x2
"""linux/mptcp.h, MPTCP_PM_EV_FLAG_SERVER_SIDE, which takes the attribute's place."""


def get_family(sequence: int, name: str = FAMILY) -> bytes:
    """Ask for a family's numbers; ENOENT when the kernel has none of that name."""
    body = _GENL.pack(_CTRL_CMD_GETFAMILY, 1) + put(_CTRL_FAMILY_NAME, name.encode() + b"\0")
    return request(GENL_ID_CTRL, 0, sequence, body)


def family(body: bytes) -> Family:
    """The answer to get_family().  DecodeError."""
    try:
        told = attributes(body, _GENL.size)
        groups = {}
        for each in attributes(told.get(_CTRL_MCAST_GROUPS, b"")).values():
            group = attributes(each)
            groups[text(group[_GROUP_NAME])] = U32.unpack(group[_GROUP_ID])[0]
        return Family(U16.unpack(told[_CTRL_FAMILY_ID])[0], groups)
    except (error, KeyError, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def _query(kind: int, command: int, flags: int, sequence: int, *parts: bytes) -> bytes:
    return request(kind, flags, sequence, _GENL.pack(command, 1) + b"".join(parts))


def dump_endpoints(kind: int, sequence: int) -> bytes:
    """All endpoints of the namespace; `kind` is Family.id, here and below."""
    return _query(kind, _GET_ADDR, NLM_F_DUMP, sequence)


def get_limits(kind: int, sequence: int) -> bytes:
    return _query(kind, _GET_LIMITS, 0, sequence)


def change(operation: Operation, kind: int, sequence: int) -> bytes:
    """The request for a change of an endpoint or the limits; ValueError for any other.

    Deleting an endpoint with id 0 closes the initial subflows from its address, which have
    that id for good; with any other id, the id alone names it.  Changing sends the flags as
    they should be, backup and fullmesh: the kernel ignores the others here.
    """
    verb, value, _ = operation
    if isinstance(value, Endpoint):
        if verb == "add":
            return _query(kind, _ADD_ADDR, NLM_F_ACK, sequence, _endpoint(value))
        named = put_u8(_ID, value.id)
        if verb == "delete":
            if not value.id:
                named += _address(value.address)
            nested = put(_ADDR | NLA_F_NESTED, named)
            return _query(kind, _DEL_ADDR, NLM_F_ACK, sequence, nested)
        if verb == "change" and value.id:
            nested = put(_ADDR | NLA_F_NESTED, named + put_u32(_FLAGS, value.flags))
            return _query(kind, _SET_FLAGS, NLM_F_ACK, sequence, nested)
    elif isinstance(value, Limits) and verb == "change":
        numbers = put_u32(_RCV_ADD_ADDRS, value.add_addr_accepted) + put_u32(
            _SUBFLOWS, value.subflows
        )
        return _query(kind, _SET_LIMITS, NLM_F_ACK, sequence, numbers)
    raise ValueError(f"mptcp_pm cannot {verb} a {type(value).__name__}")


def _address(address: str) -> bytes:
    number = family_of(address)
    return put(_FAMILY, U16.pack(number)) + put_address(
        _ADDR6 if number == AF_INET6 else _ADDR4, inet_pton(number, address)
    )


def _endpoint(value: Endpoint) -> bytes:
    parts = [_address(value.address)]
    if value.id:
        parts.append(put_u8(_ID, value.id))
    if value.device:
        parts.append(put_u32(_IF_IDX, value.device))
    if value.flags:
        parts.append(put_u32(_FLAGS, value.flags))
    if value.port:
        parts.append(put(_PORT, U16.pack(value.port)))
    return put(_ADDR | NLA_F_NESTED, b"".join(parts))


def endpoint(body: bytes) -> Endpoint:
    """One answer to dump_endpoints().  DecodeError."""
    try:
        told = attributes(attributes(body, _GENL.size)[_ADDR])
        packed = told.get(_ADDR4) or told[_ADDR6]
        device, flags, port = told.get(_IF_IDX), told.get(_FLAGS), told.get(_PORT)
        return Endpoint(
            inet_ntop(AF_INET if _ADDR4 in told else AF_INET6, packed),
            S32.unpack(device)[0] if device else 0,
            U32.unpack(flags)[0] if flags else 0,
            U8.unpack(told.get(_ID, b"\0"))[0],
            U16.unpack(port)[0] if port else 0,
        )
    except (error, KeyError, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def limits(body: bytes) -> Limits:
    """The answer to get_limits().  DecodeError."""
    try:
        told = attributes(body, _GENL.size)
        return Limits(U32.unpack(told[_SUBFLOWS])[0], U32.unpack(told[_RCV_ADD_ADDRS])[0])
    except (error, KeyError) as problem:
        raise DecodeError(str(problem)) from None


def probe(kind: int, sequence: int, candidate: int) -> bytes:
    """Ask whether a limit of `candidate` would be accepted, and change nothing.

    Both limits are checked before either is set (net/mptcp/pm_kernel.c), and the second is
    one that no kernel accepts: the request always fails with EINVAL, and the place of the
    error says how far the kernel came.
    """
    numbers = put_u32(_RCV_ADD_ADDRS, candidate) + put_u32(_SUBFLOWS, _TOO_MANY)
    return _query(kind, _SET_LIMITS, NLM_F_ACK, sequence, numbers)


def accepted(ack: Ack) -> bool | None:
    """What the answer to a probe means; None when the kernel does not say (see OLD_CAP)."""
    return {_FIRST: False, _SECOND: True}.get(ack.offset)


def cap(accepts: Callable[[int], bool | None]) -> int:
    """The highest limit that the kernel accepts, by bisection: nine questions at most.

    `accepts` sends a probe and returns accepted() of its answer.  0 … 255 are asked about,
    since the kernel counts in an unsigned char.
    """
    low, high = 0, 256
    while high - low > 1:
        middle = (low + high) // 2
        verdict = accepts(middle)
        if verdict is None:
            return DEFAULT_CAP
        low, high = (middle, high) if verdict else (low, middle)
    return low


def event(body: bytes) -> Event:
    """One message of the group mptcp_pm_events.  DecodeError."""
    try:
        command, _ = _GENL.unpack_from(body)
        told = attributes(body, _GENL.size)
        get = told.get
        token, device, timeout, reason = get(1), get(15), get(14), get(16)
        flags = U16.unpack(get(13, b"\0\0"))[0]
        return Event(
            EVENTS.get(command, str(command)),
            U32.unpack(token)[0] if token else 0,
            U8.unpack(get(3, b"\0"))[0],
            U8.unpack(get(4, b"\0"))[0],
            _end(get(5), get(6)),
            _end(get(7), get(8)),
            _BE16.unpack(get(9, b"\0\0"))[0],
            _BE16.unpack(get(10, b"\0\0"))[0],
            S32.unpack(device)[0] if device else 0,
            any(get(11, b"")),
            U8.unpack(get(12, b"\0"))[0],
            flags,
            U32.unpack(timeout)[0] if timeout else 0,
            U32.unpack(reason)[0] if reason else 0,
            any(get(18, b"")) or flags & _SERVER_SIDE != 0,
        )
    except (error, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def _end(four: bytes | None, six: bytes | None) -> str:
    if four is not None:
        return inet_ntop(AF_INET, four)
    return inet_ntop(AF_INET6, six) if six is not None else ""
