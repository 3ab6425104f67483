"""One measurement of the benchmark, and its row in the table.

Invariant: a ratio compares two consecutive runs, so that other load on the machine affects
both.  The table shows the median of these ratios with its quartiles.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

UNITS = {"ms": (1000.0, " ms"), "µs": (1e6, " µs"), "MB": (1.0, " MB"), "": (1.0, "")}
"""Unit → (factor, suffix) from a sample to what is printed.  Times are sampled in seconds."""


class Spread(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high)


class Figure(NamedTuple):
    """One row of the table."""

    name: str
    what: str
    ours: Sequence[float]
    """One sample for each run, in seconds, MB or a count, depending on `unit`."""
    unit: str
    reference: str = ""
    theirs: Sequence[float] = ()
    """The run after each of ours; empty if there is no reference."""
    limit: float | None = None
    """Upper bound of the ratio, or of our own figure (ms for times) without a reference."""
    goal: float | None = None
    note: str = ""

    @property
    def compared(self) -> Spread:
        """The ratio, or our own figure in its unit if there is no reference."""
        if self.theirs:
            return spread([a / b for a, b in zip(self.ours, self.theirs, strict=True)])
        factor, _ = UNITS[self.unit]
        return spread([value * factor for value in self.ours])

    @property
    def verdict(self) -> str:
        """How the median compares with limit and goal."""
        if self.limit is None:
            return "informational"
        median = self.compared.median
        if self.goal is not None and median <= self.goal:
            return "meets goal"
        return "within limit" if median <= self.limit else "over limit"

    def cells(self) -> list[str]:
        """The cells of the row, under HEAD."""
        _, sign = UNITS[self.unit]
        reference = self.reference
        if self.theirs:
            reference += f": {self._shown(self.theirs)}"
        compared = self.compared
        digits = 2 if compared.median >= 0.1 else 3
        ratio = " ".join(f"{value:.{digits}f}" for value in compared)
        ratio = "{} ({} to {})".format(*ratio.split()) if self.theirs else ""
        suffix = "" if self.theirs else sign
        bounds = [
            "" if bound is None else f"{bound:g}{suffix}" for bound in (self.limit, self.goal)
        ]
        return [self.what, self._shown(self.ours), reference, ratio, *bounds, self.verdict]

    def _shown(self, samples: Sequence[float]) -> str:
        factor, sign = UNITS[self.unit]
        median, low, high = (value * factor for value in spread(samples))
        if not self.theirs:
            return f"{median:.3g} ({low:.3g} to {high:.3g}){sign}"
        return f"{median:.3g}{sign}"

    def plain(self) -> dict[str, Any]:
        """For JSON: every sample, times in seconds."""
        compared = self.compared
        return {
            **self._asdict(),
            "ours": list(self.ours),
            "theirs": list(self.theirs),
            "compared": compared._asdict(),
            "verdict": self.verdict,
        }


HEAD = ["measurement", "mproutd", "reference", "ratio", "limit", "goal", "result"]


def table(figures: Sequence[Figure]) -> str:
    """The table for a terminal, followed by the notes."""
    text = columns([HEAD, *(figure.cells() for figure in figures)])
    notes = [f"  {figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([text, *([""] if notes else []), *notes])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in aligned columns, the first as a heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def markdown(figures: Sequence[Figure], machine: str) -> str:
    """The table for docs/performance.md."""
    rows = [HEAD, ["---"] * len(HEAD), *(figure.cells() for figure in figures)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return f"Measured {machine}\n\n" + "\n".join(lines)
