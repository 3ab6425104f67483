"""The floor for a daemon in Python: answers one event with operations that were encoded before.

    python -m bench.exact.prepared ADDRESS DEVICE

Whenever ADDRESS appears, it sends what mproutd does for that: two routes, three rules and an
endpoint of uplink 2.  It reads nothing else, plans nothing and remembers nothing.
"""

from __future__ import annotations

import socket
import sys

from mproutd.model import SUBFLOW, Endpoint, Operation, Route, Rule
from mproutd.netlink import mptcp_pm, rtnl_encode
from mproutd.netlink.nlmsg import without_acknowledgement
from mproutd.netlink.rtnl_decode import RTM_NEWADDR
from mproutd.netlink.sockets import Requests

NETLINK_GENERIC, IPV4_IFADDR = 16, 5
"""linux/netlink.h, linux/rtnetlink.h."""
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
TABLE, MASK = 7002, 0x7F000000


def routing(address: str, device: int, name: str) -> bytes:
    """Routes and rules in one datagram, of which the last is acknowledged."""
    family = socket.AF_INET
    subnet = address.rpartition(".")[0]
    objects = [
        Route(family, TABLE, f"{subnet}.0/24", device, source=address, scope=253),
        Route(family, TABLE, "default", device, f"{subnet}.1", source=address),
        Rule(family, 7102, TABLE, fwmark=0x2000000, fwmask=MASK),
        Rule(family, 7302, TABLE, oif=name),
        Rule(family, 7502, TABLE, address),
    ]
    encoded = [
        rtnl_encode.change(Operation("add", value), number)
        for number, value in enumerate(objects, 1)
    ]
    return b"".join([*map(without_acknowledgement, encoded[:-1]), encoded[-1]])


def endpoint(address: str, device: int) -> bytes:
    requests = Requests(NETLINK_GENERIC)
    reply = requests.query([mptcp_pm.get_family])[0]
    requests.close()
    if isinstance(reply, OSError):
        raise reply
    operation = Operation("add", Endpoint(address, device, SUBFLOW))
    return mptcp_pm.change(operation, mptcp_pm.family(reply.body).id, 1)


def main() -> None:
    address, name = sys.argv[1:]
    device = socket.if_nametoindex(name)
    first, second = routing(address, device, name), endpoint(address, device)
    awaited, kind = socket.inet_aton(address), RTM_NEWADDR.to_bytes(2, sys.byteorder)
    events, route, path_manager = (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        for family in (0, 0, NETLINK_GENERIC)
    )
    events.bind((0, 0))
    events.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, IPV4_IFADDR)
    while True:
        message = events.recv(65536)
        if message[4:6] == kind and awaited in message:
            route.send(first)
            route.recv(65536)
            path_manager.send(second)
            path_manager.recv(65536)


if __name__ == "__main__":
    main()
