"""on_up and on_down: a program of the user's when an uplink becomes usable or stops being so.

Invariants: the loop never waits for a program; each uplink has at most one program running, and
a change that was undone before its program could start runs none; a restart of the daemon
repeats nothing; removing an uplink from the configuration counts as a change to unusable.

The last event of each uplink is kept in RUNTIME/actions, one line "NAME up" or "NAME down" each,
also for uplinks that were removed.  Without that file (`mproutd flush` deletes it), every uplink
counts as down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from socket import AF_INET6
from typing import TYPE_CHECKING, NamedTuple, cast

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.planning.numbering import Numbers
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import ObservedUplink
from mproutd.safefile import read_file, replace_file, unlink_if_present
from mproutd.services.base import Service, ServiceContext
from mproutd.services.programs import NOT_RUN, PATH, Program, Programs

if TYPE_CHECKING:
    from mproutd.status.types import Action, Status

FILE = "actions"
"""In the runtime directory."""
MAX_FILE_BYTES = 1 << 16
UP, DOWN = "up", "down"
TABLES = ("MPROUTD_TABLE", "MPROUTD_TABLE6")


def environment(
    event: str, uplink: ObservedUplink, numbers: Numbers, usable: tuple[str, ...]
) -> dict[str, str]:
    """The program's environment; documented in mproutd.conf(5), PROGRAMS."""
    variables = {
        "PATH": PATH,
        "MPROUTD_EVENT": event,
        "MPROUTD_UPLINK": uplink.config.name,
        "MPROUTD_DEVICE": uplink.config.device,
        "MPROUTD_MODE": uplink.config.mode,
        "MPROUTD_REASON": "" if event == UP else reason(uplink),
        "MPROUTD_MARK": f"{numbers.mark:#x}/{numbers.mask:#x}" if numbers.mask else "",
        "MPROUTD_USABLE": " ".join(usable),
    }
    for path in uplink.paths:
        suffix = "6" if path.family == AF_INET6 else ""
        addresses = " ".join(address.address for address in path.eligible)
        variables["MPROUTD_ADDRESS" + suffix] = addresses
        variables["MPROUTD_GATEWAY" + suffix] = path.gateway.address if path.gateway else ""
        variables["MPROUTD_TABLE" + suffix] = str(path.table or numbers.table)
    return variables


def reason(uplink: ObservedUplink) -> str:
    """Why an uplink is not usable: the reason of a family that has an address, if one has."""
    paths = sorted(uplink.paths, key=lambda path: not path.covered)
    return paths[0].reason


class Scripts(Service):
    """The programs of all uplinks."""

    persistent = True
    """A program that runs when the last option is removed still has its timeout."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._path = os.path.join(context.runtime_dir, FILE)
        self._handled = _read(self._path)
        """Uplink → the last event that was acted on."""
        self._uplinks: dict[str, UplinkConfig] = {}
        self._departing: dict[str, UplinkConfig] = {}
        """Uplinks that a reload removed, until their on_down has ended."""
        self._state: dict[str, tuple[str, dict[str, str]]] = {}
        """Uplink → (event, environment) of now."""
        self._programs = Programs(context.loop, self._on_end)
        self._runs: dict[str, Run] = {}
        """Uplink → its latest run."""

    def on_configuration(self, config: Config) -> None:
        configured = {uplink.name: uplink for uplink in config.uplinks} if config.enabled else {}
        before = self._uplinks
        self._uplinks = {
            name: uplink for name, uplink in configured.items() if uplink.on_up or uplink.on_down
        }
        for name, uplink in before.items():
            if name not in configured and name in self._state:
                self._depart(uplink, "removed" if config.enabled else "disabled", configured)
        self._prune()

    def _depart(self, uplink: UplinkConfig, why: str, configured: Collection[str]) -> None:
        """The configuration no longer has this uplink: its on_down gets what was known last."""
        _, variables = self._state[uplink.name]
        usable = [name for name in variables["MPROUTD_USABLE"].split() if name in configured]
        variables = variables | {
            "MPROUTD_EVENT": DOWN,
            "MPROUTD_REASON": why,
            "MPROUTD_USABLE": " ".join(usable),
        }
        self._state[uplink.name] = (DOWN, variables)
        self._departing[uplink.name] = uplink
        self._act(uplink.name)

    def _prune(self) -> None:
        """Forget removed uplinks that have no program left to run."""
        self._departing = {
            name: uplink
            for name, uplink in self._departing.items()
            if name in self._programs and name not in self._uplinks
        }
        known = self._uplinks.keys() | self._departing.keys()
        self._state = {name: state for name, state in self._state.items() if name in known}
        known |= self._programs.uplinks
        self._runs = {name: run for name, run in self._runs.items() if name in known}

    def on_pass(self, outcome: Outcome) -> None:
        plan = outcome.plan
        usable = tuple(uplink.config.name for uplink in plan.uplinks if uplink.usable)
        for uplink in plan.uplinks:
            name = uplink.config.name
            if name in self._uplinks:
                event = UP if uplink.usable else DOWN
                variables = environment(event, uplink, plan.numbers[name], usable)
                if event == DOWN and name in self._state:
                    # netifd does not name its table while the interface is down
                    known = self._state[name][1]
                    variables |= {variable: known[variable] for variable in TABLES}
                self._state[name] = (event, variables)
                self._act(name)

    def _act(self, name: str) -> None:
        """Run the program for the uplink's state, unless one is running or this was handled."""
        event, variables = self._state[name]
        if name in self._programs or self._handled.get(name, DOWN) == event:
            return
        uplink = self._uplinks.get(name) or self._departing[name]
        arguments = uplink.on_up if event == UP else uplink.on_down
        if not arguments:
            self._set_handled(name, event)
            return
        run = Run(event, arguments[0], time.time())
        try:
            self._programs.start(name, arguments, variables, uplink.action_timeout)
        except OSError as error:
            self._set_handled(name, event)
            text = f"cannot be run: {error.strerror}"
            self._report(
                log.WARNING, name, run._replace(exit_status=NOT_RUN, duration=0.0, text=text)
            )
            return
        self._report(log.INFO, name, run)

    def _on_end(self, name: str, program: Program, status: int) -> None:
        run = self._runs[name]._replace(
            exit_status=status,
            duration=self._context.clock() - program.started,
            text=program.describe_end(status),
            output=program.line,
        )
        self._set_handled(name, run.event)
        succeeded = status == 0 and not program.timed_out
        self._report(log.INFO if succeeded else log.WARNING, name, run)
        if name in self._state:
            self._act(name)
        self._prune()

    def _report(self, priority: int, name: str, run: Run) -> None:
        self._runs[name] = run
        text = f"{name}: on_{run.event} {run.program} {run.text}"
        uplink = self._uplinks.get(name) or self._departing.get(name)
        device = uplink.device if uplink else ""
        self._context.publish(
            "action", priority, text + (f": {run.output}" if run.output else ""), name, device
        )

    def _set_handled(self, name: str, event: str) -> None:
        """Record the event, so that it is not repeated, not even after a restart."""
        self._handled = {**self._handled, name: event}
        lines = [f"{uplink} {self._handled[uplink]}\n" for uplink in sorted(self._handled)]
        try:
            replace_file(self._path, "".join(lines).encode())
        except OSError as error:
            text = f"{name}: a restart may run its program again: cannot write {error}"
            self._context.publish("action", log.WARNING, text, name)

    def add_to_status(self, status: Status) -> None:
        if not self._uplinks:
            return
        for uplink in status["uplinks"]:
            run = self._runs.get(uplink["name"])
            uplink["action"] = cast("Action", run._asdict()) if run else None

    def close(self) -> None:
        """What runs is run again by a start that finds the uplink in the same state."""
        self._programs.close()


def forget(runtime_dir: str) -> None:
    """Delete the record of handled events; while no daemon runs.  OSError."""
    unlink_if_present(os.path.join(runtime_dir, FILE))


def _read(path: str) -> dict[str, str]:
    """The valid lines of the file."""
    try:
        lines = [line.split() for line in read_file(path, MAX_FILE_BYTES).decode().splitlines()]
    except (OSError, ValueError):
        return {}
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[1] in (UP, DOWN)}


class Run(NamedTuple):
    """One run of a program, as a status shows it."""

    event: str
    program: str
    started: float
    """Epoch seconds."""
    exit_status: int | None = None
    """As subprocess has it: negative for a signal; NOT_RUN where it could not be started."""
    duration: float | None = None
    """Seconds."""
    text: str = "is running"
    """How it ended."""
    output: str = ""
    """The last line that it wrote."""
