"""Pings of one line: one socket for all hosts, whatever their number.

The kernel's own ping sockets (net/ipv4/ping.c) where net.ipv4.ping_group_range lets us, since
they bring our replies alone; else raw ones, which need CAP_NET_RAW.  What must hold: only the
first reply to something that we asked, from whom we asked, counts.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from socket import AF_INET6
from struct import Struct
from typing import NamedTuple

from mproutd.eventloop import Loop
from mproutd.services.health.probe import (
    LOCAL_ERRORS,
    Done,
    ProbePath,
    close_socket,
    open_probe_socket,
)

MOST = 64
"""Replies read at one wake-up, so that a flood does not keep the loop."""
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
"""linux/icmp.h, linux/icmpv6.h"""
_RECEIVE = 8192


class IcmpProber:
    """Asks by ICMP echo."""

    def __init__(self, loop: Loop, way: ProbePath, size: int, max_ttl: int) -> None:
        """`size`: bytes of data, at least 16.  OSError when no socket can be made."""
        self._loop, self._way, self._size = loop, way, size
        six = way.family == AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        self._raw = False
        try:
            self._socket = open_probe_socket(way, socket.SOCK_DGRAM, protocol, max_ttl)
            self._identifier = self._socket.getsockname()[1]
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
                raise
            self._raw = True
            self._socket = open_probe_socket(way, socket.SOCK_RAW, protocol, max_ttl)
            self._identifier = int.from_bytes(os.urandom(2), "big")
            if six:
                block = bytearray(b"\xff" * 32)
                block[129 // 32 * 4 : 129 // 32 * 4 + 4] = struct.pack(
                    "=I", 0xFFFFFFFF & ~(1 << 129 % 32)
                )
                self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(block))
            else:
                allowed = struct.pack("=I", 0xFFFFFFFF & ~1)
                self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, allowed)
        self._token = os.urandom(8)
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self._asked: dict[int, tuple[str, bytes, Done]] = {}
        loop.watch(self._socket, self._heard)

    def ask(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """One echo request.  OSError where none could be sent."""
        while self._sequence in self._asked:
            self._sequence = (self._sequence + 1) & 0xFFFF
        number, self._sequence = self._sequence, (self._sequence + 1) & 0xFFFF
        data = (self._token + os.urandom(8)).ljust(self._size, b"\0")
        packet = request(self._way.family, self._identifier, number, data)
        try:
            self._socket.sendto(packet, (address, 0))
        except OSError as error:
            if error.errno in LOCAL_ERRORS:
                raise
            # No route, or nobody there: as good as lost, and nothing will come.
        self._asked[number] = (address, data, done)
        return lambda: self._forget(number, done)

    def _forget(self, number: int, done: Done) -> None:
        if number in self._asked and self._asked[number][2] is done:
            del self._asked[number]

    def _heard(self) -> None:
        for _ in range(MOST):
            try:
                packet, sender = self._socket.recvfrom(_RECEIVE)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error that was waiting here: its probe is lost anyway
            found = reply(self._way.family, packet, self._raw and self._way.family != AF_INET6)
            if found is None or found.identifier != self._identifier:
                continue
            address, data, done = self._asked.get(found.sequence, ("", b"", _nothing))
            if data == found.data and data and _same(address, sender[0]):
                del self._asked[found.sequence]
                done("")

    def close(self) -> None:
        self._asked.clear()
        close_socket(self._loop, self._socket)


def _nothing(fault: str) -> None:
    pass


def _same(address: str, sender: str) -> bool:
    """Whether it is the one that was asked; a link-local sender has its link behind a %."""
    return sender.partition("%")[0] == address


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
