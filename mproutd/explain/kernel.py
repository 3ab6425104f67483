"""What the kernel knows about a flow: routes, local addresses, tracked connections, sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mproutd.explain.request import Reply, Request
from mproutd.model import Packet, Route
from mproutd.netlink import conntrack, nft_elements, rtnl_decode, rtnl_encode
from mproutd.netlink.sockets import Encode, Requests

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
LOCAL = 2
"""linux/rtnetlink.h, RTN_LOCAL."""


class FlowKernel:
    """Read only, for one command."""

    def __init__(self) -> None:
        self._routes = Requests(NETLINK_ROUTE)

    def is_local(self, address: str) -> bool:
        """Whether it is one of this host's own addresses."""
        route = self._look_up(partial(rtnl_encode.lookup, destination=address))
        return isinstance(route, Route) and route.type == LOCAL

    def device_towards(self, address: str) -> int:
        """The ifindex of the device through which a host is reached; 0 for none."""
        route = self._look_up(partial(rtnl_encode.lookup, destination=address))
        return route.device if isinstance(route, Route) else 0

    def route(self, request: Request, iif: int, mark: int) -> Reply:
        """Where a packet goes with this mark."""
        packet = Packet(request.family, request.source, iif, mark, request.selectors)
        encode = partial(rtnl_encode.lookup_packet, packet=packet, destination=request.destination)
        entry = self._look_up(encode)
        chosen = self._look_up(partial(encode, match=False))
        if isinstance(entry, Route) and isinstance(chosen, Route):
            return Reply(entry, chosen)
        errors = [found.errno or 0 for found in (chosen, entry) if isinstance(found, OSError)]
        return Reply(entry if isinstance(entry, Route) else None, None, errors[0])

    def _look_up(self, encode: Encode) -> Route | OSError:
        reply = self._routes.query([encode])[0]
        return reply if isinstance(reply, OSError) else rtnl_decode.lookup_reply(reply.body)

    def connections(self, request: Request) -> Sequence[conntrack.Connection] | None:
        """The tracked connections that the flow may be a packet of; None where that is unknown."""
        channel = Requests(NETLINK_NETFILTER)
        try:
            bodies = [
                body
                for dump in conntrack.requests(request.destination, request.family)
                for body in channel.dump(dump)
            ]
        except OSError:
            return None
        finally:
            channel.close()
        decoded = map(conntrack.connection, dict.fromkeys(bodies))
        return [found for found in decoded if found]

    def set_contains(self, table: str, name: str, address: str) -> bool:
        """Whether a set of this table has the address.  OSError."""
        channel = Requests(NETLINK_NETFILTER)
        try:
            reply = channel.query(
                [partial(nft_elements.get, table=table, name=name, value=address)]
            )
        finally:
            channel.close()
        return nft_elements.is_found(reply[0])
