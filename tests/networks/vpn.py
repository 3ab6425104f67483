"""The network of docs/networks/vpn.md: OpenVPN over TCP over two uplinks."""

from __future__ import annotations

from tests.lab import Namespace, Wan, bridge, veth
from tests.networks.guide import Guide
from tests.networks.machine import Machine

FAR_HOST = "192.168.80.10"


class Vpn:
    """All of it up to `ifup`; mproutd and the tunnel come after that."""

    def __init__(self) -> None:
        self.guide = Guide("vpn")
        self.wan = Wan(ipv6=False, node=Machine)
        self.router, self.server, self.host = self.wan.gateway, self.wan.server, self.wan.lan
        assert isinstance(self.router, Machine)
        assert isinstance(self.server, Machine)
        self.far = Namespace("far")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        veth(self.server, "lan0", self.far, "eth0")
        bridge(self.server, "br-lan", "lan0", address="192.168.80.1/24")
        self.server.sysctl("net.ipv4.ip_forward", 1)
        self.far.ip(f"address add {FAR_HOST}/24 dev eth0", "route add default via 192.168.80.1")
        ends = {"router": (self.router, "client"), "server": (self.server, "server")}
        prints = {name: self._keys(*end) for name, end in ends.items()}
        for name, (machine, _) in ends.items():
            for path, text in self.guide.files(name).items():
                text = text.replace("FINGERPRINT-OF-SERVER", prints["server"])
                text = text.replace("FINGERPRINT-OF-CLIENT", prints["router"])
                machine.write(path, text)
        self.router.install_hooks()
        for device in ("eth1", "eth2"):
            self.router.ifup(device)
        for command in self.guide.commands("server"):
            self.server.service(command)

    def _keys(self, machine: Machine, end: str) -> str:
        """Make certificate and key by the guide's commands; the fingerprint."""
        script = "\n".join(
            [f"mkdir -p /etc/openvpn/{end}", f"cd /etc/openvpn/{end}", *self.guide.commands("keys")]
        )
        return machine.run("sh", "-c", script).strip().rpartition("=")[2]

    def connect(self) -> None:
        """Start the client."""
        for command in self.guide.commands("router"):
            self.router.service(command)

    def connections(self) -> int:
        """How often the client has connected."""
        return self.router.services_said().count("Initialization Sequence Completed")

    def close(self) -> None:
        self.wan.close()
        self.far.close()

    def __enter__(self) -> Vpn:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
