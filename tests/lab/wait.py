"""Waiting for what the kernel or a daemon is about to do, without a busy loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIME_FACTOR = float(os.environ.get("MPROUTD_TIME_FACTOR", "1"))
"""How many times longer than usual the lab waits; set where the machine is known to be slow."""


def scaled(seconds: float) -> float:
    """A time limit, for the machine that this is."""
    return seconds * TIME_FACTOR


def eventually(condition: Callable[[], T], timeout: float = 5.0, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    Sleeps 50 µs to 5 ms between calls (a busy loop would keep the daemon off a
    processor).  An AssertionError or OSError of the condition counts as "not yet".
    AssertionError after `timeout` seconds (scaled), with what was seen last.
    """
    timeout = scaled(timeout)
    deadline = time.monotonic() + timeout
    pause = 50e-6
    while True:
        seen: object
        try:
            value = condition()
            if value:
                return value
            seen = value
        except (AssertionError, OSError) as error:
            seen = error
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {timeout:g} s: {name}; last seen: {seen!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.005)
