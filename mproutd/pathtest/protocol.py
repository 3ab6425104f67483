"""The protocol between the two ends of `mproutd test`.  Pure.

Lines of ASCII text over TCP or MPTCP.  The client starts with `mproutd-test 1`; the listener
replies with its view of the connection, one line of JSON.  Then, any number of times:

    echo N     followed by N bytes, which the listener sends back
    status     the listener's view as of now
    report     the same, and the listener reports this test to its own user

A client that breaks a rule is disconnected.

Invariants: besides the echo, a listener sends at most MAX_LINES lines; nothing that a client sent
is ever shown to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

HELLO = b"mproutd-test 1\n"
STATUS, REPORT = b"status\n", b"report\n"
MAX_LINE_BYTES, MAX_LINES = 64, 16
"""Of a client: bytes in a line, and lines on one connection."""
MAX_VIEW_BYTES = 1024
"""Bytes in a line of the listener."""
MAX_ECHO_BYTES = 256 << 10
"""Echoed on one connection."""


def echo(count: int) -> bytes:
    """The line before `count` bytes."""
    return b"echo %d\n" % count


def view_line(view: dict[str, Any]) -> bytes:
    return json.dumps(view).encode() + b"\n"


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "version": int,
    "client": str,
    "mptcp_enabled": bool,
    "syn_mp_capable": (bool, type(None)),
    "accepted": str,
    "mptcp": bool,
    "received": int,
    "pmtu": (int, type(None)),
    "mss": (int, type(None)),
    "unacked": (int, type(None)),
}
"""The listener's view, see docs/test.md."""


def parse_view(line: bytes) -> dict[str, Any] | None:
    """The listener's view; None when this is no line of a listener."""
    if len(line) > MAX_VIEW_BYTES:
        return None
    try:
        view = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(view, dict):
        return None
    if not all(isinstance(view.get(name, ...), kind) for name, kind in _FIELDS.items()):
        return None
    return {name: view[name] for name in _FIELDS}


class Reply(NamedTuple):
    """What the listener does next on a connection."""

    data: bytes = b""
    """To be sent."""
    disconnect: bool = False
    """The client broke a rule."""


class Session:
    """The listener's side of one connection, without its socket."""

    def __init__(self, view: Callable[[int], dict[str, Any]]) -> None:
        """`view` gives the listener's view at the moment, for a number of bytes to be echoed."""
        self.received = 0
        """Bytes of echo that the client announced."""
        self.started = False
        """The client sent HELLO."""
        self.reportable = False
        """The client asked for a report."""
        self.last_view: dict[str, Any] = {}
        self._view, self._line = view, b""
        self._lines, self._to_echo = 0, 0

    def receive(self, data: bytes) -> Reply:
        """The reply to these bytes of the client."""
        replies = []
        while data:
            if self._to_echo:
                echoed, data = data[: self._to_echo], data[self._to_echo :]
                self._to_echo -= len(echoed)
                replies.append(echoed)
                continue
            line, newline, data = data.partition(b"\n")
            self._line += line + newline
            if len(self._line) > MAX_LINE_BYTES:
                return Reply(disconnect=True)
            if newline:
                line, self._line = self._line, b""
                reply = self._reply_to(line)
                if reply is None:
                    return Reply(disconnect=True)
                replies.append(reply)
        return Reply(b"".join(replies))

    def _reply_to(self, line: bytes) -> bytes | None:
        """None for a line that breaks a rule."""
        self._lines += 1
        if self._lines > MAX_LINES:
            return None
        if not self.started:
            self.started = line == HELLO
            return self._current_view() if self.started else None
        if line in (STATUS, REPORT):
            self.reportable = self.reportable or line == REPORT
            return self._current_view()
        word, _, number = line.rstrip(b"\n").partition(b" ")
        if word != b"echo" or not number.isdigit() or self.received + int(number) > MAX_ECHO_BYTES:
            return None
        self._to_echo = int(number)
        self.received += self._to_echo
        return b""

    def _current_view(self) -> bytes:
        self.last_view = self._view(self.received)
        return view_line(self.last_view)
