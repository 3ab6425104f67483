"""Kernel objects and changes as ip(8) writes them, to be read and to be pasted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import AF_INET6

from mproutd.lan_address import FOREVER, LanAddress
from mproutd.model import (
    BACKUP,
    BUCKETS,
    FULLMESH,
    IMPLICIT,
    LAMINAR,
    SIGNAL,
    SUBFLOW,
    TO_TABLE,
    UNREACHABLE,
    Endpoint,
    Limits,
    Link,
    Metrics,
    NexthopObject,
    NftTable,
    Object,
    Operation,
    Route,
    Rule,
    Selectors,
    Sysctl,
    family_of,
)

_TABLES = {253: "default", 254: "main", 255: "local"}
_KINDS = {6: "blackhole", UNREACHABLE: "unreachable", 8: "prohibit"}
_ACTIONS = {**_KINDS, 2: "goto", 3: "nop"}
"""linux/fib_rules.h, FR_ACT_*; those that discard have the numbers of route types."""
_SCOPES = {253: "link", 254: "host"}
_FLAGS = {
    SIGNAL: "signal",
    SUBFLOW: "subflow",
    BACKUP: "backup",
    FULLMESH: "fullmesh",
    LAMINAR: "laminar",
    IMPLICIT: "implicit",
}

_ADDRESS_FLAGS = {0x02: "nodad", 0x10: "home", 0x100: "mngtmpaddr", 0x200: "noprefixroute"}
"""linux/if_addr.h, IFA_F_*, by ip-address(8)'s names."""
_LOCK, _FEATURES, _RTO_MIN = 1, 12, 13
_METRICS = {
    2: "mtu",
    3: "window",
    4: "rtt",
    5: "rttvar",
    6: "ssthresh",
    7: "cwnd",
    8: "advmss",
    9: "reordering",
    10: "hoplimit",
    11: "initcwnd",
    12: "features",
    13: "rto_min",
    14: "initrwnd",
    15: "quickack",
    16: "congctl",
    17: "fastopen_no_cookie",
}
"""linux/rtnetlink.h, RTAX_*, by ip-route(8)'s names."""
_IP_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}
_MILLISECONDS = {4: 8, 5: 4, 13: 1}
"""The metrics that ip(8) takes in milliseconds, and how many of the kernel's units that is."""

DeviceNames = Callable[[int], str]
"""ifindex → device name."""


def device_names(links: Mapping[int, Link]) -> DeviceNames:
    """Device names of a snapshot; `if5` for a device that is gone."""

    def name(index: int) -> str:
        return links[index].name if index in links else f"if{index}"

    return name


def describe(value: Object, name: DeviceNames) -> str:
    """An object as `ip ... show` prints it, in one line."""
    if isinstance(value, Route):
        return _route(value, name)
    if isinstance(value, Rule):
        return f"{value.priority}: {_rule(value)}"
    if isinstance(value, NexthopObject):
        return f"nexthop {_nexthop_object(value, name)}"
    if isinstance(value, Endpoint):
        words = [value.address]
        if value.id:
            words += ["id", str(value.id)]
        words += flag_names(value.flags)
        if value.device:
            words += ["dev", name(value.device)]
        if value.port:
            words += ["port", str(value.port)]
        return " ".join(words)
    if isinstance(value, Limits):
        return f"add_addr_accepted {value.add_addr_accepted} subflows {value.subflows}"
    if isinstance(value, NftTable):
        return "nftables table inet mproutd"
    if isinstance(value, LanAddress):
        return f"lifetimes of {value.address}/{value.prefixlen} dev {value.device}"
    return f"{_sysctl(value)} = {value.value}"


def ip_command(operation: Operation, name: DeviceNames) -> str:
    """A change as the command that would do it."""
    verb, value = operation.verb, operation.value
    if isinstance(value, Route):
        return f"ip {_family(value.family)}route {verb} {_route(value, name)}"
    if isinstance(value, Rule):
        words = f"{_rule(value)} priority {value.priority}"
        return f"ip {_family(value.family)}rule {verb} {words}"
    if isinstance(value, NexthopObject):
        words = f"id {value.id}" if verb == "delete" else _nexthop_object(value, name)
        return f"ip {_family(value.family)}nexthop {verb} {words}"
    if isinstance(value, Endpoint):
        return f"ip mptcp endpoint {_endpoint(verb, value, name)}"
    if isinstance(value, Limits):
        limits = f"subflows {value.subflows} add_addr_accepted {value.add_addr_accepted}"
        return f"ip mptcp limits set {limits}"
    if isinstance(value, LanAddress):
        return f"ip addr change {_lan_address(value)}"
    if isinstance(value, NftTable):
        return "nft delete table inet mproutd" if verb == "delete" else "nft -f -"
    return f"sysctl -w {_sysctl(value)}={value.value}"


def flag_names(flags: int) -> list[str]:
    """MPTCP_PM_ADDR_FLAG_* by name, in the order of ip-mptcp(8)."""
    return [text for bit, text in _FLAGS.items() if flags & bit]


def _lan_address(address: LanAddress) -> str:
    """ip(8) resets what is not given."""
    words = [f"{address.address}/{address.prefixlen} dev {address.device}"]
    for name, seconds in (("valid_lft", address.valid), ("preferred_lft", address.preferred)):
        words.append(f"{name} {'forever' if seconds == FOREVER else seconds}")
    if address.metric:
        words.append(f"metric {address.metric}")
    words += [text for bit, text in _ADDRESS_FLAGS.items() if address.flags & bit]
    return " ".join(words)


def _family(family: int) -> str:
    return "-6 " if family == AF_INET6 else ""


def _route(route: Route, name: DeviceNames) -> str:
    words = [route.destination]
    if route.type in _KINDS:
        words.insert(0, _KINDS[route.type])
    if route.from_prefix:
        words += ["from", route.from_prefix]
    if route.nexthop_id:
        words += ["nhid", str(route.nexthop_id)]
    elif not route.nexthops:
        words += _via(route.gateway, route.family)
        if route.device:
            words += ["dev", name(route.device)]
    words += ["table", _TABLES.get(route.table, str(route.table)), "proto", str(route.protocol)]
    if route.scope in _SCOPES:
        words += ["scope", _SCOPES[route.scope]]
    if route.source:
        words += ["src", route.source]
    if route.metric:
        words += ["metric", str(route.metric)]
    if route.onlink and not route.nexthops:
        words.append("onlink")
    words += _metrics(route.metrics)
    for hop in route.nexthops:
        device = name(hop.device or route.device)
        words += ["nexthop", *_via(hop.gateway, route.family), "dev", device]
        words += ["weight", str(hop.weight)] + (["onlink"] if hop.onlink else [])
    return " ".join(words)


def _nexthop_object(value: NexthopObject, name: DeviceNames) -> str:
    words = ["id", str(value.id)]
    if value.members:
        words += ["group", "/".join(f"{member},{weight}" for member, weight in value.members)]
        if value.resilient:
            words += ["type", "resilient", "buckets", str(BUCKETS)]
            words += ["idle_timer", str(value.idle_timer)]
    else:
        words += _via(value.gateway, value.family) + ["dev", name(value.device)]
    words += ["protocol", str(value.protocol)]
    return " ".join(words + (["onlink"] if value.onlink else []))


def _via(gateway: str, family: int) -> list[str]:
    if not gateway:
        return []
    return ["via", *(["inet6"] if family_of(gateway) != family else []), gateway]


def _metrics(metrics: Metrics) -> list[str]:
    """Metrics in the order of ip-route(8); a locked one has `lock` before its value."""
    locked = dict(metrics).get(_LOCK, 0)
    words = []
    for kind, value in metrics:
        if kind == _LOCK or kind not in _METRICS:
            continue
        words.append(_METRICS[kind])
        if isinstance(locked, int) and locked & 1 << kind and kind != _RTO_MIN:  # implied
            words.append("lock")
        if kind == _FEATURES:
            words.append("ecn" if value == 1 else str(value))
        elif kind in _MILLISECONDS and isinstance(value, int):
            words.append(f"{value / _MILLISECONDS[kind]:g}ms")
        else:
            words.append(str(value))
    return words


def _rule(rule: Rule) -> str:
    words = ["not"] if rule.inverted else []
    words += ["from", rule.source or "all"]
    if rule.destination:
        words += ["to", rule.destination]
    if rule.fwmask:
        mark = hex(rule.fwmark)
        words += ["fwmark", mark if rule.fwmask == 0xFFFFFFFF else f"{mark}/{rule.fwmask:#x}"]
    if rule.iif:
        words += ["iif", rule.iif]
    if rule.oif:
        words += ["oif", rule.oif]
    if any(rule.selectors):
        words += [selected(rule.selectors)]
    if rule.action == TO_TABLE:
        words += ["lookup", _TABLES.get(rule.table, str(rule.table))]
    else:
        words.append(_ACTIONS.get(rule.action, f"action {rule.action}"))
    if rule.suppress_prefixlength >= 0:
        words += ["suppress_prefixlength", str(rule.suppress_prefixlength)]
    if rule.protocol:
        words += ["protocol", str(rule.protocol)]
    return " ".join(words)


def selected(selectors: Selectors) -> str:
    """As in: uidrange 1000-1999 ipproto tcp dport 443."""
    words = []
    if selectors.uids:
        first, last = selectors.uids
        words += ["uidrange", f"{first}-{last}"]
    if selectors.protocol:
        words += ["ipproto", _IP_PROTOCOLS.get(selectors.protocol, str(selectors.protocol))]
    for name, ports in (("sport", selectors.sports), ("dport", selectors.dports)):
        if ports:
            words += [name, "-".join(map(str, dict.fromkeys(ports)))]
    return " ".join(words)


def _endpoint(verb: str, value: Endpoint, name: DeviceNames) -> str:
    if verb == "delete":
        return f"delete id {value.id}" if value.id else f"delete id 0 {value.address}"
    if verb == "change":
        backup = "backup" if value.flags & BACKUP else "nobackup"
        mesh = "fullmesh" if value.flags & FULLMESH else "nofullmesh"
        return f"change id {value.id} {backup} {mesh}"
    words = ["add", value.address]
    if value.device:
        words += ["dev", name(value.device)]
    if value.port:
        words += ["port", str(value.port)]
    return " ".join(words + flag_names(value.flags))


def _sysctl(setting: Sysctl) -> str:
    """With slashes: a device's name may hold a dot."""
    return f"net/ipv4/conf/{setting.device}/{setting.key}"
