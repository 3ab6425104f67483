"""Uplinks and LANs on kinds of devices that not every kernel has: VLAN, bond, dummy, VRF."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows
from tests.worlds.test_other_traffic import FAR, codes, device

pytestmark = pytest.mark.kernel


def add(wan: Wan, words: str) -> None:
    """A device of this kind; skips where the kernel cannot make one."""
    made = wan.gateway.run("sh", "-c", f"ip link add {words} 2>&1 && echo made", check=False)
    if not made.endswith("made\n"):
        pytest.skip(f"ip link add {words}: {made.strip()}")


def move_uplink(wan: Wan, name: str) -> None:
    """wan1's IPv4 address and default route, from eth1 to another device."""
    for family in (4, 6):
        wan.gateway.ip("address flush dev eth1", "route flush dev eth1", family=family)
    wan.gateway.ip(
        f"link set {name} up",
        f"address add 10.1.1.2/24 dev {name}",
        f"route add default via 10.1.1.1 dev {name} metric 1",
    )


def both_paths(wan: Wan) -> None:
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        both = {"10.1.1.2", "10.2.2.2"}
        eventually(
            lambda: {subflow.local for subflow in subflows(wan.gateway, echo.port)} == both, 20
        )
        assert not echo.report().error


def test_a_vlan(wan: Wan) -> None:
    add(wan, "link eth1 name eth1.300 type vlan id 300")
    router = wan.routers[1]
    router.ip(
        "link add link access name access.300 type vlan id 300",
        "address flush dev access",
        "link set access.300 up",
        "address add 10.1.1.1/24 dev access.300",
    )
    move_uplink(wan, "eth1.300")
    with Daemon(wan.gateway, TWO_UPLINKS.replace("'eth1'", "'eth1.300'")) as daemon:
        both_paths(wan)
        wan.settle()
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-carrier")
        wan.plug(1)
        eventually(lambda: daemon.uplink("wan1")["usable"], 20)


def test_a_bond_and_its_port(wan: Wan) -> None:
    add(wan, "bond0 type bond mode active-backup miimon 20")
    gateway = wan.gateway
    for family in (4, 6):
        gateway.ip("address flush dev eth1", family=family)
    gateway.ip("link set eth1 down", "link set eth1 master bond0", "link set bond0 up")
    move_uplink(wan, "bond0")
    with Daemon(gateway, TWO_UPLINKS.replace("'eth1'", "'bond0'")) as daemon:
        both_paths(wan)
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        assert daemon.uplink("wan1")["families"][0]["reason"] == "bridge-port"


def test_a_source_on_a_dummy_device(wan: Wan) -> None:
    add(wan, "dummy0 type dummy")
    wan.gateway.ip(
        "link set dummy0 up",
        "address add 203.0.113.7/32 dev dummy0",
        "route replace default via 10.1.1.1 dev eth1 metric 1 src 203.0.113.7",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        assert device(wan, FAR, "from 203.0.113.7") == "eth1"
        assert "203.0.113.7" in wan.gateway.ip("mptcp endpoint show")
        assert codes(daemon) == []


def test_a_lan_in_a_vrf_keeps_to_it(wan: Wan) -> None:
    add(wan, "vrf-lan type vrf table 10")
    gateway = wan.gateway
    with Daemon(gateway) as daemon:
        daemon.settle()
        gateway.ip(
            "link set vrf-lan up",
            "link set br-lan master vrf-lan",
            "route add unreachable default table 10 metric 4278198272",
            "rule add priority 32765 lookup local",
        )
        gateway.run("ip", "-4", "rule", "delete", "priority", "0")
        eventually(lambda: "rule 7001 from all lookup local" in gateway.state())
        assert device(wan, FAR, "iif br-lan from 192.168.70.10") == ""
        both_paths(wan)
        assert all(uplink["usable"] for uplink in daemon.settle()["uplinks"])
