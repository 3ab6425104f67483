"""Uplinks without a gateway on their own subnet: tunnels, lone addresses, pairs."""

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
    bridge,
    eventually,
    subflows,
)

pytestmark = pytest.mark.kernel

TWO_TUNNELS = TWO_UPLINKS.replace("eth1", "ppp1").replace("eth2", "ppp2")


def table(wan: Wan, number: int) -> list[str]:
    """Our routes of one table, as `ip` prints them."""
    return [
        line
        for line in wan.gateway.state().splitlines()
        if f"table {number} " in line and "route" in line
    ]


def dial(wan: Wan, n: int) -> TunCable:
    """A PPP session to router `n`: 10.0.n.2 here, 10.0.0.1 there, whichever the session."""
    cable = TunCable(wan.gateway, f"ppp{n}", wan.routers[n], "ppp")
    wan.gateway.ip(f"address add 10.0.{n}.2 peer 10.0.0.1 dev ppp{n}")
    wan.gateway.ip(f"address add 2001:db8:7{n}::2/64 dev ppp{n} nodad")
    wan.routers[n].ip(
        f"address add 10.0.0.1 peer 10.0.{n}.2 dev ppp",
        f"address add 2001:db8:7{n}::1/64 dev ppp nodad",
    )
    wan.server.ip(
        f"route replace 10.0.{n}.2 via 10.9.{n}.1 src {SERVER}",
        f"route replace 2001:db8:7{n}::/64 via 2001:db8:90{n}::1 src {SERVER6}",
    )
    return cable


def test_two_ppp_sessions_with_one_and_the_same_peer(bare_wan: Wan) -> None:
    """No gateway is known and none is needed; each session's peer is its own."""
    gateway = bare_wan.gateway
    cables = {n: dial(bare_wan, n) for n in (1, 2)}
    try:
        with Daemon(gateway, TWO_TUNNELS) as daemon, Capture(gateway) as capture:
            daemon.settle()
            assert table(bare_wan, 7002) == [
                "-4 route 10.0.0.1 dev ppp2 table 7002 proto 77 scope link src 10.0.2.2",
                "-4 route default dev ppp2 table 7002 proto 77 scope link src 10.0.2.2",
                "-6 route 2001:db8:72::/64 dev ppp2 table 7002 proto 77 metric 1024 pref medium",
                "-6 route default dev ppp2 table 7002 proto 77 metric 1024 pref medium",
            ]
            for n in (1, 2):
                gateway.run("ping", "-c1", "-W2", "-I", f"10.0.{n}.2", "10.0.0.1")
                gateway.run("ping", "-c1", "-W2", "-I", f"10.0.{n}.2", SERVER)
                gateway.run("ping", "-c1", "-W2", "-I", f"2001:db8:7{n}::2", SERVER6)
            sent = {
                (packet.source, packet.device)
                for packet in capture.seen()
                if packet.outgoing
                and packet.device in ("ppp1", "ppp2")
                and packet.source.startswith(("10.", "2001:"))
            }
            assert sent == {(f"10.0.{n}.2", f"ppp{n}") for n in (1, 2)} | {
                (f"2001:db8:7{n}::2", f"ppp{n}") for n in (1, 2)
            }
            with Echo(gateway, bare_wan.server, SERVER, bind="10.0.1.2") as echo:
                both = {"10.0.1.2", "10.0.2.2"}
                eventually(lambda: {s.local for s in subflows(gateway, echo.port)} == both)
                cables[2].close()
                eventually(lambda: {s.local for s in subflows(gateway, echo.port)} == {"10.0.1.2"})
                daemon.settle()
                assert not table(bare_wan, 7002)
                cables[2] = dial(bare_wan, 2)
                eventually(lambda: {s.local for s in subflows(gateway, echo.port)} == both)
                assert not echo.report().error
    finally:
        for cable in cables.values():
            cable.close()


@pytest.mark.parametrize("known", ["from the configuration", "from main"])
def test_a_host_address_with_a_gateway_outside_its_subnet(bare_wan: Wan, known: str) -> None:
    """10.1.1.2/32, and 10.255.0.1 is the way out; likewise /128."""
    gateway, router = bare_wan.gateway, bare_wan.routers[1]
    router.ip(
        "address add 10.255.0.1/32 dev access",
        "address add 2001:db8:255::1/128 dev access nodad",
        "route add 10.1.1.2 dev access src 10.255.0.1",
    )
    gateway.ip("address add 10.1.1.2/32 dev eth1", "address add 2001:db8:1::2/128 dev eth1 nodad")
    own = source = ""
    if known == "from the configuration":
        source = " src 10.1.1.2"
        own = (
            "config uplink 'wan1'\n\toption gateway '10.255.0.1'\n"
            "\toption gateway6 '2001:db8:255::1'\n"
        )
    else:
        gateway.ip(
            "route add default via 10.255.0.1 dev eth1 onlink",
            "route add default via 2001:db8:255::1 dev eth1 onlink",
        )
    with Daemon(gateway, own=own) as daemon:
        daemon.settle()
        assert table(bare_wan, 7001) == [
            f"-4 route default via 10.255.0.1 dev eth1 table 7001 proto 77{source} onlink",
            "-6 route default via 2001:db8:255::1 dev eth1 table 7001 proto 77"
            " metric 1024 onlink pref medium",
        ]
        gateway.run("ping", "-c1", "-W2", "-I", "10.1.1.2", SERVER)
        gateway.run("ping", "-c1", "-W2", "-I", "2001:db8:1::2", SERVER6)
        bare_wan.address_up(2)
        bare_wan.default_route(2)
        with Echo(gateway, bare_wan.server, SERVER, bind="10.2.2.2") as echo:
            eventually(
                lambda: {s.local for s in subflows(gateway, echo.port)} == {"10.1.1.2", "10.2.2.2"}
            )


def test_a_pair_of_addresses(bare_wan: Wan) -> None:
    """RFC 3021: 10.1.1.2/31, and the other one of the two is the way out."""
    gateway, router = bare_wan.gateway, bare_wan.routers[1]
    router.ip("address flush dev access", "address add 10.1.1.3/31 dev access")
    gateway.ip("address add 10.1.1.2/31 dev eth1", "route add default via 10.1.1.3 dev eth1")
    bare_wan.address_up(2)
    bare_wan.default_route(2)
    with Daemon(gateway) as daemon:
        daemon.settle()
        assert table(bare_wan, 7001) == [
            "-4 route 10.1.1.2/31 dev eth1 table 7001 proto 77 scope link src 10.1.1.2",
            "-4 route default via 10.1.1.3 dev eth1 table 7001 proto 77",
        ]
        with Echo(gateway, bare_wan.server, SERVER, bind="10.2.2.2") as echo:
            eventually(
                lambda: {s.local for s in subflows(gateway, echo.port)} == {"10.1.1.2", "10.2.2.2"}
            )


def test_a_port_of_a_bridge_is_no_uplink(wan):
    """Packets for its addresses end in the bridge; the other uplink carries everything."""
    gateway = wan.gateway
    with Daemon(gateway) as daemon:
        daemon.settle()
        bridge(gateway, "br-wan", "eth1")
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "bridge-port")
        daemon.settle()
        assert "dev eth1" not in gateway.ip("mptcp endpoint show")
        assert daemon.query_status()["default"] == {"ipv4": "wan2", "ipv6": "wan2"}
        assert "show dev eth1 (master)" in daemon.call("status").words
        gateway.ip("link set eth1 nomaster")
        eventually(lambda: daemon.uplink("wan1")["usable"])


def test_a_bridge_may_be_an_uplink(wan):
    gateway = wan.gateway
    for family in (4, 6):
        gateway.ip("address flush dev eth1", "route flush dev eth1", family=family)
    bridge(gateway, "br-wan", "eth1", address="10.1.1.2/24")
    gateway.ip("route add default via 10.1.1.1 dev br-wan metric 1")
    network = TWO_UPLINKS.replace("'eth1'", "'br-wan'")
    with Daemon(gateway, network) as daemon, Echo(gateway, wan.server, SERVER) as echo:
        both = {"10.1.1.2", "10.2.2.2"}
        eventually(lambda: {subflow.local for subflow in subflows(gateway, echo.port)} == both)
        wan.settle()
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-carrier")
        wan.plug(1)
        eventually(lambda: {subflow.local for subflow in subflows(gateway, echo.port)} == both, 20)
        assert not echo.report().error
