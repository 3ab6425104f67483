"""Probes by DNS: a resolver answers a query, by UDP, and by TCP where its reply is truncated.

Invariants: nothing blocks at any stage; only a reply to our question counts, from the address and
port that it was sent to.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from mproutd.eventloop import READ, WRITE, Loop
from mproutd.services.health import dns_message
from mproutd.services.health.probe import (
    LOCAL_ERRORS,
    Done,
    ProbePath,
    close_socket,
    error_text,
    open_probe_socket,
)

MAX_MESSAGE_BYTES = 65535
MAX_MESSAGES_PER_WAKEUP = 16
"""So that a flood does not delay passes."""


class DnsProber:
    """Probes by DNS, with a socket for each probe, so that its port is hard to guess."""

    def __init__(self, loop: Loop, path: ProbePath, port: int, max_ttl: int, name: str) -> None:
        self.loop, self.port = loop, port
        self.question = dns_message.question(name)
        self.queries: set[_Query] = set()
        """Those that have not ended."""
        self._path, self._max_ttl = path, max_ttl

    def probe(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Ask; see Prober."""
        query = _Query(self, address, done)
        query.send()
        return query.close

    def open(self, kind: int) -> socket.socket:
        protocol = socket.IPPROTO_UDP if kind == socket.SOCK_DGRAM else socket.IPPROTO_TCP
        return open_probe_socket(self._path, kind, protocol, self._max_ttl)

    def close(self) -> None:
        for query in [*self.queries]:
            query.close()


class _Query:
    """One query, until it has a reply."""

    def __init__(self, prober: DnsProber, address: str, done: Done) -> None:
        self._prober, self._address, self._done = prober, address, done
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._message = dns_message.query(self._identifier, prober.question)
        self._socket = prober.open(socket.SOCK_DGRAM)
        self._unsent = self._received = b""
        """By TCP, where a message follows its length (RFC 1035, 4.2.2)."""

    def send(self) -> None:
        """By UDP.  OSError when nothing could be sent."""
        try:
            self._socket.connect((self._address, self._prober.port))
            self._socket.send(self._message)
        except OSError as error:
            self._socket.close()
            if error.errno in LOCAL_ERRORS:
                raise
            return  # no route: counts as lost
        self._prober.queries.add(self)
        self._prober.loop.watch(self._socket, self._on_datagrams)

    def close(self) -> None:
        """Harmless a second time."""
        self._prober.queries.discard(self)
        close_socket(self._prober.loop, self._socket)

    def _finish(self, error: str) -> None:
        if self in self._prober.queries:
            self.close()
            self._done(error)

    def _on_datagrams(self) -> None:
        for _ in range(MAX_MESSAGES_PER_WAKEUP):
            try:
                message = self._socket.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                self._finish(error_text(error.errno or 0))  # nobody listens, say
                break
            if dns_message.is_reply(message, self._identifier, self._prober.question):
                if dns_message.is_truncated(message):
                    self._connect()
                else:
                    self._finish(dns_message.error(message))
                break

    # -- by TCP ---------------------------------------------------------------------------

    def _connect(self) -> None:
        close_socket(self._prober.loop, self._socket)
        self._unsent = len(self._message).to_bytes(2, "big") + self._message
        try:
            self._socket = self._prober.open(socket.SOCK_STREAM)
        except OSError as error:
            self._finish(error_text(error.errno or 0))
            return
        code = self._socket.connect_ex((self._address, self._prober.port))
        if code in (0, errno.EINPROGRESS):
            self._prober.loop.watch(self._socket, self._on_writable, WRITE)
        else:
            self._finish(error_text(code))

    def _on_writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(error_text(error.errno or 0))
            return
        if not self._unsent:
            self._prober.loop.watch(self._socket, self._on_stream, READ)

    def _on_stream(self) -> None:
        try:
            data = self._socket.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(error_text(error.errno or 0))
            return
        self._received += data
        size = int.from_bytes(self._received[:2], "big")
        message = self._received[2 : size + 2]
        if len(self._received) >= 2 and len(message) == size:
            known = dns_message.is_reply(message, self._identifier, self._prober.question)
            self._finish(dns_message.error(message) if known else "no reply to the query")
        elif not data:
            self._finish("the connection was closed")
