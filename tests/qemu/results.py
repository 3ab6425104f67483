"""What the runs found, kept in .build/kernels/results, and docs/kernels.md, which is made of it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.lab.marked import filled
from tests.qemu.archive import CACHE, CHECKOUT

RESULTS = CACHE / "results"
PAGE = CHECKOUT / "docs/kernels.md"
HOST = "host"


class Outcome(NamedTuple):
    """How one test ended."""

    test: str
    outcome: str
    """passed, failed, skipped."""

    reason: str
    seconds: float

    @property
    def file(self) -> str:
        return _group(self.test)


class Results:
    """All that is known of one kernel, from its last runs."""

    def __init__(self, name: str, release: str, version: str) -> None:
        """`name`: "bookworm", or HOST.  What was found before for the same version is read."""
        self.name = name
        self._file = RESULTS / f"{re.sub('[^a-z]', '', name)}.json"
        self.data: dict[str, Any] = {"release": release, "version": version}
        if self._file.exists():
            known = json.loads(self._file.read_text())
            if known["version"] == version:
                self.data = known

    @property
    def column(self) -> str:
        """The kernel as the head of its column names it."""
        return f"{self.data['version']}, {self.name}"

    def save(self, key: str, value: object) -> None:
        self.data[key] = value
        self.data["date"] = time.strftime("%Y-%m-%d")
        RESULTS.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.data, indent=1))

    def save_tests(self, outcomes: Sequence[Outcome], whole_files: bool) -> None:
        """Over those of the same tests before, so that a failed one can be run again alone.

        `whole_files`: every test of these files has run; what else was known of them is old.
        """
        groups = {outcome.file for outcome in outcomes} if whole_files else set()
        known = self.data.get("tests", {})
        tests = {test: rest for test, rest in known.items() if _group(test) not in groups}
        self.save("tests", tests | {outcome.test: outcome[1:] for outcome in outcomes})

    def group(self, group: str) -> list[Outcome]:
        """The outcomes of one file."""
        tests = self.data.get("tests", {})
        return [Outcome(test, *rest) for test, rest in tests.items() if _group(test) == group]


def _group(test: str) -> str:
    return test.split("::", 1)[0]


def write_page(kernels: Sequence[Results]) -> None:
    """Put the tables into docs/kernels.md."""
    texts = {
        "features": _features(kernels),
        "tests": _tests(kernels),
        "exceptions": _exceptions(kernels),
    }
    PAGE.write_text(filled(PAGE.read_text(), texts))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _head(first: str, kernels: Sequence[Results]) -> str:
    columns = [first, *(kernel.column for kernel in kernels)]
    return _row(*columns) + _row(*("---" for _ in columns))


def _features(kernels: Sequence[Results]) -> str:
    answers = [kernel.data.get("features", {}) for kernel in kernels]
    names = dict.fromkeys(name for result in answers for name in result)
    rows = [
        _row(name, *(result.get(name, "") for result in answers))
        for name in names
        if name not in ("kernel", "build")
    ]
    return _head("", kernels) + "".join(rows)


def _tests(kernels: Sequence[Results]) -> str:
    groups = sorted({_group(test) for kernel in kernels for test in kernel.data.get("tests", {})})
    rows = [_row("demo", *(kernel.data.get("demo", "not run") for kernel in kernels))]
    for group in groups:
        cells = [_count(kernel.group(group)) for kernel in kernels]
        rows.append(_row(f"`{group}`", *cells))
    rows.append(_row("chaos", *(kernel.data.get("chaos", "not run") for kernel in kernels)))
    rows.append(_row("run on", *(kernel.data.get("date", "") for kernel in kernels)))
    return _head("", kernels) + "".join(rows)


def _count(outcomes: Sequence[Outcome]) -> str:
    """ "12", "11, 1 skipped", "10, 1 skipped, **1 failed**"."""
    counted = Counter(outcome.outcome for outcome in outcomes)
    parts = [str(counted["passed"])]
    if counted["skipped"]:
        parts.append(f"{counted['skipped']} skipped")
    if counted["failed"]:
        parts.append(f"**{counted['failed']} failed**")
    return ", ".join(parts) if outcomes else "not run"


def _exceptions(kernels: Sequence[Results]) -> str:
    """Every test that was skipped or failed, where, and why."""
    exceptions: dict[tuple[str, str, str], list[str]] = {}
    for kernel in kernels:
        for test, (outcome, reason, _) in kernel.data.get("tests", {}).items():
            if outcome != "passed":
                key = (test, outcome, reason)
                exceptions.setdefault(key, []).append(kernel.data["version"])
    rows = [
        _row(f"`{name}`", ", ".join(where), outcome, reason.replace("|", "\\|"))
        for (name, outcome, reason), where in sorted(exceptions.items())
    ]
    return _row("test", "kernel", "", "why") + _row(*["---"] * 4) + "".join(rows)
