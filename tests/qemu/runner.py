"""One kernel's run: what happens on it, and what is kept of that."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from tests.qemu.archive import CHECKOUT
from tests.qemu.guest import Guest, GuestError, Host
from tests.qemu.outcomes import MARK
from tests.qemu.results import Outcome, Results
from tests.qemu.selection import ALL, CHAOS_ROUNDS, CHOSEN, PYTEST, SMOKE

PYTHON = str(CHECKOUT / ".venv/bin/python")


class Run:
    """One kernel's run: what happens on it, and what is kept of that."""

    def __init__(self, machine: Guest | Host, results: Results) -> None:
        self._machine, self._results = machine, results
        self._outcomes: list[Outcome] = []
        self._record: bytes | None = None
        """What has come so far of an outcome, between two MARKs."""
        self._output = b""

    def _show(self, data: bytes) -> None:
        """Print what the machine prints, but for the outcomes, which are kept."""
        self._output += data
        for n, piece in enumerate(data.split(MARK)):
            if n and self._record is None:
                self._record = b""
            elif n:
                self._outcomes.append(Outcome(**json.loads(self._record or b"")))
                self._record = None
            if self._record is None:
                sys.stdout.buffer.write(piece)
            else:
                self._record += piece
        sys.stdout.buffer.flush()

    def _command(self, *argv: str) -> int:
        self._output = b""
        began = time.monotonic()
        status = self._machine.run([PYTHON, "-m", *argv], self._show)
        print(
            f"{self._results.column}: exit {status}, {time.monotonic() - began:.0f} s", flush=True
        )
        return status

    def features(self) -> int:
        status = self._command("tests.qemu.features")
        if not status:
            self._results.save("features", json.loads(self._output))
        return status

    def demo(self) -> int:
        status = self._command("tests.demo")
        self._results.save("demo", "**failed**" if status else "passed")
        return status

    def tests(self, *arguments: str, whole_files: bool = False) -> int:
        """Interrupted, it leaves the outcomes of the files that were finished."""
        self._outcomes.clear()
        try:
            status = self._command("pytest", *PYTEST, *arguments)
        except (GuestError, KeyboardInterrupt):
            if self._outcomes:
                unfinished = self._outcomes[-1].file
                self._outcomes = [
                    outcome for outcome in self._outcomes if outcome.file != unfinished
                ]
            raise
        finally:
            self._results.save_tests(self._outcomes, whole_files)
        return status

    def chaos(self, rounds: int) -> int:
        words = ("--seconds", "360000", "--rounds", str(rounds), "--seed", "1")
        status = self._command("tests.chaos", *words)
        self._results.save("chaos", f"{rounds} rounds" + ", **failed**" * bool(status))
        return status


def run(results: Results, machine: Guest | Host, what: str, arguments: Sequence[str]) -> int:
    """Everything that was asked for on one kernel; 0 when all of it is right."""
    with machine:
        if machine.boot_seconds:
            print(f"{results.column}: booted in {machine.boot_seconds:.0f} s", flush=True)
        guest_run = Run(machine, results)
        if what == "pytest":
            return guest_run.tests(*arguments)
        if what == "features":
            return guest_run.features()
        if what == "chaos":
            return guest_run.chaos(int(arguments[0]) if arguments else CHAOS_ROUNDS)
        if what == "smoke":
            return guest_run.features() | guest_run.demo() | guest_run.tests(*SMOKE)
        chosen = ALL if what == "all" else CHOSEN
        return guest_run.features() | guest_run.demo() | guest_run.tests(*chosen, whole_files=True)
