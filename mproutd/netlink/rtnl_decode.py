"""rtnetlink messages → values.  Pure.

Every function takes the body of a message (after the 16-byte header) and returns the value, or
nothing for other address families, cached routes and the like.  RTM_NEW* and RTM_DEL* have the
same body.

Invariants: a value contains exactly what can be written and read back, so what the kernel computes
(expiry, statistics, RTA_PREF, RTNH_F_LINKDOWN) is left out.  Broken input raises DecodeError and
nothing else.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct, error

from mproutd.model import (
    NO_METRICS,
    NO_SELECTORS,
    PROTOCOL,
    TO_TABLE,
    Address,
    Link,
    Metrics,
    Nexthop,
    Route,
    Rule,
    Selectors,
    bits,
    prefix,
)
from mproutd.netlink.nlmsg import S32, U16, U32, DecodeError, attribute, attributes, spans, text

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_DELNEIGH, RTM_GETNEIGH = 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNETCONF = 80

IFF_UP, IFF_POINTOPOINT, IFF_RUNNING, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x10, 0x40, 0x80, 0x10000
IFLA_MTU = 4
IFLA_IFNAME, IFLA_AF_SPEC, IFLA_INET_CONF, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 3, 26, 1, 52, 53
_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_KIND = 10, 18, 4
_PORT_KINDS = ("bridge", "bond", "team", "openvswitch")
"""Of a device with a master: what takes its packets.  A VRF and batman-adv leave them to it."""
_LINK_COUNTERS = (7, 23, 35, 47, 48)
"""IFLA_STATS, _STATS64, _CARRIER_CHANGES, _CARRIER_UP_COUNT, _CARRIER_DOWN_COUNT."""
_RP_FILTER, _ARP_ANNOUNCE, _ARP_IGNORE = 8, 18, 19
"""linux/ip.h, IPV4_DEVCONF_*: they start at 1, so the index into the array is one less."""

IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8

RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 2, 3, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_TABLE, RTA_MARK, RTA_VIA, RTA_NH_ID = 8, 9, 15, 16, 18, 30
RTAX_CC_ALGO = 16
"""The only metric that is text, not a number."""
RTM_F_CLONED, RTNH_F_ONLINK = 0x200, 0x4
DISCARD_TYPES = (6, 7, 8)
"""linux/rtnetlink.h: RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT."""
_WITHOUT_DEVICE = (*DISCARD_TYPES, 9)
"""And RTN_THROW."""

FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK = 1, 2, 3, 6, 10
FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK = 14, 15, 16
FRA_OIFNAME, FRA_PAD, FRA_PROTOCOL = 17, 18, 21
FRA_UIDS, FRA_IP_PROTO, FRA_SPORTS, FRA_DPORTS = 20, 22, 23, 24
U32_PAIR, U16_PAIR = Struct("=LL"), Struct("=HH")
_INVERT = 0x2
"""linux/fib_rules.h, FIB_RULE_INVERT."""
_DETACHED = 0x18
"""linux/fib_rules.h, FIB_RULE_IIF_DETACHED | OIF_DETACHED: the device does not exist now."""

_RULE_ATTRIBUTES = {FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN}
_RULE_ATTRIBUTES |= {FRA_TABLE, FRA_FWMASK, FRA_OIFNAME, FRA_PAD, FRA_PROTOCOL}
_WHOLE_PORTS = {(28, b"\xff\xff"), (29, b"\xff\xff")}
"""FRA_SPORT_MASK and FRA_DPORT_MASK of a single port, which Linux 6.15 reports beside it."""
_SELECTORS = {FRA_UIDS, FRA_IP_PROTO, FRA_SPORTS, FRA_DPORTS}
_RULE_ATTRIBUTES |= _SELECTORS
"""Those that Rule has a field for."""

_FRA_LAST = 30
"""FRA_DSCP_MASK.  Up to here the kernel sends only attributes that are set, and 0 may be a value
(`uidrange 0-0`, `dscp 0`); a later attribute counts as unset while it is 0."""

IFINFO = Struct("=BxHlLL")
IFADDR = Struct("=BBBBL")
RTMSG = Struct("=BBBBBBBBL")
RTNEXTHOP = Struct("=HBBl")
NDMSG = Struct("=BxxxlHBB")
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
"""linux/neighbour.h: being resolved, and failed."""
FIB_RULE = Struct("=BBBBBxxBL")


def link(body: bytes) -> Link | None:
    """A device; None for a bridge's (AF_BRIDGE) or IPv6's view of one."""
    try:
        family, _, index, flags, _ = IFINFO.unpack_from(body)
        if family:
            return None
        name, spec, has_master = None, b"", False
        for kind, start, end in spans(body, 16):
            if kind == IFLA_IFNAME:
                name = body[start:end]
            elif kind == IFLA_AF_SPEC:
                spec = body[start:end]
            elif kind == _IFLA_MASTER:
                has_master = True
        if name is None:
            raise DecodeError("a device without a name")
        reverse, ignore, announce = 0, 0, 0
        inet = attribute(spec, 0, AF_INET)
        settings = attribute(inet, 0, IFLA_INET_CONF) if inet else None
        if settings:
            (reverse,) = U32.unpack_from(settings, 4 * _RP_FILTER - 4)
            (announce,) = U32.unpack_from(settings, 4 * _ARP_ANNOUNCE - 4)
            (ignore,) = U32.unpack_from(settings, 4 * _ARP_IGNORE - 4)
        return Link(
            index,
            text(name),
            flags & IFF_UP != 0,
            flags & (IFF_LOWER_UP | IFF_RUNNING) == IFF_LOWER_UP | IFF_RUNNING,
            flags & (IFF_POINTOPOINT | IFF_NOARP) != 0,
            reverse,
            ignore,
            announce,
            has_master and _is_port(body),
        )
    except error as problem:
        raise DecodeError(str(problem)) from None


def _is_port(body: bytes) -> bool:
    """Whether a device with a master is a port of a bridge or a bond."""
    info = attribute(body, 16, _IFLA_LINKINFO)
    kind = attribute(info, 0, _IFLA_INFO_SLAVE_KIND) if info else None
    return kind is not None and text(kind) in _PORT_KINDS


class LinkCache:
    """A DecodeCache for devices that ignores their statistics and counts of carrier changes.

    Those change all the time, RTEXT_FILTER_SKIP_STATS only omits IPv6's, and walking 40 attributes
    is what costs time.  One body is kept for each ifindex and its flags, in the parts that count.
    If a new body has these at the same offsets, it has the same attributes.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, list[tuple[int, bytes]], Link | None]] = {}

    def __getitem__(self, body: bytes) -> Link | None:
        known = self._known.get(body[4:12])
        if known is not None:
            length, parts, value = known
            if len(body) == length and all(body.startswith(part, at) for at, part in parts):
                return value
        value = link(body)
        parts, at = [], 0
        for kind, start, end in spans(body, 16):
            if kind in _LINK_COUNTERS:
                parts.append((at, body[at:start]))
                at = end
        if len(self._known) >= 1024:
            self._known.clear()
        self._known[body[4:12]] = (len(body), [*parts, (at, body[at:])], value)
        return value


def address(body: bytes) -> Address | None:
    """An address.  IFA_LOCAL is the address where there is one, IFA_ADDRESS then the peer."""
    try:
        family, length, flags, scope, index = IFADDR.unpack_from(body)
        if family not in (AF_INET, AF_INET6):
            return None
        attrs = attributes(body, 8)
        other = attrs.get(IFA_ADDRESS)
        own = attrs.get(IFA_LOCAL, other)
        if own is None:
            raise DecodeError("an address message without an address")
        more = attrs.get(IFA_FLAGS)
        return Address(
            index,
            inet_ntop(family, own),
            length,
            "" if other is None or other == own else inet_ntop(family, other),
            scope,
            U32.unpack(more)[0] if more else flags,
        )
    except (error, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def _prefix(packed: bytes, length: int, family: int) -> str:
    size = bits(family)
    if length > size or len(packed) * 8 != size:
        raise DecodeError(f"{len(packed)} bytes for a prefix of {length} bits")
    return prefix(packed, length, family)


def _gateway(attrs: dict[int, bytes], family: int) -> str:
    packed = attrs.get(RTA_GATEWAY)
    if packed is not None:
        return inet_ntop(family, packed)
    via = attrs.get(RTA_VIA)
    if via is None:
        return ""
    # struct rtvia: a family, then its address.  IPv4 through an IPv6 neighbour.
    return inet_ntop(U16.unpack_from(via)[0], via[2:])


def routes(body: bytes) -> tuple[Route, ...]:
    """A route, or one for each nexthop of a multipath route; () for what Route cannot express.

    Of several nexthops, those through one device are one value, except in a route of ours.
    Ignored: families other than IPv4 and IPv6, cached routes (RTM_F_CLONED), and routes for one
    type of service.

    A nexthop object is resolved where the kernel names the gateway as well.  A route of ours keeps
    the id instead, since what the kernel adds changes with the objects.
    """
    return _routes(body, RTM_F_CLONED)


def lookup_reply(body: bytes) -> Route:
    """The reply to rtnl_encode.lookup(), a cached route or not, with all nexthops.  DecodeError."""
    reply = _routes(body, 0, whole=True)
    if not reply:
        raise DecodeError("not a reply to a lookup")
    return reply[0]


def _routes(body: bytes, unwanted: int, whole: bool = False) -> tuple[Route, ...]:
    """`whole`: nexthops through several devices are one value, and objects are resolved."""
    try:
        family, length, source_length, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(
            body
        )
        if family not in (AF_INET, AF_INET6) or flags & unwanted or tos:
            return ()
        attrs = attributes(body, 12)
        large = attrs.get(RTA_TABLE)
        if large is not None:
            (table,) = U32.unpack(large)
        destination = _prefix(attrs.get(RTA_DST, b""), length, family) if length else "default"
        preferred = attrs.get(RTA_PREFSRC)
        source = "" if preferred is None else inet_ntop(family, preferred)
        rank = attrs.get(RTA_PRIORITY)
        metric = 0 if rank is None else U32.unpack(rank)[0]
        packed = attrs.get(RTA_METRICS)
        metrics = NO_METRICS if packed is None else _metrics(packed)
        from_prefix = ""
        if source_length:
            from_prefix = _prefix(attrs.get(RTA_SRC, b""), source_length, family)
        several, out, shared = attrs.get(RTA_MULTIPATH), attrs.get(RTA_OIF), attrs.get(RTA_NH_ID)
        device = 0 if out is None or kind in _WITHOUT_DEVICE else U32.unpack(out)[0]
        route = Route(
            family, table, destination, device, _gateway(attrs, family), source, metric,
            scope, kind, protocol, flags & RTNH_F_ONLINK != 0, metrics, from_prefix,
        )  # fmt: skip
        if several is None and shared is None:
            return (route,)
        own = protocol == PROTOCOL
        if shared is not None and ((own and not whole) or (out is None and several is None)):
            number = U32.unpack(shared)[0]
            return (route._replace(device=0, gateway="", onlink=False, nexthop_id=number),)
        if several is None:
            return (route,)
        by_device = _nexthops(several, family)
        if len(by_device) > 1 and (own or whole):
            return (route._replace(onlink=False, nexthops=_all_hops(by_device)),)
        return tuple(
            route._replace(
                device=device,
                gateway=hops[0].gateway,
                onlink=hops[0].onlink,
                nexthops=hops if len(hops) > 1 else (),
            )
            for device, hops in by_device.items()
        )
    except (error, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def _metrics(data: bytes) -> Metrics:
    """RTA_METRICS in canonical form."""
    metrics = [
        (kind, text(payload) if kind == RTAX_CC_ALGO else U32.unpack(payload)[0])
        for kind, payload in attributes(data).items()
    ]
    return tuple(sorted(metric for metric in metrics if metric[1]))


def _nexthops(data: bytes, family: int) -> dict[int, tuple[Nexthop, ...]]:
    """Device → its struct rtnexthops in RTA_MULTIPATH."""
    hops: dict[int, tuple[Nexthop, ...]] = {}
    offset = 0
    while offset < len(data):
        length, flags, weight, device = RTNEXTHOP.unpack_from(data, offset)
        last = offset + length
        if length < 8 or last > len(data):
            raise DecodeError(f"nexthop of {length} bytes, {len(data) - offset} are left")
        attrs = attributes(data[offset:last], 8)
        hop = Nexthop(_gateway(attrs, family), weight + 1, flags & RTNH_F_ONLINK != 0)
        hops[device] = (*hops.get(device, ()), hop)
        offset = (last + 3) & ~3
    return hops


def _all_hops(by_device: dict[int, tuple[Nexthop, ...]]) -> tuple[Nexthop, ...]:
    """Those of all devices in one order, however the kernel lists them."""
    return tuple(
        sorted(
            (hop._replace(device=device) for device, hops in by_device.items() for hop in hops),
            key=lambda hop: (hop.device, hop.gateway),
        )
    )


def is_unresolved(body: bytes) -> bool:
    """Whether a neighbour (RTM_NEWNEIGH) has not answered so far.  DecodeError."""
    try:
        _, _, state, _, _ = NDMSG.unpack_from(body)
    except error as problem:
        raise DecodeError(str(problem)) from None
    return bool(state & (NUD_INCOMPLETE | NUD_FAILED))


def _selectors(attrs: dict[int, bytes]) -> Selectors:
    def pair(kind: int, struct: Struct) -> tuple[int, int] | None:
        payload = attrs.get(kind)
        if not payload:
            return None
        first, last = struct.unpack(payload)
        return first, last

    return Selectors(
        pair(FRA_UIDS, U32_PAIR),
        pair(FRA_SPORTS, U16_PAIR),
        pair(FRA_DPORTS, U16_PAIR),
        (attrs.get(FRA_IP_PROTO) or b"\0")[0],
    )


def rule(body: bytes) -> Rule | None:
    """A rule; None for the multicast families 128 and 129 and others.

    `plain` is false for an action other than a lookup (goto, unreachable, …), for `not`, and for
    any attribute that Rule has no field for, including those of later kernels.
    """
    try:
        family, target, source, tos, table, action, flags = FIB_RULE.unpack_from(body)
        if family not in (AF_INET, AF_INET6):
            return None
        attrs = attributes(body, 12)
        plain = action == TO_TABLE and not tos and not flags & ~_DETACHED
        if not attrs.keys() <= _RULE_ATTRIBUTES:
            plain = plain and not any(
                kind <= _FRA_LAST or payload.strip(b"\0")
                for kind, payload in attrs.items()
                if kind not in _RULE_ATTRIBUTES and (kind, payload) not in _WHOLE_PORTS
            )
        get = attrs.get
        number = U32.unpack
        large, suppress, protocol = get(FRA_TABLE), get(FRA_SUPPRESS_PREFIXLEN), get(FRA_PROTOCOL)
        rank, mark, mask = get(FRA_PRIORITY), get(FRA_FWMARK), get(FRA_FWMASK)
        return Rule(
            family,
            number(rank)[0] if rank else 0,
            number(large)[0] if large else table,
            _prefix(attrs[FRA_SRC], source, family) if source else "",
            _prefix(attrs[FRA_DST], target, family) if target else "",
            text(get(FRA_IIFNAME, b"")),
            text(get(FRA_OIFNAME, b"")),
            number(mark)[0] if mark else 0,
            number(mask)[0] if mask else 0,
            S32.unpack(suppress)[0] if suppress else -1,
            protocol[0] if protocol else 0,
            plain,
            flags & _INVERT != 0,
            action,
            NO_SELECTORS if _SELECTORS.isdisjoint(attrs) else _selectors(attrs),
        )
    except (error, ValueError, KeyError) as problem:
        raise DecodeError(str(problem)) from None
