"""What really goes over a node's devices: a packet socket, read when the test asks.

Incoming and outgoing packets of every device, without their link-layer header
(packet(7), SOCK_DGRAM), so that a tun device looks like all others.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from tests.lab.namespace import Namespace
from tests.lab.resources import Closing

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
PACKET_OUTGOING = 4
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
SYN, RST, ACK = 0x02, 0x04, 0x10


class Packet(NamedTuple):
    """One packet on one device.  Of ARP, the protocol's own sender and target address."""

    device: str
    outgoing: bool
    kind: str
    """ip, ip6 or arp."""
    source: str
    destination: str
    protocol: int = 0
    """The IP protocol; of ARP, 1 for a request and 2 for a reply."""
    flags: int = 0
    """Of TCP."""
    sport: int = 0
    dport: int = 0
    link: str = ""
    """Who sent it on the link: the hardware address, of ARP what it says itself."""
    mptcp: bool = False
    """Of TCP: it carries an MPTCP option (RFC 8684)."""
    length: int = 0
    """Bytes of the IP packet."""


class Capture(Closing):
    """Begins at once.  take() returns what went by since the last call; close() or `with`."""

    def __init__(self, node: Namespace) -> None:
        with node.enter():
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)
            )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setblocking(False)
        self._seen: list[Packet] = []

    def seen(self) -> list[Packet]:
        """Everything so far.  Nothing is lost up to some ten thousand packets between calls."""
        while True:
            try:
                data, (device, kind, direction, _, link) = self._socket.recvfrom(256)
            except BlockingIOError:
                return self._seen
            if device != "lo":
                packet = _packet(device, direction == PACKET_OUTGOING, kind, data, link)
                if packet:
                    self._seen.append(packet)

    def take(self) -> list[Packet]:
        """What went by since the last take()."""
        seen, self._seen = self.seen(), []
        return seen

    def devices(self, wanted: Callable[[Packet], bool]) -> set[str]:
        """The devices where such packets have left so far."""
        return {packet.device for packet in self.seen() if packet.outgoing and wanted(packet)}

    def close(self) -> None:
        self._socket.close()


def _packet(device: str, outgoing: bool, kind: int, data: bytes, link: bytes) -> Packet | None:
    sender = link.hex(":")
    if kind == ETH_P_ARP and len(data) >= 28:
        operation = struct.unpack_from("!H", data, 6)[0]
        hardware, source, destination = data[8:14], data[14:18], data[24:28]
        return Packet(
            device,
            outgoing,
            "arp",
            socket.inet_ntoa(source),
            socket.inet_ntoa(destination),
            operation,
            link=hardware.hex(":"),
        )
    if kind == ETH_P_IP and len(data) >= 20:
        source, destination = (socket.inet_ntoa(data[at : at + 4]) for at in (12, 16))
        fields = (device, outgoing, "ip", source, destination, data[9])
        inner, length = data[(data[0] & 15) * 4 :], struct.unpack_from("!H", data, 2)[0]
        return Packet(*fields, *_ports(data[9], inner), sender, _mptcp(data[9], inner), length)
    if kind == ETH_P_IPV6 and len(data) >= 40:
        source, destination = (
            socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24)
        )
        fields = (device, outgoing, "ip6", source, destination, data[6])
        length = 40 + struct.unpack_from("!H", data, 4)[0]
        option = _mptcp(data[6], data[40:])
        return Packet(*fields, *_ports(data[6], data[40:]), sender, option, length)
    return None


def _ports(protocol: int, data: bytes) -> tuple[int, int, int]:
    if protocol not in (TCP, UDP) or len(data) < 14:
        return 0, 0, 0
    sport, dport = struct.unpack_from("!HH", data)
    return data[13] if protocol == TCP else 0, sport, dport


def _mptcp(protocol: int, data: bytes) -> bool:
    """Whether the TCP header has option 30."""
    if protocol != TCP or len(data) < 20:
        return False
    options = data[20 : (data[12] >> 4) * 4]
    while options and options[0]:
        if options[0] == 30:
            return True
        size = 1 if options[0] == 1 or len(options) < 2 else options[1]
        options = options[max(1, size) :]
    return False
