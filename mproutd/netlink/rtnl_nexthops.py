"""Nexthop objects: rtnetlink messages ↔ values.  Pure.

Like rtnl_decode.py and rtnl_encode.py, for RTM_NEWNEXTHOP and its relatives (Linux 5.3), whose
constants are those of linux/nexthop.h.
"""

from __future__ import annotations

from socket import inet_ntop, inet_pton
from struct import Struct, error

from mproutd.model import BUCKETS, NexthopObject, family_of
from mproutd.netlink.nlmsg import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    U16,
    U32,
    DecodeError,
    attributes,
    put,
    put_address,
    put_u32,
    request,
)

RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
RTM_GETNEXTHOPBUCKET = 118
_ID, _GROUP, _GROUP_TYPE, _OIF, _GATEWAY, _RES_GROUP = 1, 2, 3, 5, 6, 12
"""NHA_*."""
_BUCKETS, _IDLE_TIMER = 1, 2
"""NHA_RES_GROUP_*."""
_RESILIENT = 1
"""NEXTHOP_GRP_TYPE_RES."""
_ONLINK = 0x4
"""linux/rtnetlink.h, RTNH_F_ONLINK."""

_TICKS = 100
"""USER_HZ: the timers of a group in a second."""

NHMSG = Struct("=BBBxL")
_MEMBER = Struct("=LBBxx")
"""struct nexthop_grp: id, weight - 1, and that number's higher byte (Linux 6.12)."""


def nexthop_object(body: bytes) -> NexthopObject:
    """A nexthop object.  DecodeError."""
    try:
        family, _, protocol, flags = NHMSG.unpack_from(body)
        attrs = attributes(body, NHMSG.size)
        if _ID not in attrs:
            raise DecodeError("a nexthop object without an id")
        (number,) = U32.unpack(attrs[_ID])
        group = attrs.get(_GROUP)
        if group is not None:
            return _group(number, protocol, group, attrs)
        device, gateway = attrs.get(_OIF), attrs.get(_GATEWAY)
        return NexthopObject(
            number,
            family,
            U32.unpack(device)[0] if device else 0,
            inet_ntop(family, gateway) if gateway else "",
            flags & _ONLINK != 0,
            protocol=protocol,
        )
    except (error, ValueError, OSError) as problem:
        raise DecodeError(str(problem)) from None


def _group(number: int, protocol: int, group: bytes, attrs: dict[int, bytes]) -> NexthopObject:
    kind = attrs.get(_GROUP_TYPE)
    resilient = kind is not None and U16.unpack(kind)[0] == _RESILIENT
    timer = attributes(attrs.get(_RES_GROUP, b"")).get(_IDLE_TIMER)
    return NexthopObject(
        number,
        members=tuple(
            sorted(
                (member, weight + 1 + (high << 8))
                for member, weight, high in _MEMBER.iter_unpack(group)
            )
        ),
        resilient=resilient,
        idle_timer=U32.unpack(timer)[0] // _TICKS if timer else 0,
        protocol=protocol,
    )


def dump_nexthops(sequence: int) -> bytes:
    """All nexthop objects."""
    return request(RTM_GETNEXTHOP, NLM_F_DUMP, sequence, NHMSG.pack(0, 0, 0, 0))


def get_nexthop(sequence: int, number: int) -> bytes:
    """The nexthop object with this id, or ENOENT."""
    return request(RTM_GETNEXTHOP, 0, sequence, NHMSG.pack(0, 0, 0, 0) + put_u32(_ID, number))


def get_bucket(sequence: int, number: int) -> bytes:
    """A bucket of a group; EOPNOTSUPP where the kernel has no resilient groups (Linux 5.13)."""
    return request(RTM_GETNEXTHOPBUCKET, 0, sequence, NHMSG.pack(0, 0, 0, 0) + put_u32(_ID, number))


def change(verb: str, value: NexthopObject, sequence: int) -> bytes:
    """The request for a change; ValueError for a verb that nexthop objects do not have."""
    if verb == "delete":
        body = NHMSG.pack(0, 0, 0, 0) + put_u32(_ID, value.id)
        return request(RTM_DELNEXTHOP, NLM_F_ACK, sequence, body)
    flags = {"add": NLM_F_EXCL, "replace": NLM_F_REPLACE}.get(verb)
    if flags is None:
        raise ValueError(f"rtnetlink cannot {verb} a NexthopObject")
    body = _group_body(value) if value.members else _single_body(value)
    return request(RTM_NEWNEXTHOP, NLM_F_ACK | NLM_F_CREATE | flags, sequence, body)


def _single_body(value: NexthopObject) -> bytes:
    body = NHMSG.pack(value.family, 0, value.protocol, _ONLINK if value.onlink else 0)
    body += put_u32(_ID, value.id) + put_u32(_OIF, value.device)
    if value.gateway:
        body += put_address(_GATEWAY, inet_pton(family_of(value.gateway), value.gateway))
    return body


def _group_body(value: NexthopObject) -> bytes:
    members = b"".join(
        _MEMBER.pack(member, weight - 1 & 0xFF, weight - 1 >> 8) for member, weight in value.members
    )
    body = NHMSG.pack(0, 0, value.protocol, 0) + put_u32(_ID, value.id) + put(_GROUP, members)
    if value.resilient:
        timers = put(_BUCKETS, U16.pack(BUCKETS)) + put_u32(_IDLE_TIMER, value.idle_timer * _TICKS)
        body += put(_GROUP_TYPE, U16.pack(_RESILIENT)) + put(NLA_F_NESTED | _RES_GROUP, timers)
    return body
