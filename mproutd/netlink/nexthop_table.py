"""The kernel's nexthop objects, read again only where an event says that they may have changed.

With a link or its carrier the kernel deletes the device's nexthop objects, their places in groups,
a group without members, and the routes that use it, without an event for any of them
(net/ipv4/nexthop.c, nexthop_flush_dev).  So every event for a link counts.
"""

from __future__ import annotations

import errno
from functools import partial
from struct import pack

from mproutd.model import ANY_DEVICE, PROTOCOL, Nexthop, NexthopObject, Route, Snapshot
from mproutd.netlink import rtnl_decode
from mproutd.netlink.nlmsg import U32, Message
from mproutd.netlink.rtnl_nexthops import (
    NHMSG,
    dump_nexthops,
    get_bucket,
    get_nexthop,
    nexthop_object,
)
from mproutd.netlink.sockets import Requests

_NEXTHOP_ID = pack("=HH", 8, rtnl_decode.RTA_NH_ID)
"""How the attribute begins; a route that has this elsewhere does no harm."""


class NexthopTable:
    """Those at our ids, as far as no event made them stale."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._resilient: bool | None = None
        self.others_used = False
        """Routes in main were seen that have another program's nexthop object."""
        self.invalidate()

    def invalidate(self) -> None:
        """Read them again."""
        self._objects: tuple[NexthopObject, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether they were read, and no event has made them stale."""
        return self._objects is not None

    def read(self, ids: range) -> tuple[NexthopObject, ...] | None:
        """Those with these ids; None where the kernel has no nexthop objects.  OSError."""
        if self._objects is None:
            try:
                bodies = self._requests.dump(dump_nexthops)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                return None
            # NHA_ID is the first attribute.  A routing daemon may have thousands of others.
            self._objects = tuple(
                nexthop_object(body)
                for body in bodies
                if len(body) >= NHMSG.size + 8 and U32.unpack_from(body, NHMSG.size + 4)[0] in ids
            )
        return self._objects

    def added_to(self, snapshot: Snapshot, ids: range) -> Snapshot:
        """The snapshot with the nexthop objects that have these ids.  OSError."""
        if not ids:
            return snapshot
        return snapshot._replace(nexthops=self.read(ids), resilient_groups=self.resilient(ids[0]))

    def resilient(self, number: int) -> bool:
        """Whether the kernel has resilient groups; `number` is the id that the request names."""
        if self._resilient is None:
            (reply,) = self._requests.query([partial(get_bucket, number=number)])
            self._resilient = not (isinstance(reply, OSError) and reply.errno == errno.EOPNOTSUPP)
        return self._resilient

    def decode(self, body: bytes) -> tuple[Route, ...]:
        """A route in main, like rtnl_decode.routes()."""
        self.others_used |= _NEXTHOP_ID in body
        return rtnl_decode.routes(body)

    def resolve(self, routes: tuple[Route, ...], device: int = ANY_DEVICE) -> tuple[Route, ...]:
        """The same with the ways of other programs' nexthop objects: through a device, or all.

        The kernel reports both, except with net.ipv4.nexthop_compat_mode=0.
        """
        for route in routes:  # not any(): this is called for every lookup
            if route.nexthop_id:
                break
        else:
            return routes
        return tuple(
            resolved
            for route in routes
            for resolved in (
                self._resolve(route)
                if route.nexthop_id and route.protocol != PROTOCOL
                else (route,)
            )
            if device in (ANY_DEVICE, resolved.device)
        )

    def _resolve(self, route: Route) -> list[Route]:
        """One for each device; none for an object without any, such as a blackhole."""
        by_device: dict[int, list[Nexthop]] = {}
        for hop in self.hops(route.nexthop_id):
            if hop.device:
                by_device.setdefault(hop.device, []).append(hop._replace(device=0))
        return [
            route._replace(
                device=device,
                gateway=hops[0].gateway,
                onlink=hops[0].onlink,
                nexthops=tuple(hops) if len(hops) > 1 else (),
                nexthop_id=0,
            )
            for device, hops in by_device.items()
        ]

    def others_exist(self) -> bool:
        """Whether another program has nexthop objects.  False on kernels that have none."""
        try:
            bodies = self._requests.dump(dump_nexthops)
        except OSError:
            return False
        exist = any(nexthop_object(body).protocol != PROTOCOL for body in bodies)
        self.others_used |= exist
        return exist

    def hops(self, number: int) -> list[Nexthop]:
        """What a nexthop object stands for; none if it is gone."""
        objects = self._get([number])
        weights = dict(objects[0].members) if objects else {}
        members = self._get(list(weights)) if weights else objects
        return [
            Nexthop(member.gateway, weights.get(member.id, 1), member.onlink, member.device)
            for member in members
        ]

    def _get(self, numbers: list[int]) -> list[NexthopObject]:
        replies = self._requests.query([partial(get_nexthop, number=number) for number in numbers])
        return [nexthop_object(reply.body) for reply in replies if isinstance(reply, Message)]
