"""Policies: their routes, and the rules that lead traffic to them.  Pure.

A policy has a table, whose default route is that of its best usable member or, where several
usable members have the lowest metric, one through all of them in shares by weight.  Its last
resort is a route behind that one.  So a change of an uplink changes these routes and nothing else:
which packets belong to a policy follows from the configuration alone.

- Forwarded packets get the policy's mark from nftables (firewall/), and one rule leads the mark to
  the table.  It comes after the uplinks' own mark rules: a connection that has begun stays on its
  uplink as long as that is usable, and then follows the policy again, not the other traffic.
- This host's own packets are selected by ip rules, so that their source address follows from the
  policy.  These rules come after all `from` and `oif` rules: a socket that is bound to an uplink,
  as each subflow of an endpoint is, keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from socket import AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.configuration.matches import ANY_USER
from mproutd.configuration.options import OWN_RULES
from mproutd.configuration.policies import DEFAULT, MemberConfig, PolicyConfig, RuleConfig
from mproutd.model import (
    BLACKHOLE,
    FAMILIES,
    TABLE_MAIN,
    UNREACHABLE,
    NexthopObject,
    Route,
    Rule,
    Selectors,
    Snapshot,
    family_of,
)
from mproutd.planning.default_routes import STRICT_METRIC, default_routes
from mproutd.planning.numbering import Numbers, PolicyNumbers
from mproutd.planning.routes import OTHER_TRAFFIC, Steering
from mproutd.planning.sharing import POLICY_GROUPS, Member, carries_other_traffic, shared_default
from mproutd.planning.uplinks import OFF, ObservedUplink

POLICY_MARK = 300
"""The priority of the rules by mark, from rule_priority on; their order does not matter."""
THIS_HOST = "lo"
"""The incoming device of packets that this host sends."""
_RESORTS = {"unreachable": UNREACHABLE, "blackhole": BLACKHOLE}


class UsableMember(NamedTuple):
    """A member of a policy that can carry its traffic in one family."""

    member: MemberConfig
    uplink: ObservedUplink


def usable_members(
    policy: PolicyConfig, uplinks: Sequence[ObservedUplink], index: int
) -> list[list[UsableMember]]:
    """The usable members in one family, in the groups that follow one another: the first carries.

    An uplink whose quota is used up comes after the others, and not at all if that turned it off.
    `index`: of the family.
    """
    by_name = {uplink.config.name: uplink for uplink in uplinks}
    groups: dict[tuple[bool, int], list[UsableMember]] = {}
    for member in policy.members:
        uplink = by_name.get(member.uplink)
        if uplink is None or uplink.link is None or not uplink.paths[index].usable:
            continue
        exhausted = uplink.over_quota and uplink.config.mode == OFF
        if uplink.config.default_route and not exhausted:
            group = groups.setdefault((uplink.over_quota, member.metric), [])
            group.append(UsableMember(member, uplink))
    return [groups[key] for key in sorted(groups)]


def plan_policies(
    config: Config,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    numbers: Mapping[str, Numbers],
    policy_numbers: Mapping[str, PolicyNumbers],
) -> Steering:
    """The routes and rules of all policies."""
    families = [
        family
        for family in FAMILIES
        if family != AF_INET6 or any(address.family == family for address in snapshot.addresses)
    ]
    routes: dict[Route, str] = {}
    nexthops: dict[NexthopObject, str] = {}
    rules: list[Rule] = []
    for policy in config.policies:
        own = policy_numbers[policy.name]
        for family in families:
            index = FAMILIES.index(family)
            groups = usable_members(policy, uplinks, index)
            members = [
                _as_member(usable, index, own.table, numbers)
                for usable in (groups[0] if groups else ())
            ]
            if len(members) == 1:
                routes.update(dict.fromkeys(members[0].routes, members[0].uplink))
            else:
                group = POLICY_GROUPS + own.number
                shared = shared_default(config, snapshot, family, members, group)
                routes.update(shared.routes)
                nexthops.update(shared.objects)
            if policy.last_resort in _RESORTS:
                resort = Route(family, own.table, "default", metric=STRICT_METRIC)
                routes[resort._replace(type=_RESORTS[policy.last_resort])] = ""
    for family in families:
        rules += _mark_rules(config, family, policy_numbers)
        rules += _own_rules(config, family, policy_numbers)
    return Steering(routes, rules, nexthops)


def _as_member(
    usable: UsableMember, index: int, table: int, numbers: Mapping[str, Numbers]
) -> Member:
    member, uplink = usable
    assert uplink.link is not None
    routes = default_routes(uplink.paths[index], table, uplink.link.index)
    return Member(member.uplink, numbers[member.uplink].slot, member.weight, routes)


def _mark_rules(
    config: Config, family: int, policy_numbers: Mapping[str, PolicyNumbers]
) -> Iterator[Rule]:
    """The rules by mark of what is forwarded: of policies, and of sticky rules."""
    priority = config.rule_priority + POLICY_MARK
    for own in policy_numbers.values():
        yield Rule(family, priority, own.table, fwmark=own.mark, fwmask=config.policy_mask)


def _own_rules(
    config: Config, family: int, policy_numbers: Mapping[str, PolicyNumbers]
) -> Iterator[Rule]:
    """The rules of this host's own traffic, in the order of the file."""
    priority = config.rule_priority + OWN_RULES
    for rule in config.rules:
        if rule.forwarded or family not in rule.families:
            continue
        for selected in _combinations(rule, family):
            if rule.policy != DEFAULT:
                table = policy_numbers[rule.policy].table
                yield selected._replace(priority=priority, table=table)
                priority += 1
                continue
            if carries_other_traffic(config):
                main = selected._replace(priority=priority, table=TABLE_MAIN)
                yield main._replace(suppress_prefixlength=0)
                yield selected._replace(priority=priority + 1, table=config.table_base)
                priority += 2
            yield selected._replace(priority=priority, table=TABLE_MAIN)
            priority += 1


def _combinations(rule: RuleConfig, family: int) -> Iterator[Rule]:
    """One rule for each combination, since an ip rule takes one value or range of each kind."""
    users = rule.user if isinstance(rule.user, tuple) and rule.user != ANY_USER else None
    for protocol, source, destination, sports, dports in product(
        rule.protocols or (0,),
        _prefixes(rule.sources.values, family),
        _prefixes(rule.destinations.values, family),
        rule.source_ports.values or (None,),
        rule.destination_ports.values or (None,),
    ):
        selectors = Selectors(users, sports, dports, protocol)
        yield Rule(
            family, OTHER_TRAFFIC, 0, source, destination, iif=THIS_HOST, selectors=selectors
        )


def _prefixes(values: Sequence[str], family: int) -> list[str]:
    """Those of the family; "" for any."""
    own = [value for value in values if family_of(value) == family]
    return [""] if not values or any(value.endswith("/0") for value in own) else own
