"""Collected only where this folder is named: `make test` has no minutes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.booted.conftest import checkout, package  # noqa: F401  (fixtures)
from tests.named_folder import is_named
from tests.networks.machine import why_not


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if is_named(config, Path(__file__).parent) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup() -> None:
    if lacking := why_not("keepalived", "conntrackd", "systemd-nspawn", "debootstrap"):
        pytest.fail(lacking, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With a failure comes what the programs of both gateways wrote."""
    report = yield
    if call.when == "call" and report.failed:
        arguments = getattr(item, "funcargs", {})
        pair = arguments.get("pair")
        for gateway in (pair.a, pair.b) if pair else arguments.get("gateways", ()):
            report.sections.append((f"log of {gateway.name}", gateway.services_said()[-8000:]))
    return report
