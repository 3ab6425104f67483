"""What can only be done by waiting, in a thread of its own: names are looked up, files read,
long tables gone through.

getaddrinfo(3) waits for half a minute where DNS is dead, and nobody can stop it.  One thread
does such work, a piece after the other, and the loop hears of it through a socket.  What must
hold: the loop never waits for the thread, not even at the end of the daemon.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from mproutd.eventloop import Loop

Work = tuple[Callable[[], Any], Callable[[Any, str], None]]
"""What the thread does; what the loop is told: its result, or None and the error."""


class Worker:
    """The thread; it begins with the first piece of work."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._todo: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ear: socket.socket | None = None

    def do(self, work: Callable[[], Any], tell: Callable[[Any, str], None]) -> None:
        """Do `work` in the thread, then tell in the loop."""
        if self._ear is None:
            self._ear, mouth = socket.socketpair()
            self._ear.setblocking(False)
            self._loop.watch(self._ear, self._hear)
            threading.Thread(
                target=_work, args=(self._todo, self._done, mouth), name="worker", daemon=True
            ).start()
        self._todo.put((work, tell))

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
            self._loop.forget(self._ear)
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
