"""docs/far-end.md: UDP of a gateway's hosts through WireGuard, on a kernel that has it.

The server's files are those of the guide, then those of the Ansible role.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import SERVER, Daemon, Namespace, eventually, veth
from tests.networks.far_end import TARGET, FarEnd
from tests.packaging.ansible_roles import Case, Rendered

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]

PORT = 5300
ANSWER = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{TARGET}", {PORT}))
while True:
    text, peer = server.recvfrom(100)
    server.sendto(peer[0].encode(), peer)
"""
"""Answers a datagram with the address that it came from."""


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A host in the LAN of a gateway."""
    with Namespace("host") as node:
        node.run("ip", "link", "add", "probe", "type", "wireguard", check=False)
        if "probe" not in node.ip("link show") or not shutil.which("wg-quick"):
            pytest.skip("no WireGuard in this kernel, or no wg-quick")
        yield node


def by_role(folder: Path, private: str, public: str) -> dict[str, str]:
    """The server's files, by the role mproutd_far_end."""
    gateway = {"name": "gw01", "port": 8401, "password": "choose one for gw01"}
    variables = {
        "mproutd_far_end_gateways4": ["10.1.0.0/16"],
        "mproutd_far_end_clients": [
            gateway | {"wireguard_key": public, "wireguard_address": "10.77.0.1/32"}
        ],
        "mproutd_far_end_wireguard": True,
        "mproutd_far_end_wireguard_private_key": private,
        "mproutd_far_end_wireguard_addresses": ["10.77.0.254/24"],
    }
    written = Rendered(folder, [Case("server", "mproutd_far_end", variables)]).files("server")
    names = ("/etc/nftables.conf", "/etc/nftables.d/wireguard.nft", "/etc/wireguard/wg0.conf")
    return {path: written[path] for path in names}


@pytest.fixture(params=["guide", "role"])
def far_end(host: Namespace, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FarEnd]:
    """Two gateways, and the tunnel of the first one."""
    with FarEnd(2) as built:
        gateway, server = built.clients[0], built.server
        veth(host, "eth0", gateway, "br-lan")
        host.ip("address add 192.168.71.2/24 dev eth0", "route add default via 192.168.71.1")
        gateway.ip("address add 192.168.71.1/24 dev br-lan")
        gateway.sysctl("net.ipv4.ip_forward", 1)
        keys = {name: server.run("wg", "genkey").strip() for name in ("SERVER", "GATEWAY")}
        public = {name: server.run("wg", "pubkey", input=keys[name]).strip() for name in keys}
        files = built.guide.files("wireguard-server")
        if request.param == "role":
            files = by_role(tmp_path, keys["SERVER"], public["GATEWAY"])
        files["gateway"] = built.guide.files("wireguard-gateway")["/etc/wireguard/wg0.conf"]
        for path, text in files.items():
            for name, key in keys.items():
                text = text.replace(f"PRIVATE-KEY-OF-{name}", key)
                text = text.replace(f"PUBLIC-KEY-OF-{name}", public[name])
            if path == "gateway":
                gateway.path("/run/wg0.conf").write_text(text)
            else:
                server.write(path, text)
        firewall = "/etc/nftables.d/wireguard.nft"
        server.run("nft", "-f", "/etc/nftables.conf" if request.param == "role" else firewall)
        server.run("wg-quick", "up", "wg0")
        gateway.run("wg-quick", "up", "/run/wg0.conf")
        built.internet.popen("python3", "-c", ANSWER)
        yield built


def source(host: Namespace, timeout: float = 1.0) -> str:
    """The address from which a datagram of the host arrives in the internet."""
    with host.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        client.sendto(b"", (TARGET, PORT))
        try:
            return client.recv(100).decode()
        except (TimeoutError, ConnectionRefusedError):
            return ""


def peers(server: Namespace, what: str) -> list[list[str]]:
    return [line.split()[1:] for line in server.run("wg", "show", "wg0", what).splitlines()]


def test_udp_uses_the_tunnel_and_the_tunnel_follows_other_traffic(far_end, host):
    gateway, server = far_end.clients[0], far_end.server
    with Daemon(gateway) as daemon:
        daemon.uplink("wan1")
        eventually(lambda: source(host) == SERVER, what="UDP through the tunnel")
        assert peers(server, "endpoints")[0][0].startswith("10.1.1.2:")
        ((received, sent),) = peers(server, "transfer")
        assert int(received) > 0 < int(sent)
        gateway.ip("link set eth1 down")
        eventually(lambda: source(host) == SERVER, what="UDP by the other uplink")
        assert peers(server, "endpoints")[0][0].startswith("10.2.1.2:")
    gateway.run("wg-quick", "down", "/run/wg0.conf")
    assert "51820" not in gateway.ip("rule show")
    assert "wg_lan" not in gateway.run("nft", "list", "tables")


def test_a_gateway_reaches_no_other_one_through_the_tunnel(far_end, host):
    server = far_end.server
    eventually(lambda: source(host) == SERVER, what="UDP through the tunnel")
    other = server.run("wg", "genkey").strip()
    public = server.run("wg", "pubkey", input=other).strip()
    server.run("wg", "set", "wg0", "peer", public, "allowed-ips", "10.77.0.2/32")
    assert "dev wg0" in server.ip("route get 10.77.0.2 from 10.77.0.1 iif wg0")
    dropped = "nft add rule inet far_end_udp forward iifname wg0 oifname wg0 counter"
    server.run(*dropped.split())
    with host.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"", ("10.77.0.2", PORT))
    seen = ["nft", "list", "chain", "inet", "far_end_udp", "forward"]
    eventually(lambda: "packets 1 " in server.run(*seen), what="the datagram that is dropped")
