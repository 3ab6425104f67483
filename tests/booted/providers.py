"""Two providers with a DHCP server each, and the server behind them: Wan, with the real dnsmasq."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.lab import Namespace, Wan
from tests.lab.resources import Closing
from tests.networks.machine import Machine
from tests.networks.two_sites import dnsmasq, lease

__all__ = ["Providers", "lease"]


class Providers(Closing):
    """As in tests/lab/wan.py; the gateway is whatever is plugged in.

    Provider `n` gives lease(n), 10.n.n.50, by router 10.n.n.1 on the gateway's device eth`n`.
    """

    def __init__(self, uplinks: int = 2) -> None:
        self.wan = Wan(
            uplinks,
            ipv6=False,
            lan=False,
            node=lambda name: (Machine if name.startswith("router") else Namespace)(name),
        )
        self.server = self.wan.server
        self._serving: list[subprocess.Popen[Any]] = []

    def plug_in(self, network: Namespace) -> None:
        """Give a machine's network its devices, once a boot."""
        if network is not self.wan.gateway:
            self.wan.gateway.close()
            self.wan.gateway = network
            network.sysctl("net.ipv4.tcp_congestion_control", "reno")
            for server in self._serving:
                server.terminate()
                server.wait()
            self._serving.clear()
            for n, router in self.wan.routers.items():
                # The cable to the one before may not be gone yet: that takes the kernel a while.
                router.run("ip", "link", "delete", "access", check=False)
                self.wan.create_device(n)
                # As a machine finds them: down, and the same cards as before.
                network.ip(f"link set eth{n} down address 02:00:00:00:00:{n:02}")
                self._serving.append(dnsmasq(router, n))

    def acknowledged(self, n: int) -> int:
        """How many leases provider `n` has given or renewed."""
        return self.wan.routers[n].path("/run/dnsmasq.log").read_text().count("DHCPACK")

    def close(self) -> None:
        self.wan.close()
