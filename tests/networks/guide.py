"""Guides that the tests run: a guide has the files and the commands, and gets their output.

In docs/networks/NAME.md, a comment before a fenced block says what the block is:

    <!-- file: router-a /etc/mproutd/network -->    a file on that machine
    <!-- run: router-a -->                          commands to run there, one a line
    <!-- output: status -->                         what a command printed in the test
    <!-- sample: monitor -->                        output that no two runs share

A test takes files and commands from the guide and fails if the output differs from the guide's.
`make guides` sets MPROUTD_GUIDES=write, which writes the new output and samples into the guide,
and measurements into docs/performance.md:

    <!-- measured: NAME rates -->
"""

from __future__ import annotations

import os
import re
from difflib import unified_diff
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs/networks"
MEASUREMENTS = DOCS.parent / "performance.md"
BLOCK = re.compile(r"<!-- (\w+): (.*?) -->\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(
    r"(?<=endpoint )\d+|[\d.,]+ ([kMG]?bit/s|[kMG]?i?B|ms|s|min|h|d)\b|(?<=\s)-(?!\S)"
)
"""Endpoint ids, times, rates and sizes, and the dash of a rate that is not known yet: no two runs
share them."""
WRITING = os.environ.get("MPROUTD_GUIDES") == "write"


class Guide:
    """One guide.  KeyError for a block that it does not have."""

    def __init__(self, name: str) -> None:
        self.path = DOCS / f"{name}.md"

    def files(self, machine: str) -> dict[str, str]:
        """Path → content of every file that the guide has for the machine."""
        files = {}
        for block in BLOCK.finditer(self.path.read_text()):
            name, _, path = block[2].partition(" ")
            if block[1] == "file" and name == machine:
                files[path] = block[3]
        if not files:
            raise KeyError(f"{self.path.name} has no file for {machine}")
        return files

    def commands(self, name: str) -> list[str]:
        """The lines of a `run` block, without comments."""
        lines = _find(self.path, "run", name)[3].splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    def shows(self, name: str, text: str) -> None:
        """Assert that the guide shows `text`, apart from what varies and column widths."""
        shown = _find(self.path, "output", name)[3]
        if WRITING:
            replace_block(self.path, "output", name, text)
        else:
            change = "\n".join(unified_diff(_steady(shown), _steady(text), "guide", "run"))
            assert not change, f"{self.path.name} shows another {name} (make guides):\n{change}"

    def sample(self, name: str, text: str) -> None:
        """Output with times and numbers of the run: written, never compared."""
        _find(self.path, "sample", name)
        if WRITING:
            replace_block(self.path, "sample", name, text)

    def sampled(self, name: str) -> str:
        """What the guide has of a sample."""
        return _find(self.path, "sample", name)[3]

    def measured(self, name: str, text: str) -> None:
        """Figures for docs/performance.md: written, never compared."""
        name = f"{self.path.stem} {name}"
        _find(MEASUREMENTS, "measured", name)
        if WRITING:
            replace_block(MEASUREMENTS, "measured", name, text)


def _find(page: Path, kind: str, name: str) -> re.Match[str]:
    for block in BLOCK.finditer(page.read_text()):
        if (block[1], block[2]) == (kind, name):
            return block
    raise KeyError(f"{page.name} has no block <!-- {kind}: {name} -->")


def replace_block(page: Path, kind: str, name: str, text: str) -> None:
    """Write a block anew.  KeyError where the page does not have it."""
    start, end = _find(page, kind, name).span(3)
    before = page.read_text()
    lines = [line.rstrip() for line in text.rstrip("\n").splitlines()]
    page.write_text(before[:start] + "\n".join(lines) + "\n" + before[end:])


def _steady(text: str) -> list[str]:
    """The words of each line, with a placeholder for what varies."""
    lines = (" ".join(VARIES.sub("…", line).split()) for line in text.splitlines())
    return [line for line in lines if line]
