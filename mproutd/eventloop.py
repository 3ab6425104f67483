"""One wait for everything that the daemon hears: descriptors, each with what to do, and time.

What must hold: one thread, and nothing that is called here ever waits.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Protocol

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
                self.forget(self._by_descriptor[descriptor])
            self._selector.register(descriptor, events)
            self._by_descriptor[descriptor] = source
        else:
            descriptor = known[0]
            if known[1] != events:
                self._selector.modify(descriptor, events)
        self._watched[source] = (descriptor, events, ready)

    def forget(self, source: Source) -> None:
        """No more of it.  Nothing when it is not watched."""
        known = self._watched.pop(source, None)
        if known is not None:
            self._selector.unregister(known[0])
            del self._by_descriptor[known[0]]

    def wait(self, timeout: float | None) -> None:
        """Wait for up to `timeout` seconds (None: for ever), and call what is ready."""
        for key, _ in self._selector.select(timeout):
            source = self._by_descriptor.get(key.fd)
            if source is not None:
                self._watched[source][2]()

    def close(self) -> None:
        self._selector.close()
