"""The resolvers of each uplink: which have a rule of their own, and in which order they are used.

A provider's resolver often answers only that provider's customers, so a query has to leave by the
uplink whose lease named it.  A rule `to RESOLVER lookup TABLE` does that for every program of this
host and every host behind it, while the uplink is usable.  The rules come behind those that name
the sender of a packet (its mark, source or device): who asks for an uplink gets it.  Pure.

There is no rule for a resolver that several uplinks name (a public one, or one address in two
networks): other traffic decides.  None either for one in a directly connected network, nor for
this host itself, which are reached without a provider, and none for a link-local address, which is
reached by its scope.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import FAMILIES, Address, Rule, Snapshot, family_of, leading_bits
from mproutd.planning.cache import cache_last, cache_last_by
from mproutd.planning.numbering import Numbers
from mproutd.planning.resolver_sources import MAX_RESOLVERS, Resolver, is_link_local
from mproutd.planning.sharing import by_preference, is_shared
from mproutd.planning.uplinks import Facts, ObservedUplink, by_rank

RESOLVER = 899
"""The priority of the rules, relative to rule_priority: behind `iif`, see routes.py."""
HEADER = "# Written by mproutd: the resolvers of the usable uplinks, in the order of their use.\n"


class UplinkResolver(NamedTuple):
    """A resolver of one uplink."""

    uplink: str
    address: str
    origin: str
    scope: str = ""
    """The device of a link-local address."""
    usable: bool = False
    """Whether its uplink is, in the address's family."""
    reason: str = ""
    """Why it has no rule: unusable, link-local, local or shared; empty where it has one."""
    sharers: tuple[str, ...] = ()
    """The uplinks that name it, where there are several."""


@cache_last
def _has_configured(config: Config) -> bool:
    return any(uplink.dns for uplink in config.uplinks)


def plan_resolvers(
    config: Config, snapshot: Snapshot, facts: Facts, uplinks: Sequence[ObservedUplink]
) -> tuple[UplinkResolver, ...]:
    """The resolvers of all uplinks, in the order in which they are used."""
    if not facts.resolvers and not _has_configured(config):
        return ()
    ranked = by_preference(uplinks) if is_shared(config) else by_rank(uplinks)
    names = {uplink.config.name for uplink in ranked}
    ordered = [
        *ranked,
        *(
            uplink
            for uplink in uplinks
            if uplink.config.name not in names and uplink.config.default_route
        ),
    ]
    named = [
        _named(uplink.config.name, uplink.config.dns, facts.resolvers.get(uplink.config.device, ()))
        for uplink in ordered
    ]
    shared = _shared(tuple(zip((uplink.config.name for uplink in ordered), named, strict=True)))
    devices = frozenset(uplink.link.index for uplink in uplinks if uplink.link)
    local = _local_networks(snapshot.addresses, devices)
    planned: list[UplinkResolver] = []
    for uplink, resolvers in zip(ordered, named, strict=True):
        usable = (uplink.paths[0].usable, uplink.paths[1].usable)
        planned += _plan_uplink(
            uplink.config.name,
            uplink.config.device,
            resolvers,
            usable,
            uplink.config.strict,
            shared,
            local,
        )
    return tuple(planned)


@cache_last_by(lambda name, *_: name)
def _named(
    name: str, configured: Sequence[str], others: Sequence[Resolver]
) -> tuple[Resolver, ...]:
    """The configured ones if there are any, else what other sources name, each once."""
    if configured:
        return tuple(Resolver(address, "configuration") for address in configured)
    known = {resolver.address: resolver for resolver in reversed(others)}
    return tuple(reversed(known.values()))[:MAX_RESOLVERS]


@cache_last
def _shared(named: Iterable[tuple[str, Sequence[Resolver]]]) -> Mapping[str, tuple[str, ...]]:
    """Address → the uplinks that name it, where there are several."""
    owners: dict[str, tuple[str, ...]] = {}
    for name, resolvers in named:
        for resolver in resolvers:
            owners[resolver.address] = (*owners.get(resolver.address, ()), name)
    return {address: names for address, names in owners.items() if len(names) > 1}


_Networks = Mapping[tuple[int, int], Collection[int]]
"""(family, prefix length) → the leading bits of each prefix."""


@cache_last
def _local_networks(addresses: Sequence[Address], devices: frozenset[int]) -> _Networks:
    """The directly connected networks of other than these devices, and our own addresses."""
    networks: dict[tuple[int, int], set[int]] = {}
    for address in addresses:
        network = address.address if address.link in devices else address.network
        if network != "default":
            start, length = leading_bits(network)
            networks.setdefault((address.family, length), set()).add(start)
    return networks


def _is_local(address: str, local: _Networks) -> bool:
    start, size = leading_bits(address)
    family = family_of(address)
    return any(
        known == family and start >> size - length in starts
        for (known, length), starts in local.items()
    )


@cache_last_by(lambda name, *_: name)
def _plan_uplink(
    name: str,
    device: str,
    resolvers: Sequence[Resolver],
    usable: tuple[bool, bool],
    strict: bool,
    shared: Mapping[str, tuple[str, ...]],
    local: _Networks,
) -> list[UplinkResolver]:
    """The resolvers of one uplink, each with the reason why it has no rule."""
    planned = []
    for address, origin in resolvers:
        reason, scope, sharers = "", "", shared.get(address, ())
        carries = usable[FAMILIES.index(family_of(address))]
        if is_link_local(address):
            reason, scope, sharers = "link-local", device, ()
        elif sharers:
            reason = "shared"
        elif _is_local(address, local):
            reason = "local"
        elif not carries and not strict:
            reason = "unusable"
        planned.append(UplinkResolver(name, address, origin, scope, carries, reason, sharers))
    return planned


def resolver_rules(
    config: Config,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
    resolvers: tuple[UplinkResolver, ...],
    planned: Mapping[Rule, str],
) -> dict[Rule, str]:
    """The rules of these resolvers; the values name the uplink.

    Like the other rules of a `strict` uplink, its stay while it is not usable; `planned` are those.
    """
    tables = {
        uplink.config.name: (uplink.paths[0].table, uplink.paths[1].table) for uplink in uplinks
    }
    strict = any(uplink.config.strict for uplink in uplinks)
    kept = {(name, rule.family) for rule, name in planned.items()} if strict else set()
    return _rules(config.rule_priority + RESOLVER, tables, numbers, resolvers, kept)


@cache_last
def _rules(
    priority: int,
    tables: Mapping[str, tuple[int, int]],
    numbers: Mapping[str, Numbers],
    resolvers: tuple[UplinkResolver, ...],
    kept: Collection[tuple[str, int]],
) -> dict[Rule, str]:
    """`tables` are netifd's, by uplink; `kept` are (uplink, family) with rules."""
    rules: dict[Rule, str] = {}
    for resolver in resolvers:
        name, family = resolver.uplink, family_of(resolver.address)
        if not resolver.reason and (resolver.usable or (name, family) in kept):
            table = tables[name][FAMILIES.index(family)] or numbers[name].table
            rules[Rule(family, priority, table, destination=resolver.address)] = name
    return rules


def in_use(
    resolvers: Iterable[UplinkResolver], uplinks: Iterable[ObservedUplink]
) -> list[UplinkResolver]:
    """Those of the usable uplinks that carry other traffic or stand by, each address once."""
    off = {uplink.config.name for uplink in uplinks if uplink.config.mode == "off"}
    listed: dict[tuple[str, str], UplinkResolver] = {}
    for resolver in resolvers:
        if resolver.usable and resolver.uplink not in off:
            listed.setdefault((resolver.address, resolver.scope), resolver)
    return list(listed.values())


def resolv_conf(resolvers: Iterable[UplinkResolver]) -> str:
    """The resolvers in the syntax of resolv.conf(5), which dnsmasq's resolv-file has as well."""
    lines, uplink = [HEADER], ""
    for resolver in resolvers:
        if resolver.uplink != uplink:
            uplink = resolver.uplink
            lines.append(f"# {uplink}\n")
        scope = f"%{resolver.scope}" if resolver.scope else ""
        lines.append(f"nameserver {resolver.address}{scope}\n")
    return "".join(lines)
