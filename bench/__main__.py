"""`make bench`: run the figures, print the table, keep it as JSON."""

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

from bench import burst, down, passes, process, traffic, up
from bench.change import timer_slack
from bench.figure import Figure, markdown, table
from bench.where import where
from tests.lab import LabError

Say = Callable[[str], None]

MEASURED: dict[str, Callable[[Say], Iterable[Figure]]] = {
    "up": up.up,
    "main": up.main,
    "many": up.many,
    "down": down.down,
    "cold": passes.cold,
    "idle": passes.idle,
    "burst": burst.burst,
    "start": process.start,
    "status": process.status,
    "hook": process.hook,
    "stall": traffic.stall,
    "back": traffic.back,
}
"""Name → the function that measures it, in the order of the table."""

QUIET = "quiet"
"""The one that needs a minute: measured while the others are."""

RESULTS = Path(__file__).with_name("results.json")


def machine() -> str:
    """The date and the machine's size, as the README has it under its table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.date.today():%Y-%m-%d}: {os.cpu_count()} processors, {memory:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}."
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    made.add_argument(
        "names",
        nargs="*",
        metavar="FIGURE",
        help=f"only these: {', '.join([*MEASURED, QUIET])}; "
        "`where` tells what a pass spends its time on",
    )
    made.add_argument("--markdown", action="store_true", help="print the README's table")
    made.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return made


def measure(names: Sequence[str]) -> list[Figure]:
    """All figures of these names; one that fails is told and left out."""
    figures: list[Figure] = []
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    with ExitStack() as scope:
        silent = traffic.Quiet(scope) if QUIET in names else None
        for name in names:
            if name == QUIET:
                continue
            try:
                figures += MEASURED[name](say)
            except (LabError, AssertionError, OSError) as error:
                say(f"{name} FAILED: {error}")
                figures.append(Figure(name, f"{name}: not measured", [0.0], "", note=str(error)))
        if silent:
            say("quiet: until the minute is over")
            figures.append(silent.figure())
    say("done")
    return figures


def main() -> int:
    """0, also with figures that are short; 1 when something could not be measured."""
    options = parser().parse_args()
    unknown = [name for name in options.names if name not in (*MEASURED, QUIET)]
    if options.names == ["where"]:
        unknown = []
    if unknown:
        print(f"no such figure: {', '.join(unknown)}; there are {', '.join([*MEASURED, QUIET])}")
        return 1
    if os.geteuid() != 0:
        print("The benchmark makes network namespaces, so it needs root.")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    timer_slack()
    gc.freeze()
    if options.names == ["where"]:
        where(lambda text: print(text, file=sys.stderr))
        return 0
    try:
        figures = measure(options.names or [*MEASURED, QUIET])
    except KeyboardInterrupt:
        return 130
    text = markdown(figures, machine()) if options.markdown else table(figures)
    print(f"\n{text}\n" if options.markdown else f"\n{text}\n\n{machine()}\n")
    told = {"version": 1, "machine": machine(), "figures": [each.plain() for each in figures]}
    options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if any("not measured" in figure.what for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
