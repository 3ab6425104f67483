"""How --help is laid out."""

from __future__ import annotations

import argparse
import os
from typing import Any


class HelpFormatter(argparse.HelpFormatter):
    """Without the imports that cost every command some 10 ms.

    argparse makes a formatter while it builds the parser; that imports shutil for the width
    and, since Python 3.14, dataclasses for colors.
    """

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        super().__init__(prog, width=(int(columns) if columns.isdecimal() else 80) - 2)

    def _set_color(self, color: bool, **_: Any) -> None:
        """Called by Python 3.14 for each formatter; its own imports dataclasses, also for none."""
        self._theme, self._decolor = _NoColors(), str


class _NoColors:
    """A theme of Python 3.14's argparse."""

    def __getattr__(self, name: str) -> str:
        return ""
