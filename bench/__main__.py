"""`make bench`: run the measurements, print the table, keep every sample as JSON."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import (
    burst,
    compare,
    down,
    flows,
    forward,
    passes,
    policies,
    process,
    traffic,
    translate,
    up,
)
from bench.change import timer_slack
from bench.compare import QUIET
from bench.figure import Figure, markdown, table
from bench.where import where
from tests.lab import LabError

Log = Callable[[str], None]

MEASURED: dict[str, Callable[[Log], Iterable[Figure]]] = {
    "up": up.up,
    "main": up.main,
    "many": up.many,
    "down": down.down,
    "cold": passes.cold,
    "idle": passes.idle,
    "groups": passes.groups,
    "resolvers": passes.resolvers,
    "prefixes": passes.prefixes,
    "burst": burst.burst,
    "start": process.start,
    "status": process.status,
    "hook": process.hook,
    "stall": traffic.stall,
    "back": traffic.back,
    "forward": forward.forward,
    "policies": policies.policies,
    "nat6": translate.nat6,
    "moved": flows.moved,
    "ended": flows.ended,
    "sampling": traffic.sampling,
    "watched": traffic.watched,
}
"""Name → function, in the order of the table."""

RESULTS = Path(__file__).with_name("results.json")


def machine() -> str:
    """Date, hardware and versions, for the line above the table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.date.today():%Y-%m-%d}: {os.cpu_count()} processors, {memory:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}."
    )


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    result.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"only these: {', '.join([*MEASURED, QUIET])}; "
        "`where` prints where the time of a pass goes",
    )
    result.add_argument(
        "--markdown", action="store_true", help="print the table for docs/performance.md"
    )
    result.add_argument(
        "--base", metavar="REV", help="compare with this revision, the two measured in turns"
    )
    result.add_argument(
        "--write", action="store_true", help="put the table into docs/performance.md"
    )
    result.add_argument("--rounds", type=int, default=compare.ROUNDS, help="how often, with --base")
    result.add_argument("--json", type=Path, default=RESULTS, help="file for the samples")
    return result


def log_with_time() -> Log:
    """Print lines to stderr, with the seconds since now."""
    began = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    return log


def measure(names: Sequence[str]) -> list[Figure]:
    """Run these measurements; one that fails is reported and skipped."""
    figures: list[Figure] = []
    log = log_with_time()
    with ExitStack() as scope:
        quiet = traffic.Quiet(scope) if QUIET in names else None
        for name in names:
            if name == QUIET:
                continue
            try:
                figures += MEASURED[name](log)
            except (LabError, AssertionError, OSError) as error:
                log(f"{name} FAILED: {error}")
                figures.append(Figure(name, f"{name}: not measured", [0.0], "", note=str(error)))
        if quiet:
            log("quiet: until the minute is over")
            figures += quiet.figures()
    log("done")
    return figures


def against_base(revision: str, names: Sequence[str], rounds: int, write: bool) -> int:
    """Print the table of compare.compare(); the exit status of main()."""
    try:
        compared, complete = compare.compare(revision, names, rounds, log_with_time())
        print(f"\n{compare.table(compared)}\n\n{machine()}\n")
        if write and complete:
            compare.write(compare.markdown(compared, revision, machine()))
    except LabError as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if complete else 1


def main() -> int:
    """Return 0 even if a limit is exceeded, 1 if something could not be measured."""
    options = parser().parse_args()
    unknown = [name for name in options.names if name not in (*MEASURED, QUIET)]
    if options.names == ["where"]:
        unknown = []
    if unknown:
        names = ", ".join([*MEASURED, QUIET])
        print(f"unknown measurement: {', '.join(unknown)}; choose from {names}, where")
        return 1
    if os.geteuid() != 0:
        print("make bench creates network namespaces and needs root")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    timer_slack()
    gc.freeze()
    if options.names == ["where"]:
        where(lambda text: print(text, file=sys.stderr))
        return 0
    if options.base:
        names = options.names or [*MEASURED, QUIET]
        return against_base(options.base, names, options.rounds, options.write)
    try:
        figures = measure(options.names or [*MEASURED, QUIET])
    except KeyboardInterrupt:
        return 130
    if options.write:
        compare.write(markdown(figures, machine()))
    text = markdown(figures, machine()) if options.markdown else table(figures)
    print(f"\n{text}\n" if options.markdown else f"\n{text}\n\n{machine()}\n")
    samples = [figure.plain() for figure in figures]
    results = {"version": 1, "machine": machine(), "figures": samples}
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any("not measured" in figure.what for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
