"""Cables between nodes.

Devices are made inside the nodes, never in the host's namespace, so their names are
the test's own choice and two runs side by side cannot clash.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import struct
import threading
import time
from collections import deque

from tests.lab.namespace import Namespace

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

_INDEXES = itertools.count(1001)
"""An ifindex of its own for each cable's first end.  Where both ends have the same one, each in
its namespace, the kernel takes them for devices without a lower one, and tells of a carrier
lost up to a second late (net/core/link_watch.c, linkwatch_urgent_event)."""


def veth(a: Namespace, device: str, b: Namespace, peer: str, up: bool = True) -> None:
    """A cable: `device` on node `a` to `peer` on node `b` (veth(4)), both ends up unless not `up`.

    Setting either end down takes the other one's carrier away.
    """
    a.ip(
        f"link add {device} index {next(_INDEXES)} type veth peer name {peer} netns {b.pid}",
        *([f"link set {device} up"] if up else []),
    )
    if up:
        b.ip(f"link set {peer} up")


def bridge(node: Namespace, name: str, *ports: str, address: str = "") -> None:
    """A bridge on `node` with these devices in it, up, with `address` ("192.168.70.1/24")."""
    lines = [f"link add {name} type bridge forward_delay 0", f"link set {name} up"]
    lines += [f"link set {port} master {name}" for port in ports]
    if address:
        lines.append(f"address add {address} dev {name}")
    node.ip(*lines)


class TunCable:
    """A point-to-point cable without link layer (tun), as PPP or a VPN looks to the kernel.

    Both devices are IFF_POINTOPOINT and IFF_NOARP, up, and live until close() or until
    this process ends.  A thread of this process carries the packets, `delay` seconds late.
    """

    def __init__(self, a: Namespace, device: str, b: Namespace, peer: str) -> None:
        self.delay = 0.0
        self._ends = [self._open(a, device), self._open(b, peer)]
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    @staticmethod
    def _open(node: Namespace, device: str) -> int:
        with node.enter():
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(
                end, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI)
            )
        node.ip(f"link set {device} up")
        return end

    def _carry(self) -> None:
        a, b = self._ends
        across = {a: b, b: a}
        under_way: deque[tuple[float, int, bytes]] = deque()
        while True:
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            ready, _, _ = select.select([a, b, self._stop], [], [], wait)
            if self._stop in ready:
                return
            for end in ready:
                with contextlib.suppress(OSError):
                    packet = os.read(end, 65536)
                    under_way.append((time.monotonic() + self.delay, across[end], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, end, packet = under_way.popleft()
                with contextlib.suppress(OSError):  # the other end is down: the packet is lost
                    os.write(end, packet)

    def close(self) -> None:
        """Remove both devices.  Harmless a second time."""
        if self._ends:
            os.write(self._wake, b"x")
            self._thread.join()
            for descriptor in (*self._ends, self._stop, self._wake):
                os.close(descriptor)
            self._ends = []
