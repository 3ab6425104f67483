"""netifd's interfaces as facts.  Pure.

`ubus call network.interface dump` has what the kernel does not know: which device an interface
has been given (pppoe-wan, wwan0, 6in4-tun6), a gateway that is not in main (`defaultroute 0`),
the prefixes delegated through an uplink, and the table in which netifd itself keeps an
interface's routes (`ip4table`, `ip6table`).

Invariants: a reply that is no such dump is a ValueError, and a single field that makes no sense
is ignored; netifd can do no more than name a device, a gateway, a prefix, a table and
resolvers for an interface that the configuration manages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple, TypeVar

from mproutd.configuration.parsers import device, gateway, table
from mproutd.model import FAMILIES, family_of, prefix
from mproutd.planning.gateways import Gateway
from mproutd.planning.resolver_sources import Resolver, merge_resolvers, parse_resolvers
from mproutd.planning.uplinks import Facts

T = TypeVar("T")

_GATEWAY_PARSERS: dict[int, Callable[[str], str]] = {
    AF_INET: gateway(AF_INET, "gateway6"),
    AF_INET6: gateway(AF_INET6, "gateway"),
}
_UNSPECIFIED: dict[int, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}
"""The target of a default route, and the next hop of a route without a gateway."""
_TABLE_KEYS: dict[int, str] = {AF_INET: "ip4table", AF_INET6: "ip6table"}
SHORTEST_PREFIX = 16
"""Bits: delegated prefixes are longer, and a rule for a shorter one would match too much."""


class Interface(NamedTuple):
    """One interface, as netifd has it now."""

    name: str
    device: str = ""
    """Its l3_device; empty while it has none."""
    gateways: tuple[tuple[int, str], ...] = ()
    """(family, gateway), empty for a route without a gateway."""
    prefixes: tuple[str, ...] = ()
    """Delegated to us through it (DHCPv6-PD, 6rd, static ip6prefix)."""
    tables: tuple[tuple[int, int], ...] = ()
    """(family, table) where netifd itself keeps its routes."""
    resolvers: tuple[Resolver, ...] = ()
    """DNS servers in use: from the lease unless `peerdns` is 0, and from `dns`."""


def parse_dump(text: str) -> dict[str, Interface]:
    """The interfaces of a dump by name.  ValueError for any other text."""
    try:
        dump = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the reply is not JSON") from None
    listed = dump.get("interface") if isinstance(dump, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the reply has no list of interfaces")
    interfaces = {}
    for item in listed:
        name = item.get("interface") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError("the reply has an interface without a name")
        interfaces[name] = _interface(name, item)
    return interfaces


def _interface(name: str, attributes: Mapping[str, Any]) -> Interface:
    if attributes.get("up") is not True:
        return Interface(name)
    inactive = attributes.get("inactive")
    routes = _dicts(attributes, "route")
    routes += _dicts(inactive, "route") if isinstance(inactive, dict) else []
    gateways = []
    for family in FAMILIES:
        address = _gateway(family, routes)
        if address is not None:
            gateways.append((int(family), address))
    prefixes = [_prefix(item) for item in _dicts(attributes, "ipv6-prefix")]
    return Interface(
        name,
        _parsed(device, attributes.get("l3_device")) or "",
        tuple(gateways),
        tuple(dict.fromkeys(filter(None, prefixes))),
        tuple(
            (int(family), number)
            for family in FAMILIES
            if (number := _parsed(table, str(attributes.get(_TABLE_KEYS[family], ""))))
        ),
        _resolvers(attributes.get("dns-server")),
    )


def _resolvers(listed: object) -> tuple[Resolver, ...]:
    words = listed if isinstance(listed, list) else []
    return parse_resolvers((word for word in words if isinstance(word, str)), "netifd")


def _dicts(attributes: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = attributes.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _parsed(parse: Callable[[str], T], value: object) -> T | None:
    """The parsed value; None for one that makes no sense."""
    try:
        return parse(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _gateway(family: int, routes: Iterable[dict[str, Any]]) -> str | None:
    """The next hop of the first default route, preferably of one for every source address.

    For IPv6, netifd has a default route for each delegated prefix, with the prefix as its
    `source`; they have the same next hop.
    """
    unspecified = _UNSPECIFIED[family]
    gateways = []
    for route in routes:
        if route.get("target") != unspecified or route.get("mask") != 0:
            continue
        hop = route.get("nexthop", unspecified)
        address = "" if hop == unspecified else _parsed(_GATEWAY_PARSERS[family], hop)
        if address is not None:
            source = route.get("source", f"{unspecified}/0")
            gateways.append((source != f"{unspecified}/0", address))
    return min(gateways, key=lambda item: item[0])[1] if gateways else None


def _prefix(attributes: Mapping[str, Any]) -> str:
    """A delegated prefix; empty for one that makes no sense."""
    address, length = attributes.get("address"), attributes.get("mask")
    if not isinstance(address, str) or not isinstance(length, int):
        return ""
    try:
        if family_of(address) != AF_INET6 or not SHORTEST_PREFIX <= length <= 128:
            return ""
        return prefix(inet_pton(AF_INET6, address), length, AF_INET6)
    except (OSError, ValueError):
        return ""


def add_netifd_facts(interfaces: Mapping[str, Interface], facts: Facts) -> Facts:
    """The facts with netifd's, whose gateways are preferred.

    By device, since an interface may have others on its device that the configuration does not
    name: `wan` has the dynamic `wan_6`, which brings gateway and prefix.
    """
    gateways: dict[tuple[str, int], tuple[Gateway, ...]] = {}
    prefixes: dict[str, tuple[str, ...]] = {}
    tables: dict[tuple[str, int], int] = {}
    resolvers: dict[str, tuple[Resolver, ...]] = {}
    for interface in interfaces.values():
        name = interface.device
        if not name:
            continue
        for family, address in interface.gateways:
            known = gateways.get((name, family), ())
            gateways[name, family] = (*known, Gateway(address, "netifd"))
        for delegated in interface.prefixes:
            prefixes[name] = (*prefixes.get(name, ()), delegated)
        if interface.resolvers:
            resolvers[name] = (*resolvers.get(name, ()), *interface.resolvers)
        for family, number in interface.tables:
            tables.setdefault((name, family), number)
    for key, later in facts.gateways.items():
        gateways[key] = (*gateways.get(key, ()), *later)
    devices = {interface.name: interface.device for interface in interfaces.values()}
    return facts._replace(
        gateways=gateways,
        devices=devices,
        prefixes=prefixes,
        tables=tables,
        resolvers=merge_resolvers(resolvers, facts.resolvers),
    )
