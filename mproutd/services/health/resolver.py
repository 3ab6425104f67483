"""The addresses of health-check hosts that are given by name.

Names are resolved by the system's resolver, not through the uplink that is checked: the name
server is usually on this machine or in the LAN (dnsmasq), where a socket bound to the uplink
cannot reach it, and a provider's name server answers only its own customers.  So a name that
cannot be resolved says nothing about an uplink: the host is not probed until it has an address,
and while DNS fails, the last address goes on being probed.

Each uplink has its own answers.  Invariants: of several addresses an uplink keeps the same one
while that replies, and tries all of them while none does; a host that does not reply through a
dead uplink changes the address of no other uplink.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from mproutd.eventloop import Worker

REFRESH_INTERVAL = 300.0
"""Seconds until a name is resolved again."""
RETRY_INTERVAL = 10.0
"""The same after an error, or when the address does not reply."""

Key = tuple[str, str, int]
"""(uplink, name, family)"""


class NameCache:
    """The addresses of names, resolved in the worker thread."""

    def __init__(self, worker: Worker, clock: Callable[[], float]) -> None:
        self._worker, self._clock = worker, clock
        self._addresses: dict[Key, list[str]] = {}
        """The one in use first."""
        self._resolve_at: dict[Key, float] = {}
        """Infinite while a query is under way."""
        self._errors: dict[Key, str] = {}

    def address(self, uplink: str, name: str, family: int, unreachable: bool = False) -> str:
        """The last known address; "" while there is none.

        `unreachable`: the host did not reply at that address.
        """
        key, now = (uplink, name, family), self._clock()
        resolve_at = self._resolve_at.get(key, now)
        if unreachable and resolve_at < float("inf"):
            resolve_at = self._resolve_at[key] = min(resolve_at, now + RETRY_INTERVAL)
        if now >= resolve_at:
            self._resolve_at[key] = float("inf")
            self._worker.submit(
                lambda: _resolve(name, family),
                lambda addresses, error: self._on_resolved(key, addresses, error, unreachable),
            )
        known = self._addresses.get(key)
        return known[0] if known else ""

    def error(self, uplink: str, name: str, family: int) -> str:
        """Why the last query failed; "" when it did not."""
        return self._errors.get((uplink, name, family), "")

    def _on_resolved(self, key: Key, addresses: Any, error: str, unreachable: bool) -> None:
        self._resolve_at[key] = self._clock() + (RETRY_INTERVAL if error else REFRESH_INTERVAL)
        self._errors[key] = error.lower()
        if addresses:
            used = self._addresses.get(key, [""])[0]
            # Keep the address while it replies: another host has another latency.
            first = addresses.index(used) + unreachable if used in addresses else 0
            self._addresses[key] = addresses[first:] + addresses[:first]


def _resolve(name: str, family: int) -> list[str]:
    """Blocks, for half a minute at worst.  Bytes, since text would import the tables of IDNA."""
    answers = socket.getaddrinfo(name.encode("ascii"), None, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
