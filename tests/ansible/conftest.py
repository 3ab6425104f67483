"""Collected only where this folder is named: `make test` needs no Ansible."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.playbook import Run, play
from tests.booted import Booted, Providers
from tests.booted.conftest import (  # noqa: F401  (fixtures)
    checkout,
    package,
    providers,
    pytest_runtest_makereport,
)
from tests.named_folder import is_named
from tests.networks.machine import why_not

SYSTEM = ("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping")
ANSIBLE = ("python3", "python3-apt")
"""What Ansible itself needs on a machine."""
FETCHED = (
    *("python3-tenacity", "python3-pyroute2", "python3-systemd", "adduser", "python3-venv"),
    *("nftables", "shadowsocks-libev", "wireguard-tools"),
)
"""For apt to install without a network."""
PACKAGES = (*SYSTEM, *ANSIBLE, *(f"+{name}" for name in FETCHED))
RELEASES = ("12", "13")
RunRole = Callable[..., Run]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if is_named(config, Path(__file__).parent) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            item.add_marker(pytest.mark.timeout(900))


def pytest_runtest_setup() -> None:
    lacking = [name for name in ("systemd-nspawn", "debootstrap") if not shutil.which(name)]
    reason = f"no {', '.join(lacking)}: packaging/setup.sh" if lacking else why_not()
    if reason:
        pytest.fail(f"cannot boot a machine: {reason}", pytrace=False)


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest, providers: Providers) -> Iterator[Booted]:  # noqa: F811
    """A fresh Debian with two uplinks and nothing of mproutd."""
    with Booted(providers.plug_in, PACKAGES, release=request.param) as booted:
        yield booted


@pytest.fixture
def run_role(tmp_path: Path, machine: Booted) -> RunRole:
    """Run a role against the machine."""

    def run(role: str, variables: dict[str, Any], *flags: str) -> Run:
        return play(tmp_path, machine, role, variables, *flags)

    return run
