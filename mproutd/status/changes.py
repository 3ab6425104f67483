"""What passes did and could not do, as reconcile's report has it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from mproutd.iproute2 import command, names
from mproutd.model import Operation
from mproutd.passes import Outcome


def changes(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Every change that was made or refused, in order."""
    told = []
    for outcome in outcomes:
        name = names(outcome.snapshot.links)
        for operation in outcome.done:
            told.append(change(operation, command(operation, name)))
        for failure in outcome.failures:
            text = f"{failure.text} ({os.strerror(failure.errno)})"
            if failure.text == os.strerror(failure.errno):
                text = failure.text
            told.append(change(failure.operation, command(failure.operation, name), text))
    return told


def change(operation: Operation, text: str, error: str = "") -> dict[str, Any]:
    """One change as reconcile's JSON has it."""
    return {
        "verb": operation.verb,
        "uplink": operation.uplink or None,
        "command": text,
        "error": error or None,
    }
