"""The addresses of hosts that are given by name.

By the system's own resolver, not through the line that is checked: the name server is mostly on
this machine or in the LAN (dnsmasq), where a socket that is bound to the line cannot reach it,
and a provider's server answers its own customers alone.  So a name that cannot be looked up says
nothing about a line: until it has an address the host is not asked, and with DNS gone the last
address goes on to be asked.

Each line has its own answers.  What must hold: of several addresses it asks the same one as long
as that answers, and comes to all of them while none does; that a host does not answer by a dead
line moves no other line to another address.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from mproutd.eventloop import Worker

REFRESH_INTERVAL = 300.0
"""Seconds until a name is looked up again."""
RETRY_INTERVAL = 10.0
"""The same after an error, or where the address does not answer."""

Key = tuple[str, str, int]
"""(line, name, family)"""


class NameCache:
    """What names stand for now."""

    def __init__(self, worker: Worker, clock: Callable[[], float]) -> None:
        self._worker, self._clock = worker, clock
        self._known: dict[Key, list[str]] = {}
        """The one in use first."""
        self._next: dict[Key, float] = {}
        """When to look again; infinite while that is under way."""
        self._errors: dict[Key, str] = {}

    def address(self, line: str, name: str, family: int, doubtful: bool = False) -> str:
        """The last known address; "" while there is none.  `doubtful`: it does not answer."""
        key, now = (line, name, family), self._clock()
        due = self._next.get(key, now)
        if doubtful and due < float("inf"):
            due = self._next[key] = min(due, now + RETRY_INTERVAL)
        if now >= due:
            self._next[key] = float("inf")
            self._worker.submit(
                lambda: _look_up(name, family),
                lambda found, error: self._found(key, found, error, doubtful),
            )
        known = self._known.get(key)
        return known[0] if known else ""

    def error(self, line: str, name: str, family: int) -> str:
        """Why there is no address, or no new one; "" when all is well."""
        return self._errors.get((line, name, family), "")

    def _found(self, key: Key, found: Any, error: str, doubtful: bool) -> None:
        self._next[key] = self._clock() + (RETRY_INTERVAL if error else REFRESH_INTERVAL)
        self._errors[key] = error.lower()
        if found:
            used = self._known.get(key, [""])[0]
            # Who is asked changes only when it has to: another host has another latency.
            first = found.index(used) + doubtful if used in found else 0
            self._known[key] = found[first:] + found[:first]


def _look_up(name: str, family: int) -> list[str]:
    """Waits, for half a minute at worst.  Bytes, since text would import the tables of IDNA."""
    found = socket.getaddrinfo(name.encode("ascii"), None, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))
