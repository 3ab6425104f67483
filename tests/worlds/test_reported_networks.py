"""Networks from public reports about other programs, each as its rules and routes make it."""

from __future__ import annotations

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    TWO_UPLINKS,
    Capture,
    Daemon,
    Echo,
    TunCable,
    Wan,
    eventually,
    subflows,
)
from tests.worlds.test_other_traffic import FAR, codes, device, tunnel

pytestmark = pytest.mark.kernel

HARMLESS = {
    "mwan3 and VyOS, for their own marks": (
        4,
        [
            "route add default via 10.2.2.1 table 3",
            "rule add priority 1003 iif eth2 lookup 3",
            "rule add priority 2003 fwmark 0x300/0x3f00 lookup 3",
            "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
            "rule add priority 201 fwmark 0xc9 lookup main suppress_prefixlength 0",
        ],
    ),
    "mwan3 and netifd in IPv6": (
        6,
        [
            "route add default via 2001:db8:1::1 dev eth1 table 3",
            "rule add priority 1003 iif eth2 lookup 3",
            "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
            "rule add priority 4200000000 from 2001:db8:1::/64 iif br-lan unreachable",
            "rule add priority 4200000006 iif br-lan prohibit",
        ],
    ),
    "VyOS, with main's specific routes first": (
        4,
        [
            "route add default via 10.2.2.1 dev eth2 table 201",
            "rule add priority 200 fwmark 0xc9 lookup main suppress_prefixlength 0",
            "rule add priority 201 fwmark 0xc9 lookup 201",
        ],
    ),
    "systemd-networkd, for addresses and subnets of an uplink": (
        4,
        [
            "rule add priority 29001 from 10.1.1.2 lookup 101",
            "rule add priority 29002 to 10.1.1.0/24 lookup 101",
            "route add default via 10.1.1.1 table 101 metric 20",
            "route add 10.1.1.0/24 via 10.1.1.1 dev eth1 table 101 metric 20",
        ],
    ),
}
"""Family and commands."""


def all_work(daemon: Daemon) -> bool:
    """Every uplink is usable in both families, with its endpoints."""
    return all(
        family["usable"] and all(endpoint["state"] == "ok" for endpoint in uplink["endpoints"])
        for uplink in daemon.settle()["uplinks"]
        for family in uplink["families"]
    )


def test_one_of_two_defaults_for_a_source_goes(wan: Wan) -> None:
    """odhcp6c after a new prefix: what both give together must stay."""
    gateway = wan.gateway
    via = "via 2001:db8:1::1 dev eth1 metric 512"
    gateway.ip(
        "route delete default dev eth1",
        "address add 2001:db8:1:f::2/64 dev eth1 nodad",
        f"route add default from 2001:db8:1::/64 {via}",
        f"route add default from 2001:db8:1:f::/64 {via}",
        family=6,
    )
    with Daemon(gateway) as daemon:
        assert all_work(daemon)
        gateway.ip("address delete 2001:db8:1:f::2/64 dev eth1", family=6)
        gateway.ip(f"route delete default from 2001:db8:1:f::/64 {via}", family=6)
        eventually(lambda: "from 2001:db8:1:f::/64" not in gateway.state())
        assert all_work(daemon)
        assert "default via 2001:db8:1::1 dev eth1 table 7000" in gateway.state()


def test_every_rule_is_removed(wan: Wan) -> None:
    """systemd-networkd at a restart, with the kernel's own rules for main and default."""
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        for family in ("-4", "-6"):
            listed = wan.gateway.run("ip", family, "rule")
            for line in listed.splitlines():
                priority = line.partition(":")[0]
                if priority != "0":
                    wan.gateway.run("ip", family, "rule", "delete", "priority", priority)
        eventually(lambda: device(wan, FAR) == "eth1", 20)
        assert all_work(daemon)


def test_mullvad_beside_tailscale(wan: Wan) -> None:
    tunnel(wan, "wg0")
    wan.gateway.ip(
        "route add default dev wg0 table 1836018789",
        "rule add priority 5208 lookup main suppress_prefixlength 0",
        "rule add priority 5209 not fwmark 0x6d6f6c65 lookup 1836018789",
        "rule add priority 5210 fwmark 0x80000/0xff0000 lookup main",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        assert device(wan, FAR) == "wg0"
        assert codes(daemon) == ["foreign-rule"]


@pytest.mark.parametrize("case", sorted(HARMLESS))
def test_rules_that_divert_nothing(wan: Wan, case: str) -> None:
    family, commands = HARMLESS[case]
    wan.gateway.ip(*commands, family=family)
    with Daemon(wan.gateway) as daemon:
        assert all_work(daemon)
        assert codes(daemon) == []


def test_a_rule_for_an_address_before_all_others(wan: Wan) -> None:
    """OpenOverlayRouter's, with the device's ifindex as its priority and its table."""
    wan.gateway.ip(
        "rule add priority 2 from 2001:db8:1::2 lookup 2",
        "route add default via 2001:db8:2::1 dev eth2 table 2",
        family=6,
    )
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        assert "2001:db8:1::2" not in wan.gateway.ip("mptcp endpoint show")
        assert codes(daemon) == ["misrouted"]


def test_host_routes_to_the_server_beside_a_tunnel(wan: Wan) -> None:
    """OpenMPTCProuter: the tunnel has main's best default, the server a route by each uplink."""
    tunnel(wan)
    wan.gateway.ip(
        "route add default via 10.8.0.1 dev tun0",
        f"route add {SERVER} via 10.1.1.1 dev eth1 metric 1",
        f"route add {SERVER} via 10.2.2.1 dev eth2 metric 7",
        family=4,
    )
    with Daemon(wan.gateway) as daemon, Capture(wan.gateway) as capture:
        assert all_work(daemon)
        assert (device(wan), codes(daemon)) == ("tun0", [])
        with Echo(wan.gateway, wan.server, SERVER) as echo:
            both = {"10.1.1.2", "10.2.2.2"}
            eventually(
                lambda: {subflow.local for subflow in subflows(wan.gateway, echo.port)} == both
            )
        for n in (1, 2):
            source = f"10.{n}.{n}.2"
            assert capture.devices(lambda packet, own=source: packet.source == own) == {f"eth{n}"}


def test_one_default_by_two_modems_on_a_port(wan: Wan) -> None:
    """OpenMPTCProuter: two gateways, each in a subnet of its own, in one multipath route."""
    wan.gateway.ip(
        "address add 172.12.0.9/24 dev eth1",
        "route delete default dev eth1",
        "route add default metric 1 nexthop via 10.1.1.1 dev eth1 nexthop via 172.12.0.2 dev eth1",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        assert codes(daemon) == ["address-without-gateway"]
        assert "172.12.0.2" not in wan.gateway.ip("route show table 7001", family=4)
        for host in range(1, 30):
            way = wan.gateway.run("ip", "route", "get", f"198.51.100.{host}", "from", "10.1.1.2")
            assert "via 10.1.1.1 dev eth1" in way


def test_two_defaults_in_a_table_that_another_program_keeps(wan: Wan) -> None:
    """FRR's static routes with a table: both uplinks' defaults end up in one."""
    wan.gateway.ip(
        "route add default via 10.1.1.1 dev eth1 table 200 metric 10",
        "route add default via 10.2.2.1 dev eth2 table 200 metric 20",
        family=4,
    )
    with Daemon(wan.gateway, own="config uplink 'wan2'\n\toption table '200'\n") as daemon:
        assert all_work(daemon)
        assert daemon.uplink("wan2")["families"][0]["gateway_from"] == "table"
        assert device(wan, FAR, "from 10.2.2.2") == "eth2"
        assert codes(daemon) == []


def test_a_private_address_that_the_server_announces(wan: Wan) -> None:
    """A server that signals the addresses of its LAN, where the client accepts announcements."""
    wan.server.ip("address add 192.168.0.124/24 dev lo", "mptcp endpoint add 192.168.0.124 signal")
    own = "config mproutd 'globals'\n\toption add_addr_accepted '2'\n"
    with Daemon(wan.gateway, own=own) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        both = {"10.1.1.2", "10.2.2.2"}
        eventually(lambda: {subflow.local for subflow in subflows(wan.gateway, echo.port)} == both)
        done = echo.report().received
        eventually(lambda: echo.report().received > done + 20)
        assert not echo.report().error
        assert (all_work(daemon), codes(daemon)) == (True, [])


def test_the_check_of_an_ipv6_tunnel_has_a_global_source(wan: Wan) -> None:
    """mwan3 pings by the device of a 6in4 tunnel, and so from its link-local address."""
    cable = TunCable(wan.gateway, "6in4-wan6", wan.server, "client")
    wan.server.ip("address add 2001:db8:6::1/64 dev client nodad")
    wan.gateway.ip(
        "address add fe80::2/64 dev 6in4-wan6 nodad",
        "address add 2001:db8:6::2/64 dev 6in4-wan6 nodad",
        "route add default dev 6in4-wan6 metric 5",
        family=6,
    )
    network = TWO_UPLINKS + (
        "\nconfig interface 'wan6'\n\toption device '6in4-wan6'\n\toption multipath 'on'\n"
    )
    own = f"config uplink 'wan6'\n\tlist track_ip '{SERVER6}'\n\toption interval '1'\n"
    try:
        with Daemon(wan.gateway, network, own) as daemon, Capture(wan.gateway) as capture:

            def asked() -> set[str]:
                sent = [packet for packet in capture.seen() if packet.device == "6in4-wan6"]
                outgoing = {packet.source for packet in sent if packet.outgoing}
                return {source for source in outgoing if source[:4] != "fe80"}

            eventually(lambda: asked() == {"2001:db8:6::2"}, 20)
            eventually(lambda: daemon.uplink("wan6")["families"][1]["usable"], 20)
            assert codes(daemon) == []
    finally:
        cable.close()


def test_our_rule_is_deleted_for_one_that_looks_like_it(wan: Wan) -> None:
    """VyOS and others delete rules without the priority, which finds the first that fits."""
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        for _ in range(3):
            words = ("ip", "rule", "delete", "from", "10.2.2.2", "lookup", "7002")
            wan.gateway.run(*words, check=False)
        eventually(lambda: device(wan, FAR, "from 10.2.2.2") == "eth2")
        assert all_work(daemon)
        assert codes(daemon) == ["removed-externally"]
