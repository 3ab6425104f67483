"""on_up and on_down: a program of the user's when an uplink becomes usable, or no longer is.

What must hold: the loop never waits for a program; of one uplink only one runs at a time, and
what has been undone by the time it could run does not run; a restart of the daemon repeats
nothing; an uplink that a reload takes away is no longer usable, too.  What was acted on is kept
in RUNTIME/actions, a line "NAME up" or "NAME down" each, whether the uplink is still there or not;
without that file (`mproutd flush` removes it) all begins anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from socket import AF_INET6
from typing import Any

from mproutd import log
from mproutd.configuration.config import Config, Uplink
from mproutd.passes import Outcome
from mproutd.planning.numbering import Place
from mproutd.planning.uplinks import Observed
from mproutd.safefile import contents, replace, unlinked
from mproutd.services.base import Host, Part
from mproutd.services.child import Program, Run

FILE = "actions"
"""In the runtime directory."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UP, DOWN = "up", "down"


def environment(
    event: str, entry: Observed, place: Place, usable: tuple[str, ...]
) -> dict[str, str]:
    """What the program is told; documented in mproutd.conf(5), PROGRAMS."""
    told = {
        "PATH": PATH,
        "MPROUTD_EVENT": event,
        "MPROUTD_UPLINK": entry.uplink.name,
        "MPROUTD_DEVICE": entry.uplink.device,
        "MPROUTD_MODE": entry.uplink.mode,
        "MPROUTD_REASON": "" if event == UP else reason(entry),
        "MPROUTD_TABLE": str(place.table),
        "MPROUTD_MARK": f"{place.mark:#x}/{place.mask:#x}" if place.mask else "",
        "MPROUTD_USABLE": " ".join(usable),
    }
    for path in entry.paths:
        six = "6" if path.family == AF_INET6 else ""
        told["MPROUTD_ADDRESS" + six] = " ".join(each.address for each in path.eligible)
        told["MPROUTD_GATEWAY" + six] = path.gateway.address if path.gateway else ""
    return told


def reason(entry: Observed) -> str:
    """Why an uplink is not usable: the family that has an address knows best."""
    paths = sorted(entry.paths, key=lambda path: not path.covered)
    return paths[0].reason


class Actions(Part):
    """The programs of all uplinks."""

    stays = True
    """What runs when nobody asks for programs any more has to end in its time, too."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file = os.path.join(host.runtime, FILE)
        self._acted = _read(self._file)
        self._uplinks: dict[str, Uplink] = {}
        self._leaving: dict[str, Uplink] = {}
        """Those that a reload took away, until their on_down has ended."""
        self._state: dict[str, tuple[str, dict[str, str]]] = {}
        """Uplink → up or down, and what a program would be told of it."""
        self._running: dict[str, Program] = {}
        self._runs: dict[str, Run] = {}
        """The last of each uplink."""

    def configured(self, config: Config) -> None:
        there = {each.name: each for each in config.uplinks} if config.enabled else {}
        before = self._uplinks
        self._uplinks = {name: each for name, each in there.items() if each.on_up or each.on_down}
        for name, uplink in before.items():
            if name not in there and name in self._state:
                self._leave(uplink, "removed" if config.enabled else "disabled", there)
        self._tidy()

    def _leave(self, uplink: Uplink, why: str, there: Collection[str]) -> None:
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

    def passed(self, outcome: Outcome) -> None:
        target = outcome.desired
        usable = tuple(entry.uplink.name for entry in target.observed if entry.usable)
        for entry in target.observed:
            name = entry.uplink.name
            if name in self._uplinks:
                event = UP if entry.usable else DOWN
                told = environment(event, entry, target.places[name], usable)
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
        now = self._host.clock()
        try:
            program = Program(words, told, now + uplink.action_timeout)
        except OSError as error:
            self._note(name, event)
            text = f"cannot be run: {error.strerror}"
            self._say(log.WARNING, name, run._replace(status=127, took=0.0, text=text))
            return
        self._running[name] = program
        self._host.loop.watch(program.output, lambda: self._written(program))
        self._host.loop.watch(program, lambda: self._ended(name, now))
        self._say(log.INFO, name, run)

    def _written(self, program: Program) -> None:
        if program.read() == 0:
            self._host.loop.forget(program.output)

    def _ended(self, name: str, began: float) -> None:
        program = self._running.pop(name)
        self._forget(program)
        status = program.collect()
        run = self._runs[name]._replace(
            status=status,
            took=self._host.clock() - began,
            text=program.how(status),
            line=program.line,
        )
        self._note(name, run.event)
        good = status == 0 and not program.late
        self._say(log.INFO if good else log.WARNING, name, run)
        if name in self._state:
            self._act(name)
        self._tidy()

    def _forget(self, program: Program) -> None:
        self._host.loop.forget(program.output)
        self._host.loop.forget(program)

    def _say(self, priority: int, name: str, run: Run) -> None:
        self._runs[name] = run
        text = f"{name}: on_{run.event} {run.program} {run.text}"
        uplink = self._uplinks.get(name) or self._leaving.get(name)
        device = uplink.device if uplink else ""
        self._host.tell(
            "action", priority, text + (f": {run.line}" if run.line else ""), name, device
        )

    def _note(self, name: str, event: str) -> None:
        """What has been done is not done again, after a restart neither."""
        self._acted = {**self._acted, name: event}
        text = "".join(f"{each} {self._acted[each]}\n" for each in sorted(self._acted))
        try:
            replace(self._file, text.encode())
        except OSError as error:
            text = f"{name}: actions may run again after a restart: {error}"
            self._host.tell("action", log.WARNING, text, name)

    def told(self, status: dict[str, Any]) -> None:
        if not self._uplinks:
            return
        for uplink in status["uplinks"]:
            run = self._runs.get(uplink["name"])
            uplink["action"] = run._asdict() if run else None

    def due(self) -> float | None:
        ends = [program.ends_at for program in self._running.values()]
        return max(0.0, min(ends) - self._host.clock()) if ends else None

    def turn(self) -> None:
        now = self._host.clock()
        for program in self._running.values():
            if program.ends_at <= now:
                program.hurry(now)

    def close(self) -> None:
        """What runs is ended, since nobody keeps its time any more.  It runs again after a start
        that finds the uplink in the same state."""
        for program in self._running.values():
            program.hurry(self._host.clock())
            self._forget(program)
        self._running = {}


def forget(runtime: str) -> None:
    """As if nothing had been acted on.  While no daemon runs.  OSError."""
    unlinked(os.path.join(runtime, FILE))


def _read(path: str) -> dict[str, str]:
    """The file's lines that make sense; nothing without it."""
    try:
        lines = [line.split() for line in contents(path, 1 << 16).decode().splitlines()]
    except (OSError, ValueError):
        return {}
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[1] in (UP, DOWN)}
