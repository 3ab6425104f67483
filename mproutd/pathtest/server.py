"""The other end of a test: an echo for MPTCP that says what it saw.

It needs no right but to listen.  What must hold: a stranger can make it do little.  At most
CONNECTIONS at once, each for SECONDS and wording.BYTES of echo; it sends nothing before it was
greeted, shows nothing that it was sent, and ends by itself.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from mproutd.netlink import mptcp_info
from mproutd.pathtest import connection, protocol
from mproutd.pathtest.select import endpoint

MAX_CONNECTIONS = 16
"""At once; more wait in the kernel's queue, of the same length."""
MAX_CONNECTION_SECONDS = 10.0
"""That a connection may last."""
RECEIVE_BYTES = 16 << 10
"""Bytes read at once.  What waits to be sent is no more than the echo of one connection."""
COUNTER_INTERVAL = 0.5
"""Seconds: how old at least the counters are that a new connection's are compared with."""


class FallbackCounter:
    """What the kernel counted lately: was MPTCP asked for by a connection that came as plain TCP?

    No socket keeps its SYN here (TCP_SAVE_SYN is not for MPTCP sockets).  But the kernel counts
    each connection whose SYN asked for MPTCP and whose handshake then fell back
    (MPCapableFallbackACK).  Nothing counted: this one did not ask.  Something: it did, unless
    another connection of this machine fell back in the same two seconds.
    """

    def __init__(self) -> None:
        now = time.monotonic(), connection.counters()
        self._old, self._new = now, now

    def tick(self) -> None:
        """Every half second or oftener: remember the counters of half a second to two ago."""
        if time.monotonic() - self._new[0] >= COUNTER_INTERVAL:
            self._old, self._new = self._new, (time.monotonic(), connection.counters())

    def asked(self) -> bool | None:
        """None where the kernel counts nothing."""
        if not self._old[1]:
            return None
        since = mptcp_info.counter_increase(self._old[1], connection.counters())
        return bool(since.get("MPCapableFallbackACK"))


class _Client:
    """A connection with what is still to be sent."""

    def __init__(self, connected: socket.socket, client: str, asked: bool | None) -> None:
        self.socket, self.client = connected, client
        self.until = time.monotonic() + MAX_CONNECTION_SECONDS
        self.waiting = b""
        self.over = False
        spoken = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        self._accepted = "mptcp" if spoken == mptcp_info.IPPROTO_MPTCP else "tcp"
        self._asked = True if self._accepted == "mptcp" else asked
        self.session = protocol.Session(self.look)
        self.mptcp = True

    def look(self, received: int) -> dict[str, Any]:
        """What the client is told."""
        tcp = self._tcp()
        return {
            "version": 1,
            "client": self.client,
            "mptcp": self.mptcp,
            "asked": self._asked,
            "accepted": self._accepted,
            "kept": not self._info().fallback,
            "received": received,
            "path_mtu": tcp.pmtu,
            "segment": tcp.mss,
            "unacked": tcp.unacked,
        }

    def _info(self) -> mptcp_info.MptcpInfo:
        try:
            told = self.socket.getsockopt(mptcp_info.SOL_MPTCP, mptcp_info.MPTCP_INFO, 256)
        except OSError:
            return mptcp_info.FALLBACK_INFO
        return mptcp_info.parse_mptcp_info(told)

    def _tcp(self) -> mptcp_info.TcpInfo:
        try:
            told = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError:
            return mptcp_info.NO_TCP_INFO
        return mptcp_info.parse_tcp_info(told)

    def work(self) -> None:
        """Read and send what can be, without waiting."""
        try:
            with contextlib.suppress(BlockingIOError):
                data = self.socket.recv(RECEIVE_BYTES)
                turn = self.session.take(data)
                self.over = turn.broken or not data
                self.waiting += turn.send
            if self.waiting:
                with contextlib.suppress(BlockingIOError):
                    self.waiting = self.waiting[self.socket.send(self.waiting) :]
        except OSError:
            self.over = True


class Listener:
    """Listens at ADDRESS and port; an empty address is every one.  OSError."""

    def __init__(self, address: str, port: int) -> None:
        self.mptcp = True
        self.others = 0
        """Connections that began as no test does."""
        self._socket = self._open(address, port)
        self._counted = FallbackCounter()
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._accepting = False

    def _open(self, address: str, port: int) -> socket.socket:
        try:
            return self._listen(mptcp_info.IPPROTO_MPTCP, address, port)
        except OSError as error:
            if error.errno not in (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT):
                raise
        self.mptcp = False
        return self._listen(socket.IPPROTO_TCP, address, port)

    @staticmethod
    def _listen(protocol: int, address: str, port: int) -> socket.socket:
        tries = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
        if address:
            tries = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address)]
        for family, where in tries:
            try:
                made = socket.socket(family, socket.SOCK_STREAM, protocol)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT or address:
                    raise
                continue
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                made.bind((where, port))
                made.listen(MAX_CONNECTIONS)
                made.setblocking(False)
                return made
            except OSError as error:
                made.close()
                if address or error.errno != errno.EADDRNOTAVAIL:
                    raise
        raise OSError(errno.EADDRNOTAVAIL, "neither IPv6 nor IPv4")

    @property
    def where(self) -> str:
        return _end(*self._socket.getsockname()[:2])

    def serve(self, seconds: float, tell: Callable[[dict[str, Any]], None]) -> None:
        """For so long: `tell` what was seen of each test, when it is over."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self._invite()
                self._counted.tick()
                for key, _ in self._selector.select(min(0.5, max(0.0, end - time.monotonic()))):
                    if key.data is None:
                        self._accept()
                    else:
                        self._attend(key.data)
                for client in list(self._clients):
                    if client.over or time.monotonic() >= client.until:
                        self._leave(client, tell)
        finally:
            for client in self._clients:
                client.socket.close()
            self._selector.close()
            self._socket.close()

    def _invite(self) -> None:
        """Accept only while there is room."""
        room = len(self._clients) < MAX_CONNECTIONS
        if room and not self._accepting:
            self._selector.register(self._socket, selectors.EVENT_READ)
        elif self._accepting and not room:
            self._selector.unregister(self._socket)
        self._accepting = room

    def _accept(self) -> None:
        try:
            connected, source = self._socket.accept()
        except OSError:
            return  # gone again, or no descriptor is left: the next one will do
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(connected, _end(*source[:2]), self._counted.asked())
        client.mptcp = self.mptcp
        self._clients.add(client)
        self._selector.register(connected, selectors.EVENT_READ, client)

    def _attend(self, client: _Client) -> None:
        client.work()
        writing = selectors.EVENT_WRITE if client.waiting else 0
        self._selector.modify(client.socket, selectors.EVENT_READ | writing, client)

    def _leave(self, client: _Client, tell: Callable[[dict[str, Any]], None]) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        session = client.session
        if not session.greeted:
            self.others += 1
        elif session.told:
            tell(session.seen | {"received": session.received})
        client.socket.close()


def _end(address: str, port: int) -> str:
    address = address.removeprefix("::ffff:") if "." in address else address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def listener(where: str) -> Listener:
    """At PORT or ADDRESS:PORT.  ValueError for what is neither; OSError."""
    return Listener(*endpoint(where, host=False))
