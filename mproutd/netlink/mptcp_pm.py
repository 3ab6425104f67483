"""The generic netlink family mptcp_pm: endpoints, limits and the path manager's events.  Pure.

Invariants: there is no flush, which would delete the endpoints of other programs too; probing for
the highest limit changes nothing (see probe()).  Broken input raises DecodeError, a request that
cannot be encoded ValueError, and nothing else.

Sources: linux/mptcp_pm.h, linux/genetlink.h.
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

SHARED_MAX = 8
"""MPTCP_PM_ADDR_MAX: the highest limit of every kernel that does not report which attribute was
faulty.  Where limits go no higher, it bounds the number of endpoints as well."""

MAX_ID = 255
"""Endpoints have the ids from 1 to this one."""

_GENL = Struct("=BBxx")
_BE16 = Struct("!H")
_INVALID_LIMIT = 0xFFFFFFFF
_FIRST_ATTRIBUTE, _SECOND_ATTRIBUTE = 20, 28
"""Offsets in the request of probe()."""


class Family(NamedTuple):
    """A generic netlink family of the running kernel; the numbers change with each boot."""

    id: int
    """The message type of its requests, replies and events."""
    groups: Mapping[str, int]
    """Multicast group name → number, for NETLINK_ADD_MEMBERSHIP."""


class Event(NamedTuple):
    """An event of an MPTCP connection (enum mptcp_event_type)."""

    kind: str
    """A name of EVENTS, or the number of an event of a later kernel."""
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
    """Requested by the peer; only the receiver of MP_PRIO gets an event."""
    error: int = 0
    """errno(3) with which the subflow closed; 0 for none."""
    flags: int = 0
    timeout: int = 0
    reset_reason: int = 0
    """Of the MP_TCPRST that closed the subflow (RFC 8684, section 3.6)."""
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
"""linux/mptcp.h, MPTCP_PM_EV_FLAG_SERVER_SIDE, which replaces the attribute."""


def get_family(sequence: int, name: str = FAMILY) -> bytes:
    """Request a family's numbers; ENOENT when the kernel has no such family."""
    body = _GENL.pack(_CTRL_CMD_GETFAMILY, 1) + put(_CTRL_FAMILY_NAME, name.encode() + b"\0")
    return request(GENL_ID_CTRL, 0, sequence, body)


def family(body: bytes) -> Family:
    """Decode the reply to get_family().  DecodeError."""
    try:
        attrs = attributes(body, _GENL.size)
        groups = {}
        for payload in attributes(attrs.get(_CTRL_MCAST_GROUPS, b"")).values():
            group = attributes(payload)
            groups[text(group[_GROUP_NAME])] = U32.unpack(group[_GROUP_ID])[0]
        return Family(U16.unpack(attrs[_CTRL_FAMILY_ID])[0], groups)
    except (error, KeyError, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def _request(kind: int, command: int, flags: int, sequence: int, *parts: bytes) -> bytes:
    return request(kind, flags, sequence, _GENL.pack(command, 1) + b"".join(parts))


def dump_endpoints(kind: int, sequence: int) -> bytes:
    """Request all endpoints of the namespace.  Here and below, `kind` is Family.id."""
    return _request(kind, _GET_ADDR, NLM_F_DUMP, sequence)


def get_endpoint(kind: int, sequence: int, number: int) -> bytes:
    """Request the endpoint with this id; EINVAL when there is none."""
    nested = put(_ADDR | NLA_F_NESTED, put_u8(_ID, number))
    return _request(kind, _GET_ADDR, 0, sequence, nested)


def get_limits(kind: int, sequence: int) -> bytes:
    return _request(kind, _GET_LIMITS, 0, sequence)


def change(operation: Operation, kind: int, sequence: int) -> bytes:
    """The request for a change of an endpoint or the limits; ValueError for any other.

    Deleting an endpoint with id 0 closes the initial subflows from its address, which always have
    that id; any other endpoint is identified by its id alone.  A change sends all flags; the
    kernel only looks at backup and fullmesh.
    """
    verb, value, _ = operation
    if isinstance(value, Endpoint):
        if verb == "add":
            return _request(kind, _ADD_ADDR, NLM_F_ACK, sequence, _endpoint(value))
        identity = put_u8(_ID, value.id)
        if verb == "delete":
            if not value.id:
                identity += _address(value.address)
            nested = put(_ADDR | NLA_F_NESTED, identity)
            return _request(kind, _DEL_ADDR, NLM_F_ACK, sequence, nested)
        if verb == "change" and value.id:
            nested = put(_ADDR | NLA_F_NESTED, identity + put_u32(_FLAGS, value.flags))
            return _request(kind, _SET_FLAGS, NLM_F_ACK, sequence, nested)
    elif isinstance(value, Limits) and verb == "change":
        numbers = put_u32(_RCV_ADD_ADDRS, value.add_addr_accepted) + put_u32(
            _SUBFLOWS, value.subflows
        )
        return _request(kind, _SET_LIMITS, NLM_F_ACK, sequence, numbers)
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
    """Decode one reply to dump_endpoints().  DecodeError."""
    try:
        attrs = attributes(attributes(body, _GENL.size)[_ADDR])
        packed = attrs.get(_ADDR4) or attrs[_ADDR6]
        device, flags, port = attrs.get(_IF_IDX), attrs.get(_FLAGS), attrs.get(_PORT)
        return Endpoint(
            inet_ntop(AF_INET if _ADDR4 in attrs else AF_INET6, packed),
            S32.unpack(device)[0] if device else 0,
            U32.unpack(flags)[0] if flags else 0,
            U8.unpack(attrs.get(_ID, b"\0"))[0],
            U16.unpack(port)[0] if port else 0,
        )
    except (error, KeyError, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def limits(body: bytes) -> Limits:
    """Decode the reply to get_limits().  DecodeError."""
    try:
        attrs = attributes(body, _GENL.size)
        return Limits(U32.unpack(attrs[_SUBFLOWS])[0], U32.unpack(attrs[_RCV_ADD_ADDRS])[0])
    except (error, KeyError) as problem:
        raise DecodeError(str(problem)) from None


def probe(kind: int, sequence: int, candidate: int) -> bytes:
    """Test whether the kernel would accept a limit of `candidate`, without changing anything.

    The kernel checks both limits before it sets either (net/mptcp/pm_kernel.c), and the second is
    one that no kernel accepts.  So the request always fails with EINVAL, and the offset of the
    error shows which limit the kernel rejected.
    """
    numbers = put_u32(_RCV_ADD_ADDRS, candidate) + put_u32(_SUBFLOWS, _INVALID_LIMIT)
    return _request(kind, _SET_LIMITS, NLM_F_ACK, sequence, numbers)


def accepted(ack: Ack) -> bool | None:
    """The result of a probe(); None when the kernel sends no offset (see SHARED_MAX)."""
    return {_FIRST_ATTRIBUTE: False, _SECOND_ATTRIBUTE: True}.get(ack.offset)


def max_limit(accepts: Callable[[int], bool | None]) -> int:
    """The highest limit that the kernel accepts, by bisection of 0 … 255 (an unsigned char).

    `accepts` sends a probe and returns accepted() of its acknowledgement.
    """
    low, high = 0, 256
    while high - low > 1:
        middle = (low + high) // 2
        is_accepted = accepts(middle)
        if is_accepted is None:
            return SHARED_MAX
        low, high = (middle, high) if is_accepted else (low, middle)
    return low


def max_endpoints(max_limit: int) -> int:
    """How many endpoints a kernel with this highest limit takes, at most.

    It cannot be probed without adding them.  A kernel that takes fewer rejects the next one with
    ERANGE.
    """
    return SHARED_MAX if max_limit <= SHARED_MAX else MAX_ID


def event(body: bytes) -> Event:
    """Decode a message of the group mptcp_pm_events.  DecodeError."""
    try:
        command, _ = _GENL.unpack_from(body)
        attrs = attributes(body, _GENL.size)
        get = attrs.get
        token, device, timeout, reason = get(1), get(15), get(14), get(16)
        flags = U16.unpack(get(13, b"\0\0"))[0]
        return Event(
            EVENTS.get(command, str(command)),
            U32.unpack(token)[0] if token else 0,
            U8.unpack(get(3, b"\0"))[0],
            U8.unpack(get(4, b"\0"))[0],
            _event_address(get(5), get(6)),
            _event_address(get(7), get(8)),
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


def _event_address(ipv4: bytes | None, ipv6: bytes | None) -> str:
    if ipv4 is not None:
        return inet_ntop(AF_INET, ipv4)
    return inet_ntop(AF_INET6, ipv6) if ipv6 is not None else ""
