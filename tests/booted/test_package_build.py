"""The package as a file: the same sources, wherever and whenever, give the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mproutd import __version__
from tests.booted.system import REPOSITORY

pytestmark = pytest.mark.booted
SOURCES = ("mproutd", "etc", "if-up.d", "docs", "packaging", "README.md", "CHANGELOG.md")


def build(checkout: Path) -> bytes:
    """What packaging/deb.sh of that checkout makes; it fails where lintian has anything to say."""
    (checkout / ".build").mkdir()
    for name in (".venv", ".build/roots"):
        (checkout / name).symlink_to(REPOSITORY / name)
    done = subprocess.run([checkout / "packaging/deb.sh"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    path = Path(done.stdout.strip())
    assert path.name == f"mproutd_{__version__}_all.deb"
    return path.read_bytes()


def test_the_same_sources_make_the_same_package(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other/checkout"
    one.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, one / name)
    shutil.copytree(one, other)
    for folder, _, files in os.walk(other):
        for name in files:
            os.utime(os.path.join(folder, name), (1e9, 1e9))
    assert build(one) == build(other)
