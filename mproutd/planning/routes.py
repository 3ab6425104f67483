"""The routes and rules of each uplink and of other traffic.  Pure.

An uplink has a table of its own with its connected routes and its default route, and rules
that send its traffic there.  Where main has such routes for the device, they are copied with all
attributes: source, MTU and other metrics, source prefix, several nexthops.  Other traffic is
whatever no such rule selects: while there is a master, `table_base` holds the default route of
the best usable uplink for it.

Rule priorities; those with + are relative to `rule_priority`, T is the uplink's table:

    +0         fwmark MASK/MASK lookup main    only for mproutd's own lookups in main
    +1         lookup local                    only where the system's own rule comes later
    +5         from ADDRESS to SUBNET lookup T only where two devices share a subnet
    +10        lookup main suppress_prefixlength 7 (IPv6: 6)
    +100+slot  fwmark MARK/MASK lookup T       steering, only while the uplink is usable
    +300       fwmark MARK/MASK lookup T       policies, where T is the policy's table
    +300+slot  oif DEVICE lookup T
    +500+slot  from ADDRESS lookup T           also from each prefix delegated to the uplink
    +700+slot  iif DEVICE lookup T             steering, only while the uplink is usable
    +899       to RESOLVER lookup T            the same: resolvers.py
    +900...    iif lo uidrange ... lookup T    policies, for this host's own traffic
    32764      lookup main suppress_prefixlength 0   other traffic, only with a master
    32765      lookup table_base                     other traffic, only with a master

Weights and metrics have the same effect as a master; see sharing.py.

Two kinds of traffic must not be led elsewhere by a master.  Where main's best default route leaves
through a device that is no uplink (a VPN), table_base has no default route in that family, so main
decides.  And where an uplink that is `off` has a default route in main, table_base ends in an
unreachable route: when the default before it goes, even for a moment, nothing leaves via `off`.

With `strict`, an uplink's rules stay while it is not usable, and its table ends in an
unreachable route.  So does the table of an uplink with `default_route` 0: a subflow from there to
an address elsewhere fails at once, instead of asking for a neighbour on the wrong link.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.configuration.parsers import is_proper_name
from mproutd.model import (
    ANY_DEVICE,
    FAMILIES,
    PROTOCOL,
    TABLE_LOCAL,
    TABLE_MAIN,
    UNREACHABLE,
    NexthopObject,
    Operation,
    Route,
    Rule,
    Snapshot,
)
from mproutd.planning.cache import cache_last_by
from mproutd.planning.default_routes import STRICT_METRIC, copy_route, default_routes
from mproutd.planning.numbering import Numbers
from mproutd.planning.sharing import (
    Member,
    by_preference,
    carries_other_traffic,
    carrying_uplinks,
    is_shared,
    shared_default,
)
from mproutd.planning.uplinks import ObservedUplink, Path, by_rank

MAIN_QUERY, LOCAL, SHARED_SUBNET, MAIN_ROUTES = 0, 1, 5, 10
MARK, OIF, SOURCE, IIF = 100, 300, 500, 700
OTHER_TRAFFIC_MAIN, OTHER_TRAFFIC = 32764, 32765
"""Rule priorities: see above."""

SUPPRESS: dict[int, int] = {AF_INET: 7, AF_INET6: 6}
"""Prefix length up to which a route in main is a default in disguise: 0.0.0.0/1, 2000::/3."""


class Routing(NamedTuple):
    """Routes and rules; the dicts are ordered sets, the values name the uplink."""

    routes: dict[Route, str]
    rules: dict[Rule, str]
    """An empty name for a rule that belongs to no uplink alone."""
    nexthops: dict[NexthopObject, str]
    """The nexthop objects that the routes use."""
    default: dict[int, str]
    """Family → the uplink that carries other traffic; empty without a master."""
    shares: dict[int, tuple[tuple[str, int], ...]]
    """Family → (uplink, weight) of all that carry it; the first of them is in `default`."""
    main_default: dict[int, int]
    """Family → the device, no uplink, through which main leads other traffic despite a master."""
    barred: frozenset[int]
    """Families in which other traffic has no way out once no uplink may carry it."""


def changes_main_query(config: Config, operations: Iterable[Operation]) -> bool:
    """Whether these add or delete a rule by which main is asked for a device's routes."""
    return any(
        isinstance(operation.value, Rule)
        and operation.value.priority == config.rule_priority + MAIN_QUERY
        for operation in operations
    )


class Steering(NamedTuple):
    """What policies add: see policies.py."""

    routes: Mapping[Route, str] = {}
    rules: Sequence[Rule] = ()
    nexthops: Mapping[NexthopObject, str] = {}


NO_STEERING = Steering()
_NO_ROUTING = Routing({}, {}, {}, {}, {}, {}, frozenset())


def plan_routing(
    config: Config,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
    shared: Mapping[str, Sequence[str]],
    steering: Steering = NO_STEERING,
) -> Routing:
    """All routes and rules, with those of policies.

    `shared`: address → its subnets that another device has as well.
    """
    routes: dict[Route, str] = {}
    rules: dict[Rule, str] = {}
    ipv6 = any(uplink.strict for uplink in config.uplinks) and any(
        address.family == AF_INET6 for address in snapshot.addresses
    )
    for uplink in uplinks:
        name = uplink.config.name
        own_shared = {
            address.address: shared[address.address]
            for path in (uplink.paths if shared else ())
            for address in path.covered
            if address.address in shared
        }
        own_routes, own_rules = _plan_uplink(
            uplink, numbers[name], config.rule_priority, own_shared, ipv6
        )
        routes.update(own_routes)
        rules.update(own_rules)
    carries = carries_other_traffic(config)
    other = _plan_other_traffic(config, snapshot, uplinks, numbers) if carries else _NO_ROUTING
    routes.update(other.routes)
    routes.update(steering.routes)
    rules.update(dict.fromkeys(steering.rules, ""))
    families = {rule.family for rule in rules}.union(other.barred)
    for family in FAMILIES:
        if family in families:
            rules.update(dict.fromkeys(_common_rules(config, family, carries), ""))
            if _local_comes_later(snapshot.rules, family, config.rule_priority):
                rules[Rule(family, config.rule_priority + LOCAL, TABLE_LOCAL)] = ""
    nexthops = {**other.nexthops, **steering.nexthops} if steering.nexthops else other.nexthops
    return other._replace(routes=routes, rules=rules, nexthops=nexthops)


# -- one uplink ---------------------------------------------------------------------------


@cache_last_by(lambda uplink, *_: uplink.config.name)
def _plan_uplink(
    uplink: ObservedUplink,
    numbers: Numbers,
    base: int,
    shared: Mapping[str, Sequence[str]],
    ipv6: bool,
) -> tuple[dict[Route, str], dict[Rule, str]]:
    """One uplink's routes and rules.

    `base` is rule_priority, `shared` are its own addresses in shared subnets, `ipv6` whether
    there is an IPv6 address on any device: without one, `strict` has nothing to hold back.
    """
    routes: list[Route] = []
    rules: list[Rule] = []
    for path in uplink.paths:
        strict = uplink.config.strict and (path.family == AF_INET or ipv6)
        if not path.table:  # else netifd keeps the routes, and source rules of its own
            routes += _uplink_routes(uplink, path, numbers.table, strict)
        rules += _uplink_rules(uplink, path, numbers, base, shared, strict)
    name = uplink.config.name
    return dict.fromkeys(routes, name), dict.fromkeys(rules, name)


def _uplink_routes(uplink: ObservedUplink, path: Path, table: int, strict: bool) -> list[Route]:
    """Connected routes first, since the default's gateway must be reachable when it is added."""
    family, link = path.family, uplink.link
    routes: list[Route] = []
    if link is not None and link.up:
        routes += [copy_route(route, table) for route in path.connected]
        if path.leads_out:
            routes += default_routes(path, table, link.index)
    if strict or (path.sources and not uplink.config.default_route):
        routes.append(Route(family, table, "default", metric=STRICT_METRIC, type=UNREACHABLE))
    return routes


def _uplink_rules(
    uplink: ObservedUplink,
    path: Path,
    numbers: Numbers,
    base: int,
    shared: Mapping[str, Sequence[str]],
    strict: bool,
) -> list[Rule]:
    family, slot = path.family, numbers.slot
    table = path.table or numbers.table
    has_sources = uplink.link is not None and uplink.link.up and bool(path.sources)
    rules = []
    if has_sources and shared:
        rules += [
            Rule(family, base + SHARED_SUBNET, table, address.address, destination=subnet)
            for address in path.covered
            for subnet in shared.get(address.address, ())
        ]
    if numbers.mask and (path.usable or strict):
        rules.append(
            Rule(family, base + MARK + slot, table, fwmark=numbers.mark, fwmask=numbers.mask)
        )
    # Without a device there is no `oif`, and the rule would match everything.
    if is_proper_name(uplink.config.device) and (has_sources or strict):
        rules.append(Rule(family, base + OIF + slot, table, oif=uplink.config.device))
    if (has_sources or strict) and not path.table:
        rules += [Rule(family, base + SOURCE + slot, table, source) for source in path.sources]
    if path.usable or strict:
        rules += [
            Rule(family, base + IIF + slot, table, iif=name)
            for name in uplink.config.iif
            if is_proper_name(name)
        ]
    return rules


# -- other traffic ------------------------------------------------------------------------


def _common_rules(config: Config, family: int, carries: bool) -> list[Rule]:
    """The rules that belong to no uplink alone."""
    base, mask = config.rule_priority, config.mark_mask
    rules = [Rule(family, base + MAIN_QUERY, TABLE_MAIN, fwmark=mask, fwmask=mask)]
    if config.main_routes:
        rules.append(
            Rule(family, base + MAIN_ROUTES, TABLE_MAIN, suppress_prefixlength=SUPPRESS[family])
        )
    if carries:
        rules.append(Rule(family, OTHER_TRAFFIC_MAIN, TABLE_MAIN, suppress_prefixlength=0))
        rules.append(Rule(family, OTHER_TRAFFIC, config.table_base))
    return rules


@cache_last_by(lambda rules, family, base: family)
def _local_comes_later(rules: tuple[Rule, ...], family: int, base: int) -> bool:
    """Whether table local is looked up only after `base`: VRFs need that (docs/beside.md).

    Then main's connected routes, which ours precede, would send what is for this host itself out
    through a device.
    """
    found = [
        rule.priority
        for rule in rules
        if rule.table == TABLE_LOCAL
        and rule == Rule(family, rule.priority, TABLE_LOCAL, protocol=rule.protocol)
        and rule.protocol != PROTOCOL
    ]
    return bool(found) and min(found) > base


def main_default_devices(snapshot: Snapshot) -> frozenset[int]:
    """The devices through which main leads traffic without a device."""
    routes = [snapshot.defaults.get((ANY_DEVICE, family)) for family in FAMILIES]
    return frozenset(device for route in routes if route for device in route.devices)


def _main_default(snapshot: Snapshot, uplinks: Sequence[ObservedUplink]) -> dict[int, int]:
    """Family → the device of main's default, where that is no uplink's and better than theirs."""
    devices = {uplink.link.index for uplink in uplinks if uplink.link}
    default_devices: dict[int, int] = {}
    for family in FAMILIES:
        best = snapshot.defaults.get((ANY_DEVICE, family))
        if best is None or not devices.isdisjoint(best.devices):
            continue
        own = [snapshot.defaults.get((index, family)) for index in devices]
        if all(route is None or best.metric < route.metric for route in own):
            default_devices[family] = best.device
    return default_devices


def _barred(
    snapshot: Snapshot, uplinks: Sequence[ObservedUplink], carried: Collection[int]
) -> frozenset[int]:
    """The families in which main could lead other traffic to an uplink that is `off`.

    Where no uplink is usable (not `carried`), and main leads to one that is not `off`, that one
    stays: it may work for other traffic, for example with a unique local address behind NAT66.
    """
    off = {uplink.link.index for uplink in uplinks if uplink.link and uplink.config.mode == "off"}
    barred = set()
    for family in FAMILIES:
        if any((index, family) in snapshot.defaults for index in off):
            best = snapshot.defaults.get((ANY_DEVICE, family))
            if family in carried or best is None or not off.isdisjoint(best.devices):
                barred.add(family)
    return frozenset(barred)


def _plan_other_traffic(
    config: Config,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
) -> Routing:
    """The routes of table_base, without the rules."""
    routes: dict[Route, str] = {}
    nexthops: dict[NexthopObject, str] = {}
    shared = is_shared(config)
    main_default = _main_default(snapshot, uplinks)
    members = _carriers(config, uplinks, numbers, main_default)
    for family, carriers in members.items():
        if shared:
            defaults = shared_default(config, snapshot, family, carriers)
            routes.update(defaults.routes)
            nexthops.update(defaults.objects)
        else:
            routes.update(dict.fromkeys(carriers[0].routes, carriers[0].uplink))
    barred = _barred(snapshot, uplinks, members).difference(main_default)
    for family in barred:
        route = Route(family, config.table_base, "default", metric=STRICT_METRIC)
        routes[route._replace(type=UNREACHABLE)] = ""
    return Routing(
        routes,
        {},
        nexthops,
        {family: carriers[0].uplink for family, carriers in members.items()},
        {
            family: tuple((member.uplink, member.weight) for member in carriers)
            for family, carriers in members.items()
        },
        main_default,
        barred,
    )


def _carriers(
    config: Config,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
    skipped: Collection[int],
) -> dict[int, list[Member]]:
    """The uplinks that carry other traffic in each family that any does: one, or all that share.

    None in the `skipped` families.
    """
    carriers: dict[int, list[Member]] = {}
    shared = is_shared(config)
    ranked = by_preference(uplinks) if shared else by_rank(uplinks)
    for index, family in enumerate(FAMILIES):
        if family in skipped:
            continue
        for uplink in carrying_uplinks(ranked, index, shared=shared):
            assert uplink.link is not None
            path, name = uplink.paths[index], uplink.config.name
            routes = default_routes(path, config.table_base, uplink.link.index)
            member = Member(name, numbers[name].slot, uplink.config.weight or 1, routes)
            carriers.setdefault(family, []).append(member)
    return carriers
