"""Connection tracking over nfnetlink: find the entries of an address or a mark, and delete them.

Pure.  The kernel filters a dump by CTA_FILTER since Linux 5.8, and by CTA_STATUS since 5.18; older
ones send more entries, so the replies are filtered again.

Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from socket import AF_INET, inet_ntop, inet_pton
from struct import Struct, error
from typing import NamedTuple

from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    NLM_F_DUMP,
    DecodeError,
    attribute,
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
_BE32 = Struct(">I")
_NESTED = 0x8000
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _MARK, _ID, _ZONE = 1, 2, 3, 8, 12, 18
_MARK_MASK, _FILTER, _STATUS_MASK = 21, 25, 26
_TUPLE_IP, _TUPLE_PROTO, _IP_V4_DST, _IP_V6_DST = 1, 2, 2, 4
OFFLOADED = 1 << 14 | 1 << 15
"""IPS_OFFLOAD and IPS_HW_OFFLOAD: a flowtable forwards the connection past the rules."""
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


class Flow(NamedTuple):
    """A connection as it began."""

    entry: Entry
    source: str
    destination: str
    status: int
    mark: int


def marked_requests(
    marks: Iterable[int], mask: int, family: int, status: int = 0
) -> list[Callable[[int], bytes]]:
    """A dump for each of these marks; with `status`, of entries with one of its bits."""
    head = _NFGENMSG.pack(family, 0, 0)
    dumps: list[Callable[[int], bytes]] = []
    for bit in _bits(status) or [0]:
        chosen = put(_STATUS, _BE32.pack(bit)) + put(_STATUS_MASK, _BE32.pack(bit)) if bit else b""
        for mark in marks:
            body = head + put(_MARK, _BE32.pack(mark)) + put(_MARK_MASK, _BE32.pack(mask)) + chosen
            dumps.append(partial(request, _GET, NLM_F_DUMP, body=body))
    return dumps


def all_request(sequence: int) -> bytes:
    """A dump of every entry."""
    return request(_GET, NLM_F_DUMP, sequence, _NFGENMSG.pack(0, 0, 0))


def mark_of(body: bytes) -> int:
    """The mark of an entry of a dump.  DecodeError."""
    mark = attribute(body, _NFGENMSG.size, _MARK)
    return _BE32.unpack(mark)[0] if mark and len(mark) == 4 else 0


def flow(body: bytes) -> Flow | None:
    """Decode an entry of a dump; None when it has no addresses.  DecodeError."""
    if len(body) < _NFGENMSG.size:
        raise DecodeError("shorter than nfgenmsg")
    family = body[0]
    attrs = attributes(body, _NFGENMSG.size)
    original = attrs.get(_TUPLE_ORIG, b"")
    addresses = attributes(attributes(original).get(_TUPLE_IP, b""))
    try:
        destination = _IP_V4_DST if family == AF_INET else _IP_V6_DST
        source, target = addresses[destination - 1], addresses[destination]
        return Flow(
            Entry(family, original, attrs.get(_ID, b""), attrs.get(_ZONE, b"")),
            inet_ntop(family, source),
            inet_ntop(family, target),
            _BE32.unpack(attrs.get(_STATUS, bytes(4)))[0],
            _BE32.unpack(attrs.get(_MARK, bytes(4)))[0],
        )
    except KeyError:
        return None
    except (ValueError, OSError, error) as problem:
        raise DecodeError(str(problem)) from None


class End(NamedTuple):
    """What the packets of one direction have."""

    source: str
    destination: str
    protocol: int
    source_port: int
    """0 for a protocol without ports, as the next one."""
    destination_port: int


class Connection(NamedTuple):
    """An entry with both of its directions."""

    original: End
    reply: End
    mark: int


def connection(body: bytes) -> Connection | None:
    """Decode an entry of a dump; None when it has no addresses.  DecodeError."""
    if len(body) < _NFGENMSG.size:
        raise DecodeError("shorter than nfgenmsg")
    attrs = attributes(body, _NFGENMSG.size)
    ends = [_end(attrs.get(kind, b""), body[0]) for kind in (_TUPLE_ORIG, _TUPLE_REPLY)]
    original, reply = ends
    return Connection(original, reply, mark_of(body)) if original and reply else None


def _end(pair: bytes, family: int) -> End | None:
    parts = attributes(pair)
    addresses = attributes(parts.get(_TUPLE_IP, b""))
    proto = attributes(parts.get(_TUPLE_PROTO, b""))
    destination = _IP_V4_DST if family == AF_INET else _IP_V6_DST
    try:
        source, target = addresses[destination - 1], addresses[destination]
        return End(
            inet_ntop(family, source),
            inet_ntop(family, target),
            int.from_bytes(proto.get(1, b""), "big"),
            int.from_bytes(proto.get(2, b""), "big"),
            int.from_bytes(proto.get(3, b""), "big"),
        )
    except KeyError:
        return None
    except (ValueError, OSError) as problem:
        raise DecodeError(str(problem)) from None


def _bits(value: int) -> list[int]:
    return [1 << bit for bit in range(value.bit_length()) if value >> bit & 1]


def delete(target: Entry, sequence: int) -> bytes:
    """Delete this entry; ENOENT when it is gone or was replaced."""
    body = _NFGENMSG.pack(target.family, 0, 0) + put(_TUPLE_ORIG | _NESTED, target.original)
    if target.id:
        body += put(_ID, target.id)
    if target.zone:
        body += put(_ZONE, target.zone)
    return request(_DELETE, NLM_F_ACK, sequence, body)
