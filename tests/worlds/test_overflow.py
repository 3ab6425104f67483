"""Worlds in which a costly uplink carries only while the regular one is full: 20 Mbit/s each."""

from __future__ import annotations

import time

import pytest

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows
from tests.lab.modes import Carried, network
from tests.lab.paced import Paced

pytestmark = pytest.mark.kernel

OWN = """\
config uplink 'wan1'
	option download '20000'
	option upload '20000'

config uplink 'wan2'
	option overflow '80'
"""
HANDSHAKES = 30_000
"""Bytes that a subflow without data may cost in some seconds."""


def carrying(daemon: Daemon) -> bool:
    return bool(daemon.uplink("wan2")["overflow"]["carrying"])


def quiet_bytes(wan: Wan, seconds: float) -> int:
    """What the costly uplink carries in some seconds."""
    carried = Carried(wan.gateway)
    time.sleep(seconds)
    return carried.by("eth2")


def test_a_backup_carries_while_the_regular_uplink_is_full(wan: Wan) -> None:
    with (
        Daemon(wan.gateway, network(eth1="master", eth2="backup"), OWN) as daemon,
        Paced(wan.gateway, wan.server, SERVER, mbit=10) as upload,
    ):
        eventually(lambda: len(subflows(wan.gateway, upload.port)) == 2)
        assert quiet_bytes(wan, 2) < HANDSHAKES
        assert not carrying(daemon)

        upload.rate(30)
        eventually(lambda: carrying(daemon), 30)
        status = daemon.uplink("wan2")
        assert (status["mode"], status["effective_mode"]) == ("backup", "overflow")
        assert status["overflow"]["reason"].startswith("wan1 is at ")
        assert status["overflow"]["reason"].endswith(" % (upload)")
        assert daemon.uplink("wan1")["load"]["upload"]["percent"] > 80
        assert "10.2.2.2 id" in wan.gateway.ip("mptcp endpoint show")
        assert "backup" not in wan.gateway.ip("mptcp endpoint show")
        eventually(lambda: quiet_bytes(wan, 0.5) > 200_000, 30, "the costly uplink carries")
        eventually(lambda: daemon.uplink("wan2")["usable"])
        assert "overflow: carries for" in daemon.call("status").words

        upload.rate(10)
        eventually(lambda: not carrying(daemon), 150)
        eventually(lambda: quiet_bytes(wan, 1) < HANDSHAKES, 30, "the costly uplink is quiet")
        assert len(subflows(wan.gateway, upload.port)) == 2
        assert upload.arrived()["bytes"] > 0
        log = daemon.log()
        assert "wan2 carries, because wan1 is at " in log
        assert "wan2 stops carrying: the other uplinks have room" in log
        assert "changes its mode" not in log


def test_a_download_counts_as_well_and_a_restart_keeps_what_is_carried(wan: Wan) -> None:
    with Daemon(wan.gateway, network(eth1="master", eth2="backup"), OWN) as daemon:
        assert daemon.uplink("wan2")["overflow"]["measuring"] is False
        with Paced(wan.gateway, wan.server, SERVER, mbit=30, download=True) as download:
            eventually(lambda: carrying(daemon), 30)
            assert daemon.uplink("wan2")["overflow"]["reason"].endswith(" % (download)")
            eventually(lambda: quiet_bytes(wan, 0.5) > 200_000, 30, "the costly uplink carries")
            daemon.stop()
            daemon.start()
            assert daemon.uplink("wan2")["effective_mode"] == "overflow"
            assert "backup" not in wan.gateway.ip("mptcp endpoint show")
            assert download.arrived()["bytes"] > 0


def test_a_handover_uplink_has_no_subflow_until_then_and_takes_over_a_failure(wan: Wan) -> None:
    with (
        Daemon(wan.gateway, network(eth1="master", eth2="handover"), OWN) as daemon,
        Echo(wan.gateway, wan.server, SERVER) as echo,
        Paced(wan.gateway, wan.server, SERVER, mbit=10) as upload,
    ):
        eventually(lambda: daemon.uplink("wan1")["load"]["upload"]["rate"], 30)
        assert quiet_bytes(wan, 1) < HANDSHAKES
        assert len(subflows(wan.gateway, upload.port)) == 1
        upload.rate(30)
        eventually(lambda: len(subflows(wan.gateway, upload.port)) == 2, 30)
        assert carrying(daemon)
        # The regular uplink fails meanwhile: there is nothing left to decide.
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan2")["effective_mode"] == "handover", 30)
        eventually(lambda: not carrying(daemon))
        eventually(lambda: quiet_bytes(wan, 0.5) > 200_000, 30, "the costly uplink carries all")
        upload.rate(5)
        wan.plug(1)
        eventually(
            lambda: [s.local for s in subflows(wan.gateway, upload.port)] == ["10.1.1.2"], 30
        )
        eventually(lambda: quiet_bytes(wan, 1) < HANDSHAKES, 30, "the costly uplink is quiet")
        report = echo.report()
        assert not report.error
        assert report.mptcp
