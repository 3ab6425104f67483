"""Worlds of names: devices that look alike, that are renamed, and that are none of our business."""

from __future__ import annotations

import pytest

from tests.lab import (
    SERVER,
    TWO_UPLINKS,
    Daemon,
    Echo,
    Namespace,
    Wan,
    bridge,
    eventually,
    subflows,
    veth,
)
from tests.lab.kernel_links import needs_renames_while_up

pytestmark = pytest.mark.kernel

ALIKE = """\
config globals 'globals'
	option multipath 'enable'

config interface 'wan10'
	option device 'eth0.300'
	option multipath 'on'

config interface 'wan1'
	option device 'eth0'
	option multipath 'on'
"""


def names_of_our_things(node: Namespace) -> str:
    """Rules, tables and endpoints of mproutd, a line each."""
    lines = node.state().splitlines()
    return "\n".join(line for line in lines if "proto 77" in line or "endpoint" in line)


@pytest.fixture
def alike(bare_wan: Wan) -> Wan:
    """eth0 with 10.1.1.2 and eth0.300 with 10.2.2.2, and strict filters on both."""
    for old, new in (("eth1", "eth0"), ("eth2", "eth0.300")):
        bare_wan.gateway.ip(
            f"link set {old} down", f"link set {old} name {new}", f"link set {new} up"
        )
    for device, n in (("eth0", 1), ("eth0.300", 2)):
        bare_wan.gateway.sysctl(f"net/ipv4/conf/{device}/rp_filter", 1)
        bare_wan.gateway.ip(
            f"address add 10.{n}.{n}.2/24 dev {device}",
            f"route add default via 10.{n}.{n}.1 dev {device} metric {n}",
        )
    return bare_wan


def test_eth0_and_eth0_300_and_wan1_and_wan10_are_four_names(alike):
    gateway = alike.gateway
    with Daemon(gateway, ALIKE, verbose=True) as daemon:
        assert names_of_our_things(gateway) == "\n".join(
            sorted(
                (
                    "-4 endpoint 10.1.1.2 subflow dev eth0",
                    "-4 endpoint 10.2.2.2 subflow dev eth0.300",
                    "-4 route 10.1.1.0/24 dev eth0 table 7002 proto 77 scope link src 10.1.1.2",
                    "-4 route 10.2.2.0/24 dev eth0.300 table 7001 proto 77 scope link src 10.2.2.2",
                    "-4 route default via 10.1.1.1 dev eth0 table 7002 proto 77",
                    "-4 route default via 10.2.2.1 dev eth0.300 table 7001 proto 77",
                    "-4 rule 7000 from all fwmark 0x7f000000/0x7f000000 lookup main proto 77",
                    "-4 rule 7010 from all lookup main suppress_prefixlength 7 proto 77",
                    "-4 rule 7101 from all fwmark 0x1000000/0x7f000000 lookup 7001 proto 77",
                    "-4 rule 7102 from all fwmark 0x2000000/0x7f000000 lookup 7002 proto 77",
                    "-4 rule 7301 from all oif eth0.300 lookup 7001 proto 77",
                    "-4 rule 7302 from all oif eth0 lookup 7002 proto 77",
                    "-4 rule 7501 from 10.2.2.2 lookup 7001 proto 77",
                    "-4 rule 7502 from 10.1.1.2 lookup 7002 proto 77",
                )
            )
        )
        assert gateway.sysctl("net/ipv4/conf/eth0.300/rp_filter") == "2"
        daemon.writes()
        alike.routers[1].ip("link set access down")
        eventually(lambda: not daemon.uplink("wan1")["usable"])
        daemon.settle()
        changed = daemon.writes()
        assert any(command.startswith("ip mptcp endpoint delete") for command in changed), changed
        assert not [
            command for command in changed if "eth0.300" in command or "10.2.2.2" in command
        ]
        assert daemon.uplink("wan10")["usable"]
        assert gateway.sysctl("net/ipv4/conf/eth0/rp_filter") == "1"
        gateway.ip("link delete eth0")
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-device")
        daemon.settle()
        assert names_of_our_things(gateway).count("endpoint") == 1
        assert daemon.uplink("wan10")["usable"]
    assert daemon.call("flush").code == 0
    assert names_of_our_things(gateway) == ""
    assert gateway.sysctl("net/ipv4/conf/eth0.300/rp_filter") == "1"


def test_a_device_renamed_away_and_back_while_up(wan):
    needs_renames_while_up()
    gateway = wan.gateway
    gateway.sysctl("net.ipv4.conf.eth2.rp_filter", 1)
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(gateway, echo.port)) == 2)
        before, main = gateway.state(), gateway.ip("route show")
        assert gateway.sysctl("net.ipv4.conf.eth2.rp_filter") == "2"

        gateway.ip("link set eth2 name spare0")
        eventually(lambda: daemon.uplink("wan2")["families"][0]["reason"] == "no-device")
        daemon.settle()
        assert "spare0" not in names_of_our_things(gateway)
        assert "10.2.2.2" not in names_of_our_things(gateway)
        assert gateway.ip("route show").replace("spare0", "eth2") == main
        assert gateway.sysctl("net.ipv4.conf.spare0.rp_filter") == "1"
        assert [subflow.local for subflow in subflows(gateway, echo.port)] == ["10.1.1.2"]

        gateway.ip("link set spare0 name eth2")
        eventually(lambda: gateway.state() == before)
        eventually(lambda: len(subflows(gateway, echo.port)) == 2)
        assert gateway.sysctl("net.ipv4.conf.eth2.rp_filter") == "2"
        assert not echo.report().error


def test_two_devices_that_swap_their_names(wan):
    """The uplink is the name: wan1 follows "eth1" to the other device, addresses and all."""
    needs_renames_while_up()
    gateway = wan.gateway
    with Daemon(gateway) as daemon:
        gateway.ip("link set eth1 name x", "link set eth2 name eth1", "link set x name eth2")
        eventually(lambda: daemon.uplink("wan1")["families"][0]["addresses"] == ["10.2.2.2"])
        status = daemon.settle()
        assert [uplink["usable"] for uplink in status["uplinks"]] == [True, True]
        ours = names_of_our_things(gateway)
        assert "-4 endpoint 10.2.2.2 subflow dev eth1" in ours
        assert "-4 route default via 10.2.2.1 dev eth1 table 7001 proto 77" in ours
        assert "-4 rule 7502 from 10.1.1.2 lookup 7002 proto 77" in ours
        assert not status["problems"]
    assert daemon.call("flush").code == 0
    assert names_of_our_things(gateway) == ""


def test_devices_that_are_none_of_our_business_cost_no_pass(wan, nodes):
    """What a container engine does for each container, and names that only begin like ours."""
    gateway, container = wan.gateway, nodes("container")
    with Daemon(gateway) as daemon:
        before, state = daemon.settle()["counts"], gateway.state()
        bridge(gateway, "docker0", address="172.17.0.1/16")
        for name in ("veth12ab34", "eth1.300", "eth10", "wan1"):
            veth(gateway, name, container, "c-" + name)
            gateway.ip(f"address add 192.0.2.1/24 dev {name}", f"link set {name} master docker0")
            container.ip(f"address add 172.17.0.2/16 dev c-{name}")
            gateway.ip(f"link set {name} down", f"link set {name} name {name}x")
            gateway.ip(f"link set {name}x up", f"link delete {name}x")
        gateway.ip("link delete docker0")
        after = daemon.settle()["counts"]
        assert gateway.state() == state
        assert after["passes"] - before["passes"] == 0
        assert after["writes"] == before["writes"]


@pytest.mark.parametrize("name", ["enp9s0lte", "eni-00000000000000001"])
def test_a_device_may_be_named_by_an_alternative_name(wan: Wan, name: str) -> None:
    """Rules need the name proper; the other one may come later, from udev."""
    network = (
        "config globals 'globals'\n option multipath 'enable'\n"
        f"config interface 'wan2'\n option device '{name}'\n option multipath 'on'\n"
    )
    with Daemon(wan.gateway, network) as daemon:
        assert "endpoint" not in names_of_our_things(wan.gateway)
        wan.gateway.ip(f"link property add dev eth2 altname {name}")
        eventually(lambda: "endpoint 10.2.2.2" in wan.gateway.state())
        assert "oif eth2 lookup 7001" in names_of_our_things(wan.gateway)
        assert daemon.call("status").code == 0


def test_a_long_alternative_name_without_a_device_harms_nothing(wan: Wan) -> None:
    """A USB modem that is not plugged in: neither rules nor nftables can name it."""
    long = "wwx001e101f0000-modem-2"
    own = (
        f"config uplink 'wan2'\n\toption strict '1'\n\tlist iif 'enp9s0lan'\n\tlist iif '{long}x'\n"
    )
    network = TWO_UPLINKS.replace("'eth2'", f"'{long}'")
    with Daemon(wan.gateway, network, own) as daemon:
        assert [problem["code"] for problem in daemon.settle()["problems"]] == []
        assert "chain note_wan1" in wan.gateway.run("nft", "list", "table", "inet", "mproutd")
        wan.gateway.ip(
            "link property add dev br-lan altname enp9s0lan",
            f"link property add dev eth2 altname {long}",
        )
        eventually(lambda: "endpoint 10.2.2.2" in wan.gateway.state())
        assert "iif br-lan lookup 7002" in names_of_our_things(wan.gateway)
        assert "note_wan2" in wan.gateway.run("nft", "list", "table", "inet", "mproutd")
        assert daemon.call("status").code == 0
