"""Probes by TCP: a connection is established, or a web server replies as it should.

Invariants: nothing blocks at any stage; little of what a host sends is read.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from mproutd.eventloop import READ, WRITE, Loop
from mproutd.services.health.probe import (
    LOCAL_ERRORS,
    Done,
    ProbePath,
    close_socket,
    error_text,
    open_probe_socket,
)

if TYPE_CHECKING:
    import ssl

MAX_RESPONSE_BYTES = 4096
"""Read of one response; only its first line is needed."""
MAX_ERROR_LENGTH = 60


class TcpProber:
    """Probes by TCP, HTTP or HTTPS, with a connection for each probe."""

    def __init__(
        self,
        loop: Loop,
        path: ProbePath,
        port: int,
        max_ttl: int,
        http: HttpCheck | None = None,
    ) -> None:
        """Without `http`, establishing the connection is enough."""
        self._loop, self._path, self._port, self._max_ttl = loop, path, port, max_ttl
        self._http = http
        self._connections: set[_Connection] = set()

    def probe(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Connect; see Prober."""
        missing = self._http.missing() if self._http else ""
        if missing:
            raise OSError(errno.EAGAIN, missing)
        opened = open_probe_socket(
            self._path, socket.SOCK_STREAM, socket.IPPROTO_TCP, self._max_ttl
        )
        code = opened.connect_ex((address, self._port))
        if code not in (0, errno.EINPROGRESS):
            opened.close()
            if code in LOCAL_ERRORS:
                raise OSError(code, error_text(code))
            return lambda: None  # no route, say: counts as lost
        connection = _Connection(self._loop, opened, name, done, self._connections)
        if self._http:
            connection.expect(self._http, self._http.request(name, self._port))
        return connection.close

    def close(self) -> None:
        for connection in [*self._connections]:
            connection.close()


class HttpCheck:
    """The request to a web server, and which responses are good."""

    def __init__(
        self,
        path: str,
        status: int | None,
        tls_context: Callable[[], ssl.SSLContext | str] | None = None,
    ) -> None:
        """`status` is the only good one; None: all below 400.

        `tls_context`, for HTTPS, returns the context, or why there is none yet.
        """
        self._path, self._status, self._tls_context = path, status, tls_context

    @property
    def secure(self) -> bool:
        return self._tls_context is not None

    def missing(self) -> str:
        """Why no request can be sent yet; "" when it can."""
        context = self._tls_context() if self._tls_context else ""
        return context if isinstance(context, str) else ""

    def wrap(self, connection: socket.socket, name: str) -> socket.socket:
        context = self._tls_context() if self._tls_context else ""
        assert not isinstance(context, str)
        return context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)

    def request(self, name: str, port: int) -> bytes:
        """The shortest request that servers understand (RFC 9112)."""
        host = f"[{name}]" if ":" in name else name
        if port != (443 if self.secure else 80):
            host += f":{port}"
        return (
            f"GET {self._path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mproutd\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    def error(self, response: bytes) -> str:
        """What is wrong with the first line of a response; "" when it is good."""
        words = response.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            return "no HTTP response"
        status = int(words[1][:4])
        good = status == self._status if self._status else 100 <= status < 400
        return "" if good else f"status {status}"


class _Connection:
    """One probe, from connect() to its result."""

    def __init__(
        self,
        loop: Loop,
        opened: socket.socket,
        name: str,
        done: Done,
        connections: set[_Connection],
    ) -> None:
        self._loop, self._socket, self._name, self._done = loop, opened, name, done
        self._connections = connections
        self._http: HttpCheck | None = None
        self._request = self._response = b""
        connections.add(self)
        loop.watch(opened, self._on_connected, WRITE)

    def expect(self, http: HttpCheck, request: bytes) -> None:
        """Send this request once connected, and check the response."""
        self._http, self._request = http, request

    def close(self) -> None:
        """Harmless a second time."""
        self._connections.discard(self)
        close_socket(self._loop, self._socket)

    def _finish(self, error: str) -> None:
        if self in self._connections:
            self.close()
            self._done(error)

    def _on_connected(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return self._finish(error_text(code))
        try:
            self._socket.getpeername()
        except OSError:
            return None  # not connected yet
        if self._http is None:
            return self._finish("")
        if not self._http.secure:
            return self._exchange()
        try:
            self._loop.unwatch(self._socket)
            self._socket = self._http.wrap(self._socket, self._name)
        except (OSError, ValueError) as error:
            return self._finish(_short(error))
        return self._handshake()

    def _handshake(self) -> None:
        self._attempt(self._socket.do_handshake, self._handshake, self._exchange)  # type: ignore[attr-defined]

    def _exchange(self) -> None:
        if self._request:
            self._attempt(self._send, self._exchange, self._exchange)
        else:
            self._attempt(self._receive, self._exchange, self._await_rest, READ)

    def _await_rest(self) -> None:
        self._loop.watch(self._socket, self._exchange, READ)

    def _send(self) -> None:
        self._request = self._request[self._socket.send(self._request) :]

    def _receive(self) -> None:
        data = self._socket.recv(MAX_RESPONSE_BYTES)
        self._response += data
        if not data or b"\r\n" in self._response or len(self._response) >= MAX_RESPONSE_BYTES:
            assert self._http is not None
            self._finish(self._http.error(self._response))

    def _attempt(
        self,
        step: Callable[[], object],
        retry: Callable[[], None],
        next_step: Callable[[], None],
        events: int = WRITE,
    ) -> None:
        """Make a step; where it would block, retry when the loop finds the socket ready."""
        try:
            step()
        except BlockingIOError:
            self._loop.watch(self._socket, retry, events)
        except OSError as error:
            kind = type(error).__name__  # ssl is imported only where it is used
            if kind == "SSLWantReadError":
                self._loop.watch(self._socket, retry, READ)
            elif kind == "SSLWantWriteError":
                self._loop.watch(self._socket, retry, WRITE)
            else:
                self._finish(_short(error))
        else:
            if self in self._connections:
                next_step()


def _short(error: OSError | ValueError) -> str:
    """An error in a few words."""
    text = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    if isinstance(error, OSError) and not text:
        text = error.strerror or str(error)
    return str(text or error).lower().replace("_", " ")[:MAX_ERROR_LENGTH]
