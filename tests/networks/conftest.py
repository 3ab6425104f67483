"""What these tests need: root, namespaces, and the programs of the four networks."""

from __future__ import annotations

import os

import pytest

from tests.networks.machine import why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `network` build a lab too."""
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where programs are missing; in CI that is an error instead."""
    if item.get_closest_marker("network") and why_not():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI is set, but there is {why_not()}", pytrace=False)
        pytest.skip(why_not())
