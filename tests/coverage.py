"""python -m tests.coverage [core]: what the tests reach of every line and branch.

First the pure core, by the tests that need no root, in the same order with the same made-up
values each time: all of it, or the run has failed.  Then, unless only `core` was asked for, the
tests that need root as well, with everything that they start as a program: of the whole, 90 %.
A daemon that is killed with -9 leaves no figures behind; what only such a one does is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.test_imports import FILES, ROOT, is_pure

CORE, WHOLE = 100, 90
"""Percent, at least."""
FIGURES = ROOT / ".build/coverage"

# What they build and boot takes minutes and touches nothing of the core.
SLOW = ("booted", "browser", "networks", "packaging/test_hooks.py", "packaging/test_openwrt*")
ALIKE = ("-q", "-p", "no:randomly", "--hypothesis-seed=0")


def coverage(*arguments: str) -> int:
    environment = os.environ | {"COVERAGE_FILE": str(FIGURES / "figures")}
    return subprocess.run(
        [sys.executable, "-m", "coverage", *arguments], env=environment
    ).returncode


def measured(*arguments: str) -> int:
    status = coverage("run", "-m", "pytest", *ALIKE, *arguments)
    coverage("combine", "--quiet", "--append")
    return status


def main(arguments: list[str]) -> int:
    FIGURES.mkdir(parents=True, exist_ok=True)
    FIGURES.chmod(0o1777)  # for what runs as nobody
    for old in FIGURES.iterdir():
        old.unlink()
    without = [f"--ignore-glob={Path('tests') / name}" for name in SLOW]
    failed = measured("-m", "not kernel", *without)
    pure = sorted(path for module, path in FILES.items() if is_pure(module))
    core = ",".join(str(path.relative_to(ROOT)) for path in pure)
    print(f"\nthe pure core: {CORE} % by the tests that need no root", flush=True)
    failed |= coverage("report", f"--include={core}", f"--fail-under={CORE}")
    if arguments != ["core"]:
        failed |= measured("-m", "kernel and not booted")
        print(f"\nthe whole: {WHOLE} %", flush=True)
        failed |= coverage("report", f"--fail-under={WHOLE}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
