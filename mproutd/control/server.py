"""The control socket, the daemon's end: clients that ask once, and listeners that stay.

The protocol is in client.py.

Invariants: no client, however slow, broken or large, blocks the loop or makes its memory grow,
and many of them at once delay neither a pass nor a well-behaved client, nor any other user's; the
socket is for root and the group that owns it; who asks for a change is logged.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from errno import EAGAIN
from functools import partial
from struct import unpack
from typing import Any, cast

from mproutd import log
from mproutd.control.admission import (
    MAX_LISTENERS,
    MAX_USER_LISTENERS,
    ROOT,
    Admission,
    has_room,
)
from mproutd.control.socket_file import bind
from mproutd.eventloop import READ, WRITE, Loop, Timer
from mproutd.limits import Budget, LineLimiter
from mproutd.status.events import make_event

MAX_REQUEST_BYTES = 1 << 16
ACCEPT_RETRY_DELAY = 0.5
"""Seconds until the next accept(2) after one that failed."""
CLIENT_TIMEOUT, CROWDED_CLIENT_TIMEOUT = 5.0, 0.25
"""Seconds that a client has to send its request, and again to read the reply; the second while
somebody waits for its place."""
BACKLOG = 1024
"""Of connections that the loop has not come to."""
MAX_ACCEPTED = 64
"""In one turn of the loop."""
ROOT_SHARE, USER_SHARE = 0.5, 0.1
"""Of the processor, for the requests of root, and of each other user."""
SAVED_SECONDS = 2.0
"""How much of its share a user may save up."""
LOGGED_REQUESTS, LOG_PERIOD = 5, 10.0
"""How many lines about one user's requests are logged at once, and then how often one."""
LOGGED_COMMANDS = ("reconcile", "quota", "standby")
"""Commands that change something."""
MAX_QUEUED_BYTES = 1 << 18
"""For one listener, besides what its socket holds; further events are dropped."""

Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""From a request to its reply."""


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.process, self.user = unpack("iIi", credentials)[:2]
        """Who called connect(2) (unix(7))."""
        self.since = now
        """When it got its place or, once it has a reply, when that was made."""
        self.request = b""
        self.output = bytearray()
        """What it has still to read."""
        self.listening = False
        """It gets events, and stays connected."""
        self._dropped = 0

    def fileno(self) -> int:
        return self.connection.fileno()

    @property
    def events(self) -> int:
        """READ, WRITE, or both.  A listener is always read from, to see when it goes."""
        if self.output:
            return READ | WRITE if self.listening else WRITE
        return READ

    def queue(self, line: bytes) -> None:
        """Queue an event for a listener, or count it as dropped when there is no room."""
        if len(self.output) + len(line) > MAX_QUEUED_BYTES:
            self._dropped += 1
            return
        self._report_dropped()
        self.output += line

    def _report_dropped(self) -> None:
        """Queue the number of dropped events, now that there is room."""
        if self._dropped:
            text = f"events dropped because this listener reads too slowly: {self._dropped}"
            self.output += _line(make_event("dropped", time.time(), text, count=self._dropped))
            self._dropped = 0

    def send(self) -> None:
        """Send what the socket takes.  OSError when the client is gone."""
        try:
            del self.output[: self.connection.send(self.output)]
        except BlockingIOError:
            return
        if not self.output:
            self._report_dropped()


class Server:
    """The listening socket and its clients."""

    def __init__(
        self,
        path: str,
        loop: Loop,
        handler: Handler,
        initial_events: Callable[[], Sequence[Mapping[str, object]]] = list,
        on_listeners: Callable[[bool], None] = lambda any_left: None,
    ) -> None:
        """OSError when the socket cannot be made.

        `initial_events`: what a new listener gets first.  `on_listeners`: called with True for
        the first listener, and with False when the last one is gone.
        """
        self._path, self._loop, self._handler = path, loop, handler
        self._initial_events, self._on_listeners = initial_events, on_listeners
        self._admission: Admission[Client] = Admission()
        self.clients, self.waiting = self._admission.served, self._admission.waiting
        self._budgets: dict[int, Budget] = {}
        self._requests_logged = LineLimiter(loop, LOGGED_REQUESTS, LOG_PERIOD, _log_left_out)
        self.has_listeners = False
        self._accept_at = loop.clock()
        """When to accept again after an accept(2) that failed."""
        self._timer: Timer | None = None
        self._handled_one = False
        """A request was handled in this turn of the loop: passes come before the next one."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.unlink(path)  # we hold the lock, so no daemon is behind it
        except FileNotFoundError:
            pass
        bind(self._socket, path)
        self._socket.listen(BACKLOG)
        self._update()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def accepting(self) -> bool:
        return self._loop.clock() >= self._accept_at

    # -- clients --------------------------------------------------------------------------

    def _accept(self) -> None:
        """Accept those in the queue; serve them, have them wait, or turn them away."""
        for _ in range(MAX_ACCEPTED):
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno != EAGAIN:  # for example no descriptor: the socket stays readable
                    self._accept_at = self._loop.clock() + ACCEPT_RETRY_DELAY
                break
            connection.setblocking(False)
            client = Client(connection, self._loop.clock())
            if not self._admission.admit(client):
                text = f"user {client.user} has too many connections already"
                client.output += _line({"error": text})
                try:
                    client.send()
                except OSError:
                    pass
                connection.close()
            elif client in self.clients:
                self._watch(client)
        self._update()

    def _watch(self, client: Client) -> None:
        self._loop.watch(client, partial(self._serve, client), client.events)

    def _serve(self, client: Client) -> None:
        """Go on with a client that is ready."""
        if client not in self.clients:
            return  # dropped while others were served
        if client.output and not client.listening:
            self._send(client)
            return
        if self._handled_one and not client.listening:
            return  # it is still ready in the next turn
        budget = self._budget(client.user)
        if delay := budget.delay():
            self._loop.unwatch(client)
            self._loop.call_later(delay, partial(self._resume, client))
            client.since = self._loop.clock() + delay
            return
        began = time.thread_time()
        self._read(client)
        budget.spend(time.thread_time() - began)

    def _budget(self, user: int) -> Budget:
        if user not in self._budgets:
            share = ROOT_SHARE if user == ROOT else USER_SHARE
            self._budgets[user] = Budget(self._loop.clock, share, SAVED_SECONDS)
        return self._budgets[user]

    def _resume(self, client: Client) -> None:
        if client in self.clients:
            self._watch(client)

    def _read(self, client: Client) -> None:
        try:
            part = client.connection.recv(1 << 12)
        except BlockingIOError:
            if client.output:
                self._send(client)
            return
        except OSError:
            self._drop(client)
            return
        if client.listening:
            if not part:
                self._drop(client)
            return
        client.request += part
        if b"\n" in client.request:
            self._handle(client)
        elif not part or len(client.request) > MAX_REQUEST_BYTES:
            self._drop(client)

    def _handle(self, client: Client) -> None:
        client.since, self._handled_one = self._loop.clock(), True
        self._loop.call_later(0.0, self._next_turn)
        for reply in self._replies(client):
            client.output += _line(reply)
        self._send(client)

    def _next_turn(self) -> None:
        self._handled_one = False

    def _replies(self, client: Client) -> Sequence[Mapping[str, object]]:
        try:
            request = json.loads(client.request.partition(b"\n")[0])
        except (ValueError, RecursionError):
            return [{"error": "the request is not JSON"}]
        if not isinstance(request, dict):
            return [{"error": "the request is not a JSON object"}]
        command = request.get("command")
        if command in LOGGED_COMMANDS and request.get("dry_run") is not True:
            if self._requests_logged.admit((command, client.user)):
                peer = f"process {client.process} of user {client.user}"
                log.event(log.INFO, f"{command} requested by {peer}")
        if command != "monitor":
            return [self._handler(request)]
        listeners = [other for other in self.clients if other.listening]
        if not has_room(client.user, listeners, MAX_LISTENERS, MAX_USER_LISTENERS):
            count = len(listeners)
            return [{"error": f"there are {count} listeners already; stop one of them"}]
        client.listening = True
        self._update()
        return self._initial_events()

    def _send(self, client: Client) -> None:
        if client.output:
            try:
                client.send()
            except OSError:
                self._drop(client)
                return
        if client.output or client.listening:
            self._watch(client)
        else:
            self._drop(client)

    def publish(self, event: Mapping[str, object]) -> None:
        """Send an event to every listener, without waiting for any."""
        line = _line(event)
        for client in [client for client in self.clients if client.listening]:
            client.queue(line)
            self._send(client)

    def _drop(self, client: Client) -> None:
        self._loop.unwatch(client)
        client.connection.close()
        successor = self._admission.leave(client)
        if successor is not None:
            successor.since = self._loop.clock()
            self._watch(successor)
        self._update()

    # -- room and time --------------------------------------------------------------------

    def _update(self) -> None:
        """After clients came or went: accept or not, arm the timer, and tell about listeners."""
        if self.accepting:
            self._loop.watch(self, self._accept)
        else:
            self._loop.unwatch(self)
        if self._timer is not None:
            self._timer.cancel()
        crowded = self._admission.crowded_users()
        deadlines = [
            client.since + _timeout(client, crowded)
            for client in self.clients
            if not client.listening
        ]
        now = self._loop.clock()
        if self._accept_at > now:
            deadlines.append(self._accept_at)
        if deadlines:
            self._timer = self._loop.call_later(max(0.0, min(deadlines) - now), self._expire)
        listening = any(client.listening for client in self.clients)
        if listening != self.has_listeners:
            self.has_listeners = listening
            self._on_listeners(listening)

    def _expire(self) -> None:
        """Drop the clients that are too slow."""
        now, crowded = self._loop.clock(), self._admission.crowded_users()
        for client in list(self.clients):
            if client.since + _timeout(client, crowded) <= now and not client.listening:
                self._drop(client)
        self._update()

    def close(self) -> None:
        self.publish(make_event("end", time.time(), "mproutd stops; the kernel stays as it is"))
        for client in self.waiting:
            client.connection.close()
        self.waiting.clear()
        for client in list(self.clients):
            self._drop(client)
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self)
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def _timeout(client: Client, crowded: set[int]) -> float:
    return CROWDED_CLIENT_TIMEOUT if client.user in crowded else CLIENT_TIMEOUT


def _log_left_out(key: Hashable, count: int) -> None:
    command, user = cast("tuple[str, int]", key)
    text = f"{command} requested {count} more times by user {user} within {LOG_PERIOD:.0f} s"
    log.event(log.INFO, text)


def _line(event: Mapping[str, object]) -> bytes:
    return json.dumps(event).encode() + b"\n"
