"""What is to be done later, in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """One thing to do."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Harmless a second time, and after it was done."""
        self._action = None

    @property
    def live(self) -> bool:
        return self._action is not None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action:
            action()


class Timers:
    """`clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = count()

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do it in so many seconds, or soon after."""
        timer = Timer(action)
        heapq.heappush(self._heap, (self._clock() + seconds, next(self._number), timer))
        return timer

    def due(self) -> float | None:
        """Seconds until the next; None for never."""
        while self._heap and not self._heap[0][2].live:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def turn(self) -> None:
        """Do what is due; what that adds waits for the next turn."""
        now, ready = self._clock(), []
        while self._heap and self._heap[0][0] <= now:
            ready.append(heapq.heappop(self._heap)[2])
        for timer in ready:
            timer.fire()
