"""A gateway with policies, and a host behind that asks a server who it appears to be."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.daemon import TWO_UPLINKS, Daemon
from tests.lab.forwarding import Forwarding
from tests.lab.wait import eventually
from tests.lab.wan import SERVER, SERVER6, address

NETWORK = TWO_UPLINKS + "\nconfig interface 'lan'\n\toption device 'br-lan'\n"
BY_WAN2 = """
config member 'second'
	option interface 'wan2'

config policy 'by_wan2'
	list use_member 'second'
"""
ASK = """
import socket, sys
kind, host, port, sport, tos = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, getattr(socket, kind))
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    s.setsockopt(socket.IPPROTO_IPV6, 67, int(tos))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(tos))
s.bind(("", int(sport)))
s.settimeout(2)
s.connect((host, int(port)))
s.send(b"?") if kind == "SOCK_DGRAM" else None
print(s.recv(100).decode().removeprefix("::ffff:"))
"""
"""67: IPV6_TCLASS."""


class PolicyWorld(Forwarding):
    """The usual world, with source NAT in both families, and a server that replies with
    the client's address.

    The kernel ends a masqueraded connection that changes its uplink, but not one by `snat`.
    """

    def __init__(self, uplinks: int = 2) -> None:
        super().__init__("snat", uplinks)
        rules = "\n".join(
            f'oifname "eth{n}" ip6 saddr 2001:db8:70::/64 masquerade' for n in self.uplinks
        )
        chain = f"type nat hook postrouting priority srcnat;\n{rules}"
        self.nft(f"table ip6 nat {{ chain out {{ {chain}\n}}\n}}\n")
        for family in ("ipv4", "ipv6"):  # otherwise two hosts always have one way
            self.gateway.run("sysctl", "-qw", f"net.{family}.fib_multipath_hash_policy=1")
        for router in self.routers.values():
            seen = 'iifname "access" udp dport 7 counter'
            hook = "type filter hook prerouting priority filter"
            router.run("nft", f"table inet seen {{ chain in {{ {hook}; {seen}\n}}\n}}")
        for port in (7, 9):
            self.serve(self.server, port)

    def ping(self, *options: str) -> str:
        """What one ping of the LAN host to the server prints."""
        assert self.lan
        command = self.lan.command("ping", "-c1", "-W1", *options, SERVER)
        return subprocess.run(command, capture_output=True, text=True).stdout

    def counted(self, uplink: int) -> int:
        """The packets to the server's UDP echo that this uplink's router has seen."""
        listing = self.routers[uplink].run("nft", "list table inet seen")
        return int(listing.split(" packets ")[1].split()[0])

    def uplink(
        self,
        family: int = 4,
        port: int = 7,
        kind: str = "SOCK_STREAM",
        *,
        sport: int = 0,
        tos: int = 0,
        own_user: int | None = None,
        to: str = "",
    ) -> str:
        """The uplink by which a new connection of the LAN host arrives; empty for no reply.

        `own_user`: of the gateway itself, by this user.
        """
        assert self.lan
        node = self.lan if own_user is None else self.gateway
        host = to or (SERVER if family == 4 else SERVER6)
        user = [] if own_user is None else ["setpriv", "--reuid", str(own_user), "--clear-groups"]
        code = [*user, sys.executable, "-c", ASK, kind, host, str(port), str(sport), str(tos)]
        done = subprocess.run(node.command(*code), capture_output=True, text=True)
        source = done.stdout.strip()
        names = {address(n, f): f"wan{n}" for n in self.uplinks for f in (4, 6)}
        return names.get(source, source)


def use(daemon: Daemon, own: str, network: str = NETWORK) -> None:
    """Configure this, and wait until it is in place."""
    daemon.configure(network, own)
    daemon.reconcile()
    eventually(lambda: bool(daemon.query_status()["pins_flows"]), 20)


EVERYTHING = (
    BY_WAN2
    + """
config member 'first'
	option interface 'wan1'
config policy 'both'
	list use_member 'first'
	list use_member 'second'
config rule 'office'
	option src_ip '192.168.1.0/24'
	option proto 'tcp'
	option dest_port '443,8000-8010'
	option use_policy 'both'
config rule 'odd'
	option src_ip '10.0.0.0/15'
	option proto 'tcp'
	option dest_port '80-90'
	option use_policy 'both'
config rule 'host'
	option src_mac '02:00:00:00:00:01'
	option use_policy 'by_wan2'
config rule 'hosts'
	option src_mac '!02:00:00:00:00:01,02:00:00:00:00:02'
	option proto 'tcp udp'
	option dest_port '!53'
	option use_policy 'by_wan2'
config rule 'voip'
	option dscp 'ef,cs5'
	option use_policy 'by_wan2'
config rule 'other'
	option dscp '!ef,cs5'
	option src_iface 'lan,eth7'
	option proto 'icmp esp'
	option use_policy 'default'
config rule 'site'
	option domain 'example.org'
	option sticky '1'
	option use_policy 'both'
config rule 'tv'
	option set 'tv'
	option dest_ip '!10.0.0.0/8,2001:db8::/33,2001:db9::1,224.0.0.0/4,240.0.0.0/4'
	option proto 'udp'
	option src_port '!1024-65535'
	option use_policy 'wan2'
config rule 'v6'
	option dest_ip '2001:db8::/35'
	option src_ip '2001:db9::1'
	option src_iface '!lan'
	option use_policy 'wan2'
config rule 'rest'
	option src_ip '0.0.0.0/0,::/0'
	option dest_ip '0.0.0.0/0'
	option proto 'gre'
	option use_policy 'by_wan2'
config rule 'all'
	option dest_ip '0.0.0.0/0'
	option use_policy 'default'
config rule 'own'
	option user '0'
	option use_policy 'by_wan2'
"""
)
"""A rule with each option."""
