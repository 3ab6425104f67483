"""Guides that are run: docs/networks/NAME.md gives the files and commands, and gets the output.

In a guide, a comment before a fenced block says what the block is:

    <!-- file: router-a /etc/mproutd/network -->    a file of that machine
    <!-- run: router-a -->                          commands there, one a line
    <!-- output: status -->                         what a command printed in the test
    <!-- measured: rates -->                        figures of the run that wrote the guide

A test takes files and commands from the guide, and fails when an output is another than the
guide shows.  `make guides` runs the tests with MPROUTD_GUIDES=write, which puts the new one in.
"""

from __future__ import annotations

import os
import re
from difflib import unified_diff
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs/networks"
BLOCK = re.compile(r"<!-- (\w+): (.*?) -->\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(r"(?<=endpoint )\d+|[\d.,]+ ([kMG]?bit/s|[kMG]?i?B|ms|s|min|h|d)\b")
"""Numbers that the kernel deals by history, times and rates: no two runs share them."""
WRITING = os.environ.get("MPROUTD_GUIDES") == "write"


class Guide:
    """One guide.  KeyError for a block that it does not have."""

    def __init__(self, name: str) -> None:
        self.path = DOCS / f"{name}.md"

    def _block(self, kind: str, name: str) -> re.Match[str]:
        for found in BLOCK.finditer(self.path.read_text()):
            if (found[1], found[2]) == (kind, name):
                return found
        raise KeyError(f"{self.path.name} has no block <!-- {kind}: {name} -->")

    def files(self, machine: str) -> dict[str, str]:
        """Path → text of every file that the machine has in the guide."""
        found = {}
        for block in BLOCK.finditer(self.path.read_text()):
            name, _, path = block[2].partition(" ")
            if block[1] == "file" and name == machine:
                found[path] = block[3]
        if not found:
            raise KeyError(f"{self.path.name} has no file for {machine}")
        return found

    def commands(self, name: str) -> list[str]:
        """The lines of a `run` block, those with a comment only left out."""
        lines = self._block("run", name)[3].splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    def shows(self, name: str, text: str) -> None:
        """The guide prints this, but for what varies and the width of columns."""
        shown = self._block("output", name)[3]
        if WRITING:
            self._write("output", name, text)
        else:
            change = "\n".join(unified_diff(_steady(shown), _steady(text), "guide", "run"))
            assert not change, f"{self.path.name} shows another {name} (make guides):\n{change}"

    def measured(self, name: str, text: str) -> None:
        """Figures, which differ from run to run: only written, never compared."""
        self._block("measured", name)
        if WRITING:
            self._write("measured", name, text)

    def _write(self, kind: str, name: str, text: str) -> None:
        start, end = self._block(kind, name).span(3)
        whole = self.path.read_text()
        lines = [line.rstrip() for line in text.rstrip("\n").splitlines()]
        self.path.write_text(whole[:start] + "\n".join(lines) + "\n" + whole[end:])


def _steady(text: str) -> list[str]:
    """The words of each line, without what varies."""
    lines = (" ".join(VARIES.sub("…", line).split()) for line in text.splitlines())
    return [line for line in lines if line]
