"""A metered uplink is hardly probed while it only stands by."""

from __future__ import annotations

import time

import pytest

from tests.lab import SERVER, Daemon, Wan, eventually
from tests.lab.modes import network

pytestmark = pytest.mark.kernel

QUICK = "\toption interval '0.2'\n\toption failure_interval '0.1'\n\toption timeout '0.2'\n"
OWN = f"config uplink 'wan2'\n\toption metered '1'\n\tlist track_ip '{SERVER}'\n{QUICK}"


def probes(daemon: Daemon) -> int:
    """Sent to the host of wan2's check."""
    return int(daemon.uplink("wan2")["health"][0]["hosts"][0]["sent"])


def test_probes_are_rare_until_the_uplink_is_needed(wan: Wan) -> None:
    with Daemon(wan.gateway, network(eth1="master", eth2="backup"), OWN) as daemon:
        eventually(lambda: probes(daemon) >= 1)
        time.sleep(0.5)
        before = probes(daemon)
        time.sleep(1)
        assert probes(daemon) == before
        wan.unplug(1)
        eventually(lambda: probes(daemon) >= before + 5)


def test_a_metered_uplink_that_carries_is_probed_as_configured(wan: Wan) -> None:
    with Daemon(wan.gateway, network(eth1="on", eth2="on"), OWN) as daemon:
        eventually(lambda: probes(daemon) >= 5)
