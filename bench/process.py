"""Processes: how long `mproutd run` takes until all is right, and `status` beside it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bench.figure import Figure
from bench.passes import build, emptied
from bench.site import run, until
from bench.site import start as start_process
from tests.lab.daemon import REPOSITORY

RUNS, WARM = 15, 2
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY)}


def command(verb: str, directory: str) -> list[str]:
    """`mproutd VERB`, with configuration and state in a directory of our own."""
    where = ["--config-dir", directory, "--runtime-dir", directory]
    return [sys.executable, "-m", "mproutd", verb, *where]


def end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def start(say: Callable[[str], None]) -> Iterable[Figure]:
    """From the program's start to both uplinks' endpoints, nothing being there before."""
    with ExitStack() as scope:
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        say(f"start: {RUNS} times 2")
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(WARM + RUNS):
            emptied(site, directory)
            began = time.perf_counter()
            pid = start_process(*command("run", directory), environment=ENVIRONMENT, silent=True)
            took = until(lambda: len(site.endpoints()) == 4, began, "four endpoints")
            time.sleep(0.05)
            end(pid)
            other = run(sys.executable, "-c", "import asyncio")
            if turn >= WARM:
                ours.append(took)
                theirs.append(other)
    yield Figure(
        "start",
        "mproutd run started → converged, two dual-stack uplinks",
        ours,
        "ms",
        "python3 -c 'import asyncio'",
        theirs,
        4,
        2.5,
    )


def status(say: Callable[[str], None]) -> Iterable[Figure]:
    """The command beside a daemon, until its end."""
    with ExitStack() as scope:
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        pid = start_process(*command("run", directory), environment=ENVIRONMENT, silent=True)
        scope.callback(end, pid)
        socket = os.path.join(directory, "control.sock")
        until(lambda: os.path.exists(socket), time.perf_counter(), "the control socket")
        say(f"status: {RUNS} times 2")
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(WARM + RUNS):
            took = run(*command("status", directory), environment=ENVIRONMENT)
            other = run(sys.executable, "-c", "import json, socket")
            if turn >= WARM:
                ours.append(took)
                theirs.append(other)
    yield Figure(
        "status",
        "mproutd status beside a daemon",
        ours,
        "ms",
        "python3 -c 'import json, socket'",
        theirs,
        2.5,
        1.5,
    )
