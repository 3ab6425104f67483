"""Subflows that failed get another chance.

A subflow whose attempt fails uses its endpoint up for that connection: the kernel does not
try again, even when the route, the neighbour or the peer is there a moment later.  There
are two ways to have an endpoint tried by every connection at once.  Gently: to switch fullmesh
on and off (mptcp_pm_nl_fullmesh() in net/mptcp/pm_kernel.c).  Or to delete and add it, which
also tells the peer that the address is gone (RM_ADDR).  Where a connection has no subflow left
to say so by, the new one says it, and the peer closes that at once.  But the second way does
not depend on what a kernel makes of fullmesh; so they take turns.  Both close the subflows that
others have there, so it happens only while a living connection misses one, and ever more rarely:

    sub-closed with an error, from an endpoint of ours to the peer's first address
                                                         -> that connection misses one
    sub-established from there, or closed                -> it no longer does
    seen to miss one, when nothing was heard of it      -> once in each way
    while one misses some: after FIRST seconds, then each time twice as long, up to LAST
    sub-closed without an error, just after that         -> it cut the subflow of another one:
                                                            from then on, COSTLY and four times
                                                            as long, up to LAST_COSTLY

The delay outlives the connection that it was for: with many short ones to a peer that
refuses each subflow, the others would have no peace.  It is forgotten when nothing has
failed for twice as long.

What no endpoint can help does not count either: drop() takes it out (standing.py).  And where a
connection could lose its only subflow for good, nothing is closed for another one's sake.

A failure at an address that the peer announced later does not count: that is no use of our
endpoint (only of its address), a peer behind NAT announces what nobody can reach, and to
open the endpoint again would cut the subflow that works.

Time is what the injected clock says, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from mproutd.netlink.mptcp_pm import Event

INITIAL_BACKOFF, MAX_BACKOFF = 0.25, 60.0
INITIAL_DISRUPTIVE_BACKOFF, MAX_DISRUPTIVE_BACKOFF = 5.0, 3600.0
DISRUPTION_WINDOW = MIN_INTERVAL = 1.0
"""Seconds after the opening in which what closes from there is our doing; and until another
one is opened, so that who has two subflows always keeps one."""
METHODS = 2
MAX_MISSING = 4096
"""Connections remembered at once; beyond that, failures are not noted."""


class _Backoff(NamedTuple):
    """How often an address may be opened again."""

    last: float
    delay: float
    cut: bool = False
    """The last time it cost others their subflows."""
    toggle_fullmesh: bool = False
    """How it was done the last time."""


class Retry(NamedTuple):
    """An endpoint to be tried again."""

    address: str
    toggle_fullmesh: bool
    """By fullmesh, on and off; else by deleting and adding."""


class RetryPolicy:
    """Which endpoints to open again, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._missing: dict[str, set[int]] = {}
        self._since: dict[str, float] = {}
        self._backoffs: dict[str, _Backoff] = {}
        self._last = ("", 0.0)
        """Which endpoint was tried again last, and when."""
        self._unconfirmed: dict[str, int] = {}
        """Address → how many tries it has, where nobody heard what failed."""

    def on_event(self, event: Event) -> bool:
        """Take note of what happened to a connection.

        True for a subflow that was closed without an error, and not for us: so it looks when
        somebody deletes an endpoint.  (A connection that ends has no such event.)
        """
        if event.kind == "sub-closed" and event.source:
            if not event.error:
                return not self._closed_by_retry(event.source)
            if not event.remote_id:
                self._unconfirmed.pop(event.source, None)
                self._add(event.source, event.token)
        elif event.kind == "sub-established" and event.source in self._missing:
            self._restored(event.source, event.token)
        elif event.kind == "closed":
            for address in list(self._missing):
                self._restored(address, event.token)
        return False

    def on_events_lost(self) -> None:
        """Events were lost: who misses a subflow is not known any more, so try once."""
        self._unconfirmed = dict.fromkeys(self._missing, METHODS)

    def add_missing(self, address: str, token: int) -> None:
        """A connection was found that misses a subflow from there; why, nobody heard."""
        if address not in self._missing:
            self._unconfirmed[address] = METHODS
            self._add(address, token)

    def missing_tokens(self) -> set[int]:
        """The tokens of the connections that miss a subflow."""
        return {token for tokens in self._missing.values() for token in tokens}

    def discard(self, tokens: Collection[int]) -> None:
        """These connections have no use for a subflow of ours."""
        for address in list(self._missing):
            self._missing[address] -= set(tokens)
            if not self._missing[address]:
                self._forget(address)

    def _add(self, address: str, token: int) -> None:
        if address not in self._missing:
            now = self._clock()
            self._since[address] = now
            pace = self._backoffs.get(address)
            if pace and now - pace.last > 2 * pace.delay:
                del self._backoffs[address]
        missing = self._missing.setdefault(address, set())
        if len(missing) < MAX_MISSING:
            missing.add(token)

    def _closed_by_retry(self, address: str) -> bool:
        """Whether it was our opening again that closed a subflow there."""
        pace = self._backoffs.get(address)
        if pace is None or self._clock() - pace.last > DISRUPTION_WINDOW:
            return False
        if not pace.cut:
            delay = min(max(2 * pace.delay, INITIAL_DISRUPTIVE_BACKOFF), MAX_DISRUPTIVE_BACKOFF)
            self._backoffs[address] = pace._replace(delay=delay, cut=True)
        return True

    def _restored(self, address: str, token: int) -> None:
        self._missing[address].discard(token)
        if not self._missing[address]:
            self._forget(address)

    def _forget(self, address: str) -> None:
        del self._missing[address], self._since[address]
        self._unconfirmed.pop(address, None)

    def _retry_at(self, address: str) -> float:
        first = self._since[address] + INITIAL_BACKOFF
        last, when = self._last
        if last not in ("", address):
            first = max(first, when + MIN_INTERVAL)
        pace = self._backoffs.get(address)
        return max(first, pace.last + pace.delay) if pace else first

    def delay(self) -> float | None:
        """Seconds until take() has something; None for never."""
        now = self._clock()
        return min((max(0.0, self._retry_at(each) - now) for each in self._missing), default=None)

    def next_retry(
        self,
        present: Collection[str],
        needed: Collection[str] = (),
        *,
        toggle_fullmesh: bool = True,
    ) -> Retry | None:
        """The endpoint that is to be tried again now; None for none.

        `present` are the addresses that have an endpoint; of the others nothing is kept,
        since opening them for another reason tries everybody anyway.  `needed` are those that
        must not be closed: they wait as if they had been tried.  Not `gently` is for a kernel that
        does not say who is plain TCP: fullmesh closes that too, deleting does not.
        """
        for address in [address for address in self._missing if address not in present]:
            self._forget(address)
        now = self._clock()
        for address in [address for address in self._missing if self._retry_at(address) <= now]:
            pace = self._backoffs.get(address) or _Backoff(now, INITIAL_BACKOFF)
            delay = max(pace.delay, min(2 * pace.delay, MAX_BACKOFF))
            self._backoffs[address] = pace = pace._replace(last=now, delay=delay)
            if address not in needed:
                toggle_fullmesh = toggle_fullmesh and not pace.toggle_fullmesh
                self._backoffs[address] = pace._replace(cut=False, toggle_fullmesh=toggle_fullmesh)
                self._last = (address, now)
                self._count_down(address)
                return Retry(address, toggle_fullmesh)
        return None

    def _count_down(self, address: str) -> None:
        """One try less for what nobody heard of."""
        if address in self._unconfirmed:
            self._unconfirmed[address] -= 1
            if not self._unconfirmed[address]:
                self._forget(address)

    def missing_counts(self) -> dict[str, int]:
        """Address → how many connections miss a subflow from there."""
        return {address: len(tokens) for address, tokens in self._missing.items()}
