"""Runs in the guest: measures the revisions in turns, and prints every sample as JSON.

    python -m bench.exact.measure WHAT ROUNDS TREE...

A TREE has the package of a revision.  The networks of both exist at once, and only the one whose
turn it is does anything.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.exact import beside, probes
from bench.exact.worlds import PYTHON, Connected, Result, Uplinks, environment
from bench.passes import build, emptied
from bench.site import Site, run, start
from tests.lab import LabError

WARM, COMMAND_WARM, COMMAND_ROUNDS = 2, 1, 2
COLD_UPLINKS, MANY_UPLINKS = 16, 34
FIRST_REST = 3.0
"""Seconds before the first event."""

Measure = Callable[[bool], dict[str, Result]]
Samples = dict[str, list[float]]
"""Row → a sample for each round, in seconds or a count."""


def take_precedence() -> None:
    """Make this process run before all others, so that its part always takes the same time.

    The programs that it starts run as usual.
    """
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    Path("/proc/sys/kernel/randomize_va_space").write_text("0")
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    gc.disable()


def add_result(samples: Samples, prefix: str, name: str, result: Result) -> None:
    for probe, seconds in result.reactions.items():
        samples[f"{prefix}{name}: {probe}"].append(seconds)
    if len(result.reactions) > 1:
        samples[f"{prefix}{name}: both"].append(max(result.reactions.values()))
    samples[f"{prefix}{name}: processor"].append(result.processor)


def events(trees: list[str], rounds: int) -> Iterator[tuple[str, Samples, dict[str, Any]]]:
    """(tree, samples, system calls) of the events, one network after the other."""
    many = f"{MANY_UPLINKS} uplinks, "
    kinds: list[tuple[str, Callable[[ExitStack, str], Measure]]] = [
        ("", lambda scope, tree: Uplinks(scope, tree).address),
        ("", lambda scope, tree: Uplinks(scope, tree, gateways=False).route),
        ("", lambda scope, tree: Connected(scope, tree).carrier),
        (many, lambda scope, tree: Uplinks(scope, tree, MANY_UPLINKS).address),
    ]
    for prefix, make in kinds:
        with ExitStack() as scope:
            made = {tree: make(scope, tree) for tree in trees}
            taken: dict[str, Samples] = {tree: defaultdict(list) for tree in trees}
            first: dict[str, dict[str, Result]] = {tree: {} for tree in trees}
            time.sleep(FIRST_REST)
            for turn in range(WARM + rounds):
                for tree, measure in made.items():
                    for name, result in measure(False).items():
                        if turn >= WARM:
                            add_result(taken[tree], prefix, name, result)
                        elif turn == 0:
                            first[tree][name] = result
            for tree, results in first.items():
                for name, result in results.items():
                    for _ in range(rounds):  # it happens once
                        add_result(taken[tree], f"{prefix}first ", name, result)
            for tree, measure in made.items():
                calls = {}
                for name, result in measure(True).items():
                    total = sum(result.calls.values())
                    taken[tree][f"{prefix}{name}: system calls"] = [total] * rounds
                    calls[prefix + name] = result.calls
                yield tree, taken[tree], calls


def command(verb: str, directory: str) -> list[str]:
    """`mproutd VERB` with configuration and state in `directory`."""
    where = ["--config-dir", directory, "--runtime-dir", directory]
    return [PYTHON, "-m", "mproutd", verb, *([directory] if verb == "check" else where)]


def cold_start(site: Site, directory: str, tree: str) -> float:
    """Seconds from the start of `mproutd run` to the last of four endpoints."""
    emptied(site, directory)
    probes.clear()
    began = time.monotonic()
    pid = start(*command("run", directory), environment=environment(tree), silent=True)
    try:
        time.sleep(3)
        found = [hit for hit in probes.hits(pid) if hit.name == "endpoint"]
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)
    if len(found) != 4:
        raise LabError(f"{len(found)} endpoints were added, not 4")
    return found[-1].time - began


def programs(trees: list[str]) -> Iterator[tuple[str, Samples, dict[str, Any]]]:
    """The same of programs, from their start to their end."""
    taken: dict[str, Samples] = {tree: defaultdict(list) for tree in trees}
    with ExitStack() as scope:
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        rounds = range(-COMMAND_WARM, COMMAND_ROUNDS)
        for turn in rounds:
            for tree in trees:
                took = cold_start(site, directory, tree)
                if turn >= 0:
                    taken[tree]["mproutd run: last endpoint"].append(took)
        for tree in trees:
            pid = start(*command("run", directory), environment=environment(tree), silent=True)
            time.sleep(1)
            for turn in rounds:
                for verb in ("status", "check"):
                    took = run(*command(verb, directory), environment=environment(tree))
                    if turn >= 0:
                        taken[tree][f"mproutd {verb}"].append(took)
            os.kill(pid, 15)
            os.waitpid(pid, 0)
    with ExitStack() as scope:
        site, directory = build(scope, COLD_UPLINKS)
        scope.enter_context(site.gateway.enter())
        for turn in rounds:
            for tree in trees:
                emptied(site, directory)
                took = run(*command("reconcile", directory), environment=environment(tree))
                if turn >= 0:
                    taken[tree][f"mproutd reconcile, {COLD_UPLINKS} uplinks at once"].append(took)
    for tree in trees:
        yield tree, taken[tree], {}


def main() -> None:
    what, rounds, *trees = sys.argv[1:]
    take_precedence()
    probes.prepare()
    reply: dict[str, Any] = {tree: {"samples": {}, "calls": {}} for tree in trees}
    compared: list[tuple[str, str, list[float]]] = []
    if what in ("all", "events"):
        for tree, samples, calls in events(trees, int(rounds)):
            reply[tree]["samples"].update(samples)
            reply[tree]["calls"].update(calls)
        compared = list(beside.rows(int(rounds)))
    if what in ("all", "programs"):
        for tree, samples, _ in programs(trees):
            reply[tree]["samples"].update(samples)
    print(json.dumps({"trees": list(reply.values()), "beside": compared}))


if __name__ == "__main__":
    main()
