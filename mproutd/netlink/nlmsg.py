"""Netlink framing: headers, attributes, acknowledgements.  Pure.

pyroute2's message classes cost 60 to 200 µs a message, this costs about one, and a pass reads
hundreds.

Invariants: input of any kind either decodes or raises DecodeError, in time proportional to its
length (every step advances by at least four bytes).

Integers are in host order (netlink(7)).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from struct import Struct, error
from typing import NamedTuple, TypeVar

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x300, 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
"""linux/netlink.h; the same bits mean different things in a request and in a reply."""

NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS = 1, 2

HEADER = Struct("=LHHLL")
U8, U16, U32, S32 = Struct("=B"), Struct("=H"), Struct("=L"), Struct("=l")
_HEAD = Struct("=HH")
_U8, _U32 = Struct("=HHB3x"), Struct("=HHL")
_IN4, _IN6 = Struct("=HH4s"), Struct("=HH16s")

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class DecodeError(ValueError):
    """A message that no kernel sends: too short, or with a length that does not fit."""


class Message(NamedTuple):
    """One netlink message."""

    type: int
    flags: int
    sequence: int
    port: int
    """nlmsg_pid: of the socket whose request caused an event; 0 for the kernel itself."""
    body: bytes
    """Everything after the 16 bytes of the header."""

    @property
    def interrupted(self) -> bool:
        """The table changed during this dump, which may lack objects and should be repeated."""
        return bool(self.flags & NLM_F_DUMP_INTR)


class Ack(NamedTuple):
    """The outcome of a request or a dump."""

    errno: int
    """Positive, as in errno(3); 0 for success."""
    text: str = ""
    """The kernel's explanation (NETLINK_EXT_ACK); a warning if the request succeeded."""
    offset: int = 0
    """Of the faulty attribute, in bytes from the start of the request; 0 for unknown."""


def messages(data: bytes) -> list[Message]:
    """The messages in the data of one recv(2).  DecodeError."""
    decoded = []
    unpack, end, offset = HEADER.unpack_from, len(data), 0
    try:
        while offset < end:
            length, kind, flags, sequence, port = unpack(data, offset)
            last = offset + length
            if length < 16 or last > end:
                raise DecodeError(f"message of {length} bytes, {end - offset} are left")
            decoded.append(Message(kind, flags, sequence, port, data[offset + 16 : last]))
            offset = (last + 3) & ~3
    except error as problem:
        raise DecodeError(str(problem)) from None
    return decoded


def spans(data: bytes, offset: int = 0) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each attribute's payload.  DecodeError."""
    unpack, end = _HEAD.unpack_from, len(data)
    try:
        while offset < end:
            length, kind = unpack(data, offset)
            last = offset + length
            if length < 4 or last > end:
                raise DecodeError(f"attribute of {length} bytes, {end - offset} are left")
            yield kind & NLA_TYPE_MASK, offset + 4, last
            offset = (last + 3) & ~3
    except error as problem:
        raise DecodeError(str(problem)) from None


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attribute type → payload; the last one of a type that repeats.  DecodeError.

    Repeats spans() inline, since a generator would cost a third more.
    """
    payloads = {}
    unpack, end = _HEAD.unpack_from, len(data)
    try:
        while offset < end:
            length, kind = unpack(data, offset)
            last = offset + length
            if length < 4 or last > end:
                raise DecodeError(f"attribute of {length} bytes, {end - offset} are left")
            payloads[kind & NLA_TYPE_MASK] = data[offset + 4 : last]
            offset = (last + 3) & ~3
    except error as problem:
        raise DecodeError(str(problem)) from None
    return payloads


def attribute(data: bytes, offset: int, wanted: int) -> bytes | None:
    """The payload of the first attribute of one type; cheaper if there are many."""
    for kind, start, end in spans(data, offset):
        if kind == wanted:
            return data[start:end]
    return None


def text(payload: bytes) -> str:
    """A NUL-terminated string; a name that is not UTF-8 survives the round trip."""
    return payload.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def acknowledgement(message: Message) -> Ack:
    """Decode NLMSG_ERROR, or the NLMSG_DONE that ends a dump.  DecodeError."""
    kind, flags, _, _, body = message
    try:
        (code,) = S32.unpack_from(body)
        if not flags & NLM_F_ACK_TLVS:
            return Ack(-code)
        offset = 4
        if kind == NLMSG_ERROR:
            # The request follows: only its header after success or with NETLINK_CAP_ACK, else
            # all of it.
            offset = 20
            if code and not flags & NLM_F_CAPPED:
                offset = 4 + (U32.unpack_from(body, 4)[0] + 3 & ~3)
        attrs = attributes(body, offset)
        position = attrs.get(NLMSGERR_ATTR_OFFS)
        return Ack(
            -code,
            text(attrs.get(NLMSGERR_ATTR_MSG, b"")),
            U32.unpack(position)[0] if position else 0,
        )
    except error as problem:
        raise DecodeError(str(problem)) from None


class DecodeCache(dict[bytes, T]):
    """Message body → decoded value, for dumps that repeat the same bytes pass after pass.

    `cache[body]` decodes a new body.  Entries never become stale, since a value depends on the
    bytes alone.  The cache is emptied when it has `limit` entries.
    """

    __slots__ = ("decode", "limit")

    def __init__(self, decode: Callable[[bytes], T], limit: int = 1024) -> None:
        super().__init__()
        self.decode = decode
        self.limit = limit

    def __missing__(self, body: bytes) -> T:
        value = self.decode(body)
        if len(self) >= self.limit:
            self.clear()
        self[body] = value
        return value


class EncodeCache(dict[K, bytes]):
    """Operation → its request, for operations that repeat.

    Emptied when it has `limit` entries; larger batches are encoded as they come.
    """

    __slots__ = ("encode", "limit")

    def __init__(self, encode: Callable[[K, int], bytes], limit: int = 256) -> None:
        """`encode` gets the operation and a sequence number."""
        super().__init__()
        self.encode = encode
        self.limit = limit

    def __missing__(self, operation: K) -> bytes:
        message = self.encode(operation, 0)
        if len(self) >= self.limit:
            self.clear()
        self[operation] = message
        return message

    def requests(self, operations: Sequence[K]) -> list[Callable[[int], bytes]]:
        """The requests, in order, without their sequence numbers."""
        if len(operations) > self.limit // 4:
            return [partial(self.encode, operation) for operation in operations]
        return [partial(_numbered, self[operation]) for operation in operations]


def _numbered(message: bytes, sequence: int) -> bytes:
    return message[:8] + U32.pack(sequence) + message[12:]


def request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A complete message with NLM_F_REQUEST; the kernel fills in the port."""
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def without_acknowledgement(message: bytes) -> bytes:
    """The same request, acknowledged only if it fails."""
    (flags,) = U16.unpack_from(message, 6)
    return message[:6] + U16.pack(flags & ~NLM_F_ACK) + message[8:]


def put(kind: int, payload: bytes) -> bytes:
    """An attribute, padded to four bytes.  A nested one needs NLA_F_NESTED in its kind."""
    length = len(payload)
    return _HEAD.pack(length + 4, kind) + payload + bytes(-length & 3)


def put_u8(kind: int, value: int) -> bytes:
    return _U8.pack(5, kind, value)


def put_u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def put_address(kind: int, packed: bytes) -> bytes:
    """An address in network order, 4 or 16 bytes."""
    if len(packed) == 4:
        return _IN4.pack(8, kind, packed)
    return _IN6.pack(20, kind, packed)
