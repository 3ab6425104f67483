"""Builds the wheel and the sdist: setuptools, on a copy of the sources that has its version.

The copy is what git knows, or all there is where there is no git; nothing is written here.
An editable installation has the number of the last release, since its sources go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta

sys.path.insert(0, os.path.dirname(__file__))
from version import TREE, stamp, version

build_editable = build_meta.build_editable
get_requires_for_build_editable = build_meta.get_requires_for_build_editable
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
get_requires_for_build_wheel = build_meta.get_requires_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable

LEFT_OUT = ("*.egg-info", "*.pyc", "__pycache__", ".build", ".git", ".venv", "build", "dist")
"""Where there is no git to ask."""

Settings = dict[str, Any] | None


def build_wheel(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    into = os.path.abspath(folder)
    with _copy():
        return build_meta.build_wheel(into, settings, None)


def build_sdist(folder: str, settings: Settings = None) -> str:
    into = os.path.abspath(folder)
    with _copy() as copy:
        # Tests and documents too, for whoever packages it.
        (copy / "MANIFEST.in").write_text("graft .\nglobal-exclude *.py[co]\n")
        return build_meta.build_sdist(into, settings)


@contextmanager
def _copy() -> Iterator[Path]:
    """The sources elsewhere, with their version, as the working directory."""
    number, before = version(TREE), os.getcwd()
    with tempfile.TemporaryDirectory(prefix="mproutd-build-") as folder:
        copy = Path(folder, "mproutd")
        if (TREE / ".git").exists():
            _copy_known(copy)
        else:
            shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        stamp(copy, number)
        os.chdir(copy)
        try:
            yield copy
        finally:
            os.chdir(before)


def _copy_known(to: Path) -> None:
    """What git tracks, and what is new and not ignored."""
    listed = subprocess.run(
        ["git", "-C", TREE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (TREE / name).exists():  # a file may be deleted and not yet committed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, to / name, follow_symlinks=False)
