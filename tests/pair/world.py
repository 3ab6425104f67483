"""The two gateways of docs/pair.md, with a host in the LAN and a server behind both providers.

host .10 ── lan ── eth0 gateway-a eth1 ── wan1 ── 10.1.1.1 provider1 10.9.1.1 ── eth1
     .11     │            │ eth3      eth2 ── wan2 ── 10.2.2.1 provider2 10.9.2.1 ── eth2 server
             └─── eth0 gateway-b eth1, eth2                                     10.9.9.9

By IPv6, provider 1 is 2001:db8:1::1, the server 2001:db8:9::9, the host fd00:70::10 and ::11.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab import SERVER, SERVER6, LabError, Namespace, bridge, eventually, veth
from tests.lab.daemon import REPOSITORY
from tests.lab.resources import Closing
from tests.networks.guide import Guide
from tests.networks.machine import Machine

GATEWAY, OUTSIDE, OUTSIDE6 = "192.168.70.1", "10.1.1.4", "2001:db8:1::4"
"""The virtual addresses."""
HOSTS, HOSTS6 = ["192.168.70.10", "192.168.70.11"], ["fd00:70::10", "fd00:70::11"]
SEGMENTS = {"eth0": "lan", "eth1": "wan1", "eth2": "wan2"}
CABLES = {**SEGMENTS, "eth3": "sync"}
"""Of a gateway, with the segment that each leads to."""
MPROUTD = """#!/bin/sh
export PYTHONPATH={repository} MPROUTD_CONFIG_DIR=/etc/mproutd MPROUTD_RUNTIME_DIR=/run/mproutd
export MPROUTD_STATE_DIR=/var/lib/mproutd
exec {python} -m mproutd "$@"
"""
FILTER = "add table inet cut; add chain inet cut in {{ type filter hook input priority -300; }}; "
FILTER += "add rule inet cut in iifname {device} ip protocol 112 drop"


def on_gateway_b(text: str) -> str:
    """A file of gateway-a as the guide says that gateway-b has it."""
    for network in ("192.168.70", "10.1.1", "10.2.2"):
        text = text.replace(f"address {network}.2/24", f"address {network}.3/24")
    if "Mode FTFW" in text:
        text = text.replace(
            "IPv4_address 192.168.250.1\n\t\tIPv4_Destination_Address 192.168.250.2",
            "IPv4_address 192.168.250.2\n\t\tIPv4_Destination_Address 192.168.250.1",
        )
    for network in ("fd00:70", "2001:db8:1", "2001:db8:2"):
        text = text.replace(f"address {network}::2/64", f"address {network}::3/64")
    text = text.replace("192.168.250.1/30", "192.168.250.2/30")
    return text.replace("router_id gateway-a", "router_id gateway-b").replace(
        "priority 150", "priority 100"
    )


class Gateway(Machine):
    """One of the two, with everything that the guide starts."""

    def __init__(self, name: str, guide: Guide, change: dict[str, str]) -> None:
        super().__init__(name)
        self.guide = guide
        self.services: list[subprocess.Popen[Any]] = []
        self.write(
            "/usr/sbin/mproutd", MPROUTD.format(repository=REPOSITORY, python=sys.executable)
        )
        for path, text in guide.files("gateway-a").items():
            for old, new in change.items():
                text = text.replace(old, new)
            self.write(path, text if name == "gateway-a" else on_gateway_b(text))

    def up(self) -> None:
        """Addresses, firewall and services, in the order of a boot."""
        for device in ("eth0", "eth1", "eth2", "eth3"):
            self.ifup(device)
        self.run("sh", "-c", "modprobe nf_conntrack 2>/dev/null; nft -f /etc/nftables.conf")
        for line in self.path("/etc/sysctl.d/gateway.conf").read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                self.sysctl(*(word.strip() for word in line.split("=")))
        for command in self.guide.commands("gateway"):
            self.services.append(self.service(command))

    def program(self, name: str) -> subprocess.Popen[Any]:
        """A running service, by the first word of its command."""
        commands = [line.split()[0] for line in self.guide.commands("gateway")]
        return self.services[commands.index(name)]

    def restart(self, name: str) -> None:
        commands = self.guide.commands("gateway")
        index = next(i for i, line in enumerate(commands) if line.split()[0] == name)
        self.services[index] = self.service(commands[index])

    def kill(self) -> None:
        """Every process of the gateway, at once."""
        own = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = process.joinpath("ns/net").stat().st_ino == own
            except OSError:
                continue
            if inside and int(process.name) != self.pid:
                os.kill(int(process.name), signal.SIGKILL)
        for service in self.services:
            service.wait()

    def reboot(self) -> None:
        """After kill(): start again with nothing in the kernel."""
        for device in ("eth0", "eth1", "eth2", "eth3"):
            self.ip(f"address flush dev {device}")
            self.run("ifdown", "--force", device, check=False)
        self.run("nft", "flush", "ruleset")
        self.run("conntrack", "-F")
        self.run("mproutd", "flush", "--force")
        self.run(
            "rm",
            "-rf",
            "/run/mproutd",
            "/run/gateway.lock",
            "/run/conntrackd.ctl",
            "/run/keepalived.pid",
        )
        self.services.clear()
        self.up()

    def vrrp_states(self) -> list[str]:
        """Those that keepalived entered."""
        return re.findall(r"\(gateway\) Entering (\w+) STATE", self.services_said())

    def has(self, address: str) -> bool:
        return f" {address}/" in self.ip("address show")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("mproutd", "status", "--json", check=False))
        return found

    def standby(self) -> str:
        return self.run("mproutd", "standby").strip()

    def endpoints(self) -> set[str]:
        return {line.split()[0] for line in self.ip("mptcp endpoint show").splitlines()}


class Site(Closing):
    """What is around the two gateways."""

    def __init__(self) -> None:
        self.switch, self.host = Namespace("switch"), Namespace("host")
        self.server = Machine("server")
        self.providers = {n: Namespace(f"provider{n}") for n in (1, 2)}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.switch.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        for segment in CABLES.values():
            bridge(self.switch, segment)
        veth(self.host, "eth0", self.switch, "lan-host")
        self.host.ip(
            *(f"address add {address}/24 dev eth0" for address in HOSTS),
            *(f"address add {address}/64 dev eth0 nodad" for address in HOSTS6),
            f"route add default via {GATEWAY}",
        )
        self.server.ip(
            f"address add {SERVER}/32 dev lo",
            f"address add {SERVER6}/128 dev lo nodad",
            "mptcp limits set subflows 8 add_addr_accepted 8",
        )
        for n, provider in self.providers.items():
            provider.sysctl("net.ipv4.ip_forward", 1)
            provider.sysctl("net.ipv6.conf.all.forwarding", 1)
            veth(provider, "access", self.switch, f"wan{n}-isp")
            veth(provider, "core", self.server, f"eth{n}")
            provider.ip(
                f"address add 10.{n}.{n}.1/24 dev access",
                f"address add 2001:db8:{n}::1/64 dev access nodad",
                f"address add 10.9.{n}.1/24 dev core",
                f"address add 2001:db8:90{n}::1/64 dev core nodad",
                f"route add {SERVER} via 10.9.{n}.2",
                f"route add {SERVER6} via 2001:db8:90{n}::2",
            )
            self.server.ip(
                f"address add 10.9.{n}.2/24 dev eth{n}",
                f"address add 2001:db8:90{n}::2/64 dev eth{n} nodad",
                f"route add 10.{n}.{n}.0/24 via 10.9.{n}.1 src {SERVER}",
                f"route add 2001:db8:{n}::/64 via 2001:db8:90{n}::1 src {SERVER6}",
            )
        for port in ("lan-host", "wan1-isp", "wan2-isp"):
            self.switch.ip(f"link set {port} master {port.partition('-')[0]}")

    def plug(self, gateway: Namespace, letter: str, up: bool = True) -> None:
        """Every cable of a gateway, the same cards as before."""
        for number, (device, segment) in enumerate(CABLES.items()):
            port = f"{segment}-{letter}"
            # that of an earlier boot may still be there
            self.switch.run("ip", "link", "delete", port, check=False)
            veth(gateway, device, self.switch, port, up=False)
            self.switch.ip(f"link set {port} master {segment} up")
            card = f"02:00:00:00:0{letter}:0{number}"
            gateway.ip(f"link set {device} address {card} {'up' if up else 'down'}")

    def power(self, letter: str, on: bool) -> None:
        """Every cable of a gateway but that to the other one, at the switch."""
        state = "up" if on else "down"
        self.switch.ip(*(f"link set {segment}-{letter} {state}" for segment in SEGMENTS.values()))

    def routes_ipv6(self, gateway: Namespace) -> bool:
        """Whether the host's default route leads to this gateway."""
        link = re.search("link/ether (\\S+)", gateway.ip("link show eth0"))
        assert link
        assert "default via fe80::70:1 dev eth0" in self.host.ip("route show", family=6)
        self.host.run("ping", "-q", "-c1", "-W1", "fe80::70:1%eth0", check=False)
        return f"fe80::70:1 dev eth0 lladdr {link[1]}" in self.host.ip("neigh show", family=6)

    def close(self) -> None:
        for node in (self.host, self.server, self.switch, *self.providers.values()):
            node.close()


class Pair(Closing):
    """All of it; `change` replaces text in the guide's files."""

    def __init__(self, change: dict[str, str] | None = None) -> None:
        self.guide = Guide("../pair")
        self.site = Site()
        self.host, self.server = self.site.host, self.site.server
        self.a = Gateway("gateway-a", self.guide, change or {})
        self.b = Gateway("gateway-b", self.guide, change or {})
        try:
            for gateway, letter in ((self.a, "a"), (self.b, "b")):
                gateway.sysctl("net.ipv6.conf.default.accept_dad", 0)
                self.site.plug(gateway, letter)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """gateway-a first, then gateway-b: afterwards the first one is active."""
        self.a.up()
        self.active(self.a)
        self.b.up()
        self.ready(self.b)

    @staticmethod
    def ready(gateway: Gateway) -> None:
        """Wait until it would take over: its uplinks were usable for `rise` seconds."""
        eventually(lambda: gateway.vrrp_states()[-1:] == ["BACKUP"], 30, f"{gateway.name}: BACKUP")

    def active(self, gateway: Gateway) -> None:
        """Wait until it is."""

        def is_active() -> bool:
            assert gateway.has(GATEWAY), "no address"
            return gateway.standby() == "active"

        time.sleep(1)  # what asks all the time keeps keepalived off the processor
        try:
            eventually(is_active, 30)
        except AssertionError as error:
            raise LabError(f"{error}\n{gateway.services_said()}") from None

    def power(self, gateway: Gateway, on: bool) -> None:
        self.site.power("a" if gateway is self.a else "b", on)

    def close(self) -> None:
        for node in (self.a, self.b, self.site):
            node.close()
