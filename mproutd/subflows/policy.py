"""When to retry a failed subflow, and by which method.  Pure; the clock is injected, in seconds.

Once a connection's subflow from an endpoint has failed, the kernel never uses that endpoint for
that connection again, even if the route, the neighbour or the peer recovers a moment later.
Three methods make every connection try anew (net/mptcp/pm_kernel.c):

1. "fullmesh": toggle fullmesh on and off (mptcp_pm_nl_fullmesh).  Peers do not notice.
2. "replace": delete the endpoint and add it.  Peers receive RM_ADDR.  From a connection without a
   subflow left, it goes out on the new subflow, and the peer closes that at once.
3. "wildcard": add an endpoint without an address for a moment (planning/wildcard.py).  It closes
   nothing, but gives a second subflow to connections that lack none.

The second does not depend on how a kernel implements fullmesh, so these two alternate.  Both
close every connection's subflow on the endpoint.  The third takes their place where another
connection would lose its only path, and for the endpoints of other programs.  A retry happens
only while some connection lacks a subflow, for one endpoint at a time, and less and less often:

    sub-closed with an error, from our endpoint to the peer's first address
                                        -> that connection lacks a subflow
    sub-established from there, closed  -> no longer
    found to lack one by looking        -> unconfirmed: one retry by each method
    delay between retries               -> INITIAL_BACKOFF, doubled up to MAX_BACKOFF
    sub-closed without an error within DISRUPTION_WINDOW of a retry
                                        -> the retry cost another connection its subflow: from
                                           then on INITIAL_DISRUPTIVE_BACKOFF, and four times as
                                           long each time, up to MAX_DISRUPTIVE_BACKOFF

The delay outlives the connection that caused it, or a series of short ones to a peer that refuses
subflows would keep disturbing the others.  It is reset once nothing has failed for twice as long.

Failures to an address that the peer announced later do not count: they do not use up our
endpoint, a peer behind NAT announces unreachable addresses, and a retry would close the subflow
that works.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

from mproutd.netlink.mptcp_pm import Event

INITIAL_BACKOFF, MAX_BACKOFF = 0.25, 60.0
INITIAL_DISRUPTIVE_BACKOFF, MAX_DISRUPTIVE_BACKOFF = 5.0, 3600.0
DISRUPTION_WINDOW = 1.0
"""Seconds after a retry in which it is blamed for subflows that close on its endpoint."""
MIN_INTERVAL = 1.0
"""Seconds between retries of two endpoints, so that a connection with two subflows keeps one."""
METHODS = 2
MAX_MISSING = 4096
"""Connections remembered for an endpoint; further failures are ignored."""


Method = Literal["fullmesh", "replace", "wildcard"]


class _Backoff(NamedTuple):
    """The retries of one endpoint so far."""

    last: float
    """Time of the last one."""
    delay: float
    """Until the next one."""
    disruptive: bool = False
    """The last one cost other connections their subflows."""
    method: Method | None = None
    """Of the last one."""


class Retry(NamedTuple):
    """An endpoint to be retried now."""

    address: str
    method: Method


class RetryPolicy:
    """Which endpoint to retry, when, and by which method.  Endpoints are named by address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._missing: dict[str, set[int]] = {}
        """Endpoint → tokens of the connections that lack a subflow from it."""
        self._since: dict[str, float] = {}
        """Endpoint → when it entered `_missing`."""
        self._backoffs: dict[str, _Backoff] = {}
        self._last = ("", 0.0)
        """The endpoint of the last retry, and its time."""
        self._unconfirmed: dict[str, int] = {}
        """Endpoint → retries left, where no event confirmed that a subflow failed."""

    def on_event(self, event: Event) -> bool:
        """Account for an event of the path manager.

        True for a subflow that was closed without an error and not by a retry, which is how the
        deletion of an endpoint by another program looks.  (The end of a connection has no such
        event.)
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
        """Which connections lack a subflow is unknown now, so give each one last chance."""
        self._unconfirmed = dict.fromkeys(self._missing, METHODS)

    def add_missing(self, address: str, token: int) -> None:
        """Account for a connection that was found without a subflow from `address`."""
        if address not in self._missing:
            self._unconfirmed[address] = METHODS
            self._add(address, token)

    def missing_tokens(self) -> set[int]:
        """The connections that lack a subflow."""
        return {token for tokens in self._missing.values() for token in tokens}

    def missing_counts(self) -> dict[str, int]:
        """Endpoint → how many connections lack a subflow from it."""
        return {address: len(tokens) for address, tokens in self._missing.items()}

    def on_subflows(self, subflows: Iterable[tuple[str, int]]) -> None:
        """Account for established subflows, as (address, token): these are not missing.

        One of several from the same address may have failed.
        """
        for address, token in subflows:
            if token in self._missing.get(address, ()):
                self._restored(address, token)

    def discard(self, tokens: Collection[int]) -> None:
        """Stop retrying for these connections."""
        for address in list(self._missing):
            self._missing[address] -= set(tokens)
            if not self._missing[address]:
                self._forget(address)

    def _add(self, address: str, token: int) -> None:
        if address not in self._missing:
            now = self._clock()
            self._since[address] = now
            backoff = self._backoffs.get(address)
            if backoff and now - backoff.last > 2 * backoff.delay:
                del self._backoffs[address]
        tokens = self._missing.setdefault(address, set())
        if len(tokens) < MAX_MISSING:
            tokens.add(token)

    def _closed_by_retry(self, address: str) -> bool:
        """Whether a retry closed a subflow there; backs off if so."""
        backoff = self._backoffs.get(address)
        if backoff is None or backoff.method in (None, "wildcard"):
            return False
        if self._clock() - backoff.last > DISRUPTION_WINDOW:
            return False
        if not backoff.disruptive:
            delay = max(2 * backoff.delay, INITIAL_DISRUPTIVE_BACKOFF)
            delay = min(delay, MAX_DISRUPTIVE_BACKOFF)
            self._backoffs[address] = backoff._replace(delay=delay, disruptive=True)
        return True

    def _restored(self, address: str, token: int) -> None:
        self._missing[address].discard(token)
        if not self._missing[address]:
            self._forget(address)

    def _forget(self, address: str) -> None:
        del self._missing[address], self._since[address]
        self._unconfirmed.pop(address, None)

    def _retry_at(self, address: str) -> float:
        time = self._since[address] + INITIAL_BACKOFF
        last_address, last_time = self._last
        if last_address not in ("", address):
            time = max(time, last_time + MIN_INTERVAL)
        backoff = self._backoffs.get(address)
        return max(time, backoff.last + backoff.delay) if backoff else time

    def delay(self) -> float | None:
        """Seconds until next_retry() may return one; None for never."""
        now = self._clock()
        delays = (max(0.0, self._retry_at(address) - now) for address in self._missing)
        return min(delays, default=None)

    def next_retry(
        self,
        endpoints: Collection[str],
        keep_subflows: Collection[str] = (),
        wildcard: Collection[str] = (),
        *,
        toggle_fullmesh: bool = True,
    ) -> Retry | None:
        """The endpoint to retry now; None for none.

        `endpoints` are those that exist; others are forgotten, since adding one makes every
        connection try it anyway.  Subflows at `keep_subflows` must not be closed: those of them
        that are in `wildcard` are retried by that method, the others back off as if they had been
        retried.  `toggle_fullmesh` is false for a kernel that does not report which connections
        fell back to plain TCP: toggling closes those too, deleting does not.
        """
        for address in [address for address in self._missing if address not in endpoints]:
            self._forget(address)
        now = self._clock()
        for address in [address for address in self._missing if self._retry_at(address) <= now]:
            backoff = self._backoffs.get(address) or _Backoff(now, INITIAL_BACKOFF)
            delay = max(backoff.delay, min(2 * backoff.delay, MAX_BACKOFF))
            self._backoffs[address] = backoff = backoff._replace(last=now, delay=delay)
            method: Method
            if address not in keep_subflows:
                method = "replace"
                if toggle_fullmesh and backoff.method != "fullmesh":
                    method = "fullmesh"
            elif address in wildcard:
                method = "wildcard"
            else:
                continue
            self._backoffs[address] = backoff._replace(disruptive=False, method=method)
            self._last = (address, now)
            self._count_down(address)
            return Retry(address, method)
        return None

    def _count_down(self, address: str) -> None:
        if address in self._unconfirmed:
            self._unconfirmed[address] -= 1
            if not self._unconfirmed[address]:
                self._forget(address)
