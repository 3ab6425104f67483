"""make chaos: rounds of chaos by several seeds, and a table of what was tried, in Markdown."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from tests.chaos.actions import ACTIONS
from tests.chaos.rounds import Chaos, Trial

ROUNDS_PER_SEED = 50
"""Rounds by one seed."""


def main() -> int:
    """Run, print the table, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long, at most")
    parser.add_argument("--rounds", type=int, default=10**6, help="how many rounds, at most")
    parser.add_argument("--seed", type=int, help="the first seed; else the clock decides")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else int(time.time()) % 100_000
    until = time.monotonic() + options.seconds
    runs: list[Chaos] = []
    done = failed = 0
    while done < options.rounds and time.monotonic() < until:
        seed = first + len(runs)
        print(f"seed {seed}: ", end="", flush=True)
        with Chaos(seed) as chaos:
            runs.append(chaos)
            try:
                chaos.run(min(ROUNDS_PER_SEED, options.rounds - done), until)
                print(f"{chaos.rounds} rounds", flush=True)
            except AssertionError as problem:
                failed = 1
                print(f"round {chaos.rounds} failed", flush=True)
                print(f"{problem}\n", file=sys.stderr, flush=True)
            done += chaos.rounds
    print("\n" + table(runs, first))
    return failed


def table(runs: Sequence[Chaos], first: int) -> str:
    """Every action, how often it ran, and how long the kernel took to converge."""
    settled = sorted(seconds for chaos in runs for seconds in chaos.settled)
    if not settled:
        return "no round was finished"
    names = [action.name for action in ACTIONS]
    names += sorted({name for chaos in runs for name in chaos.trials} - set(names))
    rows = [
        f"{time.strftime('%Y-%m-%d')}, seeds {first} to {first + len(runs) - 1}: {len(settled)}"
        f" rounds, {sum(chaos.actions for chaos in runs)} actions. The kernel had converged"
        f" {statistics.median(settled):.2f} s after a burst (median),"
        f" {settled[int(len(settled) * 0.99)]:.1f} s (99th percentile),"
        f" {settled[-1]:.1f} s (maximum);"
        f" the longest stall of a connection was {max(chaos.stalled for chaos in runs):.1f} s;"
        f" {sum(chaos.lost for chaos in runs)} of"
        f" {sum(chaos.connections for chaos in runs)} connections were lost.",
        "",
        "| action | times | converged after at most |",
        "| --- | --- | --- |",
    ]
    for name in names:
        trials = [chaos.trials[name] for chaos in runs if name in chaos.trials]
        total = Trial(
            sum(trial.times for trial in trials),
            max((trial.slowest for trial in trials), default=0.0),
        )
        slowest = f"{total.slowest:.1f} s" if total.slowest else "at once"
        rows.append(f"| {name} | {total.times} | {slowest} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
