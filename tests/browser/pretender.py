"""Somebody else at the control socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.lab import RUNTIME_DIR, Namespace


@contextmanager
def answering(node: Namespace, answers: Mapping[str, Any]) -> Iterator[None]:
    """While no daemon runs: who asks gets the answer of that command, or all of `answers`."""
    path = node.path(RUNTIME_DIR) / "control.sock"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    command = json.loads(connection.recv(1 << 16))["command"]
                    reply = answers.get(command, answers)
                    connection.sendall(json.dumps(reply).encode() + b"\n")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
