"""The network of docs/far-end.md: gateways with two uplinks, and one server for all of them.

gw01 eth1 10.1.1.2 ─┐
     eth2 10.2.1.2 ─┤
gw02 eth1 10.1.2.2 ─┼─ internet 10.9.9.1 ── 10.9.9.9 eth0 server
     eth2 10.2.2.2 ─┘     │ lo 10.99.0.1, where the gateways' hosts connect to
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

from tests.lab import SERVER, Namespace, eventually, veth
from tests.lab.resources import Closing
from tests.networks.guide import Guide
from tests.networks.machine import UNPACKED, Machine

TARGET = "10.99.0.1"
"""A host of the internet."""
TUNNEL = UNPACKED / "usr/bin/ss-tunnel"
SHAPE = "tbf rate {rate}mbit burst 20kb latency 50ms"
SERVED = re.compile(r"(84\d\d) counter packets (\d+) bytes (\d+)")


class Client(Namespace):
    """A gateway, and the host in its LAN at once."""

    def __init__(self, number: int) -> None:
        super().__init__(f"gw{number:02}")
        self.number = number
        self.port = 8400 + number

    @property
    def addresses(self) -> list[str]:
        return [f"10.{uplink}.{self.number}.2" for uplink in (1, 2)]


class Gateways(Closing):
    """The gateways and the internet.

    `mbit`: of each uplink; `core_mbit`: of the server's link towards it, 0 for no limit.
    """

    def __init__(self, clients: int, mbit: int = 10, core_mbit: int = 0) -> None:
        self.guide = Guide("../far-end")
        self.internet = Namespace("internet")
        self.clients = [Client(number) for number in range(1, clients + 1)]
        self._mbit, self._core_mbit = mbit, core_mbit
        try:
            self.internet.sysctl("net.ipv4.ip_forward", 1)
            self.internet.ip(f"address add {TARGET}/32 dev lo")
            for client in self.clients:
                for uplink in (1, 2):
                    self._uplink(client, uplink)
        except BaseException:
            self.close()
            raise

    def _uplink(self, client: Client, uplink: int) -> None:
        device, there = f"eth{uplink}", f"gw{client.number}-{uplink}"
        router = f"10.{uplink}.{client.number}.1"
        veth(client, device, self.internet, there)
        self.internet.ip(f"address add {router}/24 dev {there}")
        client.ip(
            f"address add {client.addresses[uplink - 1]}/24 dev {device}",
            f"route add default via {router} dev {device} metric {uplink}",
        )
        client.tc(f"qdisc replace dev {device} root {SHAPE.format(rate=self._mbit)}")
        self.internet.tc(f"qdisc replace dev {there} root {SHAPE.format(rate=self._mbit)}")

    def plug_in(self, server: Namespace) -> None:
        """Connect a server to the internet, as eth0 with its address."""
        self.internet.run("ip", "link", "delete", "core", check=False)  # of a server that rebooted
        veth(server, "eth0", self.internet, "core")
        self.internet.ip("address add 10.9.9.1/24 dev core")
        if self._core_mbit:
            self.internet.tc(f"qdisc replace dev core root {SHAPE.format(rate=self._core_mbit)}")
        server.ip(f"address add {SERVER}/24 dev eth0", "route add default via 10.9.9.1")

    def files(self) -> dict[str, str]:
        """The server's, those for one gateway as often as there are gateways."""
        return {
            path.replace("{N}", client.name[2:]): text.replace("{N}", client.name[2:])
            for path, text in self.guide.files("server").items()
            for client in (self.clients if "{N}" in path else self.clients[:1])
        }

    def tunnel(self, client: Client, port: int, target: str) -> int:
        """A port of the gateway, where a connection to `target` begins, through the proxy.

        It is the same `port` if that is free on the gateway.
        """
        (text,) = self.guide.files("gateway").values()
        taken = f":{port} " in client.run("ss", "-Hltn")
        local = port + 1 if taken else port
        settings = client.path(f"/run/tunnel-{local}.json")
        text = text.replace("{N}", client.name[2:]).replace("1080", str(local))
        settings.write_text(text)
        command = [str(TUNNEL), "-c", f"/run/{settings.name}", "-L", f"{target}:{port}"]
        client.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: f":{local} " in client.run("ss", "-Hltn"), what="ss-tunnel")
        return local

    def close(self) -> None:
        for node in (*self.clients, self.internet):
            node.close()


class FarEnd(Gateways):
    """With a server on which all runs but mproutd."""

    def __init__(self, clients: int, mbit: int = 10, core_mbit: int = 0) -> None:
        super().__init__(clients, mbit, core_mbit)
        self.server = Machine("server")
        self.services: list[subprocess.Popen[Any]] = []
        """Of each gateway, its proxy."""
        try:
            self.plug_in(self.server)
            for path, text in self.files().items():
                self.server.write(path, text)
            self.server.run("nft", "-f", "/etc/nftables.conf")
            for client in self.clients:
                command = f"ss-server -c /etc/shadowsocks-libev/{client.name}.json"
                self.services.append(self.server.service(command))
            for client in self.clients:
                eventually(lambda port=client.port: f":{port}" in self.server.run("ss", "-HMltn"))
        except BaseException:
            self.close()
            raise

    def configuration(self) -> tuple[str, str]:
        """mproutd's two files."""
        files = self.guide.files("server")
        return files["/etc/mproutd/network"], files["/etc/mproutd/mproutd"]

    def counted(self, name: str) -> dict[int, tuple[int, int]]:
        """Port → packets and bytes of a set that counts."""
        text = self.server.run("nft", "list", "set", "inet", "far_end", name)
        return {
            int(port): (int(packets), int(size)) for port, packets, size in SERVED.findall(text)
        }

    def counter(self, name: str) -> int:
        """The packets of a named counter."""
        text = self.server.run("nft", "list", "counter", "inet", "far_end", name)
        found = re.search(r"packets (\d+)", text)
        assert found, text
        return int(found[1])

    def close(self) -> None:
        self.server.close()
        super().close()
