"""Where the kernel would send a packet, for a status: all rules count, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from struct import pack

from mproutd.model import FALLBACK_DESTINATION, LOOKUP_DESTINATION, Packet, Route
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nexthop_table import NexthopTable
from mproutd.netlink.sockets import Encode, Requests

_CACHEINFO = pack("=HH", 36, 12)
"""Of RTA_CACHEINFO: length and type (linux/rtnetlink.h)."""


def packet_routes(
    requests: Requests, nexthops: NexthopTable, packets: Sequence[Packet]
) -> list[Route | None]:
    """The entry of a routing table that leads each packet to its destination; None for none.

    It has all nexthops, also where the kernel only names a nexthop object.

    Without one the lookup is repeated for a second destination, since a list of bogons in main may
    discard the first.
    """
    routes: list[Route | None] = [None] * len(packets)
    for destination in (LOOKUP_DESTINATION, FALLBACK_DESTINATION):
        missing = [index for index, route in enumerate(routes) if route is None]
        lookups: list[Encode] = [
            partial(
                rtnl_encode.lookup_packet,
                packet=packet,
                destination=packet.destination or destination[packet.family],
            )
            for packet in (packets[index] for index in missing)
        ]
        for index, reply in zip(missing, requests.query(lookups), strict=True):
            if not isinstance(reply, OSError):
                route = rtnl_decode.lookup_reply(reply.body)
                if route.nexthop_id:
                    route = route._replace(nexthops=tuple(nexthops.hops(route.nexthop_id)))
                routes[index] = route if route.table and any(route.devices) else None
    return routes


def without_usage(reply: bytes) -> bytes:
    """The reply to a lookup without RTA_CACHEINFO, which says when the route was used last.

    It is the last attribute (rt_fill_info); with IPv6, RTA_PREF follows (rt6_fill_node).
    """
    for end in (len(reply), len(reply) - 8):
        if reply[end - 36 : end - 32] == _CACHEINFO:
            return reply[: end - 36] + reply[end:]
    return reply
