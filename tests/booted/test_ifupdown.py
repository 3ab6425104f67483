"""The hooks under the real ifup, ifdown and dhclient, with the service running.

One machine, since each of its lines costs an installation; a test of its own for each hook and
variable, without ifupdown, is tests/packaging/test_hooks.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.booted import Booted
from tests.booted.providers import lease
from tests.lab import SERVER, TWO_UPLINKS, Echo, eventually, subflows
from tests.networks.guide import Guide

pytestmark = pytest.mark.booted

INTERFACES = """\
auto lo
iface lo inet loopback

iface eth1 inet static
	address 10.1.1.9/24
	gateway 10.1.1.1

iface eth1 inet6 static
	address 2001:db8:1::9/64
	gateway 2001:db8:1::1

# another default route needs another metric, or ifup itself gives up
iface dsl inet static
	address 10.2.2.9/24
	gateway 10.2.2.1
	metric 2

iface careless inet static
	address 10.2.2.9/24
	gateway 10.2.2.1

iface dhcp inet dhcp

iface br0 inet static
	address 10.7.7.1/24
	gateway 10.7.7.2
	metric 9
"""


def hints(machine: Booted) -> dict[str, str]:
    """What the hooks have left, by the name of the file."""
    command = (
        "cd /run/mproutd-hints; for hint in *; do [ ! -f $hint ] || echo $hint $(cat $hint); done"
    )
    fields = (line.partition(" ") for line in machine.run(command).splitlines())
    return {name: text for name, _, text in fields}


def ways(machine: Booted) -> dict[str, str]:
    """Each usable address, its gateway and who named that, from `mproutd status`."""
    status = json.loads(machine.call("mproutd status --json").stdout)
    return {
        address: f"{family['gateway']} {family['gateway_from']}"
        for uplink in status["uplinks"]
        for family in uplink["families"]
        if family["usable"]
        for address in family["addresses"]
    }


def tables(machine: Booted) -> list[str]:
    """The default routes of the uplinks' tables, IPv4 and IPv6, as `ip` shows them."""
    rows = []
    for table in (7001, 7002):
        for family in (4, 6):
            text = machine.network.ip(f"route show default table {table}", family=family)
            rows += [" ".join(line.split()[:5]) for line in text.splitlines()]
    return rows


def test_ifup_and_ifdown_as_they_really_are(gateway):
    machine = gateway
    machine.write("/etc/network/interfaces", INTERFACES)
    machine.run("systemctl start mproutd")
    machine.run("ip link add br0 type bridge")

    # -- static, IPv4 and IPv6; the address is no lease, and the status says so
    machine.run("ifup eth1")
    assert hints(machine) == {
        "eth1:4": "address=10.1.1.9 gateway=10.1.1.1 reason=post-up",
        "eth1:6": "gateway6=2001:db8:1::1 reason=post-up",
    }
    eventually(
        lambda: (
            ways(machine)
            == {"10.1.1.9": "10.1.1.1 ifupdown", "2001:db8:1::9": "2001:db8:1::1 ifupdown"}
        )
    )
    assert tables(machine) == [
        "default via 10.1.1.1 dev eth1",
        "default via 2001:db8:1::1 dev eth1",
    ]

    # -- a second default without a metric: ifup fails, runs no hook, and the status has the way out
    done = machine.call("ifup eth2=careless")
    assert done.returncode == 1
    assert "File exists" in done.stdout
    assert "eth2:4" not in hints(machine)
    result = machine.call("mproutd status")
    assert "no gateway is known" in result.stdout
    machine.run("ip address flush dev eth2")

    # -- with one; the stanza has a name of its own
    machine.run("ifup eth2=dsl")
    assert hints(machine)["eth2:4"] == (
        "interface=dsl address=10.2.2.9 gateway=10.2.2.1 reason=post-up"
    )
    eventually(lambda: ways(machine).get("10.2.2.9") == "10.2.2.1 ifupdown")

    # -- lo, an unmanaged interface, and other callers of these hooks: no change
    before, hints_before = machine.network.state(), hints(machine)
    machine.run("ifdown --force lo; ifup lo; ifup br0; ifdown br0")
    hook = "/etc/network/if-up.d/mproutd"
    for variables in (
        "",
        "IFACE=eth1",
        "IFACE=eth1 MODE=start",
        "IFACE=eth1 ADDRFAM=inet METHOD=dhcp MODE=start PHASE=post-up",
        "IFACE=--all LOGICAL=auto ADDRFAM=meta METHOD=none MODE=start PHASE=post-up",
        "IFACE=eth1 LOGICAL=eth1 ADDRFAM=NetworkManager METHOD=NetworkManager MODE=start",
    ):
        assert machine.run(f"env -i {variables} {hook}") == ""
    assert hints(machine) == hints_before
    assert machine.network.state() == before

    # -- down: all of eth1 goes, all of eth2 stays
    machine.run("ifdown eth1")
    assert set(hints(machine)) == {"eth2:4"}
    eventually(lambda: tables(machine) == ["default via 10.2.2.1 dev eth2"])
    machine.run("ifdown eth2")
    assert hints(machine) == {}
    eventually(lambda: tables(machine) == [])

    # -- two leases: main has room for one default route, each table has its own
    machine.run("ifup eth1=dhcp && ifup eth2=dhcp")
    assert hints(machine) == {
        f"eth{n}:4": f"address={lease(n)} gateway=10.{n}.{n}.1 reason=BOUND" for n in (1, 2)
    }
    eventually(lambda: ways(machine) == {lease(1): "10.1.1.1 lease", lease(2): "10.2.2.1 lease"})
    assert tables(machine) == ["default via 10.1.1.1 dev eth1", "default via 10.2.2.1 dev eth2"]
    assert machine.network.ip("route show default").count("default") == 1
    result = machine.call("mproutd status")
    assert result.stdout.count("  → ") == 1, "that it had IPv6 before"
    assert "wan1: IPv6 is not used: it had an address earlier" in result.stdout
    machine.run("ifdown eth2")
    assert set(hints(machine)) == {"eth1:4"}
    eventually(lambda: tables(machine) == ["default via 10.1.1.1 dev eth1"])
    machine.run("ifdown eth1 && systemctl stop mproutd && mproutd flush")
    assert "proto mproutd" not in machine.network.ip("rule show")


def test_the_way_over_from_the_classic_scripts_loses_no_connection(debian, providers):
    machine, guide = debian, Guide("../debian")
    classic = Path(__file__).parents[1] / "networks/classic"
    for name in ("if-up", "if-post-down"):
        machine.write(f"/etc/network/{name}.d/mptcp", (classic / name).read_text())
    for path, text in guide.files("gateway").items():
        if "interfaces" in path:
            machine.write(path, text)
    machine.run("ifup eth1 eth2")
    of_the_script = r"from 10\.\d\.\d\.50 lookup [12]\s"
    assert len(re.findall(of_the_script, machine.network.ip("rule show"))) == 2

    with Echo(machine.network, providers.server, SERVER) as echo:
        eventually(lambda: len(subflows(machine.network, echo.port)) == 2)
        for command in guide.commands("over"):
            if "systemctl" in command:
                machine.write("/etc/mproutd/network", TWO_UPLINKS)
            machine.run("cd /root && " + command.replace("apt install", "apt install --yes"))
            if command.startswith("systemctl start"):
                # The gateways of leases from before the hook: its installation has read them.
                assert [gateway for _, gateway in sorted(ways(machine).items())] == [
                    "10.1.1.1 lease",
                    "10.2.2.1 lease",
                ]
            if command.startswith("ifdown"):
                eventually(lambda: len(subflows(machine.network, echo.port)) == 2)
        assert echo.report().error == ""
    assert ways(machine) == {lease(1): "10.1.1.1 lease", lease(2): "10.2.2.1 lease"}
    assert "foreign" not in machine.run("mproutd status")
    assert not re.search(of_the_script, machine.network.ip("rule show"))
