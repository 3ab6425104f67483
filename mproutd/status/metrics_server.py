"""`mproutd metrics --listen`: the HTTP server, which strangers may reach.

Invariants: however many scrapes come, the daemon is asked at most once in STATUS_AGE seconds; at
most MAX_CONNECTIONS are open at once, each for MAX_SECONDS; and whoever opens many of them loses
them before anybody else does.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from mproutd.limits import first_to_go

if TYPE_CHECKING:
    from mproutd.status.types import Status

STATUS_AGE = 1.0
"""Seconds for which a status is used again."""
MAX_CONNECTIONS, MAX_SECONDS = 16, 5.0


class RecentStatus:
    """The daemon's status, at most STATUS_AGE seconds old.  For several threads."""

    def __init__(
        self,
        get_status: Callable[[], Status | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get_status, self._clock = get_status, clock
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._read_at = float("-inf")

    def __call__(self) -> Status | None:
        with self._lock:
            if self._clock() - self._read_at >= STATUS_AGE:
                self._status = self._get_status()
                self._read_at = self._clock()
            return self._status


class SilentHandler(WSGIRequestHandler):
    """Logs no requests."""

    timeout = MAX_SECONDS

    def log_message(self, *_: Any) -> None:
        pass


class LimitedServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, and a limit of both."""

    daemon_threads = True
    request_queue_size = 4 * MAX_CONNECTIONS

    def __init__(self, address: str, port: int) -> None:
        """OSError."""
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, place = found[0]
        self._open: dict[socket.socket, tuple[str, float]] = {}
        """Connection → from where, and since when; the oldest first."""
        self._open_lock = threading.Lock()
        super().__init__(place[:2], SilentHandler)  # type: ignore[arg-type]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            if len(self._open) >= MAX_CONNECTIONS:
                connections = list(self._open)
                sources = [source for source, _ in self._open.values()]
                self._cut(connections[first_to_go(sources)])
            self._open[request] = (client_address[0], time.monotonic())
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second: end what takes too long, however slowly it goes on."""
        latest = time.monotonic() - MAX_SECONDS
        with self._open_lock:
            for connection in [key for key, (_, since) in self._open.items() if since < latest]:
                self._cut(connection)

    def _cut(self, connection: socket.socket) -> None:
        """Its thread then finds it closed, and ends."""
        self._open.pop(connection, None)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to report: the client went away, or was cut off."""
