"""on_up and on_down: a program of the user's when an uplink becomes usable, or no longer is.

What must hold: the loop never waits for a program; of one uplink only one runs at a time, and
what has been undone by the time it could run does not run; a restart of the daemon repeats
nothing; an uplink that a reload takes away is no longer usable, too.  What was acted on is kept
in RUNTIME/actions, a line "NAME up" or "NAME down" each, whether the uplink is still there or not;
without that file (`mproutd flush` removes it) all begins anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from socket import AF_INET6
from typing import TYPE_CHECKING, NamedTuple, cast

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.planning.numbering import Numbers
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import ObservedUplink
from mproutd.safefile import read_file, replace_file, unlink_if_present
from mproutd.services.base import Service, ServiceContext

if TYPE_CHECKING:
    from mproutd.status.types import Action, Status

FILE = "actions"
"""In the runtime directory."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UP, DOWN = "up", "down"


def environment(
    event: str, uplink: ObservedUplink, numbers: Numbers, usable: tuple[str, ...]
) -> dict[str, str]:
    """What the program is told; documented in mproutd.conf(5), PROGRAMS."""
    told = {
        "PATH": PATH,
        "MPROUTD_EVENT": event,
        "MPROUTD_UPLINK": uplink.config.name,
        "MPROUTD_DEVICE": uplink.config.device,
        "MPROUTD_MODE": uplink.config.mode,
        "MPROUTD_REASON": "" if event == UP else reason(uplink),
        "MPROUTD_TABLE": str(numbers.table),
        "MPROUTD_MARK": f"{numbers.mark:#x}/{numbers.mask:#x}" if numbers.mask else "",
        "MPROUTD_USABLE": " ".join(usable),
    }
    for path in uplink.paths:
        six = "6" if path.family == AF_INET6 else ""
        told["MPROUTD_ADDRESS" + six] = " ".join(each.address for each in path.eligible)
        told["MPROUTD_GATEWAY" + six] = path.gateway.address if path.gateway else ""
    return told


def reason(uplink: ObservedUplink) -> str:
    """Why an uplink is not usable: the family that has an address knows best."""
    paths = sorted(uplink.paths, key=lambda path: not path.covered)
    return paths[0].reason


class Scripts(Service):
    """The programs of all uplinks."""

    persistent = True
    """What runs when nobody asks for programs any more has to end in its time, too."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._file = os.path.join(context.runtime_dir, FILE)
        self._acted = _read(self._file)
        self._uplinks: dict[str, UplinkConfig] = {}
        self._leaving: dict[str, UplinkConfig] = {}
        """Those that a reload took away, until their on_down has ended."""
        self._state: dict[str, tuple[str, dict[str, str]]] = {}
        """Uplink → up or down, and what a program would be told of it."""
        self._running: dict[str, Program] = {}
        self._runs: dict[str, Run] = {}
        """The last of each uplink."""

    def on_configuration(self, config: Config) -> None:
        there = {each.name: each for each in config.uplinks} if config.enabled else {}
        before = self._uplinks
        self._uplinks = {name: each for name, each in there.items() if each.on_up or each.on_down}
        for name, uplink in before.items():
            if name not in there and name in self._state:
                self._leave(uplink, "removed" if config.enabled else "disabled", there)
        self._tidy()

    def _leave(self, uplink: UplinkConfig, why: str, there: Collection[str]) -> None:
        """It goes, whatever its line does: its old on_down hears what was known last."""
        _, told = self._state[uplink.name]
        usable = [each for each in told["MPROUTD_USABLE"].split() if each in there]
        news = {"EVENT": DOWN, "REASON": why, "USABLE": " ".join(usable)}
        told = told | {f"MPROUTD_{key}": value for key, value in news.items()}
        self._state[uplink.name] = (DOWN, told)
        self._leaving[uplink.name] = uplink
        self._act(uplink.name)

    def _tidy(self) -> None:
        """Forget the uplinks that are no more, once nothing is left to run for them."""
        self._leaving = {
            name: each
            for name, each in self._leaving.items()
            if name in self._running and name not in self._uplinks
        }
        known = self._uplinks.keys() | self._leaving.keys()
        self._state = {name: each for name, each in self._state.items() if name in known}
        known |= self._running.keys()
        self._runs = {name: each for name, each in self._runs.items() if name in known}

    def on_pass(self, outcome: Outcome) -> None:
        target = outcome.plan
        usable = tuple(uplink.config.name for uplink in target.uplinks if uplink.usable)
        for uplink in target.uplinks:
            name = uplink.config.name
            if name in self._uplinks:
                event = UP if uplink.usable else DOWN
                told = environment(event, uplink, target.numbers[name], usable)
                self._state[name] = (event, told)
                self._act(name)

    def _act(self, name: str) -> None:
        """Run what the uplink's state asks for, unless something of it runs, or did already."""
        event, told = self._state[name]
        if name in self._running or self._acted.get(name, DOWN) == event:
            return
        uplink = self._uplinks.get(name) or self._leaving[name]
        words = uplink.on_up if event == UP else uplink.on_down
        if not words:
            self._note(name, event)
            return
        run = Run(event, words[0], time.time())
        now = self._context.clock()
        try:
            program = Program(words, told, now + uplink.action_timeout)
        except OSError as error:
            self._note(name, event)
            text = f"cannot be run: {error.strerror}"
            self._say(log.WARNING, name, run._replace(exit_status=127, duration=0.0, text=text))
            return
        self._running[name] = program
        self._context.loop.watch(program.output, lambda: self._written(program))
        self._context.loop.watch(program, lambda: self._ended(name, now))
        self._say(log.INFO, name, run)

    def _written(self, program: Program) -> None:
        if program.read() == 0:
            self._context.loop.unwatch(program.output)

    def _ended(self, name: str, began: float) -> None:
        program = self._running.pop(name)
        self._forget(program)
        status = program.collect()
        run = self._runs[name]._replace(
            exit_status=status,
            duration=self._context.clock() - began,
            text=program.how(status),
            output=program.line,
        )
        self._note(name, run.event)
        good = status == 0 and not program.late
        self._say(log.INFO if good else log.WARNING, name, run)
        if name in self._state:
            self._act(name)
        self._tidy()

    def _forget(self, program: Program) -> None:
        self._context.loop.unwatch(program.output)
        self._context.loop.unwatch(program)

    def _say(self, priority: int, name: str, run: Run) -> None:
        self._runs[name] = run
        text = f"{name}: on_{run.event} {run.program} {run.text}"
        uplink = self._uplinks.get(name) or self._leaving.get(name)
        device = uplink.device if uplink else ""
        self._context.publish(
            "action", priority, text + (f": {run.output}" if run.output else ""), name, device
        )

    def _note(self, name: str, event: str) -> None:
        """What has been done is not done again, after a restart neither."""
        self._acted = {**self._acted, name: event}
        text = "".join(f"{each} {self._acted[each]}\n" for each in sorted(self._acted))
        try:
            replace_file(self._file, text.encode())
        except OSError as error:
            text = f"{name}: actions may run again after a restart: {error}"
            self._context.publish("action", log.WARNING, text, name)

    def add_to_status(self, status: Status) -> None:
        if not self._uplinks:
            return
        for uplink in status["uplinks"]:
            run = self._runs.get(uplink["name"])
            uplink["action"] = cast("Action", run._asdict()) if run else None

    def due(self) -> float | None:
        ends = [program.ends_at for program in self._running.values()]
        return max(0.0, min(ends) - self._context.clock()) if ends else None

    def turn(self) -> None:
        now = self._context.clock()
        for program in self._running.values():
            if program.ends_at <= now:
                program.hurry(now)

    def close(self) -> None:
        """What runs is ended, since nobody keeps its time any more.  It runs again after a start
        that finds the uplink in the same state."""
        for program in self._running.values():
            program.hurry(self._context.clock())
            self._forget(program)
        self._running = {}


def forget(runtime: str) -> None:
    """As if nothing had been acted on.  While no daemon runs.  OSError."""
    unlink_if_present(os.path.join(runtime, FILE))


def _read(path: str) -> dict[str, str]:
    """The file's lines that make sense; nothing without it."""
    try:
        lines = [line.split() for line in read_file(path, 1 << 16).decode().splitlines()]
    except (OSError, ValueError):
        return {}
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[1] in (UP, DOWN)}


GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that takes too long."""
LINE = 200
"""Bytes that are kept of the last line of its output."""


class Run(NamedTuple):
    """A run of a program, as far as it is known."""

    event: str
    program: str
    started: float
    """Epoch seconds."""
    exit_status: int | None = None
    """As subprocess has it: negative for a signal, 127 where it could not be run."""
    duration: float | None = None
    """Seconds."""
    text: str = "runs"
    """How it ended, in words."""
    output: str = ""
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
