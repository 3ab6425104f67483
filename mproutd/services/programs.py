"""Programs of the user's that a service runs, without waiting for them.

Invariants: each uplink has at most one of a service running; one that takes too long is
terminated with its process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from functools import partial

from mproutd.eventloop import Loop, Timer

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_RUN = 127
"""Exit status of a program that could not be started, as the shell has it."""
KILL_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
MAX_LINE_BYTES = 200
"""Of the last line of a program's output that are kept."""


class Programs:
    """The running programs of a service, by uplink."""

    def __init__(self, loop: Loop, on_end: Callable[[str, Program, int], None]) -> None:
        """`on_end`: called with the uplink, the program and its exit status."""
        self._loop, self._on_end = loop, on_end
        self._running: dict[str, Program] = {}

    def __contains__(self, uplink: object) -> bool:
        return uplink in self._running

    @property
    def uplinks(self) -> frozenset[str]:
        """Those with a running program."""
        return frozenset(self._running)

    def start(
        self, uplink: str, arguments: tuple[str, ...], variables: Mapping[str, str], timeout: float
    ) -> None:
        """OSError when it cannot be started."""
        program = self._running[uplink] = Program(arguments, variables, self._loop.clock())
        self._loop.watch(program.output, partial(self._on_output, program))
        self._loop.watch(program, partial(self._on_exit, uplink))
        program.timer = self._loop.call_later(timeout, partial(self._on_timeout, program))

    def _on_output(self, program: Program) -> None:
        if program.read() == 0:
            self._loop.unwatch(program.output)

    def _on_timeout(self, program: Program) -> None:
        program.terminate()
        program.timer = self._loop.call_later(KILL_GRACE, partial(self._on_timeout, program))

    def _on_exit(self, uplink: str) -> None:
        program = self._running.pop(uplink)
        self._release(program)
        self._on_end(uplink, program, program.collect())

    def _release(self, program: Program) -> None:
        """Wait for nothing of it any more."""
        if program.timer is not None:
            program.timer.cancel()
        self._loop.unwatch(program.output)
        self._loop.unwatch(program)

    def close(self) -> None:
        """Terminate what runs, since nothing enforces its timeout any more."""
        for program in self._running.values():
            program.terminate()
            self._release(program)
        self._running = {}


class Program:
    """A running program: `output` is its output, and fileno() is readable when it has ended."""

    def __init__(
        self, arguments: tuple[str, ...], variables: Mapping[str, str], now: float
    ) -> None:
        """OSError when it cannot be started."""
        self._process = subprocess.Popen(
            arguments,
            cwd="/",
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._pidfd = os.pidfd_open(self._process.pid)
        self.started = now
        self.timer: Timer | None = None
        """Ends it when it takes too long."""
        self.timed_out = False
        self._line = self._rest = b""

    def fileno(self) -> int:
        return self._pidfd

    @property
    def line(self) -> str:
        """The last line of the output; the last complete one, if the program was terminated."""
        cut_off = self.timed_out and self._line
        return ((not cut_off and self._rest) or self._line).strip().decode("utf-8", "replace")

    def read(self) -> int | None:
        """Read some of the output: bytes, 0 at the end, None while there is nothing to read."""
        try:
            part = os.read(self.output.fileno(), 1 << 14)
        except BlockingIOError:
            return None
        *complete, rest = (self._rest + part).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest.lstrip()[:MAX_LINE_BYTES]
        last = next(filter(None, map(bytes.strip, reversed(complete))), self._line)
        self._line = last[:MAX_LINE_BYTES]
        return len(part)

    def terminate(self) -> None:
        """Send SIGTERM to its process group, the second time SIGKILL."""
        number = signal.SIGKILL if self.timed_out else signal.SIGTERM
        self.timed_out = True
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def collect(self) -> int:
        """Read the rest of the output and return the exit status, after the program has ended."""
        status = self._process.wait()
        for _ in range(8):  # a pipe holds no more, unless a child that it left behind still writes
            if not self.read():
                break
        os.close(self._pidfd)
        self.output.close()
        return status

    def describe_end(self, status: int) -> str:
        """How it ended."""
        if self.timed_out:
            return "timed out and was terminated"
        if status < 0:
            return f"was terminated by {_signal_name(-status)}"
        return f"exited with status {status}"


def _signal_name(number: int) -> str:
    """Python has no names for the signals between SIGRTMIN and SIGRTMAX."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
