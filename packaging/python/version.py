#!/usr/bin/python3
"""The version of a tree.  Run as a program, it prints it.

    0.1.0                          the commit that set the number in mproutd/__init__.py: a release
    0.1.0+12.g1a2b3c4d             twelve commits later
    0.1.0+12.g1a2b3c4d.d20261130142133     the same, changed since, and built at this time
    0.1.0+0.20261130142133.g1a2b3c4d       an archive or a shallow clone, which cannot be counted;
                                           the time is the commit's

pip and apt agree on their order, so that what is built later is an upgrade.  An sdist has its
version in mproutd/__init__.py, where packaging/python/backend.py wrote it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
SOURCE = "mproutd/__init__.py"
LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
ARCHIVE = Path(__file__).with_name("archive.txt")
STAMP = "%Y%m%d%H%M%S"


def version(tree: Path = TREE) -> str:
    """SystemExit with one line when git cannot say."""
    number = written(tree)
    if re.fullmatch(r"[\d.]+", number) is None:
        return number
    if (tree / ".git").exists():
        return f"{number}{_counted(tree)}"
    return f"{number}{_archived((tree / ARCHIVE.relative_to(TREE)).read_text())}"


def written(tree: Path) -> str:
    """What the source says: the last release, or the version of an sdist."""
    match = LINE.search((tree / SOURCE).read_text())
    if match is None:
        raise SystemExit(f"version: no line __version__ = … in {tree / SOURCE}")
    return match[1]


def stamp(tree: Path, number: str) -> None:
    """Write the version into a copy of the sources."""
    file = tree / SOURCE
    file.write_text(LINE.sub(f'__version__ = "{number}"', file.read_text()))


def _counted(tree: Path) -> str:
    """The suffix, from the history."""
    if _git(tree, "rev-parse", "--is-shallow-repository") == "true":
        sys.stderr.write("version: a shallow clone; to count commits: git fetch --unshallow\n")
        suffix = _uncounted(*_git(tree, "log", "-1", "--format=%H %ct").split())
    else:
        release = _git(tree, "log", "-1", "--format=%H", "-G^__version__ = ", "--", SOURCE)
        count = _git(tree, "rev-list", "--count", f"{release}..HEAD")
        suffix = "" if count == "0" else f"+{count}.g{_git(tree, 'rev-parse', 'HEAD')[:8]}"
    if _git(tree, "status", "--porcelain"):
        suffix += ("." if suffix else "+0.") + time.strftime(f"d{STAMP}", time.gmtime())
    return suffix


def _archived(text: str) -> str:
    """The suffix, from what `git archive` has written: commit, time, and git describe's name."""
    match = re.search(r"^([0-9a-f]{40}) (\d+) (\S*)$", text, re.MULTILINE)
    if match is None:
        return ""
    commit, seconds, name = match.groups()
    described = re.fullmatch(r"v[\d.]+(?:-(\d+)-g[0-9a-f]+)?", name)
    if described is None:
        return _uncounted(commit, seconds)
    return f"+{described[1]}.g{commit[:8]}" if described[1] else ""


def _uncounted(commit: str, seconds: str) -> str:
    return f"+0.{time.strftime(STAMP, time.gmtime(int(seconds)))}.g{commit[:8]}"


def _git(tree: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", tree, *arguments], capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"version: cannot run git: {error.strerror}") from None
    if done.returncode:
        raise SystemExit(f"version: git {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.stdout.write(f"{version()}\n")
