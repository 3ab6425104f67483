"""A gateway with both uplinks on one switch: one subnet, one router, one gateway address.

    gateway eth1 10.1.1.2 ── p1 ┐
                                switch ── access 10.1.1.1 router core 10.9.1.1 ── eth1 server
    gateway eth2 10.1.1.3 ── p2 ┘                                              lo 10.9.9.9

IPv6 likewise: 2001:db8:1::2 and ::3, the router is 2001:db8:1::1.
"""

from __future__ import annotations

from tests.lab.links import bridge, veth
from tests.lab.namespace import Namespace
from tests.lab.resources import Closing
from tests.lab.wan import SERVER, SERVER6, SHAPE

ADDRESSES = {"eth1": ("10.1.1.2", "2001:db8:1::2"), "eth2": ("10.1.1.3", "2001:db8:1::3")}


class Switched(Closing):
    """The picture above; both uplinks have their addresses, and main its default routes."""

    def __init__(self) -> None:
        names = ("gateway", "switch", "router", "server")
        self.nodes = [Namespace(name) for name in names]
        self.gateway, self.switch, self.router, self.server = self.nodes
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for node in self.nodes:
            node.sysctl("net.ipv6.conf.default.accept_dad", 0)
            node.sysctl("net.ipv6.conf.all.accept_dad", 0)
        for node in (self.gateway, self.router):
            node.sysctl("net.ipv4.ip_forward", 1)
            node.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.switch.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        veth(self.gateway, "eth1", self.switch, "p1")
        veth(self.gateway, "eth2", self.switch, "p2")
        veth(self.router, "access", self.switch, "p3")
        veth(self.router, "core", self.server, "eth1")
        bridge(self.switch, "switch", "p1", "p2", "p3")
        self.switch.tc(*(f"qdisc replace dev {port} root {SHAPE}" for port in ("p1", "p2")))
        self.gateway.tc(*(f"qdisc replace dev {device} root {SHAPE}" for device in ADDRESSES))
        self.router.ip(
            "address add 10.1.1.1/24 dev access",
            "address add 2001:db8:1::1/64 dev access nodad",
            "address add 10.9.1.1/24 dev core",
            "address add 2001:db8:901::1/64 dev core nodad",
            f"route add {SERVER} via 10.9.1.2",
            f"route add {SERVER6} via 2001:db8:901::2",
        )
        self.server.ip(
            f"address add {SERVER}/32 dev lo",
            f"address add {SERVER6}/128 dev lo nodad",
            "address add 10.9.1.2/24 dev eth1",
            "address add 2001:db8:901::2/64 dev eth1 nodad",
            f"route add 10.1.1.0/24 via 10.9.1.1 src {SERVER}",
            f"route add 2001:db8:1::/64 via 2001:db8:901::1 src {SERVER6}",
            "mptcp limits set subflows 8 add_addr_accepted 8",
        )
        for metric, (device, (old, new)) in enumerate(ADDRESSES.items(), 1):
            self.gateway.ip(
                f"address add {old}/24 dev {device}",
                f"address add {new}/64 dev {device} nodad",
                f"route add default via 10.1.1.1 dev {device} metric {metric}",
                f"route add default via 2001:db8:1::1 dev {device} metric {metric}",
            )

    def hardware(self, device: str) -> str:
        """The hardware address of a device of the gateway."""
        return self.gateway.ip(f"link show {device}").split("link/ether ")[1].split()[0]

    def close(self) -> None:
        """Remove every node.  Harmless a second time."""
        for node in self.nodes:
            node.close()
