"""`make bench BASE=REV`: this checkout beside another revision, measured in turns.

Each revision runs its own benchmark from a checkout of its own, one measurement at a time and
the two in turns, so that other load on the machine affects both.  A ratio compares the medians
of two consecutive runs.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.figure import HEAD as FIGURE_HEAD
from bench.figure import UNITS, Figure, columns, spread
from tests.lab import LabError
from tests.lab.marked import filled

REPOSITORY = Path(__file__).resolve().parent.parent
ROUNDS = 5
HEAD = ["measurement", "base", "this", "ratio (quartiles of several rounds)"]

QUIET = "quiet"
"""The measurement that takes a minute."""
PAGE = REPOSITORY / "docs/performance.md"


class Compared(NamedTuple):
    """One row: what both revisions measured."""

    what: str
    figure: Figure | None
    """Of this checkout, with the samples of all rounds; None where it failed."""
    base: Sequence[float]
    """The median of each round; none where the base has no such measurement."""
    this: Sequence[float]

    def cells(self) -> list[str]:
        """Under HEAD."""
        if self.figure is None:
            return [self.what, "", "", ""]
        factor, sign = UNITS[self.figure.unit]
        base, this = (
            f"{statistics.median(times) * factor:.3g}{sign}" if times else ""
            for times in (self.base, self.this)
        )
        if not self.base:
            return [self.what, base, this, ""]
        pairs = zip(self.base, self.this, strict=True)
        ratio = spread([new / old if old else 1.0 for old, new in pairs])
        quartiles = f" ({ratio.low:.2f} to {ratio.high:.2f})" if len(self.base) > 1 else ""
        return [self.what, base, this, f"{ratio.median:.2f}{quartiles}"]


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A temporary worktree of this revision; LabError if there is no such revision.

    Both are compiled: Python may be set to keep nothing of what it compiles.
    """
    with TemporaryDirectory(prefix="bench-base.") as folder:
        base = Path(folder) / "base"
        _git("worktree", "add", "--quiet", "--detach", str(base), revision)
        try:
            unpacked = REPOSITORY / ".build/unpacked"
            if unpacked.exists():
                (base / ".build").mkdir()
                (base / ".build/unpacked").symlink_to(unpacked)
            for tree in (base, REPOSITORY):
                compileall.compile_dir(tree / "mproutd", quiet=1)
            yield base
        finally:
            _git("worktree", "remove", "--force", str(base))


def _git(*arguments: str) -> None:
    ran = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if ran.returncode:
        raise LabError(f"git {arguments[0]}: {ran.stderr.strip()}")


def run_once(tree: Path, name: str) -> dict[str, Figure]:
    """One measurement by the benchmark of this checkout; LabError if it fails there.

    None of the figures if this revision has no such measurement.
    """
    results = tree / f".bench-{name}.json"
    command = [sys.executable, "-m", "bench", name, "--json", str(results)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ran.returncode and ran.stdout.startswith("unknown measurement"):
        return {}
    if ran.returncode:
        raise LabError(f"{name}: {(ran.stderr or ran.stdout).strip().splitlines()[-1]}")
    figures = json.loads(results.read_text())["figures"]
    results.unlink()
    made = [Figure(**{field: figure[field] for field in Figure._fields}) for figure in figures]
    return {f"{figure.name}: {figure.what}": figure for figure in made}


def compare(
    revision: str, names: Sequence[str], rounds: int, log: Callable[[str], None]
) -> tuple[list[Compared], bool]:
    """What was compared, and whether everything was measured."""
    compared: list[Compared] = []
    complete = True
    with checkout(revision) as base, ThreadPoolExecutor() as threads:
        # A minute in which next to nothing happens: both while the others run.
        wanted = (base, REPOSITORY) if QUIET in names else ()
        idle = [threads.submit(run_once, tree, QUIET) for tree in wanted]
        for name in names:
            try:
                pairs = []
                if name == QUIET:
                    pairs.append((idle[0].result(), idle[1].result()))
                else:
                    for turn in range(rounds):
                        log(f"{name}: {turn + 1} of {rounds}")
                        pairs.append(_pair(base, name, base_first=turn % 2 == 0))
                compared += _compared(pairs)
            except LabError as error:
                log(f"{name} FAILED: {error}")
                compared.append(Compared(f"{name}: not measured", None, (), ()))
                complete = False
    return compared, complete


def _pair(
    base: Path, name: str, *, base_first: bool
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """One run of each, the base's result first."""
    if base_first:
        before = run_once(base, name)
        return before, run_once(REPOSITORY, name)
    after = run_once(REPOSITORY, name)
    return run_once(base, name), after


def _compared(pairs: Sequence[tuple[dict[str, Figure], dict[str, Figure]]]) -> list[Compared]:
    found = []
    for key, figure in pairs[0][1].items():
        runs = [after[key] for _, after in pairs]
        merged = figure._replace(
            ours=[sample for run in runs for sample in run.ours],
            theirs=[sample for run in runs for sample in run.theirs],
        )
        base = [statistics.median(before[key].ours) for before, _ in pairs if key in before]
        this = [statistics.median(run.ours) for run in runs]
        found.append(Compared(key, merged, base if len(base) == len(this) else (), this))
    return found


def table(compared: Sequence[Compared]) -> str:
    """For a terminal."""
    return columns([HEAD, *(row.cells() for row in compared)])


def markdown(compared: Sequence[Compared], revision: str, machine: str) -> str:
    """Every row for docs/performance.md: old beside new, and new beside its reference."""
    head = list(FIGURE_HEAD)
    head[1:2] = ["before", "now", "now / before"]
    rows = [head, ["---"] * len(head)]
    for row in compared:
        if row.figure:
            cells = row.figure.cells()
            cells[1:2] = row.cells()[1:]
            rows.append(cells)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return f"Measured {machine} Before: revision {revision}.\n\n" + "\n".join(lines)


def write(text: str) -> None:
    """Put the table into docs/performance.md.  LabError."""
    PAGE.write_text(filled(PAGE.read_text(), {"bench": text}))
