"""The control socket, the end of those who ask: one JSON line asks, one JSON line answers.

    {"command": "status"}            -> the status, see docs/status.md
    {"command": "reconcile", ...}    -> the changes
    {"command": "monitor"}           -> a line for everything that happens, see docs/monitor.md

Light: `status` imports this, and nothing that talks to the kernel.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from typing import Any


class NotRunning(Exception):
    """Nobody answers on the control socket."""


class WentAway(Exception):
    """The daemon ended without saying so."""


def ask(path: str, request: dict[str, Any], timeout: float = 30.0) -> dict[str, Any]:
    """One question to the daemon.  NotRunning; OSError when it does not answer in time."""
    with _connect(path, timeout) as connection:
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
                raise WentAway
            *lines, waiting = (waiting + part).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if "error" in told and "kind" not in told:
                    raise OSError(5, told["error"])
                yield told
                if told["kind"] == "end":
                    return


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
