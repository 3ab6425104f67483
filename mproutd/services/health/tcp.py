"""Asking by TCP: that a host takes the connection, or that its web server answers as it should.

What must hold: nothing waits, at no stage; whatever the host sends, little of it is read.
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

MOST = 4096
"""Bytes of an answer that are read: its first line is wanted."""


class TcpProber:
    """Asks by TCP, HTTP or HTTPS, each time by a connection of its own."""

    def __init__(
        self, loop: Loop, way: ProbePath, port: int, max_ttl: int, web: Web | None = None
    ) -> None:
        """`web`: what a web server is asked; None: taking the connection is enough."""
        self._loop, self._way, self._port, self._max_ttl = loop, way, port, max_ttl
        self._web = web
        self._open: set[_Stream] = set()

    def ask(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Connect.  OSError where it could not even be tried."""
        lacking = self._web.lacking() if self._web else ""
        if lacking:
            raise OSError(errno.EAGAIN, lacking)
        made = open_probe_socket(self._way, socket.SOCK_STREAM, socket.IPPROTO_TCP, self._max_ttl)
        code = made.connect_ex((address, self._port))
        if code not in (0, errno.EINPROGRESS):
            made.close()
            if code in LOCAL_ERRORS:
                raise OSError(code, error_text(code))
            return lambda: None  # no route: as good as lost, and nothing will come
        stream = _Stream(self._loop, made, self._web, name, self._port, done, self._open)
        return stream.close

    def close(self) -> None:
        for stream in [*self._open]:
            stream.close()


class Web:
    """What a web server is asked, and which answer is a good one."""

    def __init__(
        self,
        path: str,
        status: int | None,
        context: Callable[[], ssl.SSLContext | str] | None = None,
    ) -> None:
        """`status`: the only one that counts; None: all below 400.  `context`: for HTTPS; or why
        there is none yet."""
        self._path, self._status, self._context = path, status, context

    @property
    def secure(self) -> bool:
        return self._context is not None

    def lacking(self) -> str:
        """Why nothing can be asked yet; "" when all is there."""
        context = self._context() if self._context else ""
        return context if isinstance(context, str) else ""

    def wrap(self, made: socket.socket, name: str) -> socket.socket:
        context = self._context() if self._context else ""
        assert not isinstance(context, str)
        return context.wrap_socket(made, server_hostname=name, do_handshake_on_connect=False)

    def request(self, name: str, port: int) -> bytes:
        """RFC 9112: the shortest that servers understand."""
        host = f"[{name}]" if ":" in name else name
        if port != (443 if self.secure else 80):
            host += f":{port}"
        return (
            f"GET {self._path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mproutd\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    def fault(self, answer: bytes) -> str:
        """What is wrong with the first line of an answer; "" when it is good."""
        words = answer.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            return "no HTTP answer"
        status = int(words[1][:4])
        good = status == self._status if self._status else 100 <= status < 400
        return "" if good else f"status {status}"


class _Stream:
    """One connection, from its first packet to its verdict."""

    def __init__(
        self,
        loop: Loop,
        made: socket.socket,
        web: Web | None,
        name: str,
        port: int,
        done: Done,
        others: set[_Stream],
    ) -> None:
        self._loop, self._socket, self._web, self._name = loop, made, web, name
        self._port, self._done, self._others = port, done, others
        self._out = self._answer = b""
        others.add(self)
        loop.watch(made, self._connected, WRITE)

    def close(self) -> None:
        """Harmless a second time."""
        self._others.discard(self)
        close_socket(self._loop, self._socket)

    def _end(self, fault: str) -> None:
        if self in self._others:
            self.close()
            self._done(fault)

    def _connected(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return self._end(error_text(code))
        try:
            self._socket.getpeername()
        except OSError:
            return None  # woken for nothing
        if self._web is None:
            return self._end("")
        self._out = self._web.request(self._name, self._port)
        if not self._web.secure:
            return self._exchange()
        try:
            self._loop.unwatch(self._socket)
            self._socket = self._web.wrap(self._socket, self._name)
        except (OSError, ValueError) as error:
            return self._end(_short(error))
        return self._handshake()

    def _handshake(self) -> None:
        self._try(self._socket.do_handshake, self._handshake, self._exchange)  # type: ignore[attr-defined]

    def _exchange(self) -> None:
        if self._out:
            self._try(self._send, self._exchange, self._exchange)
        else:
            self._try(self._receive, self._exchange, self._rest, READ)

    def _rest(self) -> None:
        self._loop.watch(self._socket, self._exchange, READ)

    def _send(self) -> None:
        self._out = self._out[self._socket.send(self._out) :]

    def _receive(self) -> None:
        data = self._socket.recv(MOST)
        self._answer += data
        if not data or b"\r\n" in self._answer or len(self._answer) >= MOST:
            assert self._web is not None
            self._end(self._web.fault(self._answer))

    def _try(
        self,
        step: Callable[[], object],
        again: Callable[[], None],
        after: Callable[[], None],
        events: int = WRITE,
    ) -> None:
        """Make a step; where it would have to wait, the loop does."""
        try:
            step()
        except BlockingIOError:
            self._loop.watch(self._socket, again, events)
        except OSError as error:
            kind = type(error).__name__  # of ssl, which is imported only where it is used
            if kind == "SSLWantReadError":
                self._loop.watch(self._socket, again, READ)
            elif kind == "SSLWantWriteError":
                self._loop.watch(self._socket, again, WRITE)
            else:
                self._end(_short(error))
        else:
            if self in self._others:
                after()


def _short(error: OSError | ValueError) -> str:
    """An error in a few words."""
    text = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    if isinstance(error, OSError) and not text:
        text = error.strerror or str(error)
    return str(text or error).lower().replace("_", " ")[:60]
