"""What netifd says of its interfaces, as facts; pure.

`ubus call network.interface dump` knows what the kernel does not: which device an interface
has got (pppoe-wan, wwan0, 6in4-tun6), a gateway that was not put into main (`defaultroute 0`),
the prefixes that an uplink brings for the hosts behind it, and in which table netifd itself
keeps an interface (`ip4table`, `ip6table`).

What must hold: an answer that is no such dump is a ValueError, one field that makes no sense
is only left out; what netifd says can do no more than name a device, a gateway, a prefix and a
table for an interface that the configuration manages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple, TypeVar

from mproutd.configuration.parsers import device, gateway, table
from mproutd.model import FAMILIES, family_of, prefix
from mproutd.planning.uplinks import Facts, Gateway

T = TypeVar("T")

_GATEWAY: dict[int, Callable[[str], str]] = {
    AF_INET: gateway(AF_INET, "gateway6"),
    AF_INET6: gateway(AF_INET6, "gateway"),
}
_NO_HOP: dict[int, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}
"""The nexthop of a route that leads straight to the device."""
_TABLES: dict[int, str] = {AF_INET: "ip4table", AF_INET6: "ip6table"}
SHORTEST_PREFIX = 16
"""Bits: what is delegated is longer, and a rule for a shorter one would take too much."""


class Interface(NamedTuple):
    """One interface, as netifd has it now."""

    name: str
    device: str = ""
    """Its l3_device; empty while it has none."""
    gateways: tuple[tuple[int, str], ...] = ()
    """(family, gateway), empty for straight to the device."""
    prefixes: tuple[str, ...] = ()
    """Delegated to us by this line (DHCPv6-PD, 6rd, static ip6prefix)."""
    tables: tuple[tuple[int, int], ...] = ()
    """(family, table) where netifd keeps the interface's routes itself."""


def parse_dump(text: str) -> dict[str, Interface]:
    """The interfaces of a dump by name.  ValueError for anything that is none."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the answer is no JSON") from None
    listed = told.get("interface") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the answer is no list of interfaces")
    found = {}
    for each in listed:
        name = each.get("interface") if isinstance(each, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError("the answer has an interface without a name")
        found[name] = _interface(name, each)
    return found


def _interface(name: str, told: Mapping[str, Any]) -> Interface:
    if told.get("up") is not True:
        return Interface(name)
    inactive = told.get("inactive")
    routes = _dicts(told, "route")
    routes += _dicts(inactive, "route") if isinstance(inactive, dict) else []
    gateways = []
    for family in FAMILIES:
        way = _gateway(family, routes)
        if way is not None:
            gateways.append((int(family), way))
    prefixes = [_prefix(each) for each in _dicts(told, "ipv6-prefix")]
    return Interface(
        name,
        _parsed(device, told.get("l3_device")) or "",
        tuple(gateways),
        tuple(dict.fromkeys(each for each in prefixes if each)),
        tuple(
            (int(family), number)
            for family in FAMILIES
            if (number := _parsed(table, str(told.get(_TABLES[family], ""))))
        ),
    )


def _dicts(told: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = told.get(key)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _parsed(parse_value: Callable[[str], T], value: object) -> T | None:
    """The value as its parser has it; None for one that makes no sense."""
    try:
        return parse_value(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _gateway(family: int, routes: Iterable[dict[str, Any]]) -> str | None:
    """The nexthop of the first default route: one for every source before one for some.

    netifd gives an IPv6 default for each prefix that the line brought, with the prefix as its
    `source`; they have the same nexthop.
    """
    unspecified = _NO_HOP[family]
    ways = []
    for route in routes:
        if route.get("target") != unspecified or route.get("mask") != 0:
            continue
        hop = route.get("nexthop", unspecified)
        way = "" if hop == unspecified else _parsed(_GATEWAY[family], hop)
        if way is not None:
            ways.append((route.get("source", f"{unspecified}/0") != f"{unspecified}/0", way))
    return min(ways, key=lambda way: way[0])[1] if ways else None


def _prefix(told: Mapping[str, Any]) -> str:
    """A delegated prefix; empty for one that makes no sense."""
    address, length = told.get("address"), told.get("mask")
    if not isinstance(address, str) or not isinstance(length, int):
        return ""
    try:
        if family_of(address) != AF_INET6 or not SHORTEST_PREFIX <= length <= 128:
            return ""
        return prefix(inet_pton(AF_INET6, address), length, AF_INET6)
    except (OSError, ValueError):
        return ""


def add_netifd_facts(interfaces: Mapping[str, Interface], facts: Facts) -> Facts:
    """What other sources know, with what netifd does: its gateways go before theirs.

    Everything is told by device, since an interface may have others on its device that the
    configuration does not name: `wan` has the dynamic `wan_6`, which brings gateway and prefix.
    """
    gateways: dict[tuple[str, int], tuple[Gateway, ...]] = {}
    prefixes: dict[str, tuple[str, ...]] = {}
    tables: dict[tuple[str, int], int] = {}
    for each in interfaces.values():
        if not each.device:
            continue
        for family, way in each.gateways:
            known = gateways.get((each.device, family), ())
            gateways[each.device, family] = (*known, Gateway(way, "netifd"))
        for number in each.prefixes:
            prefixes[each.device] = (*prefixes.get(each.device, ()), number)
        for family, kept in each.tables:
            tables.setdefault((each.device, family), kept)
    for place, others in facts.gateways.items():
        gateways[place] = (*gateways.get(place, ()), *others)
    devices = {each.name: each.device for each in interfaces.values()}
    return facts._replace(gateways=gateways, devices=devices, prefixes=prefixes, tables=tables)
