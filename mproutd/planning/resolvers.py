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

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import FAMILIES, Rule, Snapshot, contains, family_of
from mproutd.planning.cache import cache_last
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
    rest = [uplink for uplink in uplinks if uplink not in ranked and uplink.config.default_route]
    named = {uplink.config.name: _named(uplink, facts) for uplink in (*ranked, *rest)}
    owners: dict[str, list[str]] = {}
    for name, resolvers in named.items():
        for resolver in resolvers:
            owners.setdefault(resolver.address, []).append(name)
    local = _local_networks(snapshot, uplinks)
    planned = []
    for uplink in (*ranked, *rest):
        for resolver in named[uplink.config.name]:
            path = uplink.paths[FAMILIES.index(family_of(resolver.address))]
            known = UplinkResolver(uplink.config.name, *resolver, usable=path.usable)
            planned.append(_with_reason(known, uplink, owners[resolver.address], local))
    return tuple(planned)


def _named(uplink: ObservedUplink, facts: Facts) -> list[Resolver]:
    """The configured ones if there are any, else what other sources name, each once."""
    configured = uplink.config.dns
    if configured:
        return [Resolver(address, "configuration") for address in configured]
    known = {item.address: item for item in reversed(facts.resolvers.get(uplink.config.device, ()))}
    return list(reversed(known.values()))[:MAX_RESOLVERS]


def _local_networks(snapshot: Snapshot, uplinks: Iterable[ObservedUplink]) -> frozenset[str]:
    """The directly connected networks of devices that are no uplinks, and our own addresses."""
    devices = {uplink.link.index for uplink in uplinks if uplink.link}
    return frozenset(
        address.address if address.link in devices else address.network
        for address in snapshot.addresses
        if address.network != "default"
    )


def _with_reason(
    known: UplinkResolver, uplink: ObservedUplink, owners: Sequence[str], local: Iterable[str]
) -> UplinkResolver:
    """The same with the reason why it has no rule."""
    if is_link_local(known.address):
        return known._replace(reason="link-local", scope=uplink.config.device)
    if len(owners) > 1:
        return known._replace(reason="shared", sharers=tuple(owners))
    if any(contains(network, known.address) for network in local):
        return known._replace(reason="local")
    if not known.usable and not uplink.config.strict:
        return known._replace(reason="unusable")
    return known


def resolver_rules(
    config: Config,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
    resolvers: Iterable[UplinkResolver],
    planned: Mapping[Rule, str],
) -> dict[Rule, str]:
    """The rules of these resolvers; the values name the uplink.

    Like the other rules of a `strict` uplink, its stay while it is not usable; `planned` are those.
    """
    observed = {uplink.config.name: uplink for uplink in uplinks}
    having_rules = {(name, rule.family) for rule, name in planned.items()}
    rules: dict[Rule, str] = {}
    for resolver in resolvers:
        family = family_of(resolver.address)
        if resolver.reason or (resolver.uplink, family) not in having_rules:
            continue
        path = observed[resolver.uplink].paths[FAMILIES.index(family)]
        table = path.table or numbers[resolver.uplink].table
        priority = config.rule_priority + RESOLVER
        rule = Rule(family, priority, table, destination=resolver.address)
        rules[rule] = resolver.uplink
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
