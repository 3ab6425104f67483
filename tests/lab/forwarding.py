"""A gateway that forwards: source NAT, providers that drop foreign sources, port forwards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.lab.namespace import Namespace
from tests.lab.wan import LAN_HOST, SERVER, Wan, address

LAN6 = "2001:db8:70::10"
"""The LAN host's IPv6 address, of a prefix that the second provider routes to the gateway."""

ECHO = """
import socket, sys, threading
def tcp():
    s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        c, peer = s.accept()
        c.sendall(peer[0].encode())
        c.close()
threading.Thread(target=tcp, daemon=True).start()
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
s.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, extra, _, peer = s.recvmsg(100, 100)
    s.sendmsg([peer[0].encode()], extra, 0, peer)
"""
"""Tells who asks: by TCP, and by UDP from the address that was asked."""
ASK = """
import socket, sys
kind, host, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, getattr(socket, kind))
s.settimeout(2)
s.connect((host, int(port)))
s.send(b"?") if kind == "SOCK_DGRAM" else None
print(s.recv(100).decode().removeprefix("::ffff:"))
"""


class Forwarding(Wan):
    """The usual world; each router drops what does not come from its provider's addresses.

    `translate`: "masquerade", "snat", or empty for none.
    """

    def __init__(self, translate: str = "masquerade", uplinks: int = 2) -> None:
        super().__init__(uplinks, shaped=False)
        assert self.lan
        self.usual()
        self.started: list[subprocess.Popen[Any]] = []
        self.gateway.ip("address add 2001:db8:70::1/64 dev br-lan nodad", family=6)
        self.lan.ip(f"address add {LAN6}/64 dev eth0 nodad", "route add default via 2001:db8:70::1")
        self.server.ip("route add 2001:db8:70::/64 via 2001:db8:902::1", family=6)
        self._delegate()
        for n, router in self.routers.items():
            own6 = f"2001:db8:{n}::/64" + (", 2001:db8:70::/64" if n == 2 else "")
            router.run(
                *("nft", "-f", "-"),
                input=f"""table inet provider {{ chain forward {{
                    type filter hook forward priority filter;
                    iifname "access" ip saddr != 10.{n}.{n}.0/24 drop
                    iifname "access" ip6 saddr != {{ {own6} }} drop
                }}
                }}""",
            )
        rules = [self._source_nat(n, translate) for n in self.uplinks] if translate else []
        chain = "type nat hook postrouting priority srcnat;\n" + "\n".join(rules)
        self.firewall = f"table ip nat {{ chain out {{ {chain}\n}}\n}}\n"
        """The administrator's own ruleset."""
        self.nft(self.firewall)

    def _delegate(self) -> None:
        """The second provider's route to the LAN's prefix."""
        self.routers[2].ip(f"route replace 2001:db8:70::/64 via {address(2, 6)}", family=6)

    def plug(self, n: int) -> None:
        super().plug(n)
        if n == 2:
            self._delegate()  # the kernel has deleted it with the link

    def nft(self, script: str) -> str:
        return self.gateway.run("nft", "-f", "-", input=script)

    @staticmethod
    def _source_nat(n: int, translate: str) -> str:
        what = f"snat to {address(n)}" if translate == "snat" else translate
        return f'oifname "eth{n}" ip saddr 192.168.70.0/24 {what}'

    def forward_port(self, port: int, to: str = LAN_HOST, to6: str = LAN6) -> None:
        """Redirect a port of every uplink, TCP and UDP, to a host behind."""
        devices = ", ".join(f'"eth{n}"' for n in self.uplinks)
        which = f"iifname {{ {devices} }} meta l4proto {{ tcp, udp }} th dport {port}"
        self.nft(
            f"""table inet forwards {{ chain in {{
                type nat hook prerouting priority dstnat;
                {which} meta nfproto ipv4 dnat ip to {to}
                {which} meta nfproto ipv6 dnat ip6 to {to6}
            }}
            }}"""
        )

    def serve(self, node: Namespace, port: int) -> None:
        """A program that replies with the client's address, by TCP and UDP."""
        process = node.popen(
            sys.executable, "-c", ECHO, str(port), stdout=subprocess.PIPE, text=True
        )
        self.started.append(process)
        assert process.stdout
        assert process.stdout.readline()

    def ask(self, node: Namespace, host: str, port: int, kind: str = "SOCK_STREAM") -> str:
        """The client's address as the server saw it; empty for no reply."""
        code = ["env", "PYTHONWARNINGS=ignore", sys.executable, "-c", ASK, kind, host, str(port)]
        done = subprocess.run(node.command(*code), capture_output=True, text=True)
        return done.stdout.strip()

    def leaves_by(self, to: str = SERVER) -> str:
        """The address with which a new connection of the LAN host arrives at the server."""
        assert self.lan
        return self.ask(self.lan, to, 7)

    def table(self) -> str:
        """The table of mproutd; empty where there is none."""
        done = subprocess.run(
            self.gateway.command("nft", "list", "table", "inet", "mproutd"),
            capture_output=True,
            text=True,
        )
        return done.stdout

    def close(self) -> None:
        for process in getattr(self, "started", ()):
            process.kill()
            process.wait()
        super().close()


UDP_FLOW = """
import socket, sys, time
server, port, source, source_port = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((source, int(source_port)))
s.settimeout(0.05)
while True:
    s.sendto(b"?", (server, int(port)))
    try:
        print(s.recv(100).decode().removeprefix("::ffff:"), flush=True)
    except OSError:
        print("-", flush=True)
    time.sleep(0.05)
"""


class Datagrams:
    """One UDP flow of the LAN host, twenty datagrams a second from one port."""

    def __init__(self, world: Forwarding) -> None:
        assert world.lan
        self._process = world.lan.popen(
            *(sys.executable, "-c", UDP_FLOW, SERVER, "7", "0.0.0.0", "4001"),
            stdout=subprocess.PIPE,
            text=True,
        )
        world.started.append(self._process)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def comes_from(self, address: str, tries: int = 200) -> bool:
        """Whether one of its next datagrams is answered, and came from this address."""
        assert self._process.stdout
        return any(self._process.stdout.readline().strip() == address for _ in range(tries))

    def falls_silent(self, tries: int = 400) -> bool:
        """Whether fifteen of its next datagrams in a row get no reply."""
        assert self._process.stdout
        silent = 0
        for _ in range(tries):
            silent = silent + 1 if self._process.stdout.readline().strip() == "-" else 0
            if silent == 15:
                return True
        return False
