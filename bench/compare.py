"""`make bench BASE=REV`: this checkout beside another revision, measured in turns.

Each revision runs its own benchmark from a checkout of its own, one measurement at a time and
the two in turns, so that other load on the machine affects both.  A ratio compares the medians
of two consecutive runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figure import UNITS, columns, spread
from tests.lab import LabError

REPOSITORY = Path(__file__).resolve().parent.parent
ROUNDS = 5
HEAD = ["measurement", "base", "this", "ratio (quartiles)"]

Medians = dict[str, tuple[str, float]]
"""Name of a figure and what it measures → (unit, median of one run)."""


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A temporary worktree of this revision; LabError if there is no such revision."""
    with TemporaryDirectory(prefix="bench-base.") as folder:
        base = Path(folder) / "base"
        _git("worktree", "add", "--quiet", "--detach", str(base), revision)
        try:
            unpacked = REPOSITORY / ".build/unpacked"
            if unpacked.exists():
                (base / ".build").mkdir()
                (base / ".build/unpacked").symlink_to(unpacked)
            yield base
        finally:
            _git("worktree", "remove", "--force", str(base))


def _git(*arguments: str) -> None:
    ran = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if ran.returncode:
        raise LabError(f"git {arguments[0]}: {ran.stderr.strip()}")


def run_once(tree: Path, name: str) -> Medians:
    """One measurement by the benchmark of this checkout; LabError if it fails there."""
    results = tree / ".bench.json"
    command = [sys.executable, "-m", "bench", name, "--json", str(results)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise LabError(f"{name}: {(ran.stderr or ran.stdout).strip().splitlines()[-1]}")
    figures = json.loads(results.read_text())["figures"]
    results.unlink()
    return {
        f"{figure['name']}: {figure['what']}": (figure["unit"], statistics.median(figure["ours"]))
        for figure in figures
    }


def compare(
    revision: str, names: Sequence[str], rounds: int, log: Callable[[str], None]
) -> tuple[str, bool]:
    """The table, and whether everything was measured."""
    rows, complete = [HEAD], True
    with checkout(revision) as base:
        for name in names:
            try:
                pairs = []
                for turn in range(rounds):
                    log(f"{name}: {turn + 1} of {rounds}")
                    pairs.append(_pair(base, name, base_first=turn % 2 == 0))
                rows += _rows(pairs)
            except LabError as error:
                log(f"{name} FAILED: {error}")
                rows.append([f"{name}: not measured", "", "", ""])
                complete = False
    return columns(rows), complete


def _pair(base: Path, name: str, *, base_first: bool) -> tuple[Medians, Medians]:
    """One run of each, the base's result first."""
    if base_first:
        before = run_once(base, name)
        return before, run_once(REPOSITORY, name)
    after = run_once(REPOSITORY, name)
    return run_once(base, name), after


def _rows(pairs: Sequence[tuple[Medians, Medians]]) -> list[list[str]]:
    rows = []
    for figure, (unit, _) in pairs[0][1].items():
        if figure not in pairs[0][0]:
            continue
        base = [before[figure][1] for before, _ in pairs]
        this = [after[figure][1] for _, after in pairs]
        factor, sign = UNITS[unit]
        ratio = spread([new / old for old, new in zip(base, this, strict=True)])
        rows.append(
            [
                figure,
                *(f"{statistics.median(times) * factor:.3g}{sign}" for times in (base, this)),
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            ]
        )
    return rows
