"""A pytest plugin: prints each test's outcome as JSON between two MARKs, amid pytest's own."""

from __future__ import annotations

import json
import os

import pytest

MARK = b"\x1e"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that passes reports once, when called; a skip or an error reports where it happens."""
    if report.when != "call" and report.outcome == "passed":
        return
    reason = ""
    if isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        reason = str(report.longrepr).strip().rsplit("\n", 1)[-1]
    outcome = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "reason": reason,
        "seconds": round(report.duration, 2),
    }
    os.write(1, MARK + json.dumps(outcome).encode() + MARK)
