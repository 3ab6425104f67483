"""Where the kernel would send a packet, for a status: all rules count, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mproutd.model import ANY_DEVICE, FALLBACK_DESTINATION, LOOKUP_DESTINATION, Packet, Route
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nexthop_objects import resolve
from mproutd.netlink.sockets import Encode, Requests


def packet_routes(requests: Requests, packets: Sequence[Packet]) -> list[Route | None]:
    """The entry of a routing table that leads each packet to the internet; None for none.

    Without one the lookup is repeated for a second destination, since a list of bogons in main may
    discard the first.
    """
    routes: list[Route | None] = [None] * len(packets)
    for destination in (LOOKUP_DESTINATION, FALLBACK_DESTINATION):
        missing = [index for index, route in enumerate(routes) if route is None]
        lookups: list[Encode] = [
            partial(
                rtnl_encode.lookup_packet, packet=packet, destination=destination[packet.family]
            )
            for packet in (packets[index] for index in missing)
        ]
        for index, reply in zip(missing, requests.query(lookups), strict=True):
            if not isinstance(reply, OSError):
                route = rtnl_decode.lookup_reply(reply.body)
                if route.nexthop_id:
                    route = next(iter(resolve(requests, route, ANY_DEVICE)), route)
                routes[index] = route if route.table and route.device else None
    return routes
