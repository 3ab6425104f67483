"""Subflows that failed get another chance.

A subflow whose attempt fails uses its endpoint up for that connection: the kernel does not
try again, even when the route, the neighbour or the peer is there a moment later.  An
endpoint that is closed and opened again is tried by every connection at once.  That also
closes the subflows that others have there, so it happens only while a living connection
misses one, and ever more rarely:

    sub-closed with an error, from an endpoint of ours to the peer's first address
                                                         -> that connection misses one
    sub-established from there, or closed                -> it no longer does
    while one misses some: after FIRST seconds, then each time twice as long, up to LAST

A failure at an address that the peer announced later does not count: that is no use of our
endpoint (only of its address), a peer behind NAT announces what nobody can reach, and to
open the endpoint again would cut the subflow that works.

Time is what the injected clock says, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mproutd.pm import Event

FIRST, LAST = 0.25, 60.0
KNOWN_MOST = 4096
"""Connections remembered at once; beyond that, failures are not noted."""


class Revival:
    """Which endpoints to open again, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._missing: dict[str, set[int]] = {}
        self._next: dict[str, tuple[float, float]] = {}
        """Address → (when, the delay after that)."""

    def hear(self, event: Event) -> None:
        """Take note of what happened to a connection."""
        if event.kind == "sub-closed" and event.error and event.source:
            if event.remote_id:
                return
            missing = self._missing.setdefault(event.source, set())
            if len(missing) < KNOWN_MOST:
                missing.add(event.token)
            self._next.setdefault(event.source, (self._clock() + FIRST, FIRST * 2))
        elif event.kind == "sub-established" and event.source in self._missing:
            self._found(event.source, event.token)
        elif event.kind == "closed":
            for address in list(self._missing):
                self._found(address, event.token)

    def _found(self, address: str, token: int) -> None:
        self._missing[address].discard(token)
        if not self._missing[address]:
            self._forget(address)

    def _forget(self, address: str) -> None:
        del self._missing[address]
        self._next.pop(address, None)

    def due(self) -> float | None:
        """Seconds until take() has something; None for never."""
        now = self._clock()
        return min((max(0.0, when - now) for when, _ in self._next.values()), default=None)

    def take(self, present: Collection[str]) -> list[str]:
        """The addresses whose endpoints are to be opened again now.

        `present` are the addresses that have an endpoint; of the others nothing is kept,
        since opening them for another reason tries everybody anyway.
        """
        for address in [address for address in self._missing if address not in present]:
            self._forget(address)
        now = self._clock()
        ready = [address for address, (when, _) in self._next.items() if when <= now]
        for address in ready:
            delay = self._next[address][1]
            self._next[address] = (now + delay, min(delay * 2, LAST))
        return ready

    def waiting(self) -> dict[str, int]:
        """Address → how many connections miss a subflow from there."""
        return {address: len(tokens) for address, tokens in self._missing.items()}
