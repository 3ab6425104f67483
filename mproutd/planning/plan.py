"""What should be in the kernel: configuration and snapshot in, objects out.

Everything here is a pure function of its arguments, so that any history leads to the
same kernel state as a clean start.  The priorities (relative to rule_priority) are:

    +0         fwmark MASK/MASK lookup main     mproutd asks main for a device's default here
    +5         from ADDRESS to SUBNET lookup T  only where two devices share a subnet
    +10        lookup main suppress_prefixlength 7 (IPv6: 6)
    +100+slot  fwmark M/MASK lookup T           \\ steering: only while the uplink is usable,
    +700+slot  iif DEV lookup T                 / or strict
    +300+slot  oif DEV lookup T
    +500+slot  from ADDRESS lookup T            also from a PREFIX that the line delegated
    32764      lookup main suppress_prefixlength 0   \\ only with a master
    32765      lookup table_base                     /
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import (
    FAMILIES,
    SCOPE_LINK,
    TABLE_MAIN,
    UNREACHABLE,
    Endpoint,
    Failure,
    Limits,
    Object,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
)
from mproutd.planning import numbering
from mproutd.planning.bookkeeping import RULE_SPAN, prune, remember
from mproutd.planning.cache import cache_last_by
from mproutd.planning.endpoints import by_rank, plan_endpoints
from mproutd.planning.health import effective, keep_last_usable
from mproutd.planning.numbering import Numbers
from mproutd.planning.overlaps import shared_subnets
from mproutd.planning.state import State
from mproutd.planning.tunables import before_us, plan_limits, plan_sysctls
from mproutd.planning.uplinks import Facts, ObservedUplink, Path, observe

ASK_MAIN, SHARED, MAIN, MARK, OIF, SOURCE, IIF = 0, 5, 10, 100, 300, 500, 700
LAST_MAIN, LAST_DEFAULT = 32764, 32765

SUPPRESS: dict[int, int] = {AF_INET: 7, AF_INET6: 6}
"""A route as short as this in main is a default in disguise: 0.0.0.0/1, 2000::/3."""
METRIC: dict[int, int] = {AF_INET: 0, AF_INET6: 1024}
"""IP6_RT_PRIO_USER (net/ip6_route.h) is what IPv6 makes of 0."""
STRICT_METRIC = 4278198272
"""Behind every other route: the metric that the kernel gives its own unreachable routes."""


class Plan(NamedTuple):
    """What should be there.  The dicts are ordered sets; the values name the uplink."""

    routes: dict[Route, str]
    rules: dict[Rule, str]
    endpoints: dict[Endpoint, str]
    limits: Limits | None
    sysctls: dict[Sysctl, str]
    uplinks: tuple[ObservedUplink, ...]
    numbers: dict[str, Numbers]
    default: dict[int, str]
    """Family → the uplink that carries other traffic; empty without a master."""
    over_cap: dict[str, str]
    """Address → uplink, where the kernel's cap left no endpoint."""
    state: State
    """What to remember before any of this is applied."""


class Outcome(NamedTuple):
    """What a pass saw and did."""

    snapshot: Snapshot
    plan: Plan
    done: tuple[Operation, ...] = ()
    failures: tuple[Failure, ...] = ()
    misrouted: tuple[str, ...] = ()
    """Addresses that other rules lead elsewhere: no endpoint is kept there."""
    run_again: bool = False
    """Something that this pass did may change what the next one sees."""
    missing: tuple[Object, ...] = ()
    """What is wanted and not there yet: refused, held back, or waiting for something else."""


def own_tables(config: Config, state: State) -> frozenset[int]:
    """Every table that may hold routes of ours: DESIGN 4, and those of an earlier configuration."""
    base = range(config.table_base, config.table_base + 256)
    pinned = {uplink.table for uplink in config.uplinks if uplink.table}
    return frozenset(base) | pinned | state.tables


def own_priorities(config: Config, state: State) -> list[range]:
    """Where a rule is ours, if it carries our protocol."""
    bases = {config.rule_priority, *state.priorities}
    return [
        range(LAST_MAIN, LAST_DEFAULT + 1),
        *(range(base, base + RULE_SPAN) for base in sorted(bases)),
    ]


def make_plan(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> Plan:
    """What should be in the kernel now."""
    if not config.enabled:
        return nothing(snapshot, state)
    numbers = numbering.assign_numbers(config, state.slots)
    failed = effective(config, state, facts)
    uplinks = tuple(keep_last_usable(observe(config, snapshot, state, facts, failed), failed))
    routes: dict[Route, str] = {}
    rules: dict[Rule, str] = {}
    shared = shared_subnets(uplinks, snapshot.addresses)
    ipv6 = any(uplink.strict for uplink in config.uplinks) and _has_ipv6(snapshot)
    for entry in uplinks:
        subnets = (
            [
                (address.address, shared[address.address])
                for path in entry.paths
                for address in path.covered
                if address.address in shared
            ]
            if shared
            else []
        )
        place = numbers[entry.config.name]
        own_routes, own_rules = _uplink(entry, place, config.rule_priority, subnets, ipv6)
        routes.update(own_routes)
        rules.update(own_rules)
    default = _default_route(config, uplinks, routes)
    _common_rules(config, uplinks, rules)
    endpoints, left_out = plan_endpoints(config, snapshot, uplinks, state, facts.settled)
    limits = plan_limits(config, snapshot, state)
    sysctls = plan_sysctls(snapshot, state, uplinks, endpoints, shared)
    return Plan(
        routes=routes,
        rules=rules,
        endpoints=endpoints,
        limits=limits,
        sysctls=sysctls,
        uplinks=uplinks,
        numbers=numbers,
        default=default,
        over_cap=left_out,
        state=remember(
            config, state, numbers, uplinks, endpoints, snapshot, limits, sysctls
        )._replace(failed=failed),
    )


def nothing(snapshot: Snapshot, state: State) -> Plan:
    """What should be there once everything of ours is gone: what was found, put back."""
    limits = before_us(snapshot, state)
    return Plan({}, {}, {}, limits, {}, (), {}, {}, {}, prune(state, snapshot))


def _has_ipv6(snapshot: Snapshot) -> bool:
    return any(address.family == AF_INET6 for address in snapshot.addresses)


# -- routes and rules ---------------------------------------------------------------------


@cache_last_by(lambda uplink, *_: uplink.config.name)
def _uplink(
    uplink: ObservedUplink,
    numbers: Numbers,
    base: int,
    shared: list[tuple[str, list[str]]],
    ipv6: bool,
) -> tuple[dict[Route, str], dict[Rule, str]]:
    """One uplink's routes and rules.  `shared` are its addresses in shared subnets.

    Where netifd keeps the table, no route is ours, and neither are the source rules.
    """
    routes: list[Route] = []
    rules: list[Rule] = []
    for path in uplink.paths:
        strict = uplink.config.strict and (path.family == AF_INET or ipv6)
        routes += [] if path.table else _routes(uplink, path, numbers.table, strict)
        rules += _rules(base, uplink, path, numbers, strict, dict(shared))
    name = uplink.config.name
    return dict.fromkeys(routes, name), dict.fromkeys(rules, name)


def _routes(uplink: ObservedUplink, path: Path, table: int, strict: bool) -> list[Route]:
    family, link = path.family, uplink.link
    metric = METRIC[family]
    routes: dict[tuple[int, int, str, int], Route] = {}
    if link is not None and link.up:
        scope = SCOPE_LINK if family == AF_INET else 0
        for address in path.covered:
            network = address.network
            if network != address.address:
                route = Route(
                    family, table, network, link.index, "", address.address, metric, scope
                )
                routes.setdefault(route.key, route)
        if path.routable:
            addresses = (*path.eligible, *path.covered)
            source = addresses[0].address if addresses else ""
            route = _default(path, table, link.index, source)
            routes[route.key] = route
    if strict:
        route = Route(family, table, "default", metric=STRICT_METRIC, type=UNREACHABLE)
        routes[route.key] = route
    return list(routes.values())


def _default(path: Path, table: int, device: int, source: str) -> Route:
    assert path.gateway is not None
    scope = SCOPE_LINK if path.family == AF_INET and not path.gateway.address else 0
    return Route(
        path.family,
        table,
        "default",
        device,
        path.gateway.address,
        source,
        METRIC[path.family],
        scope,
        onlink=path.onlink,
    )


def _rules(
    base: int,
    uplink: ObservedUplink,
    path: Path,
    numbers: Numbers,
    strict: bool,
    shared: dict[str, list[str]],
) -> list[Rule]:
    family, table = path.family, path.table or numbers.table
    held = uplink.link is not None and uplink.link.up and bool(path.sources)
    rules = []
    if held:
        for address in path.covered:
            for network in shared.get(address.address, ()):
                rules.append(
                    Rule(family, base + SHARED, table, address.address, destination=network)
                )
    if numbers.mask and (path.usable or strict):
        rules.append(
            Rule(
                family, base + MARK + numbers.slot, table, fwmark=numbers.mark, fwmask=numbers.mask
            )
        )
    if uplink.config.device and (held or strict):  # a rule without `oif` would take everything
        rules.append(Rule(family, base + OIF + numbers.slot, table, oif=uplink.config.device))
    if (held or strict) and not path.table:
        for source in path.sources:
            rules.append(Rule(family, base + SOURCE + numbers.slot, table, source))
    if path.usable or strict:
        for device in uplink.config.iif:
            rules.append(Rule(family, base + IIF + numbers.slot, table, iif=device))
    return rules


def _common_rules(
    config: Config, uplinks: tuple[ObservedUplink, ...], rules: dict[Rule, str]
) -> None:
    base = config.rule_priority
    for family in FAMILIES:
        if not any(rule.family == family for rule in rules):
            continue
        mask = config.mark_mask
        rules[Rule(family, base + ASK_MAIN, TABLE_MAIN, fwmark=mask, fwmask=mask)] = ""
        if config.main_routes:
            rules[Rule(family, base + MAIN, TABLE_MAIN, suppress_prefixlength=SUPPRESS[family])] = (
                ""
            )
        if any(uplink.config.mode == "master" for uplink in uplinks):
            rules[Rule(family, LAST_MAIN, TABLE_MAIN, suppress_prefixlength=0)] = ""
            rules[Rule(family, LAST_DEFAULT, config.table_base)] = ""


def _default_route(
    config: Config, uplinks: tuple[ObservedUplink, ...], routes: dict[Route, str]
) -> dict[int, str]:
    """The default for other traffic, one a family, while there is a master."""
    if not any(uplink.config.mode == "master" for uplink in uplinks):
        return {}
    default: dict[int, str] = {}
    ranked = by_rank(uplinks)
    for place, family in enumerate(FAMILIES):
        for uplink in ranked:
            path = uplink.paths[place]
            if path.usable and uplink.link is not None:
                # IPv6 chooses among a device's addresses by RFC 6724; a source would undo
                # the preference for temporary ones.
                source = path.eligible[0].address if family == AF_INET else ""
                route = _default(path, config.table_base, uplink.link.index, source)
                routes[route] = uplink.config.name
                default[family] = uplink.config.name
                break
    return default
