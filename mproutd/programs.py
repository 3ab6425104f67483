"""Which programs are there.  Light: a machine that lacks one pays for the question alone."""

from __future__ import annotations

import os


def found(name: str) -> str:
    """The path of a program, as execvp(3) would find it; empty when there is none."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""
