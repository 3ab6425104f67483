"""One wait for everything that the daemon hears: descriptors, each with what to do, and time.

What must hold: one thread, and nothing that is called here ever waits.
"""

from __future__ import annotations

import queue
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Source(Protocol):
    """Something with a descriptor; hashed by what it is."""

    def fileno(self) -> int: ...


class Loop:
    """The descriptors of one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Source, tuple[int, int, Callable[[], object]]] = {}
        self._by_descriptor: dict[int, Source] = {}

    def watch(self, source: Source, ready: Callable[[], object], events: int = READ) -> None:
        """Call `ready` whenever the source is; again for one that is watched changes how."""
        known = self._watched.get(source)
        if known is None:
            descriptor = source.fileno()
            if descriptor in self._by_descriptor:  # of one that was closed and not forgotten yet
                self.unwatch(self._by_descriptor[descriptor])
            self._selector.register(descriptor, events)
            self._by_descriptor[descriptor] = source
        else:
            descriptor = known[0]
            if known[1] != events:
                self._selector.modify(descriptor, events)
        self._watched[source] = (descriptor, events, ready)

    def unwatch(self, source: Source) -> None:
        """No more of it.  Nothing when it is not watched."""
        known = self._watched.pop(source, None)
        if known is not None:
            self._selector.unregister(known[0])
            del self._by_descriptor[known[0]]

    def run_once(self, timeout: float | None) -> None:
        """Wait for up to `timeout` seconds (None: for ever), and call what is ready."""
        for key, _ in self._selector.select(timeout):
            source = self._by_descriptor.get(key.fd)
            if source is not None:
                self._watched[source][2]()

    def close(self) -> None:
        self._selector.close()


Work = tuple[Callable[[], Any], Callable[[Any, str], None]]
"""What the thread does; what the loop is told: its result, or None and the error."""


class Worker:
    """The thread; it begins with the first piece of work."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._todo: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ear: socket.socket | None = None

    def submit(self, work: Callable[[], Any], done: Callable[[Any, str], None]) -> None:
        """Do `work` in the thread, then tell in the loop."""
        if self._ear is None:
            self._ear, mouth = socket.socketpair()
            self._ear.setblocking(False)
            self._loop.watch(self._ear, self._hear)
            threading.Thread(
                target=_work, args=(self._todo, self._done, mouth), name="worker", daemon=True
            ).start()
        self._todo.put((work, done))

    def _hear(self) -> None:
        assert self._ear is not None
        try:
            self._ear.recv(4096)
        except BlockingIOError:
            pass
        while not self._done.empty():
            self._done.get()()

    def close(self) -> None:
        """The thread ends by itself after what it is at; nothing is told any more."""
        self._todo.put(None)
        if self._ear is not None:
            self._loop.unwatch(self._ear)
            self._ear.close()


def _work(
    todo: queue.SimpleQueue[Work | None],
    done: queue.SimpleQueue[Callable[[], None]],
    mouth: socket.socket,
) -> None:
    for work, tell in iter(todo.get, None):
        result, error = None, ""
        try:
            result = work()
        except (OSError, ValueError, ImportError) as problem:
            error = str(getattr(problem, "strerror", "") or problem)
        done.put(lambda tell=tell, result=result, error=error: tell(result, error))  # type: ignore[misc]
        try:
            mouth.send(b".")
        except OSError:
            return
    mouth.close()
