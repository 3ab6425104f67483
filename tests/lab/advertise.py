"""Router advertisements (RFC 4861, 4.2), by hand: exactly what and when a test wants."""

from __future__ import annotations

import ipaddress
import socket
import struct

from tests.lab.namespace import Namespace


def advertise(
    router: Namespace,
    device: str,
    *prefixes: str,
    lifetime: int = 1800,
    preferred: int = 1800,
    valid: int = 3600,
) -> None:
    """Send one advertisement from the router's link-local address to all nodes on `device`.

    `prefixes` are for address configuration ("2001:db8:1::/64"), all with the same
    `preferred` and `valid` seconds.  `lifetime` is the default route's; 0 takes it away.
    """
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0)
    for text in prefixes:
        prefix = ipaddress.IPv6Network(text)
        on_link_autonomous = 0xC0
        message += struct.pack(
            "!BBBBIII", 3, 4, prefix.prefixlen, on_link_autonomous, valid, preferred, 0
        )
        message += prefix.network_address.packed
    with router.enter():
        index = socket.if_nametoindex(device)
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sender.sendto(message, ("ff02::1", 0, 0, index))
