"""What the two ends of `mproutd test` say to each other.  Pure.

Lines of ASCII text over TCP or MPTCP.  The client begins, with `mproutd-test 1`, and gets what
the listener saw as one line of JSON.  Then as often as it wants `echo N` with N bytes behind,
which come back; `seen` for what the listener sees by now; or `tell`, for the listener's own user to
hear of this connection.  Whoever breaks a rule is cut off.
What must hold: a listener sends what it received, and at most LINES lines of its own; what a
stranger sends is never shown to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

HELLO = b"mproutd-test 1\n"
STATUS, REPORT = b"seen\n", b"tell\n"
MAX_LINE_BYTES, MAX_LINES = 64, 16
"""Bytes in a line of the client, and lines of it on one connection, at most."""
MAX_STATUS_BYTES = 1024
"""Bytes in a line of the listener, at most."""
MAX_ECHO_BYTES = 256 << 10
"""Echoed on one connection, at most."""


def echo(count: int) -> bytes:
    """The line before `count` bytes."""
    return b"echo %d\n" % count


def answer(seen: dict[str, Any]) -> bytes:
    return json.dumps(seen).encode() + b"\n"


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "version": int,
    "client": str,
    "mptcp": bool,
    "asked": (bool, type(None)),
    "accepted": str,
    "kept": bool,
    "received": int,
    "path_mtu": (int, type(None)),
    "segment": (int, type(None)),
    "unacked": (int, type(None)),
}


def read(line: bytes) -> dict[str, Any] | None:
    """What a listener saw; None when this is not a listener's line."""
    if len(line) > MAX_STATUS_BYTES:
        return None
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    if not all(isinstance(told.get(name, ...), kind) for name, kind in _FIELDS.items()):
        return None
    return {name: told[name] for name in _FIELDS}


class Reply(NamedTuple):
    """What the listener does next on a connection."""

    send: bytes = b""
    broken: bool = False
    """The client broke a rule: cut it off."""


class Session:
    """One connection of the listener, without its socket.

    `look` says what the listener sees at that moment; `received` counts what came back.
    """

    def __init__(self, look: Callable[[int], dict[str, Any]]) -> None:
        self.received = 0
        self.greeted = self.told = False
        """It began as a client of ours does; and it is to be told of."""
        self.seen: dict[str, Any] = {}
        self._look, self._line, self._owed = look, b"", 0
        self._lines = 0

    def take(self, data: bytes) -> Reply:
        """Bytes of the client have come: what goes back."""
        send = []
        while data:
            if self._owed:
                echoed, data = data[: self._owed], data[self._owed :]
                self._owed -= len(echoed)
                send.append(echoed)
                continue
            line, newline, data = data.partition(b"\n")
            self._line += line + newline
            if len(self._line) > MAX_LINE_BYTES:
                return Reply(b"", True)
            if newline:
                said, self._line = self._line, b""
                reply = self._obey(said)
                if reply is None:
                    return Reply(b"", True)
                send.append(reply)
        return Reply(b"".join(send))

    def _obey(self, line: bytes) -> bytes | None:
        self._lines += 1
        if self._lines > MAX_LINES:
            return None
        if not self.greeted:
            self.greeted = line == HELLO
            return self._show() if self.greeted else None
        if line in (STATUS, REPORT):
            self.told = self.told or line == REPORT
            return self._show()
        word, _, number = line.rstrip(b"\n").partition(b" ")
        if word != b"echo" or not number.isdigit() or self.received + int(number) > MAX_ECHO_BYTES:
            return None
        self._owed = int(number)
        self.received += self._owed
        return b""

    def _show(self) -> bytes:
        self.seen = self._look(self.received)
        return answer(self.seen)
