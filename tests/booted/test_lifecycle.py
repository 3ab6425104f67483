"""The life of the package on a gateway with two DHCP uplinks, from `apt install` to `apt purge`.

It begins as docs/debian.md says, by its own commands and files, and gives it the times.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.booted import Booted
from tests.booted.providers import lease
from tests.booted.system import RELEASE
from tests.lab import SERVER, Echo, Iperf, eventually, subflows
from tests.networks.guide import Guide

pytestmark = pytest.mark.booted


class Times:
    """How long things took, as the guide has it."""

    def __init__(self) -> None:
        self.table = ""

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.table += f"{what:60}{time.monotonic() - begun:5.1f} s\n"


def endpoints(machine: Booted) -> set[str]:
    """The addresses of the machine's endpoints."""
    return {line.split()[0] for line in machine.network.ip("mptcp endpoint show").splitlines()}


def gateways(machine: Booted) -> list[str]:
    """The default route of each uplink's table."""
    shown = [machine.network.ip(f"route show default table {table}") for table in (7001, 7002)]
    return [" ".join(route.split()[:5]) for route in shown]


def alive(echo: Echo, port: int, machine: Booted) -> set[tuple[str, str, int]]:
    """The echo's subflows, each known by its connection and its port, after some more echoes."""
    count = echo.report().received
    eventually(lambda: echo.report().received >= count + 5)
    current = subflows(machine.network, port)
    return {(flow.token, flow.local, flow.local_port) for flow in current}


def quiet(output: str, begin: str) -> list[str]:
    """What follows in dpkg's output beside its own progress: what a script of the package said."""
    own = ("(Reading database", "Removing mproutd", "Purging configuration", "Processing triggers")
    shown = output[output.index(f"\n{begin} ") :].splitlines()
    return [line for line in shown if line and not line.startswith(own)]


@pytest.mark.alone
def test_the_life_of_the_package_loses_no_connection(debian, providers, newer_package):
    machine, guide, timed = debian, Guide("../debian"), Times()
    both = {lease(1), lease(2)}

    def pid() -> str:
        return machine.unit_state("mproutd", "MainPID")

    def another(old: str) -> bool:
        """Another process is the daemon now, and it is ready."""
        return pid() not in ("0", old) and machine.unit_state("mproutd") == "active"

    # -- apt install: there, enabled, and nothing runs before the configuration says so
    clean = machine.network.state()
    with timed("apt install, with Python and all"):
        for command in guide.commands("install"):
            machine.run("cd /root && " + command.replace("install", "install --yes"))
    assert machine.unit_state("mproutd", "UnitFileState") == "enabled"
    assert machine.unit_state("mproutd") == "inactive"
    assert pid() == "0"
    assert machine.unit_state("mproutd", "Result") == "exec-condition"
    assert machine.network.state() == clean
    assert machine.run("dpkg --verify mproutd") == ""
    assert "mproutd" in machine.run("man -w mproutd mproutd.conf mproutd-hooks")
    assert machine.run("mproutd --help")

    # -- two uplinks with `iface … inet dhcp` and our two files, up after a boot
    for path, text in guide.files("gateway").items():
        machine.write(path, text)
    wanted = machine.path("/etc/mproutd/network").read_text()
    for command in guide.commands("start"):
        machine.run(command)
    eventually(lambda: endpoints(machine) == both)
    guide.shows("status", machine.run("mproutd status"))
    with timed("reboot, down and up, until both leases are there and in use"):
        machine.reboot()
        eventually(lambda: endpoints(machine) == both)
    assert machine.unit_state("mproutd") == "active"
    assert gateways(machine) == ["default via 10.1.1.1 dev eth1", "default via 10.2.2.1 dev eth2"]
    assert machine.network.ip("route show default").count("default") == 1  # the second was lost
    assert machine.run("ps -o user= -C mproutd").split() == ["mproutd"]
    up = machine.network.state()

    # -- kill -9 under a running iperf3
    iperf = Iperf(machine.network, providers.server, SERVER, 6)
    eventually(lambda: len(subflows(machine.network, 5201)) == 4)  # data and control, on both
    old = pid()
    with timed("kill -9, until another one is ready"):
        machine.run("systemctl kill --signal=KILL mproutd")
        eventually(lambda: another(old), 30)
    assert machine.unit_state("mproutd", "NRestarts") == "1"
    result = iperf.result()
    assert result.completed, result.error
    assert min(interval.mbit for interval in result.intervals[2:-1]) > 20  # never one line alone
    assert machine.network.state() == up

    # -- restart, reload, upgrade: the same subflows before and after
    with Echo(machine.network, providers.server, SERVER) as echo:
        eventually(lambda: len(subflows(machine.network, echo.port)) == 2)
        before = alive(echo, echo.port, machine)
        assert len(before) == 2
        for command in ("systemctl restart mproutd", "systemctl reload mproutd"):
            old = pid()
            with timed(command):
                machine.run(command)
            assert alive(echo, echo.port, machine) == before
            assert (pid() == old) == ("reload" in command)
        old = pid()
        machine.path("/root/newer.deb").write_bytes(newer_package.read_bytes())
        with timed("apt install of a later version, with its restart"):
            machine.run("apt-get install --yes /root/newer.deb")
        assert machine.run("dpkg-query -W -f '${Version}' mproutd") == "9.0"
        assert pid() not in ("0", old)
        assert machine.path("/etc/mproutd/network").read_text() == wanted
        assert alive(echo, echo.port, machine) == before
        assert machine.network.state() == up

        # -- stuck for longer than its watchdog allows
        limit = "/run/systemd/system/mproutd.service.d/limit.conf"
        machine.write(limit, "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
        machine.run("systemctl daemon-reload && systemctl restart mproutd")
        old = pid()
        with timed("stuck (SIGSTOP), watchdog of 2 s, until another is ready"):
            machine.run("systemctl kill --signal=STOP mproutd")
            eventually(lambda: another(old), 30)
        assert "watchdog" in machine.journal("-b", "_PID=1").lower()
        assert alive(echo, echo.port, machine) == before
        machine.run("rm -r /run/systemd/system/mproutd.service.d && systemctl daemon-reload")

        # -- a wrong configuration: the old one stays, and the journal says why
        machine.write("/etc/mproutd/network", wanted.replace("multipath on", "multipath sometimes"))
        old = pid()
        reload = machine.call("systemctl reload mproutd")
        assert reload.returncode != 0
        assert "sometimes" in machine.journal("-b", "-u", "mproutd", "-p", "err")
        status = machine.call("mproutd status")
        assert status.returncode == 1
        assert "sometimes" in status.stdout
        assert (machine.unit_state("mproutd"), pid()) == ("active", old)
        assert alive(echo, echo.port, machine) == before
        assert machine.network.state() == up
        machine.write("/etc/mproutd/network", wanted)
        machine.run("systemctl reload mproutd")
        assert machine.run("mproutd status")
        assert echo.report().error == ""

    # -- remove: nothing of ours in the kernel; purge: nor on the disk
    with timed("apt remove"):
        removal = machine.run("apt-get remove --yes mproutd")
    assert pid() == "0"
    remaining = machine.network.state()
    assert "proto mproutd" not in remaining
    assert "proto 77" not in remaining
    assert endpoints(machine) == set()
    assert machine.path("/etc/mproutd/network").read_text() == wanted
    machine.run("ifdown eth2 && ifup eth2")  # hooks that were left behind do nothing
    assert machine.call("test -e /run/mproutd").returncode != 0
    with timed("apt purge"):
        purge = machine.run("apt-get purge --yes mproutd")
    assert quiet(removal, "Removing") == quiet(purge, "Purging") == []
    if RELEASE == "12":
        guide.measured("life", timed.table)
    machine.run("rm /root/*.deb")
    assert machine.run("find / -xdev -name '*mproutd*'; find /run /tmp -name '*mproutd*'") == ""
    assert machine.call("getent passwd mproutd || getent group mproutd").stdout == ""
    assert not re.search("mproutd.*not-found", machine.run("systemctl list-units --all"))
