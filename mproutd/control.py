"""The control socket: one JSON line asks, one JSON line answers.

    {"command": "status"}            -> the status, see docs/status.md
    {"command": "reconcile", ...}    -> the changes

Both ends.  What must hold on the daemon's side: no client, however slow, rude or large,
makes the loop wait; the socket is for root and the group that owns it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

LARGEST = 1 << 16
"""Bytes of a request."""
PATIENCE = 5.0
"""Seconds that a client has for its request, and again for taking the answer."""
CLIENTS = 32
"""How many at once; the others wait in the socket's queue."""
GROUP = "mproutd"

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class NotRunning(Exception):
    """Nobody answers on the control socket."""


def ask(path: str, request: dict[str, Any], timeout: float = 30.0) -> dict[str, Any]:
    """One question to the daemon.  NotRunning; OSError when it does not answer in time."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning from None
        connection.sendall(json.dumps(request).encode() + b"\n")
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    try:
        answer = json.loads(b"".join(parts))
    except ValueError:
        raise OSError(5, "the daemon went away before it had answered") from None
    if not isinstance(answer, dict):
        raise OSError(5, "the daemon gave an answer that is none")
    return answer


class Client:
    """One connection, as the daemon sees it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.request = b""
        self.answer = b""

    def fileno(self) -> int:
        return self.connection.fileno()

    @property
    def writing(self) -> bool:
        return bool(self.answer)


class Server:
    """The daemon's end.  The loop waits on its descriptors and calls it; it never blocks."""

    def __init__(self, path: str, answer: Answer, clock: Callable[[], float]) -> None:
        """OSError when the socket cannot be made, or somebody else answers there."""
        self._path, self._answer, self._clock = path, answer, clock
        self.clients: list[Client] = []
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
        self._socket.listen(64)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def accepting(self) -> bool:
        return len(self.clients) < CLIENTS

    def accept(self) -> None:
        """Take one client, if one is still there."""
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        self.clients.append(Client(connection, self._clock() + PATIENCE))

    def serve(self, client: Client) -> None:
        """Go on with a client that is ready."""
        try:
            if client.writing:
                client.answer = client.answer[client.connection.send(client.answer) :]
                if not client.answer:
                    self._drop(client)
                return
            part = client.connection.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.request += part
        if b"\n" in client.request:
            client.answer = json.dumps(self._reply(client.request)).encode() + b"\n"
            client.deadline = self._clock() + PATIENCE
            self.serve(client)
        elif not part or len(client.request) > LARGEST:
            self._drop(client)

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line.partition(b"\n")[0])
        except (ValueError, RecursionError):
            return {"error": "the request is no JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is no JSON object"}
        return self._answer(request)

    def deadline(self) -> float | None:
        """When the next client runs out of time, on the clock that was given."""
        return min((client.deadline for client in self.clients), default=None)

    def expire(self) -> None:
        """Drop the clients that are too slow."""
        now = self._clock()
        for client in list(self.clients):
            if client.deadline <= now:
                self._drop(client)

    def _drop(self, client: Client) -> None:
        client.connection.close()
        self.clients.remove(client)

    def close(self) -> None:
        for client in list(self.clients):
            self._drop(client)
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def _give_to_group(path: str) -> None:
    """Let the group in, where there is one and we may."""
    import grp  # not needed by those who ask

    try:
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    except (KeyError, PermissionError):
        return
    os.chmod(path, 0o660)
