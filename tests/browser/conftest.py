"""Collected only where this folder is named: `make test` needs no browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.named_folder import is_named


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if is_named(config, Path(__file__).parent) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup() -> None:
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if lacking:
        pytest.fail(f"no {', '.join(lacking)}: packaging/setup.sh browser", pytrace=False)


@pytest.fixture
def browse() -> Iterator[Callable[..., object]]:
    """A function that opens a browser in a node; at the end its console has to be empty."""
    from tests.browser.chromium import Chromium

    opened: list[Chromium] = []

    def begin(*arguments: object, **keywords: object) -> Chromium:
        opened.append(Chromium(*arguments, **keywords))  # type: ignore[arg-type]
        return opened[-1]

    yield begin
    try:
        for browser in opened:
            assert browser.complaints() == []
    finally:
        for browser in reversed(opened):
            browser.close()
