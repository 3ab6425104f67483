"""Which uplinks are next in line for a flow if the one in use fails.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from mproutd.configuration.config import Config
from mproutd.configuration.policies import PolicyConfig
from mproutd.model import FAMILIES, Rule
from mproutd.planning.plan import Plan
from mproutd.planning.sharing import by_preference, carries_other_traffic
from mproutd.planning.uplinks import ObservedUplink

if TYPE_CHECKING:
    from mproutd.explain.types import MemberStatus

MAIN, UNREACHABLE = "main", "unreachable"


class Line(NamedTuple):
    """Who is next."""

    members: list[MemberStatus]
    last_resort: str | None
    """What happens without any of them: unreachable, blackhole, default or main; None where
    another program's rule or table decides."""


def standby(
    config: Config,
    plan: Plan,
    family: int,
    policy: PolicyConfig | None,
    rule: Rule | None,
    uplink: str,
) -> Line:
    """`policy` and `rule`: those that lead to the table; `uplink`: the one in use, "" for none."""
    observed = {one.config.name: one for one in plan.uplinks}
    owner = plan.rules.get(rule) if rule is not None else None
    if owner and observed[owner].config.strict:
        return Line([], UNREACHABLE)
    if policy is not None:
        ordered = sorted(policy.members, key=lambda member: member.metric)
        names = [member.uplink for member in ordered]
        return Line(_members(observed, names, uplink, family), policy.last_resort)
    decides = rule is not None and (bool(owner) or rule.table == config.table_base)
    if not decides:
        return Line([], None)
    names = []
    if carries_other_traffic(config):
        names = [one.config.name for one in by_preference(plan.uplinks)]
    return Line(_members(observed, names, uplink, family), MAIN)


def _members(
    observed: dict[str, ObservedUplink], names: Iterable[str], current: str, family: int
) -> list[MemberStatus]:
    index = FAMILIES.index(family)
    members: list[MemberStatus] = []
    for name in names:
        if name != current:
            path = observed[name].paths[index]
            reason = path.reason or None
            members.append({"uplink": name, "usable": path.usable, "reason": reason})
    return members
