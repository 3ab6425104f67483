"""The addresses of health-check hosts that are given by name.

Names are resolved by the system's resolver, not through the uplink that is checked: the name
server is usually on this machine or in the LAN (dnsmasq), where a socket bound to the uplink
cannot reach it, and a provider's name server answers only its own customers.  So a name that
cannot be resolved says nothing about an uplink: the host is not probed until it has an address,
and while DNS fails, the last address goes on being probed.

Nor does an answer say anything about an uplink: it may come from the name server of another
provider, which may give any address.  So a host counts only once it has replied through the
uplink, and the address at which it did so stays in use for as long as it replies, whatever the
name server says later.

Each uplink has its own answers.  Invariants: of several addresses an uplink keeps the same one
while that replies, and tries all of them while none does; a host that does not reply through a
dead uplink changes the address of no other uplink; no answer of a name server makes an uplink
fail that works.
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
MAX_PROVEN, MAX_ADDRESSES = 4, 16
"""Addresses that are kept because they have replied, and that are probed in turn."""

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
        self._proven: dict[Key, list[str]] = {}
        """Addresses that have replied, the last one first."""

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

    def on_reply(self, uplink: str, name: str, family: int, address: str) -> None:
        """The host replied at this address, through this uplink."""
        key = (uplink, name, family)
        proven = self._proven.get(key, [])
        if proven[:1] != [address]:
            others = [other for other in proven if other != address]
            self._proven[key] = [address, *others][:MAX_PROVEN]

    def has_replied(self, uplink: str, name: str, family: int) -> bool:
        """Whether the host has ever replied through this uplink."""
        return (uplink, name, family) in self._proven

    def error(self, uplink: str, name: str, family: int) -> str:
        """Why the last query failed; "" when it did not."""
        return self._errors.get((uplink, name, family), "")

    def _on_resolved(self, key: Key, addresses: Any, error: str, unreachable: bool) -> None:
        self._resolve_at[key] = self._clock() + (RETRY_INTERVAL if error else REFRESH_INTERVAL)
        self._errors[key] = error.lower()
        if addresses:
            used = self._addresses.get(key, [""])[0]
            proven = self._proven.get(key, [])
            known = list(dict.fromkeys([*addresses[:MAX_ADDRESSES], *proven]))
            # Keep the address while it replies: another host has another latency.
            first = known.index(used) + unreachable if used in known else 0
            self._addresses[key] = known[first:] + known[:first]


def _resolve(name: str, family: int) -> list[str]:
    """Blocks, for half a minute at worst.  Bytes, since text would import the tables of IDNA."""
    answers = socket.getaddrinfo(name.encode("ascii"), None, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
