"""Processes: `mproutd run` until it has converged, `mproutd status`, and a hook."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figure import Figure
from bench.passes import build, emptied
from bench.site import run, until
from bench.site import start as start_process
from tests.lab import LabError
from tests.lab.daemon import REPOSITORY

RUNS, WARM, HOOKS = 15, 2, 40
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY)}


def command(verb: str, directory: str) -> list[str]:
    """`mproutd VERB` with configuration and state in `directory`."""
    where = ["--config-dir", directory, "--runtime-dir", directory]
    return [sys.executable, "-m", "mproutd", verb, *where]


def end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def start(log: Callable[[str], None]) -> Iterable[Figure]:
    """From starting the program to all endpoints, beginning with an empty kernel."""
    with ExitStack() as scope:
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        log(f"start: {RUNS} runs of 2")
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
        "mproutd run → converged, two dual-stack uplinks",
        ours,
        "ms",
        "python3 -c 'import asyncio'",
        theirs,
        4,
        2.5,
    )


def status(log: Callable[[str], None]) -> Iterable[Figure]:
    """The whole command, answered by a running daemon."""
    with ExitStack() as scope:
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        pid = start_process(*command("run", directory), environment=ENVIRONMENT, silent=True)
        scope.callback(end, pid)
        socket = os.path.join(directory, "control.sock")
        until(lambda: os.path.exists(socket), time.perf_counter(), "the control socket")
        log(f"status: {RUNS} runs of 2")
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
        "mproutd status, answered by the daemon",
        ours,
        "ms",
        "python3 -c 'import json, socket'",
        theirs,
        2.5,
        1.5,
    )


def hook(log: Callable[[str], None]) -> Iterable[Figure]:
    """ifupdown's hook with a new gateway each time; it writes the hint, no daemon runs."""
    script = REPOSITORY / "if-up.d" / "mproutd"
    with TemporaryDirectory() as folder:
        log(f"hook: {HOOKS} runs of 2")
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(WARM + HOOKS):
            environment = {
                "MPROUTD_RUNTIME_DIR": f"{folder}/run",
                "IFACE": "eth2",
                "LOGICAL": "wan2",
                "ADDRFAM": "inet",
                "METHOD": "static",
                "MODE": "start",
                "PHASE": "post-up",
                "IF_ADDRESS": "10.2.2.2",
                "IF_GATEWAY": f"10.2.2.{turn % 200 + 3}",
            }
            took = run("/bin/sh", str(script), environment=environment)
            Path(folder, "a").touch()
            other = run("/bin/sh", "-c", f"mv {folder}/a {folder}/b")
            if turn >= WARM:
                ours.append(took)
                theirs.append(other)
        hint = Path(folder, "run-hints", "eth2:4").read_text()
        if f"gateway={environment['IF_GATEWAY']}" not in hint:
            raise LabError(f"the hook left no hint: {hint!r}")
    yield Figure(
        "hook", "ifupdown hook with a new gateway", ours, "ms", "sh -c 'mv a b'", theirs, 3, 1.5
    )
