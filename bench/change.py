"""Changes to a network as single rtnetlink requests, so that their time is known exactly.

Each function returns a request without its sequence number, for
mproutd.netlink.sockets.Requests.change().  `device` is an ifindex.
"""

from __future__ import annotations

import os
import struct
from socket import AF_INET, AF_UNSPEC, inet_pton

from mproutd.model import SCOPE_GLOBAL, TABLE_MAIN, UNICAST, Operation, Route, family_of
from mproutd.netlink.nlmsg import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, put_address, put_u32, request
from mproutd.netlink.rtnl_decode import (
    IFA_ADDRESS,
    IFA_LOCAL,
    IFADDR,
    IFF_UP,
    IFINFO,
    RTM_DELADDR,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTMSG,
)
from mproutd.netlink.rtnl_encode import change
from mproutd.netlink.sockets import Encode

BOOT = 3
"""linux/rtnetlink.h, RTPROT_BOOT: what `ip route add` writes."""
BGP = 186


def address(add: bool, device: int, text: str, length: int = 24) -> Encode:
    """Add or delete an address."""
    family = family_of(text)
    packed = inet_pton(family, text)
    body = IFADDR.pack(family, length, 0, SCOPE_GLOBAL, device)
    body += put_address(IFA_LOCAL, packed) + put_address(IFA_ADDRESS, packed)
    if add:
        return lambda n: request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, n, body)
    return lambda n: request(RTM_DELADDR, NLM_F_ACK, n, body)


def link(device: int, up: bool) -> Encode:
    """Set a device up or down: the other end of its cable gets or loses its carrier."""
    body = IFINFO.pack(AF_UNSPEC, 0, device, IFF_UP if up else 0, IFF_UP)
    return lambda n: request(RTM_NEWLINK, NLM_F_ACK, n, body)


def default_route(add: bool, device: int, gateway: str, metric: int) -> Encode:
    """A default route in main via a device."""
    route = Route(AF_INET, TABLE_MAIN, "default", device, gateway, metric=metric, protocol=BOOT)
    operation = Operation("add" if add else "delete", route)
    return lambda n: change(operation, n)


def foreign_routes(count: int, device: int) -> list[bytes]:
    """`count` IPv4 routes of a routing daemon in main, 16.0.0.0/24 and on, 1,000 a send.

    They request no acknowledgement; the sender has to check the result.
    """
    flags = NLM_F_CREATE | NLM_F_EXCL
    head = RTMSG.pack(AF_INET, 24, 0, 0, TABLE_MAIN, BGP, 253, UNICAST, 0)
    tail = put_u32(4, device)
    first = 16 << 24
    pack = struct.Struct("!I").pack
    sends = []
    for start in range(0, count, 1000):
        messages = [
            request(RTM_NEWROUTE, flags, 1, head + put_address(1, pack(first + (n << 8))) + tail)
            for n in range(start, min(start + 1000, count))
        ]
        sends.append(b"".join(messages))
    return sends


def devices() -> dict[str, int]:
    """Name → ifindex in the calling thread's namespace."""
    import socket

    return {name: index for index, name in socket.if_nameindex()}


def timer_slack(nanoseconds: int = 1) -> None:
    """Make this thread's sleeps end on time (prctl(2), PR_SET_TIMERSLACK)."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(29, nanoseconds, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
