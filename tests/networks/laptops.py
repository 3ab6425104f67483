"""The network of docs/networks/two-laptops.md: two machines, two links, one subnet, no router."""

from __future__ import annotations

from tests.lab import Namespace, bridge, veth
from tests.lab.wan import SHAPE
from tests.networks.guide import Guide
from tests.networks.machine import Machine

SERVER_ADDRESS = "192.168.1.20"


class Laptops:
    """Both laptops on one switch, each port 20 Mbit/s, with their addresses."""

    def __init__(self) -> None:
        self.guide = Guide("two-laptops")
        self.client, self.server = Machine("client"), Machine("server")
        self.switch = Namespace("switch")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        ports = []
        for name, laptop in (("client", self.client), ("server", self.server)):
            laptop.sysctl("net.ipv4.tcp_congestion_control", "reno")
            for device in ("eth0", "wlan0"):
                ports.append(f"{name}-{device}")
                veth(laptop, device, self.switch, ports[-1])
                self.switch.tc(f"qdisc replace dev {ports[-1]} root {SHAPE}")
                laptop.tc(f"qdisc replace dev {device} root {SHAPE}")
            for command in self.guide.commands(name):
                laptop.run("sh", "-c", command)
        bridge(self.switch, "switch", *ports)

    def configuration(self, name: str) -> tuple[str, str]:
        """mproutd's two files of a laptop."""
        files = self.guide.files(name)
        return files["/etc/mproutd/network"], files["/etc/mproutd/mproutd"]

    def unplug(self, port: str) -> None:
        """ "client-eth0": that laptop's card loses its carrier."""
        self.switch.ip(f"link set {port} down")

    def plug(self, port: str) -> None:
        self.switch.ip(f"link set {port} up")

    def close(self) -> None:
        for node in (self.client, self.server, self.switch):
            node.close()

    def __enter__(self) -> Laptops:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
