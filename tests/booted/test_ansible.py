"""The Ansible role mproutd on one booted gateway; `make ansible` has the rest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.playbook import Run, play
from tests.ansible.state import state
from tests.ansible.test_gateway import (
    FIRST_RUN,
    GATEWAY,
    NETWORK,
    SECONDS,
    addresses,
    connected,
    continues,
    endpoints,
)
from tests.booted import Booted, Providers
from tests.lab import eventually

pytestmark = pytest.mark.booted


def test_the_role_installs_predicts_and_reloads(
    debian: Booted, providers: Providers, package: Path, tmp_path: Path
) -> None:
    debian.run("apt-get install --yes python3 python3-apt")
    addresses(debian)
    gateway: dict[str, Any] = {**copy.deepcopy(GATEWAY), "mproutd_package": str(package)}

    def role(*flags: str) -> Run:
        run = play(tmp_path, debian, "mproutd", gateway, *flags)
        assert run.status == 0, run.output
        return run

    before = state(debian)
    assert role("--check").changed == FIRST_RUN
    assert state(debian) == before
    assert role().changed == FIRST_RUN
    assert debian.run("cat /etc/mproutd/network") == NETWORK
    with connected(debian, providers) as echo:
        assert role().changed == []
        pid = debian.unit_state("mproutd", "ExecMainPID")
        gateway["mproutd_uplinks"][1]["multipath"] = "backup"
        assert role().changed == ["Write the configuration network", "Reload mproutd"]
        eventually(lambda: endpoints(debian) == {"10.1.1.50", "10.2.2.50 backup"}, SECONDS)
        assert debian.unit_state("mproutd", "ExecMainPID") == pid
        continues(echo)
