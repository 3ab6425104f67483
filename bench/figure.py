"""A figure of the benchmark: what was measured, and how it is told.

What must hold: a ratio is made of two runs that followed each other, so that what else the
machine does meets both; the table shows the median of these ratios with its quartiles.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

UNITS = {"ms": (1000.0, " ms"), "MB": (1.0, " MB"), "": (1.0, "")}
"""How a sample becomes what is printed.  Times are in seconds."""


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
    """One line of the table."""

    name: str
    what: str
    ours: Sequence[float]
    """Seconds, MB or a count, as `unit` says; one for each run."""
    unit: str
    against: str = ""
    theirs: Sequence[float] = ()
    """The run after each of ours; empty for a figure that stands alone."""
    most: float | None = None
    """What the ratio, or the figure that stands alone (ms for times), may be at most."""
    aim: float | None = None
    note: str = ""

    @property
    def judged(self) -> Spread:
        """The ratio, or our own figure in its unit where there is no other."""
        if self.theirs:
            return spread([a / b for a, b in zip(self.ours, self.theirs, strict=True)])
        factor, _ = UNITS[self.unit]
        return spread([value * factor for value in self.ours])

    @property
    def verdict(self) -> str:
        """pass, short, or report for what is only told."""
        if self.most is None:
            return "report"
        median = self.judged.median
        if self.aim is not None and median <= self.aim:
            return "pass (aim)"
        return "pass" if median <= self.most else "short"

    def cells(self) -> list[str]:
        """what | ours | against | ratio | at most | aim | verdict."""
        _, sign = UNITS[self.unit]
        against = self.against
        if self.theirs:
            against += f": {self._shown(self.theirs)}"
        judged = self.judged
        digits = 2 if judged.median >= 0.1 else 3
        ratio = " ".join(f"{each:.{digits}f}" for each in judged)
        ratio = "{} ({} to {})".format(*ratio.split()) if self.theirs else ""
        suffix = "" if self.theirs else sign
        bounds = ["" if bound is None else f"{bound:g}{suffix}" for bound in (self.most, self.aim)]
        return [self.what, self._shown(self.ours), against, ratio, *bounds, self.verdict]

    def _shown(self, samples: Sequence[float]) -> str:
        factor, sign = UNITS[self.unit]
        median, low, high = (each * factor for each in spread(samples))
        if not self.theirs:
            return f"{median:.3g} ({low:.3g} to {high:.3g}){sign}"
        return f"{median:.3g}{sign}"

    def plain(self) -> dict[str, Any]:
        """For JSON: every sample, times in seconds."""
        judged = self.judged
        return {
            **self._asdict(),
            "ours": list(self.ours),
            "theirs": list(self.theirs),
            "judged": judged._asdict(),
            "verdict": self.verdict,
        }


HEAD = ["what", "ours", "against", "ratio", "at most", "aim", ""]


def table(figures: Sequence[Figure]) -> str:
    """The table for a terminal, with the notes below."""
    rows = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    notes = [f"  {figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def markdown(figures: Sequence[Figure], machine: str) -> str:
    """The table for the README."""
    rows = [HEAD, ["---"] * len(HEAD), *(figure.cells() for figure in figures)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return f"Measured {machine}\n\n" + "\n".join(lines)
