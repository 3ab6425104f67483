"""The listener of a path test: echoes over MPTCP and reports what it sees of the connection.

It needs no privileges.  Invariants: a stranger can make it do little.  At most MAX_CONNECTIONS are
open at once, each for MAX_SECONDS and protocol.MAX_ECHO_BYTES of echo; nothing is sent before
HELLO, nothing that was received is shown, and it ends by itself.  Who has not sent HELLO makes
room for others; and of the tests, one source has MAX_TESTS_OF_SOURCE at most.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from mproutd.format import address_port
from mproutd.limits import first_to_go
from mproutd.netlink.mptcp_info import IPPROTO_MPTCP, counter_increase
from mproutd.pathtest import protocol
from mproutd.pathtest.connection import read_counters, read_mptcp_info, read_tcp_info
from mproutd.pathtest.select import parse_host_port

MAX_CONNECTIONS = 32
"""At once."""
MAX_TESTS_OF_SOURCE = 16
"""Connections.  A test opens up to four, one after the other, and then one for each of
baseline.PACKET_SIZES at once; where packets are lost, all of them may be open."""
BACKLOG = 128
"""Of connections that the loop has not come to."""
MAX_SECONDS = 10.0
"""Lifetime of a connection."""
_RECEIVE_BYTES = 16 << 10
_COUNTER_INTERVAL = 0.5
"""Seconds between readings of the counters, and between passes of the loop at most."""


class FallbackCounter:
    """Whether the SYN of a connection that was accepted as plain TCP carried MP_CAPABLE.

    MPTCP sockets do not support TCP_SAVE_SYN.  But the kernel counts each connection whose SYN had
    MP_CAPABLE and whose handshake then fell back (MPCapableFallbackACK).  If the counter did not
    rise lately, this SYN had none.  If it did, this one had, unless another connection of the
    machine fell back in the same two seconds.
    """

    def __init__(self) -> None:
        now = time.monotonic(), read_counters()
        self._previous, self._latest = now, now

    def tick(self) -> None:
        """Call at least every _COUNTER_INTERVAL: keeps a reading 0.5 to 2 seconds old."""
        if time.monotonic() - self._latest[0] >= _COUNTER_INTERVAL:
            self._previous, self._latest = self._latest, (time.monotonic(), read_counters())

    def has_risen(self) -> bool | None:
        """None where the kernel has no counters."""
        before = self._previous[1]
        if not before:
            return None
        return bool(counter_increase(before, read_counters()).get("MPCapableFallbackACK"))


class _Client:
    """A connection with the data still to be sent."""

    def __init__(
        self,
        connected: socket.socket,
        address: str,
        mptcp_enabled: bool,
        syn_mp_capable: bool | None,
    ) -> None:
        """`syn_mp_capable` holds for a connection that was accepted as plain TCP."""
        self.socket = connected
        self.source, _, _ = address.rpartition(":")
        self.expires = time.monotonic() + MAX_SECONDS
        self.unsent = b""
        self.done = False
        self.session = protocol.Session(self.view)
        self._address, self._mptcp_enabled = address, mptcp_enabled
        is_mptcp = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == IPPROTO_MPTCP
        self._accepted = "mptcp" if is_mptcp else "tcp"
        self._syn_mp_capable = True if is_mptcp else syn_mp_capable

    def view(self, received: int) -> dict[str, Any]:
        """The listener's view, see docs/test.md."""
        tcp = read_tcp_info(self.socket)
        return {
            "version": 1,
            "client": self._address,
            "mptcp_enabled": self._mptcp_enabled,
            "syn_mp_capable": self._syn_mp_capable,
            "accepted": self._accepted,
            "mptcp": not read_mptcp_info(self.socket).fallback,
            "received": received,
            "pmtu": tcp.pmtu,
            "mss": tcp.mss,
            "unacked": tcp.unacked,
        }

    def receive(self) -> None:
        """Receive without blocking, and prepare the reply."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.done = True
            return
        reply = self.session.receive(data)
        self.done = reply.disconnect or not data
        self.unsent += reply.data

    def send(self) -> None:
        """Send without blocking."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.done = True


class Listener:
    """Listens on an address and port; an empty address means all.  OSError."""

    def __init__(self, address: str, port: int) -> None:
        self.mptcp_enabled = True
        self.strangers = 0
        """Connections that did not begin with HELLO."""
        self._socket = self._open(address, port)
        self._fallbacks = FallbackCounter()
        self._selector = selectors.DefaultSelector()
        self._clients: dict[_Client, None] = {}
        """The oldest first."""

    def _open(self, address: str, port: int) -> socket.socket:
        try:
            return self._listen(IPPROTO_MPTCP, address, port)
        except OSError as error:
            if error.errno not in (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT):
                raise
        self.mptcp_enabled = False
        return self._listen(socket.IPPROTO_TCP, address, port)

    @staticmethod
    def _listen(transport: int, address: str, port: int) -> socket.socket:
        candidates = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
        if address:
            candidates = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address)]
        for family, host in candidates:
            try:
                listening = socket.socket(family, socket.SOCK_STREAM, transport)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT or address:
                    raise
                continue
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                listening.bind((host, port))
                listening.listen(BACKLOG)
                listening.setblocking(False)
                return listening
            except OSError as error:
                listening.close()
                if address or error.errno != errno.EADDRNOTAVAIL:
                    raise
        raise OSError(errno.EADDRNOTAVAIL, "neither IPv6 nor IPv4 is available")

    @property
    def local(self) -> str:
        """The ADDRESS:PORT that it listens on."""
        return address_port(*self._socket.getsockname()[:2])

    def serve(self, seconds: float, report: Callable[[dict[str, Any]], None]) -> None:
        """Serve for `seconds`; `report` receives the last view of each finished test."""
        end = time.monotonic() + seconds
        self._selector.register(self._socket, selectors.EVENT_READ)
        try:
            while (left := end - time.monotonic()) > 0:
                self._fallbacks.tick()
                for key, _ in self._selector.select(min(_COUNTER_INTERVAL, left)):
                    if key.data is None:
                        self._accept(report)
                    elif key.data in self._clients:
                        self._serve(key.data)
                for client in list(self._clients):
                    if client.done or time.monotonic() >= client.expires:
                        self._close(client, report)
        finally:
            for client in self._clients:
                client.socket.close()
            self._selector.close()
            self._socket.close()

    def _make_room(self, report: Callable[[dict[str, Any]], None]) -> bool:
        """Close a connection that is no test, if there is no place for another; False where all
        are tests."""
        if len(self._clients) < MAX_CONNECTIONS:
            return True
        strangers = [client for client in self._clients if not client.session.started]
        if not strangers:
            return False
        self._close(strangers[first_to_go([client.source for client in strangers])], report)
        return True

    def _accept(self, report: Callable[[dict[str, Any]], None]) -> None:
        try:
            connected, source = self._socket.accept()
        except OSError:
            return  # closed again, or no descriptor is free: the next one may succeed
        if not self._make_room(report):
            connected.close()
            return
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = address_port(*source[:2])
        client = _Client(connected, address, self.mptcp_enabled, self._fallbacks.has_risen())
        self._clients[client] = None
        self._selector.register(connected, selectors.EVENT_READ, client)

    def _serve(self, client: _Client) -> None:
        started = client.session.started
        client.receive()
        if client.session.started and not started:
            tests = [other.source for other in self._clients if other.session.started]
            if tests.count(client.source) > MAX_TESTS_OF_SOURCE:
                client.done = True
                return
        if client.unsent:
            client.send()
        writing = selectors.EVENT_WRITE if client.unsent else 0
        self._selector.modify(client.socket, selectors.EVENT_READ | writing, client)

    def _close(self, client: _Client, report: Callable[[dict[str, Any]], None]) -> None:
        del self._clients[client]
        self._selector.unregister(client.socket)
        session = client.session
        if not session.started:
            self.strangers += 1
        elif session.reportable:
            report(session.last_view | {"received": session.received})
        client.socket.close()


def listen(text: str) -> Listener:
    """On PORT or ADDRESS:PORT.  ValueError for anything else; OSError."""
    return Listener(*parse_host_port(text, require_host=False))
