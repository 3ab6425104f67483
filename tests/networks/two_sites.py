"""The network of docs/networks/proxy.md: two sites, and a transparent proxy between them."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.lab import Namespace, Wan, bridge, eventually, veth
from tests.networks.guide import Guide
from tests.networks.machine import Machine
from tests.networks.run import Happens, Run, interrupted

HOST_B = "192.168.80.10"


def lease(n: int) -> str:
    """The one address that provider `n` has to give."""
    return f"10.{n}.{n}.50"


def dnsmasq(provider: Namespace, n: int, *options: str) -> subprocess.Popen[Any]:
    """A provider's DHCP server: two minutes, renewed after four seconds (T1, RFC 2132)."""
    return provider.popen(
        "dnsmasq",
        "--keep-in-foreground",
        "--port=0",
        "--interface=access",
        "--bind-interfaces",
        f"--dhcp-range={lease(n)},{lease(n)},255.255.255.0,120",
        "--dhcp-option=option:T1,4",
        "--dhcp-authoritative",
        "--dhcp-leasefile=/run/leases",
        "--pid-file=/run/dnsmasq.pid",
        "--conf-file=/dev/null",
        "--log-facility=/run/dnsmasq.log",
        *options,
    )


class TwoSites:
    """All but mproutd, up to the point where router-a brings up its uplinks.

    `watched`: something on router-a (ifplugd, netifd) runs ifdown and ifup with the carrier.
    """

    def __init__(self, watched: bool = True) -> None:
        self._watched = watched
        self.guide = Guide("proxy")
        self.wan = Wan(ipv6=False, node=Machine)
        self.router_a, self.router_b, self.host_a = self.wan.gateway, self.wan.server, self.wan.lan
        assert isinstance(self.router_a, Machine)
        assert isinstance(self.router_b, Machine)
        self.host_b = Namespace("host-b")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        veth(self.router_b, "lan0", self.host_b, "eth0")
        bridge(self.router_b, "br-lan", "lan0", address="192.168.80.1/24")
        self.host_b.ip(f"address add {HOST_B}/24 dev eth0", "route add default via 192.168.80.1")
        for n, provider in self.wan.routers.items():
            dnsmasq(provider, n)
        for name, router in (("router-a", self.router_a), ("router-b", self.router_b)):
            for path, text in self.guide.files(name).items():
                router.write(path, text)
        self.router_a.install_hooks()
        self.router_a.run("nft", "-f", "/etc/nftables.conf")
        for name, router in (("router-a", self.router_a), ("router-b", self.router_b)):
            for command in self.guide.commands(name):
                router.service(command)
        for router, port in ((self.router_a, 1080), (self.router_b, 8388)):
            eventually(lambda r=router, p=port: f":{p}" in r.run("ss", "-Hltn"))

    @property
    def network(self) -> str:
        """mproutd's configuration."""
        return self.guide.files("router-a")["/etc/mproutd/network"]

    def unplug(self, n: int) -> None:
        """The cable is pulled; whoever watches the carrier ends the lease."""
        self.wan.unplug(n)
        if self._watched:
            self.router_a.ifdown(f"eth{n}")

    def plug(self, n: int) -> None:
        """The cable is put back, and DHCP asked for an address."""
        self.wan.plug(n)
        if self._watched:
            self.router_a.ifup(f"eth{n}")

    def run(self, seconds: float, before: Happens, after: Happens) -> Run:
        """One plain-TCP iperf3 from host-a to host-b; line 2 unplugged for its middle third."""

        def unplug() -> None:
            self.unplug(2)
            before()

        def plug() -> None:
            self.plug(2)
            after()

        return interrupted(self.host_a, self.host_b, HOST_B, seconds, unplug, plug)

    def close(self) -> None:
        self.wan.close()
        self.host_b.close()

    def __enter__(self) -> TwoSites:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
