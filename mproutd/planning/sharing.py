"""Other traffic shared by several uplinks: who shares, and the routes for it.  Pure.

As soon as an uplink has a `weight` or a `metric`, other traffic is shared: in each family by the
usable uplinks with the lowest metric, in proportion to their weights.  Without a weight it is 1;
without a metric it is 1 for `master` and `on`, and behind every configured one for `backup` and
`handover`.

IPv4 uses nexthop objects, one for each uplink, and a group of them.  A changed weight or member is
one message, a resilient group moves no flow that is in use, and where a link loses its carrier the
kernel takes it out of the group by itself.

IPv6 uses a multipath route: with a group, the kernel gives every socket of this host the address
of the group's first member, whichever it sends through (net/ipv6/ip6_output.c,
ip6_route_get_saddr).  IPv4 uses one as well where the kernel has no nexthop objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import gcd, lcm
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.configuration.options import MAX_METRIC
from mproutd.model import (
    NO_METRICS,
    PROTOCOL,
    Metrics,
    Nexthop,
    NexthopObject,
    Object,
    Route,
    Snapshot,
    family_of,
)
from mproutd.planning.cache import cache_last
from mproutd.planning.uplinks import RANK, ObservedUplink, by_rank

NEXTHOP_IDS = range(1_770_000_000, 1_770_100_000)
"""The ids of our nexthop objects, far from those of routing daemons, which count from 1.  The first
is the group's, the next ones are those of the slots; a second gateway of an uplink is 1,000 higher,
and where another program has an id, ours is 10,000 higher."""
_NEXT_GATEWAY, _NEXT_CHOICE = 1_000, 10_000
POLICY_GROUPS = 400
"""The ids of the policies' groups come after those of the slots."""
IDLE_TIMER, IDLE_TIMER_PINNED = 120, 1
"""Seconds without a packet until a flow may move to the uplink that its share is due to.  With
pin_flows marks keep the flows that began, and only new ones ask the group."""
MAX_KERNEL_WEIGHT = 256
"""struct nexthop_grp and rtnexthop before Linux 6.12."""
_DEFAULT_METRIC = {
    mode: 1 if mode in ("master", "on") else MAX_METRIC + rank for mode, rank in RANK.items()
}
_LOCK, _MTU = 1, 2
"""linux/rtnetlink.h, RTAX_*."""
_ANY_GATEWAY = "fe80::77"
"""A nexthop of an IPv6 multipath route needs a gateway; where the link resolves no addresses, it
does not matter which."""


class Member(NamedTuple):
    """An uplink among which other traffic of one family is shared."""

    uplink: str
    slot: int
    weight: int
    routes: Sequence[Route]
    """Its default routes, as copies in the table for other traffic."""


class SharedDefault(NamedTuple):
    """The default routes of one family, and the nexthop objects that they use."""

    routes: dict[Route, str]
    objects: dict[NexthopObject, str]
    """The values name the uplink; empty for what belongs to several."""


class _Way(NamedTuple):
    """One gateway of a member."""

    member: Member
    place: int
    """Of the gateway among the member's."""
    hop: Nexthop


@cache_last
def is_shared(config: Config) -> bool:
    """Whether other traffic is shared by weight."""
    return any(
        uplink.mode != "off"
        and uplink.default_route
        and (uplink.weight is not None or uplink.metric is not None)
        for uplink in config.uplinks
    )


@cache_last
def carries_other_traffic(config: Config) -> bool:
    """Whether mproutd decides by which uplink other traffic leaves: with a master or weights."""
    return any(uplink.mode == "master" for uplink in config.uplinks) or is_shared(config)


def carrying_uplinks(
    preferred: Sequence[ObservedUplink], index: int, *, shared: bool
) -> list[ObservedUplink]:
    """Those that carry other traffic, of uplinks in the order of by_preference().

    The first usable one or, where it is shared, all usable ones with its metric.  `index`: of the
    family.
    """
    usable = [uplink for uplink in preferred if uplink.link and uplink.paths[index].usable]
    if not shared:
        return usable[:1]
    return [uplink for uplink in usable if _metric(uplink) == _metric(usable[0])]


def by_preference(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """In the order in which they carry other traffic: by metric, mode and place in the file."""
    return sorted(by_rank(uplinks), key=_metric)


def _metric(uplink: ObservedUplink) -> int:
    """That of the mode where none is configured, and while the quota is used up."""
    if uplink.config.metric is None or uplink.over_quota:
        return _DEFAULT_METRIC[uplink.config.mode]
    return uplink.config.metric


@cache_last
def uses_nexthops(config: Config) -> bool:
    """Whether there may be nexthop objects: by shares of other traffic, or of a policy."""
    return is_shared(config) or any(
        len({member.metric for member in policy.members}) < len(policy.members)
        for policy in config.policies
    )


def shared_default(
    config: Config, snapshot: Snapshot, family: int, members: Sequence[Member], group: int = 0
) -> SharedDefault:
    """The default routes that share the traffic of one family; none without members.

    `group`: the number of the group among our nexthop objects.
    """
    routes: dict[tuple[object, ...], tuple[Route, str]] = {}
    for member in members:
        for route in member.routes:
            if route.from_prefix:  # the packet's address decides; the first uplink with it has it
                routes.setdefault(route.key, (route, member.uplink))
    found = dict(routes.values())
    general = [
        (member, route) for member in members for route in member.routes if not route.from_prefix
    ]
    if not general:
        return SharedDefault(found, {})
    if family == AF_INET and snapshot.nexthops is not None:
        ids = _Ids(snapshot.nexthops, snapshot.resilient_groups)
        timer = 0
        if snapshot.resilient_groups:
            timer = IDLE_TIMER_PINNED if config.pin_flows else IDLE_TIMER
        objects = _objects(ids, list(_ways(general)), timer, group)
        found[_common(general)._replace(nexthop_id=ids.of(group))] = ""
        return SharedDefault(found, objects)
    if len(general) == 1:
        ((member, route),) = general
        found[route] = member.uplink
        return SharedDefault(found, {})
    ways = list(_ways(general))
    hops = [
        way.hop._replace(weight=weight, gateway=way.hop.gateway or _default_gateway(family))
        for way, weight in zip(ways, _weights(ways), strict=True)
    ]
    hops.sort(key=lambda hop: (hop.device, hop.gateway))
    found[_common(general)._replace(nexthops=tuple(hops))] = ""
    return SharedDefault(found, {})


def _default_gateway(family: int) -> str:
    return _ANY_GATEWAY if family == AF_INET6 else ""


def _ways(general: Iterable[tuple[Member, Route]]) -> Iterator[_Way]:
    for member, route in general:
        hops = route.nexthops or (Nexthop(route.gateway, onlink=route.onlink),)
        for index, hop in enumerate(hops):
            yield _Way(member, index, hop._replace(device=route.device))


def _weights(ways: Sequence[_Way]) -> list[int]:
    """The weights of all gateways: a member's is shared by its gateways as main says."""
    totals: dict[str, int] = {}
    for way in ways:
        totals[way.member.uplink] = totals.get(way.member.uplink, 0) + way.hop.weight
    common = lcm(*totals.values())
    weights = [
        way.member.weight * way.hop.weight * (common // totals[way.member.uplink]) for way in ways
    ]
    if common > 1:
        divisor = gcd(*weights)
        weights = [weight // divisor for weight in weights]
    highest = max(weights)
    if highest > MAX_KERNEL_WEIGHT:
        weights = [max(1, round(weight * MAX_KERNEL_WEIGHT / highest)) for weight in weights]
    return weights


def _common(general: Sequence[tuple[Member, Route]]) -> Route:
    """The default route without its ways, and with what the members' routes have in common.

    A source only while there is one member: the kernel chooses that of the device otherwise.
    """
    routes = [route for _, route in general]
    first = routes[0]
    return Route(
        first.family,
        first.table,
        first.destination,
        source=first.source if len(routes) == 1 else "",
        metric=first.metric,
        metrics=_common_metrics([route.metrics for route in routes]),
    )


def _common_metrics(every: Sequence[Metrics]) -> Metrics:
    """The metrics that all have in common, and the smallest MTU of those that have one."""
    if all(metrics == every[0] for metrics in every):
        return every[0]
    tables = [dict(metrics) for metrics in every]
    common = {
        kind: value
        for kind, value in tables[0].items()
        if kind != _LOCK and all(table.get(kind) == value for table in tables)
    }
    mtus = [(int(table[_MTU]), table) for table in tables if _MTU in table]
    lock = int(tables[0].get(_LOCK, 0))
    for table in tables:
        lock &= int(table.get(_LOCK, 0))
    if mtus:
        common[_MTU], table = min(mtus, key=lambda mtu: mtu[0])
        lock |= int(table.get(_LOCK, 0)) & 1 << _MTU
    lock &= sum(1 << kind for kind in common)
    if lock:
        common[_LOCK] = lock
    return tuple(sorted(common.items())) or NO_METRICS


# -- nexthop objects ----------------------------------------------------------------------


class _Ids:
    """Ids that no other program has, nor a group of ours that cannot become the wanted one."""

    def __init__(self, existing: Iterable[NexthopObject], resilient: bool) -> None:
        self._taken = {
            nexthop.id
            for nexthop in existing
            if nexthop.protocol != PROTOCOL or (nexthop.members and nexthop.resilient != resilient)
        }

    def of(self, number: int) -> int:
        """The id for a number below _NEXT_CHOICE."""
        choices = NEXTHOP_IDS[number::_NEXT_CHOICE]
        return next((number for number in choices if number not in self._taken), choices[0])


def _objects(
    ids: _Ids, ways: Sequence[_Way], idle_timer: int, number_of_group: int
) -> dict[NexthopObject, str]:
    """The nexthop object of each gateway, then the group, resilient with an idle timer."""
    objects: dict[NexthopObject, str] = {}
    members: list[tuple[int, int]] = []
    for way, weight in zip(ways, _weights(ways), strict=True):
        hop = way.hop
        number = ids.of(way.member.slot + min(way.place, 9) * _NEXT_GATEWAY)
        family = family_of(hop.gateway) if hop.gateway else AF_INET
        single = NexthopObject(number, family, hop.device, hop.gateway, hop.onlink)
        objects[single] = way.member.uplink
        members.append((number, weight))
    group = NexthopObject(ids.of(number_of_group), members=tuple(sorted(members)))
    objects[group._replace(resilient=idle_timer > 0, idle_timer=idle_timer)] = ""
    return objects


def went_with_device(
    value: Object, objects: Iterable[NexthopObject], devices: Collection[int]
) -> bool:
    """Whether the kernel may have removed a nexthop object, or a route by one, with one of these
    devices, of which it sends no event."""
    if isinstance(value, NexthopObject) and not value.members:
        return value.device in devices
    if isinstance(value, NexthopObject) or (isinstance(value, Route) and value.nexthop_id):
        return any(nexthop.device in devices for nexthop in objects if not nexthop.members)
    return False
