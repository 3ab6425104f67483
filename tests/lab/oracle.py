"""The oracle of the codec: the same messages, encoded and decoded by pyroute2."""

from __future__ import annotations

import sys
from typing import Any

from pyroute2.netlink import genlmsg, nla
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from mproutd.model import Address, Endpoint, Link, Route, Rule, family_of, split_prefix
from mproutd.netlink.nlmsg import put, request


class PmMessage(genlmsg):  # type: ignore[misc]
    """pyroute2's own class decodes IF_IDX as a hex string, and its subclasses keep that table."""

    nla_map = (
        ("PM_UNSPEC", "none"),
        ("PM_ADDR", "pm_addr"),
        ("PM_RCV_ADD_ADDRS", "uint32"),
        ("PM_SUBFLOWS", "uint32"),
    )

    class pm_addr(nla):  # type: ignore[misc]  # noqa: N801  the name in nla_map
        nla_map = (
            ("ADDR_UNSPEC", "none"),
            ("ADDR_FAMILY", "uint16"),
            ("ADDR_ID", "uint8"),
            ("ADDR_ADDR4", "ipaddr"),
            ("ADDR_ADDR6", "ipaddr"),
            ("ADDR_PORT", "uint16"),
            ("ADDR_FLAGS", "uint32"),
            ("ADDR_IF_IDX", "int32"),
        )


def decoded(kind: Any, data: bytes) -> Any:
    message = kind(data)
    message.decode()
    return message


def encoded(kind: Any, number: int, fields: dict[str, Any], attributes: list[Any]) -> bytes:
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message["header"]["type"] = number
    message["header"]["flags"] = 1
    message["header"]["sequence_number"] = 1
    message.encode()
    return bytes(message.data)


def _known(attributes: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in attributes if value not in ("", 0)]


_RTAX = (
    "UNSPEC LOCK MTU WINDOW RTT RTTVAR SSTHRESH CWND ADVMSS REORDERING HOPLIMIT INITCWND FEATURES "
    "RTO_MIN INITRWND QUICKACK CC_ALGO"
).split()


def _metric(metric: tuple[int, int | str]) -> tuple[str, int | str]:
    return f"RTAX_{_RTAX[metric[0]]}", metric[1]


def metrics(attributes: Any) -> tuple[tuple[int, int | str], ...]:
    """pyroute2's RTA_METRICS as ours."""
    return tuple(
        (_RTAX.index(name.removeprefix("RTAX_")), value) for name, value in attributes["attrs"]
    )


def route(value: Route) -> bytes:
    _, length = split_prefix(value.destination, value.family)
    address = "" if not length else value.destination.partition("/")[0]
    _, source_length = split_prefix(value.from_prefix or "default", value.family)
    single = not value.nexthops
    same = value.gateway and family_of(value.gateway) == value.family
    via = {"family": family_of(value.gateway), "addr": value.gateway}
    hops = [
        {
            "oif": value.device,
            "hops": hop.weight - 1,
            "flags": 4 if hop.onlink else 0,
            "attrs": _known([("RTA_GATEWAY", hop.gateway)]),
        }
        for hop in value.nexthops
    ]
    return encoded(
        rtmsg,
        24,
        {
            "family": value.family,
            "dst_len": length,
            "src_len": source_length,
            "table": value.table if value.table < 256 else 252,
            "proto": value.protocol,
            "scope": value.scope,
            "type": value.type,
            "flags": 4 if value.onlink and single else 0,
        },
        _known(
            [
                ("RTA_TABLE", value.table),
                ("RTA_DST", address),
                ("RTA_SRC", value.from_prefix.partition("/")[0]),
                ("RTA_MULTIPATH", hops or ""),
                ("RTA_METRICS", {"attrs": list(map(_metric, value.metrics))}),
                ("RTA_OIF", value.device if single else 0),
                ("RTA_GATEWAY", value.gateway if same and single else ""),
                ("RTA_VIA", via if value.gateway and not same and single else ""),
                ("RTA_PREFSRC", value.source),
                ("RTA_PRIORITY", value.metric),
                ("RTA_PREF", 1),
            ]
        ),
    )


def rule(value: Rule) -> bytes:
    def length(text: str) -> int:
        return split_prefix(text, value.family)[1] if text else 0

    attributes = _known(
        [
            ("FRA_PRIORITY", value.priority),
            ("FRA_TABLE", value.table),
            ("FRA_SRC", value.source.partition("/")[0]),
            ("FRA_DST", value.destination.partition("/")[0]),
            ("FRA_IIFNAME", value.iif),
            ("FRA_OIFNAME", value.oif),
            ("FRA_FWMARK", value.fwmark),
            ("FRA_FWMASK", value.fwmask),
            ("FRA_PROTOCOL", value.protocol),
        ]
    )
    attributes.append(("FRA_SUPPRESS_PREFIXLEN", value.suppress_prefixlength & 0xFFFFFFFF))
    fields = {
        "family": value.family,
        "src_len": length(value.source),
        "dst_len": length(value.destination),
        "table": value.table if value.table < 256 else 252,
        "action": 1,
    }
    return encoded(fibmsg, 32, fields, attributes)


def address(value: Address) -> bytes:
    """As the kernel does: IPv4 always has IFA_LOCAL, IPv6 only beside a peer."""
    attributes = [("IFA_ADDRESS", value.peer or value.address)]
    if value.peer or value.family == 2:
        attributes.append(("IFA_LOCAL", value.address))
    fields = {
        "family": value.family,
        "prefixlen": value.prefixlen,
        "flags": value.flags & 0xFF,
        "scope": value.scope,
        "index": value.link,
    }
    return encoded(ifaddrmsg, 20, fields, [*attributes, ("IFA_FLAGS", value.flags)])


def link(value: Link, statistics: bytes = bytes(296)) -> bytes:
    """pyroute2 cannot encode IFLA_AF_SPEC or statistics; they are appended, as in a dump."""
    settings = [0] * 33
    settings[7], settings[17], settings[18] = value.rp_filter, value.arp_announce, value.arp_ignore
    conf = b"".join(number.to_bytes(4, sys.byteorder) for number in settings)
    flags = (0x1 if value.up else 0) | (0x10040 if value.carrier else 0x40)
    head = encoded(
        ifinfmsg,
        16,
        {"index": value.index, "flags": flags | (0x80 if value.pointopoint else 0)},
        [("IFLA_IFNAME", value.name), ("IFLA_MTU", 1500)],
    )
    counters = put(23, statistics[:200]) + put(7, statistics[200:])
    return request(16, 0, 1, head[16:] + counters + put(26, put(2, put(1, conf))))


def endpoint(value: Endpoint) -> bytes:
    six = ":" in value.address
    attributes = [
        ("ADDR_FAMILY", 10 if six else 2),
        ("ADDR_ID", value.id),
        ("ADDR_FLAGS", value.flags),
        ("ADDR_IF_IDX", value.device),
        ("ADDR_ADDR6" if six else "ADDR_ADDR4", value.address),
        ("ADDR_PORT", value.port),
    ]
    outer = [("PM_ADDR", {"attrs": _known(attributes)}, 0x8000)]
    return encoded(PmMessage, 28, {"cmd": 3, "version": 1}, outer)
