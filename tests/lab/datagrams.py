"""Datagrams from a host to many addresses: by which uplink each one arrives."""

from __future__ import annotations

import select
import socket
import time
from struct import Struct

from tests.lab.namespace import Namespace
from tests.lab.resources import Closing
from tests.lab.wait import scaled
from tests.lab.wan import Wan

NETWORK, NETWORK6 = "198.18.0.0/16", "2001:db8:18::/64"
PORT = 7777
_IP_PKTINFO = 8
_PKTINFO = Struct("=i4s4s")
_PKTINFO6 = Struct("=16si")
"""linux/in.h, linux/in6.h: struct in_pktinfo and in6_pktinfo."""


def destination(number: int, family: int = socket.AF_INET) -> str:
    if family == socket.AF_INET6:
        return f"2001:db8:18::{number + 1:x}"
    return f"198.18.{number // 250}.{number % 250 + 1}"


class Datagrams(Closing):
    """The server has every address of a network.  Nothing is ever sent back.

    A flow is one destination, with one socket of its own in `host`.
    """

    def __init__(self, wan: Wan, host: Namespace, family: int = socket.AF_INET) -> None:
        self._host, self._family = host, family
        network = NETWORK if family == socket.AF_INET else NETWORK6
        server = wan.server
        server.ip(f"route replace local {network} dev lo")
        server.sysctl("net.ipv4.conf.all.rp_filter", 0)
        for n, router in wan.routers.items():
            via = f"10.9.{n}.2" if family == socket.AF_INET else f"2001:db8:90{n}::2"
            router.ip(f"route replace {network} via {via}")
        with server.enter():
            self._receiver = socket.socket(family, socket.SOCK_DGRAM)
            self._numbers = {socket.if_nametoindex(f"eth{n}"): n for n in wan.uplinks}
        self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        if family == socket.AF_INET6:
            self._receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self._receiver.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._receiver.bind(("", PORT))
        self._senders: dict[str, socket.socket] = {}

    def close(self) -> None:
        self._receiver.close()
        for sender in self._senders.values():
            sender.close()

    def begin(self, count: int) -> dict[str, int]:
        """Begin so many new flows; flow → the number of its uplink."""
        first = len(self._senders)
        flows = [destination(first + number, self._family) for number in range(count)]
        with self._host.enter():
            for flow in flows:
                sender = socket.socket(self._family, socket.SOCK_DGRAM)
                sender.setblocking(False)
                sender.connect((flow, PORT))
                self._senders[flow] = sender
        return self.uplinks(flows)

    def source(self, flow: str) -> str:
        """The address that the kernel chose for a flow."""
        address: str = self._senders[flow].getsockname()[0]
        return address

    def uplinks(self, flows: list[str] | None = None, timeout: float = 5.0) -> dict[str, int]:
        """Each flow's uplink now.  Repeats what is lost; AssertionError at the timeout."""
        self._drain()
        missing = set(self._senders if flows is None else flows)
        found: dict[str, int] = {}
        deadline = time.monotonic() + scaled(timeout)
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} flows have no way out"
            for flow in missing:
                try:
                    self._senders[flow].send(flow.encode())
                except OSError:
                    continue  # unreachable for now
            while select.select([self._receiver], [], [], 0.2)[0]:
                flow, uplink = self._receive()
                if flow in missing:
                    missing.discard(flow)
                    found[flow] = uplink
                if not missing:
                    break
        return found

    def arrives(self, flow: str, uplink: int) -> bool:
        """Send one datagram of this flow; whether one of its earlier ones came by the uplink."""
        while select.select([self._receiver], [], [], 0)[0]:
            if self._receive() == (flow, uplink):
                return True
        try:
            self._senders[flow].send(flow.encode())
        except OSError:
            pass  # unreachable for now
        return False

    def _receive(self) -> tuple[str, int]:
        data, ancillary, _, _ = self._receiver.recvmsg(100, 100)
        (_, _, info) = ancillary[0]
        if self._family == socket.AF_INET6:
            index = _PKTINFO6.unpack(info)[1]
        else:
            index = _PKTINFO.unpack(info)[0]
        return data.decode(), self._numbers[index]

    def _drain(self) -> None:
        while select.select([self._receiver], [], [], 0)[0]:
            self._receiver.recv(100)
