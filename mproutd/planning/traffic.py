"""Kinds of traffic, and through which uplink the plan leads each of them.  Pure.

A status asks the kernel for the route of each, since rules of other programs may come first: the
plan says what should happen, not what does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from mproutd.model import (
    FAMILIES,
    SCOPE_GLOBAL,
    TABLE_DEFAULT,
    TABLE_MAIN,
    Address,
    Packet,
    Rule,
    Snapshot,
    bits,
    contains,
    family_of,
    leading_bits,
    prefix,
)
from mproutd.planning.plan import Plan
from mproutd.planning.resolvers import in_use
from mproutd.planning.routes import OTHER_TRAFFIC_MAIN

MAX_LANS = 64
"""How many devices with hosts behind them are looked at."""
MAX_LIMITS = 64
"""How many users, protocols and ports of other programs' rules."""


class Flow(NamedTuple):
    """One kind of traffic."""

    kind: Literal["host", "limited", "lan", "mark", "source", "rule", "resolver"]
    """Of this host; of this host, as far as another program's rule selects it by user, protocol or
    port; of the hosts behind a device; with an uplink's mark; from an uplink's address; with the
    mark of another program's rule that leads to main; of this host to a resolver in use."""
    packet: Packet
    uplinks: tuple[str, ...]
    """Through which it should leave; none where main decides."""
    name: str = ""
    """The device of a LAN."""
    rule: Rule | None = None
    """Another program's."""


def flows(
    snapshot: Snapshot,
    plan: Plan,
    own_rules: Collection[Rule],
    routers: Collection[tuple[str, int]],
) -> list[Flow]:
    """What to look up; `routers` are the (device, family) between which this host forwards."""
    families = [family for family in FAMILIES if any(rule.family == family for rule in plan.rules)]
    flows = [
        Flow("host", Packet(family, _own_source(plan, family)), _carriers(plan, family))
        for family in families
    ]
    own = {address.address for address in snapshot.addresses}
    for name, address in _lans(snapshot, plan, routers):
        if address.family in families and (host := _neighbour(address, own)):
            packet = Packet(address.family, host, address.link)
            flows.append(Flow("lan", packet, _expected(plan, packet, name), name))
    limits = {
        (rule.family, rule.fwmark, rule.selectors): rule
        for rule in reversed(snapshot.rules)
        if any(rule.selectors)
        and rule not in own_rules
        and rule.family in families
        and _selects_this_host(rule)
    }
    for (family, mark, selectors), rule in list(limits.items())[:MAX_LIMITS]:
        packet = Packet(family, mark=mark, selectors=selectors)
        flows.append(Flow("limited", packet, _carriers(plan, family), rule=rule))
    leading_out = {uplink.config.name for uplink in plan.uplinks if uplink.config.default_route}
    for rule, uplink in plan.rules.items():
        if uplink in leading_out and rule.fwmask:
            flows.append(Flow("mark", Packet(rule.family, mark=rule.fwmark), (uplink,)))
    for observed in plan.uplinks:
        for path in observed.paths:
            if path.usable and path.leads_out:
                for address in path.covered:
                    packet = Packet(path.family, address.address)
                    flows.append(Flow("source", packet, (observed.config.name,)))
    for resolver in in_use(plan.resolvers, plan.uplinks):
        if resolver.reason in ("", "shared"):
            packet = Packet(family_of(resolver.address), destination=resolver.address)
            flows.append(Flow("resolver", packet, resolver.sharers or (resolver.uplink,)))
    marks = set()
    for rule in snapshot.rules:
        if rule not in own_rules and rule.family in plan.default and _leads_mark_to_main(rule):
            identity = (rule.family, rule.fwmark, rule.fwmask)
            if identity in marks:
                continue
            marks.add(identity)
            packet = Packet(rule.family, mark=rule.fwmark)
            flows.append(Flow("rule", packet, _carriers(plan, rule.family), rule=rule))
    return flows


def _own_source(plan: Plan, family: int) -> str:
    """The source of this host's packets, where a route needs one.

    Without any route for packets that have none, the kernel chooses an address and looks up again
    (net/ipv6/ip6_output.c, ip6_dst_lookup_tail).
    """
    for observed in plan.uplinks:
        path = observed.paths[FAMILIES.index(family)]
        if observed.config.name == plan.default.get(family) and path.only_for_sources:
            return path.eligible[0].address
    return ""


def _selects_this_host(rule: Rule) -> bool:
    return not (rule.source or rule.destination or rule.iif or rule.oif or rule.inverted)


def _leads_mark_to_main(rule: Rule) -> bool:
    return (
        rule.plain
        and not any(rule.selectors)
        and rule.priority < OTHER_TRAFFIC_MAIN
        and rule.fwmask != 0
        and rule.table in (TABLE_MAIN, TABLE_DEFAULT)
        and not (rule.source or rule.destination or rule.iif or rule.oif)
    )


def _lans(
    snapshot: Snapshot, plan: Plan, routers: Collection[tuple[str, int]]
) -> Iterator[tuple[str, Address]]:
    """The first address of each device, no uplink, for whose hosts this one is a router."""
    uplinks = {observed.link.index for observed in plan.uplinks if observed.link}
    seen: set[tuple[str, int]] = set()
    for address in snapshot.addresses:
        link = snapshot.links.get(address.link)
        if link is None or not link.up or link.index in uplinks or link.pointopoint:
            continue
        device = (link.name, address.family)
        if device not in routers or device in seen or address.scope != SCOPE_GLOBAL:
            continue
        if len(seen) < MAX_LANS:
            seen.add(device)
            yield link.name, address


def _neighbour(address: Address, own: Collection[str]) -> str:
    """Another host in the subnet of an address, none of our `own`; "" where there is room for none.

    The kernel drops what comes from an address of its own.
    """
    size = bits(address.family)
    if size - address.prefixlen < 2 or address.network == "default":
        return ""
    start, length = leading_bits(address.network)
    hosts = (
        prefix(((start << size - length) + host).to_bytes(size // 8, "big"), size, address.family)
        for host in range(1, min(len(own) + 2, (1 << size - length) - 1))
    )
    return next((host for host in hosts if host not in own), "")


def _carriers(plan: Plan, family: int) -> tuple[str, ...]:
    return tuple(uplink for uplink, _ in plan.shares.get(family, ()))


def _expected(plan: Plan, packet: Packet, iif: str) -> tuple[str, ...]:
    """The uplink of the first rule in the plan that selects the packet of a LAN, or all that
    carry other traffic."""
    for rule, uplink in sorted(plan.rules.items(), key=lambda item: item[0].priority):
        if uplink and rule.family == packet.family and not (rule.fwmask or rule.oif):
            by_source = bool(rule.source) and contains(rule.source, packet.source)
            if not rule.destination and (by_source or rule.iif == iif):
                return (uplink,)
    return _carriers(plan, packet.family)
