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
    """The usual world, where both families are masqueraded and the server tells who asks."""

    def __init__(self, uplinks: int = 2) -> None:
        super().__init__(uplinks=uplinks)
        rules = "\n".join(
            f'oifname "eth{n}" ip6 saddr 2001:db8:70::/64 masquerade' for n in self.uplinks
        )
        chain = f"type nat hook postrouting priority srcnat;\n{rules}"
        self.nft(f"table ip6 nat {{ chain out {{ {chain}\n}}\n}}\n")
        for port in (7, 9):
            self.serve(self.server, port)

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
