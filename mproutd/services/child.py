"""A program of the user's, from its start to its end, and what is told of that.

What must hold: nobody waits for it.  Its descriptors tell when it wrote something and when it has
ended; whoever started it keeps its time.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that takes too long."""
LINE = 200
"""Bytes that are kept of the last line of its output."""


class Run(NamedTuple):
    """A run of a program, as far as it is known."""

    event: str
    program: str
    at: float
    """Epoch seconds."""
    status: int | None = None
    """As subprocess has it: negative for a signal, 127 where it could not be run."""
    took: float | None = None
    """Seconds."""
    text: str = "runs"
    """How it ended, in words."""
    line: str = ""
    """The last one that it wrote."""


class Program:
    """A program that runs.  Its descriptors: `output`, and `fileno`, which tells its end."""

    def __init__(self, words: tuple[str, ...], told: Mapping[str, str], ends_at: float) -> None:
        """OSError when it cannot be run."""
        self._process = subprocess.Popen(
            words,
            cwd="/",
            env=told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._pidfd = os.pidfd_open(self._process.pid)
        self.ends_at = ends_at
        self.late = False
        self._line = self._rest = b""

    def fileno(self) -> int:
        return self._pidfd

    @property
    def line(self) -> str:
        """The last line that it wrote; the last whole one, if it was cut off."""
        cut_off = self.late and self._line
        return ((not cut_off and self._rest) or self._line).strip().decode("utf-8", "replace")

    def read(self) -> int | None:
        """Take some of what it has written: bytes, 0 at the end, None while nothing is there."""
        try:
            part = os.read(self.output.fileno(), 1 << 14)
        except BlockingIOError:
            return None
        *whole, rest = (self._rest + part).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest.lstrip()[:LINE]
        self._line = next(filter(None, map(bytes.strip, reversed(whole))), self._line)[:LINE]
        return len(part)

    def hurry(self, now: float) -> None:
        """Its time is over: first it is asked to end, then it is not asked."""
        number = signal.SIGKILL if self.late else signal.SIGTERM
        self.late, self.ends_at = True, now + GRACE
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def collect(self) -> int:
        """Its status, and the last of what it wrote.  Only when it has ended: nothing waits."""
        status = self._process.wait()
        for _ in range(8):  # a pipe holds no more, unless somebody it left behind still writes
            if not self.read():
                break
        os.close(self._pidfd)
        self.output.close()
        return status

    def how(self, status: int) -> str:
        """How it ended, in words."""
        if self.late:
            return "took too long and was ended"
        if status < 0:
            return f"was ended by {_signal(-status)}"
        return f"ended with {status}"


def _signal(number: int) -> str:
    """Its name; of those between SIGRTMIN and SIGRTMAX Python knows none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
