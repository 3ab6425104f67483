"""The event loop: descriptors, timers, and a worker thread for what would block.

One thread runs every callback, so no callback may block.
"""

from __future__ import annotations

import heapq
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Protocol

MIN_COMPACTION = 64
"""Timers from which on cancelled ones are removed before they are due."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Source(Protocol):
    """Something with a descriptor; hashed by identity."""

    def fileno(self) -> int: ...


class Timer:
    """A callback that is due at a time."""

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        """On the loop's clock."""
        self._callback: Callable[[], object] | None = callback

    @property
    def active(self) -> bool:
        """Whether it has neither run nor been cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Do not run it.  Harmless after it has run."""
        self._callback = None

    def run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """The descriptors and timers of one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds; tests have their own."""
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Source, tuple[int, int, Callable[[], object]]] = {}
        self._by_descriptor: dict[int, Source] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._serial = count()
        self._compact_at = MIN_COMPACTION

    # -- descriptors ----------------------------------------------------------------------

    def watch(self, source: Source, on_ready: Callable[[], object], events: int = READ) -> None:
        """Call `on_ready` whenever the source is ready.

        For a source that is watched already, change the events and the callback.
        """
        known = self._watched.get(source)
        if known is None:
            descriptor = source.fileno()
            if descriptor in self._by_descriptor:  # its owner closed it without unwatch()
                self.unwatch(self._by_descriptor[descriptor])
            self._selector.register(descriptor, events)
            self._by_descriptor[descriptor] = source
        else:
            descriptor = known[0]
            if known[1] != events:
                self._selector.modify(descriptor, events)
        self._watched[source] = (descriptor, events, on_ready)

    def unwatch(self, source: Source) -> None:
        """Forget a source.  Harmless for one that is not watched."""
        known = self._watched.pop(source, None)
        if known is not None:
            self._selector.unregister(known[0])
            del self._by_descriptor[known[0]]

    # -- timers ---------------------------------------------------------------------------

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, `delay` seconds from now or soon after."""
        return self.call_at(self.clock() + delay, callback)

    def call_at(self, at: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, at this time of the clock or soon after."""
        if len(self._timers) >= self._compact_at:
            self._timers = [item for item in self._timers if item[2].active]
            heapq.heapify(self._timers)
            self._compact_at = max(MIN_COMPACTION, 2 * len(self._timers))
        timer = Timer(at, callback)
        heapq.heappush(self._timers, (at, next(self._serial), timer))
        return timer

    def next_at(self) -> float | None:
        """When the next timer is due; None when there is none."""
        while self._timers and not self._timers[0][2].active:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_timers(self) -> None:
        """Run the timers that are due; those that they add wait for the next call."""
        now, due = self.clock(), []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        for timer in due:
            timer.run()

    # -- running --------------------------------------------------------------------------

    def run_once(self, timeout: float | None = None) -> None:
        """Wait for a descriptor or a timer, at most `timeout` seconds, and run what is ready.

        Descriptors come first, so that a timer sees what has arrived.
        """
        next_at = self.next_at()
        if next_at is not None:
            wait = max(0.0, next_at - self.clock())
            timeout = wait if timeout is None else min(wait, timeout)
        for key, _ in self._selector.select(timeout):
            source = self._by_descriptor.get(key.fd)
            if source is not None:
                self._watched[source][2]()
        self.run_timers()

    def close(self) -> None:
        self._timers.clear()
        self._selector.close()


Work = tuple[Callable[[], Any], Callable[[Any, str], None]]
"""What the thread calls, and what the loop calls with its result, or with None and the error."""


class Worker:
    """A thread for calls that block; started with the first of them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._submitted: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_read: socket.socket | None = None

    def submit(self, work: Callable[[], Any], done: Callable[[Any, str], None]) -> None:
        """Call `work` in the thread, then `done(result, error)` in the loop.

        Without a free descriptor for a thread, the error is that.
        """
        try:
            if self._wake_read is None:
                self._start()
        except OSError as problem:
            self._loop.call_later(0, partial(done, None, problem.strerror or str(problem)))
            return
        self._submitted.put((work, done))

    def _start(self) -> None:
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        self._wake_read = wake_read
        self._loop.watch(wake_read, self._run_finished)
        threading.Thread(
            target=_work,
            args=(self._submitted, self._finished, wake_write),
            name="worker",
            daemon=True,
        ).start()

    def _run_finished(self) -> None:
        assert self._wake_read is not None
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            pass
        while not self._finished.empty():
            self._finished.get()()

    def close(self) -> None:
        """Run no callback any more.  The thread ends after its current call."""
        self._submitted.put(None)
        if self._wake_read is not None:
            self._loop.unwatch(self._wake_read)
            self._wake_read.close()


def _work(
    submitted: queue.SimpleQueue[Work | None],
    finished: queue.SimpleQueue[Callable[[], None]],
    wake_write: socket.socket,
) -> None:
    for work, done in iter(submitted.get, None):
        result, error = None, ""
        try:
            result = work()
        except (OSError, ValueError, ImportError) as problem:
            error = str(getattr(problem, "strerror", "") or problem)
        finished.put(lambda done=done, result=result, error=error: done(result, error))  # type: ignore[misc]
        try:
            wake_write.send(b".")
        except OSError:
            return
    wake_write.close()
