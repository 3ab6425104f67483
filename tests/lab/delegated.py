"""A LAN with the prefixes of two uplinks, announced by dnsmasq, and a host with the kernel's SLAAC.

Uplink n delegates 2001:db8:a00n::/56; br-lan has 2001:db8:a00n::1/64 of each.  Each router drops
what has a source of another provider, as BCP 38 asks for.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.namespace import Namespace
from tests.lab.wait import eventually
from tests.lab.wan import SERVER6, Wan, address

UNPACKED = Path(__file__).resolve().parents[2] / ".build/unpacked"
ULA = "fd00:70::"
PREFERRED, VALID = 1800, 3600
OWN = "".join(f"config uplink 'wan{n}'\n\tlist prefix '2001:db8:a00{n}::/56'\n\n" for n in (1, 2))
"""The file mproutd of a gateway without netifd."""


def lan_address(n: int) -> str:
    """The router's own in the LAN, of the prefix of uplink `n`."""
    return f"2001:db8:a00{n}::1"


def program(name: str) -> str:
    """Where a program is that is not installed, only unpacked."""
    for folder in ("usr/sbin", "sbin", "usr/bin"):
        if (UNPACKED / folder / name).exists():
            return str(UNPACKED / folder / name)
    return name


class DelegatedLan(Wan):
    """`prefixes`: the uplinks that delegate one.  `ula`: the LAN has one of its own."""

    def __init__(self, prefixes: tuple[int, ...] = (1, 2), ula: bool = False) -> None:
        self.started: list[subprocess.Popen[Any]] = []
        super().__init__(2, shaped=False)
        assert self.lan
        self.usual()
        self.gateway.sysctl("net.ipv6.conf.br-lan.accept_dad", 0)
        for n in self.uplinks:
            # Outlasts admin_down(), as the addresses of a router's other uplinks do.
            self.gateway.sysctl(f"net.ipv6.conf.eth{n}.keep_addr_on_down", 1)
            prefix = f"2001:db8:a00{n}::/56"
            self.server.ip(f"route add {prefix} via 2001:db8:90{n}::1 src {SERVER6}", family=6)
            self._delegate(n)
            self.routers[n].run(
                *("nft", "-f", "-"),
                input=f"""table inet provider {{ chain forward {{
                    type filter hook forward priority filter;
                    iifname "access" ip6 saddr != {{ 2001:db8:{n}::/64, {prefix} }} drop
                }}
                }}""",
            )
        for n in prefixes:
            self.lease(n)
        if ula:
            self.gateway.ip(f"address add {ULA}1/64 dev br-lan nodad")

    def _delegate(self, n: int) -> None:
        self.routers[n].ip(
            f"route replace 2001:db8:a00{n}::/56 via {address(n, 6)} dev access", family=6
        )

    def plug(self, n: int) -> None:
        super().plug(n)
        self._delegate(n)  # the kernel dropped the route with the link

    def lease(self, n: int, preferred: int = PREFERRED, valid: int = VALID) -> None:
        """What a DHCPv6 client does with a prefix that it gets, or gets again."""
        lifetimes = f"preferred_lft {preferred} valid_lft {valid}"
        self.gateway.ip(f"address replace {lan_address(n)}/64 dev br-lan {lifetimes} nodad")

    def announce(self, extra: tuple[str, ...] = ()) -> subprocess.Popen[Any]:
        """dnsmasq announces the prefixes of br-lan."""
        process = self.gateway.popen(
            program("dnsmasq"),
            "--keep-in-foreground",
            "--port=0",
            "--interface=br-lan",
            "--bind-interfaces",
            "--enable-ra",
            "--ra-param=br-lan,10",
            "--dhcp-range=::,constructor:br-lan,ra-only,64,1h",
            "--dhcp-leasefile=/run/leases",
            "--pid-file=/run/dnsmasq.pid",
            "--conf-file=/dev/null",
            "--user=root",
            "--log-facility=/run/dnsmasq.log",
            *extra,
        )
        self.started.append(process)
        return process

    def host_up(self) -> Namespace:
        """The host with addresses by SLAAC."""
        assert self.lan
        self.lan.sysctl("net.ipv6.conf.eth0.accept_ra", 2)
        self.lan.sysctl("net.ipv6.conf.eth0.router_solicitations", -1)
        self.lan.ip("link set eth0 down", "link set eth0 up")
        return self.lan

    def host_addresses(self) -> dict[str, bool]:
        """Each global address of the host → whether it is preferred."""
        assert self.lan
        text = self.lan.run(*"ip -6 -o address show dev eth0 scope global".split())
        return {
            line.split()[3].split("/")[0]: "deprecated" not in line
            for line in text.splitlines()
            if "inet6 2001:db8:a" in line or f"inet6 {ULA[:-1]}" in line
        }

    def preferred(self) -> set[str]:
        """The uplinks whose prefix the host uses for new connections, as digits; u for a ULA."""
        return {
            "u" if own.startswith("fd") else own[len("2001:db8:a00")]
            for own, preferred in self.host_addresses().items()
            if preferred
        }

    def lifetimes(self, n: int) -> tuple[int | str, int | str]:
        """(valid, preferred) of the router's own address in the LAN."""
        text = self.gateway.ip(f"address show dev br-lan to {lan_address(n)}", family=6)
        found = re.search(r"valid_lft (\w+?)(?:sec)? preferred_lft (\w+?)(?:sec)?\s", text + " ")
        assert found, text
        valid, preferred = (int(t) if t.isdecimal() else t for t in found.groups())
        return valid, preferred

    def deprecated(self) -> set[int]:
        """The uplinks whose address in the LAN is deprecated."""
        return {n for n in self.uplinks if self.lifetimes(n)[1] == 0}

    def source(self) -> str:
        """Which of its addresses the host uses for a new connection."""
        assert self.lan
        text = self.lan.ip(f"route get {SERVER6}", family=6)
        return text.split(" src ")[1].split()[0]

    def wait_for_host(self, *uplinks: str) -> None:
        eventually(lambda: self.preferred() == set(uplinks), 60, f"host prefers {uplinks}")

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        super().close()
