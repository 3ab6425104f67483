"""ICMP echo messages (RFC 792, RFC 4443) as bytes.  Pure.

What must hold: whatever arrives is a reply or nothing; nothing raises.
"""

from __future__ import annotations

from socket import AF_INET6
from struct import Struct
from typing import NamedTuple

_ECHO = Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence."""
_TYPES = {False: (8, 0), True: (128, 129)}
"""IPv6? → (request, reply)."""


class Reply(NamedTuple):
    """An echo reply."""

    identifier: int
    sequence: int
    data: bytes


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(family: int, identifier: int, sequence: int, data: bytes) -> bytes:
    """An echo request.  The kernel fills in the checksum of ICMPv6 (RFC 3542, 3.1)."""
    kind = _TYPES[family == AF_INET6][0]
    whole = _ECHO.pack(kind, 0, 0, identifier, sequence) + data
    if family == AF_INET6:
        return whole
    return _ECHO.pack(kind, 0, checksum(whole), identifier, sequence) + data


def reply(family: int, packet: bytes, with_header: bool) -> Reply | None:
    """The echo reply in a packet; None if it is something else.

    `with_header`: a raw IPv4 socket gives the IP header too.
    """
    if with_header:
        if len(packet) < 20:
            return None
        packet = packet[(packet[0] & 15) * 4 :]
    if len(packet) < _ECHO.size:
        return None
    kind, code, _, identifier, sequence = _ECHO.unpack_from(packet)
    if (kind, code) != (_TYPES[family == AF_INET6][1], 0):
        return None
    return Reply(identifier, sequence, packet[_ECHO.size :])
