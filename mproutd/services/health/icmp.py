"""Probes by ICMP echo: one socket for all hosts of a path.

The kernel's ping sockets (net/ipv4/ping.c) where net.ipv4.ping_group_range permits them, since
they deliver only our own replies; else raw sockets, which need CAP_NET_RAW.

Invariant: only the first reply to a request of ours, from the address it was sent to, counts.
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

MAX_REPLIES_PER_WAKEUP = 64
"""So that a flood does not delay passes."""
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
"""linux/icmp.h, linux/icmpv6.h"""
_MAX_PACKET_BYTES = 8192


class IcmpProber:
    """Probes by ICMP or ICMPv6 echo requests."""

    def __init__(self, loop: Loop, path: ProbePath, size: int, max_ttl: int) -> None:
        """`size`: bytes of data, at least 16.  OSError when no socket can be made."""
        self._loop, self._path, self._size = loop, path, size
        self._raw = False
        try:
            self._open(socket.SOCK_DGRAM, max_ttl)
            self._identifier = self._socket.getsockname()[1]
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
                raise
            self._raw = True
            self._open(socket.SOCK_RAW, max_ttl)
            self._identifier = int.from_bytes(os.urandom(2), "big")
            self._filter_replies()
        self._token = os.urandom(8)
        self._sequence = int.from_bytes(os.urandom(2), "big")
        self._pending: dict[int, tuple[str, bytes, Done]] = {}
        """Sequence number → (address, data, callback)."""
        loop.watch(self._socket, self._on_packets)

    def _open(self, kind: int, max_ttl: int) -> None:
        ipv6 = self._path.family == AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if ipv6 else socket.IPPROTO_ICMP
        self._socket = open_probe_socket(self._path, kind, protocol, max_ttl)

    def _filter_replies(self) -> None:
        """Let a raw socket receive echo replies only."""
        if self._path.family == AF_INET6:
            block = bytearray(b"\xff" * 32)
            block[129 // 32 * 4 : 129 // 32 * 4 + 4] = struct.pack(
                "=I", 0xFFFFFFFF & ~(1 << 129 % 32)
            )
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(block))
        else:
            passed = struct.pack("=I", 0xFFFFFFFF & ~1)
            self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, passed)

    def probe(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Send one echo request; see Prober."""
        while self._sequence in self._pending:
            self._sequence = (self._sequence + 1) & 0xFFFF
        number, self._sequence = self._sequence, (self._sequence + 1) & 0xFFFF
        data = (self._token + os.urandom(8)).ljust(self._size, b"\0")
        packet = request(self._path.family, self._identifier, number, data)
        try:
            self._socket.sendto(packet, (address, 0))
        except OSError as error:
            if error.errno in LOCAL_ERRORS:
                raise
            # No route or no neighbour: counts as lost.
        self._pending[number] = (address, data, done)
        return lambda: self._cancel(number, done)

    def _cancel(self, number: int, done: Done) -> None:
        if number in self._pending and self._pending[number][2] is done:
            del self._pending[number]

    def _on_packets(self) -> None:
        for _ in range(MAX_REPLIES_PER_WAKEUP):
            try:
                packet, sender = self._socket.recvfrom(_MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # a pending ICMP error: its probe counts as lost
            received = reply(self._path.family, packet, self._raw and self._path.family != AF_INET6)
            if received is None or received.identifier != self._identifier:
                continue
            address, data, done = self._pending.get(received.sequence, ("", b"", _ignore))
            if data == received.data and data and _same_host(address, sender[0]):
                del self._pending[received.sequence]
                done("")

    def close(self) -> None:
        self._pending.clear()
        close_socket(self._loop, self._socket)


def _ignore(error: str) -> None:
    pass


def _same_host(address: str, sender: str) -> bool:
    """Whether the sender is `address`; a link-local sender has its scope after a %."""
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
    """An echo request.  The kernel computes the checksum of ICMPv6 (RFC 3542, 3.1)."""
    kind = _TYPES[family == AF_INET6][0]
    message = _ECHO.pack(kind, 0, 0, identifier, sequence) + data
    if family == AF_INET6:
        return message
    return _ECHO.pack(kind, 0, checksum(message), identifier, sequence) + data


def reply(family: int, packet: bytes, with_header: bool) -> Reply | None:
    """The echo reply in a packet; None for anything else.

    `with_header`: a raw IPv4 socket delivers the IP header too.
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
