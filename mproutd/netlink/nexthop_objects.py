"""Routes whose ways are in a nexthop object (ip-nexthop(8)), as FRR makes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mproutd.model import ANY_DEVICE, Nexthop, Route
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.sockets import Requests


def resolve(requests: Requests, route: Route, device: int) -> tuple[Route, ...]:
    """The route with the ways that its object has through a device, or through any.

    () for an object without any, for example a blackhole.
    """
    hops: dict[int, list[Nexthop]] = {}
    members: Sequence[tuple[int, int]] = ((route.nexthop_id, 1),)
    for _ in range(2):  # a group has no groups as members
        replies = requests.query(
            [partial(rtnl_encode.get_nexthop, number=number) for number, _ in members]
        )
        groups: list[tuple[int, int]] = []
        for (_, weight), reply in zip(members, replies, strict=True):
            if isinstance(reply, OSError):
                continue
            found = rtnl_decode.nexthop_object(reply.body)
            groups += found.members
            if found.device and device in (ANY_DEVICE, found.device):
                hops.setdefault(found.device, []).append(found.hop._replace(weight=weight))
        members = groups
    return tuple(
        route._replace(
            device=index,
            gateway=ways[0].gateway,
            onlink=ways[0].onlink,
            nexthops=tuple(ways) if len(ways) > 1 else (),
            nexthop_id=0,
        )
        for index, ways in hops.items()
    )


def exist(requests: Requests) -> bool:
    """Whether there is any nexthop object.  False on kernels that have none."""
    try:
        return bool(requests.dump(rtnl_encode.dump_nexthops))
    except OSError:
        return False
