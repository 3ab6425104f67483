"""What one source may cause: processor time, and lines of the log.

Invariants: what is delayed or left out is bounded by its own source, and others are not affected;
lines that are left out are counted, and the count is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from mproutd.eventloop import Loop, Timer


class Budget:
    """A share of the time, which may be saved up to `burst` seconds and overdrawn once."""

    def __init__(self, clock: Callable[[], float], share: float, burst: float) -> None:
        """`share`: seconds that may be spent in each second of the clock."""
        self._clock, self._share, self._burst = clock, share, burst
        self._left, self._at = burst, clock()

    def spend(self, seconds: float) -> None:
        """Use up some of it."""
        self._left = self._now() - seconds

    def delay(self) -> float:
        """Seconds until there is something left; 0 if there is now."""
        left = self._now()
        return 0.0 if left > 0.0 else -left / self._share + 0.001

    def _now(self) -> float:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._share)
        self._at = now
        return self._left


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
