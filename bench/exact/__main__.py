"""`make bench-exact BASE=REV`: this checkout beside another revision, in a guest's instructions.

The guest is one of Debian's kernels under qemu, whose clock counts instructions: it is a machine of
1 GHz that takes one nanosecond for each, however busy this one is.  So a figure says how much work
is done; what the caches of a real processor cost it does not show (`make bench BASE=REV` does).
"""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.figure import columns, spread
from tests.lab import LabError
from tests.qemu.__main__ import alone, lacking
from tests.qemu.archive import CHECKOUT, ArchiveError, kernels
from tests.qemu.guest import Guest, GuestError
from tests.qemu.initrd import InitrdError

TREES = CHECKOUT / ".build/exact"
PARTS = ("mproutd", "bench", "tests/__init__.py", "tests/lab")
"""Of a revision.  Only `where` runs more of it than its package."""
PYTHON = CHECKOUT / ".venv/bin/python"
WHAT = ("all", "events", "programs", "where", "calls")
ROUNDS = 5


@contextmanager
def trees(revision: str) -> Iterator[list[Path]]:
    """Folders with both revisions, that of `revision` first."""
    shutil.rmtree(TREES, ignore_errors=True)
    base, this = TREES / "base", TREES / "this"
    try:
        for folder in (base, this):
            folder.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", revision, *PARTS], cwd=CHECKOUT, capture_output=True
        )
        if archive.returncode:
            raise LabError(f"git archive {revision}: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x"], cwd=base, input=archive.stdout, check=True)
        for part in PARTS:
            (this / part).parent.mkdir(exist_ok=True)
            copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy2
            copy(CHECKOUT / part, this / part)
        for folder in (base, this):
            compileall.compile_dir(str(folder), quiet=2)
        yield [base, this]
    finally:
        shutil.rmtree(TREES, ignore_errors=True)


def in_guest(guest: Guest, argv: Sequence[str], variables: dict[str, str] | None = None) -> str:
    """What a program prints in the guest.  LabError if it fails."""
    output: list[bytes] = []
    status = guest.run(argv, output.append, variables)
    text = b"".join(output).decode()
    if status:
        raise LabError(f"{' '.join(argv[1:4])}: exit {status}\n{text}")
    return text


def table(replies: Sequence[dict[str, Any]]) -> str:
    """Medians of both, and the ratio with its quartiles."""
    base, this = (reply["samples"] for reply in replies)
    rows = [["measurement", "base", "this", "ratio (quartiles)"]]
    for name, samples in this.items():
        if name not in base:
            continue
        pairs = list(zip(base[name], samples, strict=True))
        ratio = spread([new / old for old, new in pairs])
        cells = [_shown(name, statistics.median(values)) for values in zip(*pairs, strict=True)]
        rows.append([name, *cells, f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"])
    return columns(rows)


def _shown(name: str, value: float) -> str:
    return f"{value:.0f}" if name.endswith("calls") else f"{value * 1000:.3f} ms"


def beside(samples: dict[str, list[float]], others: Sequence[Sequence[Any]]) -> str:
    """How this checkout compares with other programs, by the medians of the same rows."""
    rows = [["measurement", "mproutd", "beside", "", "times"]]
    for name, other, theirs in others:
        ours, median = statistics.median(samples[name]), statistics.median(theirs)
        shown = [_shown(name, value) for value in (ours, median)]
        rows.append([name, shown[0], other, shown[1], f"{ours / median:.2f}"])
    return columns(rows)


def calls(replies: Sequence[dict[str, Any]]) -> str:
    """The system calls of each event, one row for each of them."""
    base, this = (reply["calls"] for reply in replies)
    rows = [["event", "system call", "base", "this"]]
    for event in this:
        for name in sorted({*base[event], *this[event]}):
            counts = [str(reply[event].get(name, 0)) for reply in (base, this)]
            rows.append([event, name, *counts])
    return columns(rows)


def _where(guest: Guest, folder: Path) -> str:
    """The profile of a pass, by the benchmark of that revision."""
    run = (
        "import os, sys; os.chdir(sys.argv.pop(1)); import bench.__main__ as b; sys.exit(b.main())"
    )
    words = [str(PYTHON), "-c", run, str(folder), "where"]
    return in_guest(guest, words, {"PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"})


def measure(guest: Guest, folders: Sequence[Path], what: str, rounds: int) -> str:
    """The text to print.  LabError."""
    if what == "where":
        profiles = [(folder, _where(guest, folder)) for folder in folders]
        return "\n".join(f"{folder.name}:\n{text}" for folder, text in profiles)
    asked = "events" if what == "calls" else what
    count = 1 if what == "calls" else rounds
    words = [str(PYTHON), "-m", "bench.exact.measure", asked, str(count), *map(str, folders)]
    reply = json.loads(in_guest(guest, words).splitlines()[-1])
    replies = reply["trees"]
    if what == "calls":
        return calls(replies)
    text = table(replies)
    others = reply["beside"]
    return f"{text}\n\n{beside(replies[-1]['samples'], others)}" if others else text


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-exact", description=__doc__)
    parser.add_argument("what", nargs="?", choices=WHAT, default="all", help="what to measure")
    parser.add_argument("--base", metavar="REV", default="HEAD", help="the other revision")
    parser.add_argument("--kernel", default="bookworm", help="a version or suite of Debian's")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each event happens")
    options = parser.parse_args()
    if lacks := lacking():
        print(f"make bench-exact: this machine lacks {'; '.join(lacks)}", file=sys.stderr)
        return 1
    began = time.monotonic()
    try:
        with alone(), trees(options.base) as folders:
            (kernel,) = kernels([options.kernel])
            with Guest(kernel, folders) as guest:
                print(f"booted in {guest.boot_seconds:.0f} s", file=sys.stderr, flush=True)
                text = measure(guest, folders, options.what, options.rounds)
    except (ArchiveError, InitrdError, GuestError, LabError) as error:
        print(f"make bench-exact: {error}", file=sys.stderr)
        return 1
    print(f"\n{text}\n\nLinux {kernel.release}, {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
