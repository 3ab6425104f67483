"""Values → rtnetlink requests, each the bytes of one complete message.  Pure.

Requests are for sockets with NETLINK_GET_STRICT_CHK: the kernel filters dumps, and rejects header
fields that it would not use.  The replies to a dump are RTM_NEW* messages and NLMSG_DONE; changes
are acknowledged.  ValueError for what cannot be encoded.

Invariant: a delete contains everything that the kernel compares (for rules always the priority and
the protocol), so that it hits exactly this object or none.
"""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, AF_UNSPEC, inet_pton

from mproutd.model import (
    NO_SELECTORS,
    TO_TABLE,
    Metrics,
    Nexthop,
    NexthopObject,
    Operation,
    Packet,
    Route,
    Rule,
    Selectors,
    bits,
    family_of,
    split_prefix,
)
from mproutd.netlink import rtnl_nexthops
from mproutd.netlink.nlmsg import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    U16,
    put,
    put_address,
    put_u8,
    put_u32,
    request,
)
from mproutd.netlink.rtnl_decode import (
    FIB_RULE,
    FRA_DPORTS,
    FRA_DST,
    FRA_FWMARK,
    FRA_FWMASK,
    FRA_IIFNAME,
    FRA_IP_PROTO,
    FRA_OIFNAME,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SPORTS,
    FRA_SRC,
    FRA_SUPPRESS_PREFIXLEN,
    FRA_TABLE,
    FRA_UIDS,
    IFADDR,
    IFINFO,
    IFLA_ALT_IFNAME,
    NDMSG,
    RTA_DST,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_MARK,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_SRC,
    RTA_TABLE,
    RTA_VIA,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMSG,
    RTNEXTHOP,
    RTNH_F_ONLINK,
    U16_PAIR,
    U32_PAIR,
)

RT_TABLE_COMPAT = 252
"""In the header's eight bits when the number is in RTA_TABLE or FRA_TABLE."""

IP6_RT_PRIO_USER = 1024
"""net/ipv6: the kernel's default for metric 0; on a delete, 0 would mean any metric."""

_IFLA_EXT_MASK, _SKIP_STATS = 29, 1 << 3
_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000

_TCP = 6
"""IPPROTO_TCP."""
_RTA_UID, _RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT = 25, 27, 28, 29

_NDA_DST = 1

_FLAGS = {
    "add": NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    "replace": NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
    "delete": NLM_F_ACK,
}


def dump_links(sequence: int) -> bytes:
    """All devices, without their statistics (RTEXT_FILTER_SKIP_STATS)."""
    body = IFINFO.pack(AF_UNSPEC, 0, 0, 0, 0) + put_u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return request(RTM_GETLINK, NLM_F_DUMP, sequence, body)


def get_link(sequence: int, name: str = "", index: int = 0) -> bytes:
    """The device with this ifindex or name, proper or alternative (IFLA_ALT_IFNAME); or ENODEV."""
    body = IFINFO.pack(AF_UNSPEC, 0, index, 0, 0) + put_u32(_IFLA_EXT_MASK, _SKIP_STATS)
    if name:
        body += put(IFLA_ALT_IFNAME, name.encode("utf-8", "surrogateescape") + b"\0")
    return request(RTM_GETLINK, 0, sequence, body)


def dump_addresses(sequence: int, family: int = AF_UNSPEC, device: int = 0) -> bytes:
    """Addresses of one family or all, on one device (ifindex) or all."""
    return request(RTM_GETADDR, NLM_F_DUMP, sequence, IFADDR.pack(family, 0, 0, 0, device))


def dump_routes(
    sequence: int,
    table: int,
    *,
    family: int = AF_UNSPEC,
    device: int = 0,
    protocol: int = 0,
    kind: int = 0,
) -> bytes:
    """The routes of one table, or of all (0); AF_UNSPEC returns both families.  `kind` is an RTN_*.

    With one family, a table that does not exist ends the dump with ENOENT; with AF_UNSPEC it is
    just empty.
    """
    body = RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, kind, 0)
    if table:
        body += put_u32(RTA_TABLE, table)
    if device:
        body += put_u32(RTA_OIF, device)
    return request(RTM_GETROUTE, NLM_F_DUMP, sequence, body)


def dump_rules(sequence: int, family: int = AF_UNSPEC) -> bytes:
    """Rules in the order of evaluation; AF_UNSPEC returns families 128 and 129 too."""
    return request(RTM_GETRULE, NLM_F_DUMP, sequence, FIB_RULE.pack(family, 0, 0, 0, 0, 0, 0))


def lookup(
    sequence: int,
    destination: str,
    *,
    source: str = "",
    device: int = 0,
    mark: int = 0,
    match: bool = False,
) -> bytes:
    """Request the route that a packet takes; rtnl_decode.lookup_reply() decodes the reply.

    `device` is the one that it is bound to; 0 for none.

    The table in the reply is the one that the rules selected; 0 means that there is no route and
    IPv4 assumes the destination on the device's own link, which is no success.  `match`
    (RTM_F_FIB_MATCH, Linux 4.13) requests the matching entry of the table, with its prefix, metric
    and protocol, instead of the resolved path to one host.  Errors: ENETUNREACH or EHOSTUNREACH
    for no route, ENETUNREACH or EINVAL for an IPv4 source that is not a local address.
    """
    body = _lookup_body(destination, source, device, 0, mark, NO_SELECTORS, match)
    return request(RTM_GETROUTE, 0, sequence, body)


def lookup_packet(sequence: int, packet: Packet, destination: str, match: bool = True) -> bytes:
    """The same for what is known of a packet."""
    _, source, iif, mark, selectors, _ = packet
    body = _lookup_body(destination, source, 0, iif, mark, selectors, match)
    return request(RTM_GETROUTE, 0, sequence, body)


@lru_cache(256)
def _lookup_body(
    destination: str,
    source: str,
    device: int,
    iif: int,
    mark: int,
    selectors: Selectors,
    match: bool,
) -> bytes:
    """Cached, since every pass verifies the same endpoints."""
    family = family_of(destination)
    length = bits(family)
    flags = _RTM_F_FIB_MATCH if match else 0
    if family == AF_INET:
        # IPv6 rejects the flag, and reports the table anyway.
        flags |= _RTM_F_LOOKUP_TABLE
    body = RTMSG.pack(family, length, length if source else 0, 0, 0, 0, 0, 0, flags)
    body += put_address(RTA_DST, inet_pton(family, destination))
    if source:
        body += put_address(RTA_SRC, inet_pton(family, source))
    if device:
        body += put_u32(RTA_OIF, device)
    if iif:
        body += put_u32(RTA_IIF, iif)
    if mark:
        body += put_u32(RTA_MARK, mark)
    return body + _selectors(selectors) if any(selectors) else body


def _selectors(selectors: Selectors) -> bytes:
    """Of a packet that matches: the first of each range."""
    uids, sports, dports, protocol = selectors
    parts = [put_u32(_RTA_UID, uids[0])] if uids else []
    if protocol or sports or dports:
        parts.append(put_u8(_RTA_IP_PROTO, protocol or _TCP))
    for kind, ports in ((_RTA_SPORT, sports), (_RTA_DPORT, dports)):
        if ports:
            parts.append(put(kind, ports[0].to_bytes(2, "big")))
    return b"".join(parts)


def neighbour(kind: int, sequence: int, device: int, address: str) -> bytes:
    """Request a neighbour (RTM_GETNEIGH, Linux 5.0) or delete it (RTM_DELNEIGH); or ENOENT."""
    family = family_of(address)
    body = NDMSG.pack(family, device, 0, 0, 0) + put_address(_NDA_DST, inet_pton(family, address))
    return request(kind, NLM_F_ACK if kind == RTM_DELNEIGH else 0, sequence, body)


def change(operation: Operation, sequence: int) -> bytes:
    """The request for a change of a route, rule or nexthop object; ValueError for any other."""
    verb, value, _ = operation
    if isinstance(value, Route) and verb in _FLAGS:
        kind = RTM_DELROUTE if verb == "delete" else RTM_NEWROUTE
        return request(kind, _FLAGS[verb], sequence, _route(value))
    if isinstance(value, NexthopObject):
        return rtnl_nexthops.change(verb, value, sequence)
    if isinstance(value, Rule) and verb in ("add", "delete"):
        kind = RTM_DELRULE if verb == "delete" else RTM_NEWRULE
        return request(kind, _FLAGS[verb], sequence, _rule(value))
    raise ValueError(f"rtnetlink cannot {verb} a {type(value).__name__}")


def _route(value: Route) -> bytes:
    """A route's body, the same for all verbs.

    A delete of an IPv4 route with metric 0 that is already gone hits the route with the lowest
    metric instead, since the kernel takes 0 for any (fib_nh_match).
    """
    (
        family, table, destination, device, gateway, source, metric, scope, kind, protocol, onlink,
        metrics, from_prefix, nexthops, nexthop_id,
    ) = value  # fmt: skip
    packed, length = split_prefix(destination, family)
    start, from_length = split_prefix(from_prefix, family) if from_prefix else (b"", 0)
    parts = [
        RTMSG.pack(
            family,
            length,
            from_length,
            0,
            table if table < 256 else RT_TABLE_COMPAT,
            protocol,
            scope,
            kind,
            RTNH_F_ONLINK if onlink and not nexthops else 0,
        ),
        put_u32(RTA_TABLE, table),
    ]
    if length:
        parts.append(put_address(RTA_DST, packed))
    if from_length:
        parts.append(put_address(RTA_SRC, start))
    if nexthop_id:
        parts.append(put_u32(RTA_NH_ID, nexthop_id))
    elif nexthops:
        hops = b"".join(_nexthop(hop, hop.device or device, family) for hop in nexthops)
        parts.append(put(RTA_MULTIPATH, hops))
    else:
        if device:
            parts.append(put_u32(RTA_OIF, device))
        if gateway:
            parts.append(_gateway(gateway, family))
    if source:
        parts.append(put_address(RTA_PREFSRC, inet_pton(family, source)))
    if metric or family == AF_INET6:
        parts.append(put_u32(RTA_PRIORITY, metric or IP6_RT_PRIO_USER))
    if metrics:
        parts.append(_metrics(metrics))
    return b"".join(parts)


def _gateway(gateway: str, family: int) -> bytes:
    gateway_family = family_of(gateway)
    packed = inet_pton(gateway_family, gateway)
    if gateway_family == family:
        return put_address(RTA_GATEWAY, packed)
    return put(RTA_VIA, U16.pack(gateway_family) + packed)


def _nexthop(hop: Nexthop, device: int, family: int) -> bytes:
    """A struct rtnexthop and its attributes; the length covers both."""
    gateway = _gateway(hop.gateway, family) if hop.gateway else b""
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), flags, hop.weight - 1, device) + gateway


def _metrics(metrics: Metrics) -> bytes:
    payload = b"".join(
        put_u32(kind, value)
        if isinstance(value, int)
        else put(kind, value.encode("utf-8", "surrogateescape") + b"\0")
        for kind, value in metrics
    )
    return put(NLA_F_NESTED | RTA_METRICS, payload)


def _rule(value: Rule) -> bytes:
    """A rule's body, the same for adding and deleting.

    The kernel compares only what a delete contains (net/core/fib_rules.c, rule_find): among rules
    of one priority, protocol and table, a delete may hit a rule with further selectors.
    """
    (family, priority, table, source, target, iif, oif, mark, mask, suppress, protocol, *_) = value
    uids, sports, dports, ip_protocol = value.selectors
    if not value.plain:
        raise ValueError("a rule with selectors or actions that Rule cannot express")
    from_, from_length = split_prefix(source, family) if source else (b"", 0)
    to, to_length = split_prefix(target, family) if target else (b"", 0)
    short = table if table < 256 else RT_TABLE_COMPAT
    parts = [
        FIB_RULE.pack(family, to_length, from_length, 0, short, TO_TABLE, 0),
        put_u32(FRA_PRIORITY, priority),
        put_u32(FRA_TABLE, table),
        put_u8(FRA_PROTOCOL, protocol),
    ]
    if to_length:
        parts.append(put_address(FRA_DST, to))
    if from_length:
        parts.append(put_address(FRA_SRC, from_))
    if iif:
        parts.append(put(FRA_IIFNAME, _device_name(iif)))
    if oif:
        parts.append(put(FRA_OIFNAME, _device_name(oif)))
    if mark or mask:
        parts.append(put_u32(FRA_FWMARK, mark) + put_u32(FRA_FWMASK, mask))
    if suppress != -1:
        parts.append(put_u32(FRA_SUPPRESS_PREFIXLEN, suppress))
    if ip_protocol:
        parts.append(put_u8(FRA_IP_PROTO, ip_protocol))
    for kind, bounds, struct in (
        (FRA_UIDS, uids, U32_PAIR),
        (FRA_SPORTS, sports, U16_PAIR),
        (FRA_DPORTS, dports, U16_PAIR),
    ):
        if bounds:
            parts.append(put(kind, struct.pack(*bounds)))
    return b"".join(parts)


def _device_name(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > 15 or b"\0" in encoded:
        raise ValueError(f"not a device name: {name!r}")
    return encoded + b"\0"
