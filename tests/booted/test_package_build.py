"""The package as a file: the same sources, wherever and whenever, give the same bytes."""

from __future__ import annotations

import os

import pytest

from mproutd import __version__
from tests.booted.conftest import build

pytestmark = pytest.mark.booted


def test_the_same_sources_make_the_same_package(package, checkout, tmp_path):
    assert package.name == f"mproutd_{__version__}_all.deb"
    first = package.read_bytes()
    other = tmp_path / "another/folder"
    other.parent.mkdir()
    checkout.rename(other)
    try:
        for folder, _, files in os.walk(other):
            for name in files:
                os.utime(os.path.join(folder, name), (1e9, 1e9), follow_symlinks=False)
        assert build(other).read_bytes() == first
    finally:
        other.rename(checkout)
