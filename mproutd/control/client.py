"""The control socket, the commands' end: one JSON line is the request, one the reply.

    {"command": "status"}            -> the status, see docs/status.md
    {"command": "connections"}       -> the connections, see docs/connections.md
    {"command": "reconcile", ...}    -> the changes
    {"command": "monitor"}           -> a line for each event, see docs/monitor.md

Imports nothing that talks to the kernel.

Invariant: whatever is at the other end, the result is a plain value of the documented shape or
one of these errors, in bounded time and memory.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

MAX_REPLY_BYTES, MAX_EVENT_BYTES = 1 << 26, 1 << 20
"""Far above what a daemon sends."""
QUEUE_RETRY_INTERVAL = 0.01
"""Seconds between two attempts to connect while the daemon's queue is full."""
UNPARSABLE = "cannot parse the daemon's reply (version mismatch?)"


class NotRunning(Exception):
    """No daemon answers on the control socket."""


class ConnectionLost(Exception):
    """The daemon ended without an event that says so."""


class Refused(Exception):
    """The daemon sends no events to this listener, for the reason given."""


def call(path: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send a request and return the reply.  NotRunning; OSError when there is none in time."""
    deadline = time.monotonic() + timeout
    with _connect(path, timeout) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        reply = bytearray()
        while part := connection.recv(1 << 16):
            reply += part
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "its reply takes too long")
            if len(reply) > MAX_REPLY_BYTES:
                raise OSError(errno.EPROTO, UNPARSABLE)
            connection.settimeout(remaining)
    return _decode(reply)


def listen(path: str, stdout: int) -> Iterator[dict[str, Any]]:
    """The daemon's events, until it ends or nobody reads `stdout` any more.

    NotRunning, ConnectionLost, Refused; OSError when an event cannot be parsed.
    """
    with _connect(path, None) as connection:
        connection.sendall(b'{"command": "monitor"}\n')
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(stdout, 0)  # reports an error when its reader is gone
        incomplete = b""
        while True:
            ready = dict(poll.poll())
            if stdout in ready:
                raise BrokenPipeError
            part = connection.recv(1 << 16)
            if not part:
                raise ConnectionLost
            *lines, incomplete = (incomplete + part).split(b"\n")
            if len(incomplete) > MAX_EVENT_BYTES:
                raise OSError(errno.EPROTO, UNPARSABLE)
            for line in lines:
                event = _event(line)
                yield event
                if event["kind"] == "end":
                    return


def _decode(line: bytes | bytearray) -> dict[str, Any]:
    """The JSON object.  OSError for anything else."""
    try:
        decoded = json.loads(line)
    except (ValueError, RecursionError):
        raise OSError(errno.EPROTO, UNPARSABLE) from None
    if not isinstance(decoded, dict):
        raise OSError(errno.EPROTO, UNPARSABLE)
    return decoded


def _event(line: bytes) -> dict[str, Any]:
    """An event of docs/monitor.md with the fields that every event has.  OSError, Refused."""
    event = _decode(line)
    if "error" in event and "kind" not in event:
        raise Refused(event["error"])
    texts = [event.get(key) for key in ("kind", "text")]
    texts += [event.get(key) or "" for key in ("uplink", "device")]
    at = event.get("time")
    valid_time = isinstance(at, int | float) and 0 <= at < 1 << 40
    if not valid_time or not all(isinstance(text, str) for text in texts):
        raise OSError(errno.EPROTO, UNPARSABLE)
    return {"uplink": None, "device": None, **event}


def _connect(path: str, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        _wait_for_queue(connection, path, timeout)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NotRunning from None
    except OSError:
        connection.close()
        raise
    return connection


def _wait_for_queue(connection: socket.socket, path: str, timeout: float | None) -> None:
    """Connect.  With a timeout, connect(2) does not wait where the daemon's queue is full."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            connection.connect(path)
            return
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                raise
        time.sleep(QUEUE_RETRY_INTERVAL)
