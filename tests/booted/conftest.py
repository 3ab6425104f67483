"""Which of these tests run, and what they need: root, and programs that boot a machine."""

from __future__ import annotations

import shutil

import pytest

from tests.networks.machine import why_not


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out unless named or wanted; never skipped because something is missing."""
    mine = [item for item in items if item.get_closest_marker("booted")]
    for item in mine:
        item.add_marker(pytest.mark.kernel)
        item.add_marker(pytest.mark.timeout(600))
    named = any("booted" in argument for argument in config.args)
    if mine and not named and not config.getoption("booted"):
        items[:] = [item for item in items if item not in mine]
        config.hook.pytest_deselected(items=mine)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """One clear line; tests/conftest.py has seen to it before that we are root."""
    if item.get_closest_marker("booted"):
        lacking = [name for name in ("systemd-nspawn", "debootstrap") if not shutil.which(name)]
        reason = f"no {', '.join(lacking)}: packaging/setup.sh" if lacking else why_not()
        if reason:
            pytest.fail(f"cannot boot a machine: {reason}", pytrace=False)
