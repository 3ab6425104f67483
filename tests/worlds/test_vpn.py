"""A VPN that puts a default in disguise into main, as OpenVPN and WireGuard do.

The uplinks' own traffic stays out of the tunnel, since the tunnel runs over the uplinks;
everybody else's goes in.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    Capture,
    Daemon,
    Echo,
    Namespace,
    TunCable,
    Wan,
    address,
    eventually,
    subflows,
)

pytestmark = pytest.mark.kernel

VPN_SERVER = "203.0.113.1"
HALVES = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
OPENVPN = ("0.0.0.0/1", "128.0.0.0/1", "::/3", "2000::/4", "3000::/4")
WIREGUARD = ("0.0.0.0/5", "8.0.0.0/7", "10.0.0.0/7", "128.0.0.0/2", "2000::/3")


@pytest.fixture
def far(wan: Wan) -> Iterator[Namespace]:
    """The VPN's other end: tun0 there, and the server's addresses beyond it, as in the world."""
    with Namespace("far") as far:
        cable = TunCable(wan.gateway, "tun0", far, "tun0")
        far.ip(
            "address add 10.8.0.1/24 dev tun0",
            "address add 2001:db8:8::1/64 dev tun0 nodad",
            f"address add {SERVER}/32 dev lo",
            f"address add {SERVER6}/128 dev lo nodad",
            "route add 192.168.70.0/24 dev tun0",
        )
        wan.gateway.ip(
            "address add 10.8.0.2/24 dev tun0",
            "address add 2001:db8:8::2/64 dev tun0 nodad",
            f"route add {VPN_SERVER} via 10.1.1.1 dev eth1",
        )
        wan.routers[1].ip(f"address add {VPN_SERVER}/32 dev lo")
        yield far
        cable.close()


@pytest.mark.parametrize("prefixes", [HALVES, OPENVPN, WIREGUARD], ids=["halves", "thirds", "list"])
def test_the_uplinks_stay_out_of_the_tunnel_and_others_go_in(
    wan: Wan, far: Namespace, prefixes: tuple[str, ...]
) -> None:
    gateway = wan.gateway
    assert wan.lan
    with Daemon(gateway, verbose=True) as daemon, Capture(gateway) as capture:
        daemon.settle()
        daemon.writes()
        gateway.ip(*(f"route add {prefix} dev tun0" for prefix in prefixes))
        daemon.settle()
        assert daemon.writes() == []
        assert all(uplink["usable"] for uplink in daemon.query_status()["uplinks"])
        capture.take()
        with Echo(gateway, wan.server, SERVER, bind=address(2)) as echo:
            eventually(lambda: len(subflows(gateway, echo.port)) == 2)
        for family, server in ((4, SERVER), (6, SERVER6)):
            for n in wan.uplinks:
                gateway.run("ping", "-c1", "-W2", "-I", address(n, family), server)
            gateway.run("ping", "-c1", "-W2", server)
        gateway.run("ping", "-c1", "-W2", VPN_SERVER)
        wan.lan.run("ping", "-c1", "-W2", SERVER)
        sent: dict[str, set[str]] = {device: set() for device in ("eth1", "eth2", "tun0")}
        for packet in capture.seen():
            if packet.outgoing and packet.device in sent and packet.kind != "arp":
                if not packet.source.startswith(("fe80", "::")):
                    sent[packet.device].add(packet.source)
        assert sent == {
            "eth1": {address(1), address(1, 6)},
            "eth2": {address(2), address(2, 6)},
            "tun0": {"10.8.0.2", "2001:db8:8::2", "192.168.70.10"},
        }


def test_a_tunnel_that_was_there_first(wan: Wan, far: Namespace) -> None:
    """The daemon finds the uplinks' own gateways behind the tunnel's routes."""
    wan.gateway.ip(*(f"route add {prefix} dev tun0" for prefix in HALVES))
    with Daemon(wan.gateway) as daemon:
        status = daemon.settle()
        assert [
            (family["gateway"], family["gateway_from"])
            for uplink in status["uplinks"]
            for family in uplink["families"]
        ] == [
            ("10.1.1.1", "main"),
            ("2001:db8:1::1", "main"),
            ("10.2.2.1", "main"),
            ("2001:db8:2::1", "main"),
        ]
        wan.gateway.run("ping", "-c1", "-W2", "-I", address(2), SERVER)


def test_a_tunnel_that_replaces_the_default_route(wan: Wan, far: Namespace) -> None:
    """Main's defaults are gone while it is up: the uplinks keep their gateways as last known, and
    other traffic goes into the tunnel."""
    gateway = wan.gateway
    with Daemon(gateway, verbose=True) as daemon:
        daemon.settle()
        others = "-4 route default via 10.1.1.1 dev eth1 table 7000 "
        before = [line for line in gateway.state(ids=True).splitlines() if "table 700" in line]
        before = [line for line in before if not line.startswith(others)]
        daemon.writes()
        gateway.ip(
            "route delete default dev eth1",
            "route delete default dev eth2",
            "route add default dev tun0",
        )
        daemon.settle()
        (write,) = daemon.writes()
        assert write.startswith("ip route delete default via 10.1.1.1 dev eth1 table 7000 ")
        assert "dev tun0" in gateway.run("ip", "route", "get", "198.51.100.1")
        daemon.stop()
        daemon.start()
        daemon.settle()
        after = [line for line in gateway.state(ids=True).splitlines() if "table 700" in line]
        assert after == before
        with Echo(gateway, wan.server, SERVER, bind=address(1)) as echo:
            eventually(lambda: len(subflows(gateway, echo.port)) == 2)
