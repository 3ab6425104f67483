"""The control socket, the daemon's end: clients that ask once, and listeners that stay.

What must hold: no client, however slow, rude or large, makes the loop wait or its memory
grow, and no crowd of them keeps a pass or a polite one waiting; the socket is for root and the
group that owns it, and who asks for a change stands in the log.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from errno import EAGAIN
from functools import partial
from struct import unpack
from typing import Any

from mproutd import log
from mproutd.eventloop import READ, WRITE, Loop
from mproutd.status.events import make_event

MAX_REQUEST_BYTES = 1 << 16
"""Bytes of a request."""
ACCEPT_RETRY_DELAY = 0.5
"""Seconds until another client is taken in after one that could not be."""
CLIENT_TIMEOUT, CROWDED_CLIENT_TIMEOUT = 5.0, 0.25
"""Seconds that a client has for its request, and again for taking the answer; and how many
while there is no room for another one."""
MAX_CLIENTS = 32
"""How many at once; the others wait in the socket's queue."""
BACKLOG = 1024
"""How many can wait there: connect(2) of one more fails (EAGAIN)."""
LOGGED_COMMANDS = ("reconcile",)
"""Commands that change something: who asks for one is logged."""
MAX_LISTENERS = 8
"""How many of them may listen to what happens; they stay, and must leave room for questions."""
MAX_QUEUED_BYTES = 1 << 18
"""Bytes that wait for one listener, beside what its socket holds; then lines are dropped."""
GROUP = "mproutd"

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Client:
    """One connection, as the daemon sees it."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.begun = now
        """When its time for the request, or for taking the answer, began."""
        self.request = b""
        self.answer = bytearray()
        self.listening = False
        """It asked to hear what happens, and stays."""
        self._dropped = 0

    def fileno(self) -> int:
        return self.connection.fileno()

    @property
    def peer(self) -> str:
        """Who it was at its connect(2), as the kernel says (unix(7), SO_PEERCRED)."""
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        process, user, _ = unpack("iii", credentials)
        return f"process {process} of user {user}"

    @property
    def writing(self) -> bool:
        return bool(self.answer)

    @property
    def waits_for(self) -> int:
        """READ, WRITE, or both.  A listener is always heard, since that tells when it goes."""
        if self.writing:
            return READ | WRITE if self.listening else WRITE
        return READ

    def offer(self, line: bytes) -> None:
        """Queue a line for a listener, or count it as dropped where there is no room."""
        if len(self.answer) + len(line) > MAX_QUEUED_BYTES:
            self._dropped += 1
            return
        self.settle()
        self.answer += line

    def settle(self) -> None:
        """Say how many lines were dropped, now that there is room to say it."""
        if self._dropped:
            text = f"the reader was too slow: {self._dropped} lines left out"
            event = make_event("dropped", time.time(), text, count=self._dropped)
            self.answer += _line(event)
            self._dropped = 0

    def send(self) -> None:
        """Send what the socket takes now.  OSError when the client has gone."""
        try:
            del self.answer[: self.connection.send(self.answer)]
        except BlockingIOError:
            return
        if not self.answer and self._dropped:
            self.settle()


class Server:
    """The daemon's end.  The loop waits on its descriptors and calls it; it never blocks."""

    def __init__(
        self,
        path: str,
        answer: Answer,
        clock: Callable[[], float],
        initial_events: Callable[[], Sequence[Mapping[str, object]]] = list,
    ) -> None:
        """OSError when the socket cannot be made.  `greet`: what a new listener is told first."""
        self._path, self._answer, self._clock, self._initial_events = (
            path,
            answer,
            clock,
            initial_events,
        )
        self.clients: list[Client] = []
        self._watched: set[Client | Server] = set()
        self._again = clock()
        """When the next client is taken in, after one that could not be."""
        self._answered = False
        """One question was answered in this turn of the loop; passes come before the next."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.unlink(path)  # the lock says that no daemon of ours is behind it
        except FileNotFoundError:
            pass
        before = os.umask(0o177)
        try:
            self._socket.bind(path)
        finally:
            os.umask(before)
        _give_to_group(path)
        self._socket.listen(BACKLOG)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def accepting(self) -> bool:
        return len(self.clients) < MAX_CLIENTS and self._clock() >= self._again

    def watch(self, loop: Loop) -> None:
        """Bring the loop in step with the clients that come, turn to writing, and go.

        While there are CLIENTS of them, the others wait outside.
        """
        wanted: dict[Client | Server, int] = {each: each.waits_for for each in self.clients}
        if self.accepting:
            wanted[self] = READ
        for gone in self._watched - wanted.keys():
            loop.unwatch(gone)
        for source, events in wanted.items():
            ready = source.accept if isinstance(source, Server) else partial(self.serve, source)
            loop.watch(source, ready, events)
        self._watched = set(wanted)
        self._answered = False

    def accept(self) -> None:
        """Take those who wait, as far as there is room."""
        while self.accepting:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno != EAGAIN:  # no descriptor, say: the socket stays readable
                    self._again = self._clock() + ACCEPT_RETRY_DELAY
                return
            connection.setblocking(False)
            self.clients.append(Client(connection, self._clock()))

    @property
    def has_listeners(self) -> bool:
        """Whether anybody listens to what happens."""
        return any(client.listening for client in self.clients)

    def publish(self, event: Mapping[str, object]) -> None:
        """Tell every listener, and wait for none of them."""
        line = _line(event)
        for client in [client for client in self.clients if client.listening]:
            client.offer(line)
            self._send(client)

    def serve(self, client: Client) -> None:
        """Go on with a client that is ready."""
        if client not in self.clients:
            return  # dropped while others were served
        if client.writing and not client.listening:
            self._send(client)
            return
        if self._answered and not client.listening:
            return  # it is as ready in the next turn
        try:
            part = client.connection.recv(1 << 12)
        except BlockingIOError:
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
            client.begun, self._answered = self._clock(), True
            for event in self._reply(client):
                client.answer += _line(event)
            self._send(client)
        elif not part or len(client.request) > MAX_REQUEST_BYTES:
            self._drop(client)

    def _send(self, client: Client) -> None:
        if client.writing:
            try:
                client.send()
            except OSError:
                self._drop(client)
                return
        if not client.writing and not client.listening:
            self._drop(client)

    def _reply(self, client: Client) -> Sequence[Mapping[str, object]]:
        try:
            request = json.loads(client.request.partition(b"\n")[0])
        except (ValueError, RecursionError):
            return [{"error": "the request is no JSON"}]
        if not isinstance(request, dict):
            return [{"error": "the request is no JSON object"}]
        command = request.get("command")
        if command in LOGGED_COMMANDS and request.get("dry_run") is not True:
            log.event(log.INFO, f"{command} asked for by {client.peer}")
        if command != "monitor":
            return [self._answer(request)]
        if sum(other.listening for other in self.clients) >= MAX_LISTENERS:
            return [{"error": f"{MAX_LISTENERS} listen already; end one of them"}]
        client.listening = True
        return self._initial_events()

    def deadline(self) -> float | None:
        """When the next client runs out of time, or is let in, on the clock that was given."""
        ends = [each.begun + self._patience for each in self.clients if not each.listening]
        if self._again > self._clock():
            ends.append(self._again)
        return min(ends, default=None)

    @property
    def _patience(self) -> float:
        return CLIENT_TIMEOUT if self.accepting else CROWDED_CLIENT_TIMEOUT

    def expire(self) -> None:
        """Drop the clients that are too slow."""
        latest = self._clock() - self._patience
        for client in list(self.clients):
            if client.begun <= latest and not client.listening:
                self._drop(client)

    def _drop(self, client: Client) -> None:
        client.connection.close()
        self.clients.remove(client)

    def close(self) -> None:
        self.publish(make_event("end", time.time(), "mproutd stops; the kernel stays as it is"))
        for client in list(self.clients):
            self._drop(client)
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def _line(event: Mapping[str, object]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _give_to_group(path: str) -> None:
    """Let the group in, where there is one and we may."""
    import grp  # not needed by those who ask

    try:
        group = grp.getgrnam(GROUP).gr_gid
        if os.stat(path).st_gid != group:
            os.chown(path, -1, group)
    except (KeyError, PermissionError):
        return
    os.chmod(path, 0o660)
