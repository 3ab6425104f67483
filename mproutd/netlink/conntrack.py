"""Connection tracking over nfnetlink: find the entries of an address, and delete them.  Pure.

The kernel filters the dump by CTA_FILTER since Linux 5.8; older ones send all entries, so the
replies are filtered again.

Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, inet_pton
from struct import Struct
from typing import NamedTuple

from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    NLM_F_DUMP,
    DecodeError,
    attributes,
    put,
    put_address,
    put_u32,
    request,
)

NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
"""NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*."""
_NFGENMSG = Struct("=BBH")
_NESTED = 0x8000
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _IP_V4_DST, _IP_V6_DST = 1, 2, 4
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS, _IP_DST = 1, 2, 2


class Entry(NamedTuple):
    """What identifies an entry, so that none that replaced it is deleted."""

    family: int
    original: bytes
    """CTA_TUPLE_ORIG's payload."""
    id: bytes
    zone: bytes = b""


def requests(address: str, family: int) -> tuple[Callable[[int], bytes], ...]:
    """The dumps that together return every entry of `address`.

    Outgoing connections, masqueraded or local, have it as the destination of the reply; incoming
    ones, forwarded to a host behind or not, as the original destination.
    """
    packed = inet_pton(family, address)
    destination = put_address(_IP_V4_DST if family == AF_INET else _IP_V6_DST, packed)
    pair = put(_TUPLE_IP | _NESTED, destination)

    def dump(kind: int, flags: int) -> Callable[[int], bytes]:
        body = _NFGENMSG.pack(family, 0, 0)
        body += put(kind | _NESTED, pair) + put(_FILTER | _NESTED, put_u32(flags, _IP_DST))
        return lambda sequence: request(_GET, NLM_F_DUMP, sequence, body)

    return dump(_TUPLE_REPLY, _FILTER_REPLY_FLAGS), dump(_TUPLE_ORIG, _FILTER_ORIG_FLAGS)


def entry(body: bytes, address: str, family: int) -> Entry | None:
    """Decode an entry of a dump; None when it does not concern `address`.  DecodeError."""
    if len(body) < _NFGENMSG.size:
        raise DecodeError("shorter than nfgenmsg")
    if body[0] != family:
        return None
    attrs = attributes(body, _NFGENMSG.size)
    packed = inet_pton(family, address)
    destination = _IP_V4_DST if family == AF_INET else _IP_V6_DST
    for kind in (_TUPLE_ORIG, _TUPLE_REPLY):
        addresses = attributes(attributes(attrs.get(kind, b"")).get(_TUPLE_IP, b""))
        if addresses.get(destination) == packed and _TUPLE_ORIG in attrs:
            return Entry(family, attrs[_TUPLE_ORIG], attrs.get(_ID, b""), attrs.get(_ZONE, b""))
    return None


def delete(target: Entry, sequence: int) -> bytes:
    """Delete this entry; ENOENT when it is gone or was replaced."""
    body = _NFGENMSG.pack(target.family, 0, 0) + put(_TUPLE_ORIG | _NESTED, target.original)
    if target.id:
        body += put(_ID, target.id)
    if target.zone:
        body += put(_ZONE, target.zone)
    return request(_DELETE, NLM_F_ACK, sequence, body)
