"""The network of docs/networks/home-gateway.md: ADSL, three tunnels on it, and a mobile line."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.lab import SERVER, Namespace, TunCable, bridge, eventually, veth
from tests.networks.guide import Guide
from tests.networks.machine import Machine

TUNNELS = (1, 2, 3)
ADSL, LTE = "10.64.0.2", "10.70.0.2"

WHOAMI = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 7007))
while True:
    _, peer = s.recvfrom(100)
    s.sendto(peer[0].encode(), peer)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 0))
s.settimeout(1)
s.sendto(b"?", (sys.argv[2], 7007))
print(s.recv(100).decode())
"""


def tunnel(n: int, host: int = 2) -> str:
    """The gateway's address in tunnel `n`."""
    return f"10.1{n}.0.{host}"


class Home:
    """Everything but mproutd, up to the moment when pppd brings up the line."""

    def __init__(self) -> None:
        self.guide = Guide("home-gateway")
        self.gateway, self.exits = Machine("gateway"), Machine("exits")
        self.proxy, self.adsl, self.lte = Machine("proxy"), Namespace("adsl"), Namespace("lte")
        self.host = Namespace("host")
        self.clients: dict[int, subprocess.Popen[Any]] = {}
        self._line: TunCable | None = None
        try:
            self._cables()
            self._keys_and_files()
            self._services()
        except BaseException:
            self.close()
            raise

    def _cables(self) -> None:
        for node in (self.gateway, self.exits, self.proxy, self.adsl, self.lte):
            node.sysctl("net.ipv4.ip_forward", 1)
        veth(self.gateway, "lan0", self.host, "eth0")
        bridge(self.gateway, "br-lan", "lan0", address="192.168.70.1/24")
        hosts = [f"address add 192.168.70.{n}/24 dev eth0" for n in (10, 20, 21, 22)]
        self.host.ip(*hosts, "route add default via 192.168.70.1")
        veth(self.gateway, "wwan0", self.lte, "access")
        self.gateway.ip(f"address add {LTE}/24 dev wwan0")
        self.lte.ip("address add 10.70.0.1/24 dev access")
        veth(self.adsl, "exits", self.exits, "wan")
        self.adsl.ip("address add 10.5.5.2/24 dev exits")
        self.exits.ip("address add 10.5.5.1/24 dev wan", "route add 10.64.0.0/24 via 10.5.5.2")
        # Three ways to the proxy, and its way back by the client's address.
        providers = ((self.adsl, "10.64.0.0/24"), (self.lte, "10.70.0.0/24"), (self.exits, ""))
        self.proxy.ip(f"address add {SERVER}/32 dev lo")
        for n, (node, network) in enumerate(providers, 1):
            veth(node, "core", self.proxy, f"eth{n}")
            node.ip(f"address add 10.9.{n}.1/24 dev core", f"route add {SERVER} via 10.9.{n}.2")
            self.proxy.ip(f"address add 10.9.{n}.2/24 dev eth{n}")
            for back in [network] if network else [f"10.1{t}.0.0/24" for t in TUNNELS]:
                self.proxy.ip(f"route add {back} via 10.9.{n}.1 src {SERVER}")

    def _keys_and_files(self) -> None:
        ends = {"gateway": (self.gateway, "client"), "exits": (self.exits, "server")}
        keys = Guide("vpn").commands("keys")
        prints = {}
        for name, (machine, end) in ends.items():
            script = [f"mkdir -p /etc/openvpn/{end}", f"cd /etc/openvpn/{end}", *keys]
            prints[name] = machine.run("sh", "-c", "\n".join(script)).strip().rpartition("=")[2]
        for name, (machine, _) in ends.items():
            for path, text in self.guide.files(name).items():
                text = text.replace("FINGERPRINT-OF-SERVER", prints["exits"])
                text = text.replace("FINGERPRINT-OF-CLIENT", prints["gateway"])
                for n in map(str, TUNNELS if "{N}" in path else TUNNELS[:1]):
                    machine.write(path.replace("{N}", n), text.replace("{N}", n))

    def _services(self) -> None:
        self.gateway.run("iptables-restore", "/etc/iptables/rules.v4")
        for n in TUNNELS:
            self.exits.path(f"/etc/openvpn/server/ccd{n}").mkdir()
            self.exits.service(f"openvpn --config /etc/openvpn/server/vpn{n}.conf")
        for command in self.guide.commands("proxy"):
            self.proxy.service(command)
        self.proxy.popen("python3", "-c", WHOAMI)
        for command in self.guide.commands("gateway"):
            if "openvpn" not in command:
                self.gateway.service(command)
        eventually(lambda: ":12345" in self.gateway.run("ss", "-Hltn"))
        eventually(lambda: ":1080" in self.proxy.run("ss", "-Hltn"))

    @property
    def configuration(self) -> tuple[str, str]:
        """mproutd's two files."""
        files = self.guide.files("gateway")
        return files["/etc/mproutd/network"], files["/etc/mproutd/mproutd"]

    def line_up(self) -> None:
        """The line comes up; pppd gives ppp0 its address and adds the default route."""
        self._line = TunCable(self.gateway, "ppp0", self.adsl, "line")
        self.adsl.ip(f"address add 10.64.0.1 peer {ADSL} dev line")
        self.gateway.ip(f"address add {ADSL} peer 10.64.0.1 dev ppp0", "route add default dev ppp0")

    def line_down(self) -> None:
        """The line drops: pppd's device is gone."""
        assert self._line is not None
        self._line.close()

    def start_tunnel(self, n: int) -> None:
        """By the guide's command."""
        (command,) = (c for c in self.guide.commands("gateway") if f"vpn{n}.conf" in c)
        self.clients[n] = self.gateway.service(command)

    def give_address(self, n: int, address: str) -> None:
        """Tunnel `n`'s server will give this one from now on."""
        self.exits.write(
            f"/etc/openvpn/server/ccd{n}/vpn", f"ifconfig-push {address} 255.255.255.0\n"
        )

    def seen_as(self, host: int) -> str:
        """The address that the proxy's machine sees of a datagram from 192.168.70.HOST."""
        source = f"192.168.70.{host}"
        return self.host.run("python3", "-c", ASK, source, SERVER, check=False).strip()

    def close(self) -> None:
        for node in (self.gateway, self.host, self.exits, self.proxy, self.adsl, self.lte):
            node.close()
        if self._line is not None:
            self._line.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
