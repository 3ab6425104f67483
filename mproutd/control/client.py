"""The control socket, the end of those who ask: one JSON line asks, one JSON line answers.

    {"command": "status"}            -> the status, see docs/status.md
    {"command": "connections"}       -> MPTCP connections, see docs/connections.md
    {"command": "reconcile", ...}    -> the changes
    {"command": "monitor"}           -> a line for everything that happens, see docs/monitor.md

Light: `status` imports this, and nothing that talks to the kernel.  What must hold: whatever
answers there, what comes back is a plain value of the right shape or one of these errors, in
bounded time and memory.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

MAX_REPLY_BYTES, MAX_EVENT_BYTES = 1 << 26, 1 << 20
"""Bytes of an answer, and of one line for a listener: far above what a daemon says."""


class NotRunning(Exception):
    """Nobody answers on the control socket."""


class ConnectionLost(Exception):
    """The daemon ended without saying so."""


def call(path: str, request: dict[str, Any], timeout: float = 30.0) -> dict[str, Any]:
    """One question to the daemon.  NotRunning; OSError when it does not answer in time."""
    until = time.monotonic() + timeout
    with _connect(path, timeout) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = bytearray()
        while part := connection.recv(1 << 16):
            answer += part
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(110, "it takes too long over its answer")
            if len(answer) > MAX_REPLY_BYTES:
                raise OSError(5, "the daemon gave an answer that has no end")
            connection.settimeout(left)
    return _decoded(answer, "the daemon went away before it had answered")


def listen(path: str, stdout: int) -> Iterator[dict[str, Any]]:
    """What happens, until the daemon ends or nobody reads `stdout` any more.

    NotRunning, WentAway; OSError when the daemon refuses.
    """
    with _connect(path, None) as connection:
        connection.sendall(b'{"command": "monitor"}\n')
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(stdout, 0)  # only to hear that its reader has gone
        waiting = b""
        while True:
            ready = dict(poll.poll())
            if stdout in ready:
                raise BrokenPipeError
            part = connection.recv(1 << 16)
            if not part:
                raise ConnectionLost
            *lines, waiting = (waiting + part).split(b"\n")
            if len(waiting) > MAX_EVENT_BYTES:
                raise OSError(5, "the daemon tells a line that has no end")
            for line in lines:
                told = _happening(line)
                yield told
                if told["kind"] == "end":
                    return


def _decoded(line: bytes | bytearray, otherwise: str) -> dict[str, Any]:
    """The JSON object; OSError for anything else, with `otherwise` for what is no JSON."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise OSError(5, otherwise) from None
    if not isinstance(told, dict):
        raise OSError(5, "the daemon gave an answer that is none")
    return told


def _happening(line: bytes) -> dict[str, Any]:
    """A line of docs/monitor.md, with what everyone needs of it.  OSError."""
    nonsense = "the daemon tells what makes no sense"
    told = _decoded(line, nonsense)
    if "error" in told and "kind" not in told:
        raise OSError(5, str(told["error"]))
    words = [told.get(key) for key in ("kind", "text")]
    words += [told.get(key) or "" for key in ("uplink", "device")]
    now = told.get("time")
    if not (all(isinstance(word, str) for word in words) and isinstance(now, int | float)):
        raise OSError(5, nonsense)
    if not 0 <= now < 1 << 40:
        raise OSError(5, nonsense)
    return {"uplink": None, "device": None, **told}


def _connect(path: str, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NotRunning from None
    except OSError:
        connection.close()
        raise
    return connection
