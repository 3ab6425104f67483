"""Debian 13 as it is installed: ifupdown with dhcpcd, and two uplinks by DHCP.

Always on Debian 13, so that every run of the booted tests has installed the package there once.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.booted.providers import lease
from tests.lab import SERVER, Echo, eventually, subflows
from tests.networks.guide import Guide

pytestmark = pytest.mark.booted

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping"),
    *("ifupdown", "dhcpcd-base"),
    *("+python3", "+python3-tenacity", "+python3-pyroute2", "+python3-systemd"),
)
BOTH = {lease(1), lease(2)}
LIMIT = 30
"""Seconds: a lease takes five."""


@pytest.fixture
def machine(package: Any, providers: Providers) -> Iterator[Booted]:
    def before(root: Any) -> None:
        shutil.copy(package, root / "root" / package.name)
        (root / "etc/systemd/system/systemd-networkd.service").symlink_to("/dev/null")

    with Booted(providers.plug_in, PACKAGES, before, release="13") as made:
        yield made


def status(machine: Booted) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(machine.call("mproutd status --json").stdout)
    return status


def endpoints(machine: Booted) -> set[str]:
    shown = machine.network.ip("mptcp endpoint show").splitlines()
    return {line.split()[0] for line in shown}


def test_two_uplinks_by_dhcpcd(machine: Booted, providers: Providers) -> None:
    guide, beside, table = Guide("../debian"), Guide("../beside"), ""
    for path, text in guide.files("gateway").items():
        if "interfaces" in path:
            machine.write(path, text)
    machine.run("ifup eth1 eth2")

    # -- installed while both leases are there: both gateways are in main, no hook is needed
    machine.run("apt-get install --yes /root/mproutd_*.deb")
    assert machine.unit_state("mproutd", "UnitFileState") == "enabled"
    assert machine.call("systemd-analyze --man=no verify mproutd.service").stdout == ""
    for path, text in guide.files("gateway").items():
        machine.write(path, text)
    machine.run("systemctl start mproutd")
    assert endpoints(machine) == BOTH
    paths = [uplink["families"][0] for uplink in status(machine)["uplinks"]]
    assert [(path["gateway"], path["gateway_from"]) for path in paths] == [
        ("10.1.1.1", "main"),
        ("10.2.2.1", "main"),
    ]

    def carrier(what: str) -> float:
        """Lost for a second, and back: until the uplink has its endpoint again."""
        nonlocal table
        providers.wan.unplug(2)
        eventually(lambda: endpoints(machine) == {lease(1)})
        eventually(lambda: len(subflows(machine.network, echo.port)) == 1)
        advised = " ".join(machine.call("mproutd status").stdout.split())
        assert ("`nolink` in /etc/dhcpcd.conf" in advised) is (what == "as installed")
        time.sleep(1)
        begun = time.monotonic()
        providers.wan.plug(2)
        eventually(lambda: endpoints(machine) == BOTH, LIMIT)
        took = time.monotonic() - begun
        eventually(lambda: len(subflows(machine.network, echo.port)) == 2, LIMIT)
        table += f"{what:50}{took:5.1f} s\n"
        return took

    # -- the carrier of one is lost: dhcpcd removes its address, and takes a new lease
    with Echo(machine.network, providers.server, SERVER) as echo:
        eventually(lambda: len(subflows(machine.network, echo.port)) == 2, LIMIT)
        as_installed = carrier("as installed")

        # -- what the status advises: the address stays, and the uplink is back at once
        for command in beside.commands("dhcpcd"):
            machine.run(command)
        eventually(lambda: endpoints(machine) == BOTH, LIMIT)
        eventually(lambda: len(subflows(machine.network, echo.port)) == 2, LIMIT)
        assert carrier("with nolink") < as_installed
        assert echo.report().error == ""
    beside.measured("dhcpcd", table)

    # -- a restart changes nothing; a boot brings all of it up; a purge says nothing
    before = machine.network.state(ids=True)
    machine.run("systemctl restart mproutd")
    assert machine.network.state(ids=True) == before
    machine.reboot()
    eventually(lambda: endpoints(machine) == BOTH, LIMIT)
    assert machine.run("mproutd status")
    machine.run("apt-get purge --yes mproutd && rm /root/*.deb")
    assert "proto 77" not in machine.network.state()
    assert machine.run("find / -xdev -name '*mproutd*'") == ""
