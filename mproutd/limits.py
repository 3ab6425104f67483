"""What one source may cause: processor time, passes, and lines of the log.

Invariants: what is delayed or left out is bounded by its own source, and others are not affected;
lines that are left out are counted, and the count is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence

from mproutd.eventloop import Loop, Timer

EVENT_SHARE, EVENT_BURST = 0.05, 1.0
"""Of the processor, and seconds of it, for the passes that one source of events causes."""
MAX_SOURCES = 64
"""From which on quiet ones are forgotten."""


class Budget:
    """A share of the time, which may be saved up to `burst` seconds and overdrawn once."""

    def __init__(self, clock: Callable[[], float], share: float, burst: float) -> None:
        """`share`: seconds that may be spent in each second of the clock."""
        self._clock, self._share, self._burst = clock, share, burst
        self._left, self._at = burst, clock()

    def spend(self, seconds: float) -> float:
        """Use up some of it; what is left."""
        self._left = self._now() - seconds
        return self._left

    def delay(self) -> float:
        """Seconds until there is something left; 0 if there is now."""
        left = self._now()
        return 0.0 if left > 0.0 else -left / self._share + 0.001

    @property
    def full(self) -> bool:
        """Whether nothing of it has been used lately."""
        return self._now() >= self._burst

    def _now(self) -> float:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._share)
        self._at = now
        return self._left


class PassLimiter:
    """When to make the pass that events ask for: at once, unless their source asks too much.

    A router that sends advertisements without a pause changes addresses and routes hundreds of
    times a second.  The passes that one source causes may take EVENT_SHARE of the processor; those
    beyond are delayed and, with what has arrived meanwhile, become one.  A source that is quiet
    has EVENT_BURST seconds of passes in advance, and no other source's events are delayed.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock, self._used = clock, used
        self._budgets: dict[Hashable, Budget] = {}
        self._exhausted: set[Hashable] = set()
        """Sources that had used up their budget after their last pass."""
        self._pending: set[Hashable] = set()
        """Sources of the events since the last pass."""
        self._causes: set[Hashable] = set()
        """Of the pass that is being made."""
        self._began = 0.0

    def add(self, sources: Iterable[Hashable]) -> None:
        """There were events of these sources."""
        self._pending.update(sources)

    def delay(self) -> float:
        """Seconds until the pass that the events ask for."""
        if not self._exhausted or not self._pending <= self._exhausted:
            return 0.0
        return min((self._budgets[source].delay() for source in self._pending), default=0.0)

    def begin(self) -> None:
        """A pass begins."""
        self._causes, self._pending = self._pending, set()
        self._began = self._used()

    def end(self, again: bool) -> None:
        """It has ended; `again`: another one has to follow, for the same reason."""
        spent = self._used() - self._began
        for source in self._causes:
            if source not in self._budgets:
                self._make_room()
                self._budgets[source] = Budget(self._clock, EVENT_SHARE, EVENT_BURST)
            if self._budgets[source].spend(spent) > 0.0:
                self._exhausted.discard(source)
            else:
                self._exhausted.add(source)
        if again:
            self._pending |= self._causes

    def _make_room(self) -> None:
        """Forget the sources that have been quiet; devices come and go."""
        if len(self._budgets) >= MAX_SOURCES:
            self._budgets = {
                source: budget for source, budget in self._budgets.items() if not budget.full
            }
            self._exhausted &= self._budgets.keys()


class LineLimiter:
    """For each key lets `burst` lines pass, and then one in a `period`."""

    def __init__(
        self, loop: Loop, burst: int, period: float, summarize: Callable[[Hashable, int], None]
    ) -> None:
        """`summarize(key, count)` is called at the end of a period in which lines were left out."""
        self._loop, self._burst, self._period = loop, burst, period
        self._summarize = summarize
        self._used: dict[Hashable, tuple[float, float]] = {}
        """Key → how much of its burst is used, and when that was."""
        self._left_out: dict[Hashable, int] = {}
        self._timer: Timer | None = None

    def admit(self, key: Hashable) -> bool:
        """Whether the line may be logged."""
        now = self._loop.clock()
        level, at = self._used.get(key, (0.0, now))
        level = max(0.0, level - (now - at) / self._period)
        if level + 1.0 <= self._burst:
            self._used[key] = (level + 1.0, now)
            return True
        self._left_out[key] = self._left_out.get(key, 0) + 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self._end_period)
        return False

    def _end_period(self) -> None:
        self._timer = None
        left_out, self._left_out = self._left_out, {}
        now = self._loop.clock()
        self._used = {
            key: (level, at)
            for key, (level, at) in self._used.items()
            if level > (now - at) / self._period
        }
        for key, count in left_out.items():
            self._summarize(key, count)


def first_to_go(sources: Sequence[str]) -> int:
    """Which of these connections, the oldest first, has to make room for another one: the oldest
    of the source that has most."""
    counts = {source: sources.count(source) for source in set(sources)}
    most = max(counts.values())
    return next(n for n, source in enumerate(sources) if counts[source] == most)
