"""The machine itself: it boots, reboots with its disk alone, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.booted import Booted, Providers
from tests.booted.providers import lease

pytestmark = pytest.mark.booted


def groups() -> list[str]:
    """The control groups of machines of this process, wherever the hierarchy is mounted."""
    places = [
        line.split()[1]
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
    ]
    return [
        str(group)
        for place in places
        for group in Path(place).glob(f"mproutd-booted-{os.getpid()}-*")
    ]


def test_a_machine_boots_and_reboots_with_its_disk_alone():
    with Providers() as providers:
        with Booted(providers.plug_in) as machine:
            assert machine.unit_state("networking") == "active"
            assert machine.run("cat /proc/1/comm") == "systemd\n"
            machine.write(
                "/etc/network/interfaces",
                "auto lo eth1\niface lo inet loopback\niface eth1 inet dhcp\n",
            )
            machine.run("ip rule add priority 5 from all lookup main; echo kept >/etc/kept")
            machine.reboot()
            assert machine.run("cat /etc/kept") == "kept\n"
            assert "5:" not in machine.network.ip("rule show")
            assert lease(1) in machine.network.ip("address show eth1")
            assert machine.run("ls /sys/class/net").split() == ["eth1", "eth2", "lo"]
            machine.run("sysctl -w net.ipv4.conf.eth1.rp_filter=1")
            assert f"bound to {lease(1)}" in machine.journal("-u", "networking")
            pid = machine._leader
        assert not Path(f"/proc/{pid}").exists()
    assert groups() == []
