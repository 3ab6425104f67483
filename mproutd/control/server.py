"""The control socket, the daemon's end: clients that ask once, and listeners that stay.

The protocol is in client.py.

Invariants: no client, however slow, broken or large, blocks the loop or makes its memory grow,
and many of them at once delay neither a pass nor a well-behaved client; the socket is for root
and the group that owns it; who asks for a change is logged.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from errno import EAGAIN
from functools import partial
from struct import unpack
from typing import Any

from mproutd import log
from mproutd.eventloop import READ, WRITE, Loop, Timer
from mproutd.status.events import make_event

MAX_REQUEST_BYTES = 1 << 16
ACCEPT_RETRY_DELAY = 0.5
"""Seconds until the next accept(2) after one that failed."""
CLIENT_TIMEOUT, CROWDED_CLIENT_TIMEOUT = 5.0, 0.25
"""Seconds that a client has to send its request, and again to read the reply; the second while
there is no room for another client."""
MAX_CLIENTS = 32
"""At once; further ones wait in the socket's queue."""
BACKLOG = 1024
"""Length of that queue: connect(2) fails with EAGAIN for one more."""
LOGGED_COMMANDS = ("reconcile", "quota")
"""Commands that change something."""
MAX_LISTENERS = 8
"""They stay connected, and must leave room for requests."""
MAX_QUEUED_BYTES = 1 << 18
"""For one listener, besides what its socket holds; further events are dropped."""
GROUP = "mproutd"

Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""From a request to its reply."""


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.since = now
        """When it connected or, once it has a reply, when that was made."""
        self.request = b""
        self.output = bytearray()
        """What it has still to read."""
        self.listening = False
        """It gets events, and stays connected."""
        self._dropped = 0

    def fileno(self) -> int:
        return self.connection.fileno()

    @property
    def peer(self) -> str:
        """Who called connect(2) (unix(7), SO_PEERCRED)."""
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        process, user, _ = unpack("iii", credentials)
        return f"process {process} of user {user}"

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
        self.clients: list[Client] = []
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
        _bind(self._socket, path)
        self._socket.listen(BACKLOG)
        self._update()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def accepting(self) -> bool:
        return len(self.clients) < MAX_CLIENTS and self._loop.clock() >= self._accept_at

    # -- clients --------------------------------------------------------------------------

    def _accept(self) -> None:
        """Accept those who wait, as far as there is room."""
        while self.accepting:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno != EAGAIN:  # for example no descriptor: the socket stays readable
                    self._accept_at = self._loop.clock() + ACCEPT_RETRY_DELAY
                break
            connection.setblocking(False)
            client = Client(connection, self._loop.clock())
            self.clients.append(client)
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
            log.event(log.INFO, f"{command} requested by {client.peer}")
        if command != "monitor":
            return [self._handler(request)]
        if sum(other.listening for other in self.clients) >= MAX_LISTENERS:
            return [{"error": f"there are {MAX_LISTENERS} listeners already; stop one of them"}]
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
        self.clients.remove(client)
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
        deadlines = [
            client.since + self._client_timeout for client in self.clients if not client.listening
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

    @property
    def _client_timeout(self) -> float:
        return CLIENT_TIMEOUT if self.accepting else CROWDED_CLIENT_TIMEOUT

    def _expire(self) -> None:
        """Drop the clients that are too slow."""
        latest = self._loop.clock() - self._client_timeout
        for client in list(self.clients):
            if client.since <= latest and not client.listening:
                self._drop(client)
        self._update()

    def close(self) -> None:
        self.publish(make_event("end", time.time(), "mproutd stops; the kernel stays as it is"))
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


def _line(event: Mapping[str, object]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _bind(server: socket.socket, path: str) -> None:
    """Bind to `path`: for the group where it exists and we may give it, else for us alone.

    The socket is made with its group and mode.  Changed afterwards, by its name, they might end up
    at another file, put in its place.
    """
    own = os.getegid()
    group = _group(os.path.dirname(path))
    umask = os.umask(0o177 if group is None else 0o117)
    try:
        if group is not None and group != own:
            os.setegid(group)
        server.bind(path)
    finally:
        if os.getegid() != own:
            os.setegid(own)
        os.umask(umask)


def _group(directory: str) -> int | None:
    """The group that a socket in this directory can be made for; None where there is none."""
    import grp  # not needed by the commands

    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
    if os.stat(directory).st_mode & stat.S_ISGID:
        return None  # it would get the directory's group
    if group == os.getegid():
        return group
    try:
        own = os.getegid()
        os.setegid(group)
        os.setegid(own)
    except OSError:  # not root, or a group that is unknown in this user namespace
        return None
    return group
