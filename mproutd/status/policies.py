"""Policies in the status: by which uplinks their traffic leaves, and what comes next.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from mproutd.configuration.policies import PolicyConfig
from mproutd.model import FAMILIES, FAMILY_NAMES
from mproutd.planning.inspection import Inspection
from mproutd.planning.numbering import assign_policy_numbers
from mproutd.planning.policies import usable_members
from mproutd.status.problems import problem
from mproutd.status.render_traffic import share_list

if TYPE_CHECKING:
    from mproutd.status.policy_types import PolicyStatus, PolicyWay
    from mproutd.status.types import Problem, Status

FATES = {"unreachable": "unreachable", "blackhole": "discarded", "default": "other traffic"}


def policies(inspection: Inspection) -> list[PolicyStatus]:
    """Each policy that a rule names."""
    config, plan = inspection.config, inspection.plan
    if not (config.enabled and config.policies):
        return []
    numbers = assign_policy_numbers(config, plan.state.policies)
    return [
        {
            "name": policy.name,
            "table": numbers[policy.name].table,
            "mark": f"{numbers[policy.name].mark:#x}/{config.policy_mask:#x}",
            "last_resort": policy.last_resort,  # type: ignore[typeddict-item]
            "rules": [rule.name for rule in config.rules if rule.policy == policy.name],
            "ways": [_way(inspection, policy, index) for index in range(len(FAMILIES))],
        }
        for policy in config.policies
    ]


def _way(inspection: Inspection, policy: PolicyConfig, index: int) -> PolicyWay:
    groups = usable_members(policy, inspection.plan.uplinks, index)
    current, following = [*groups, [], []][:2]
    return {
        "family": "ipv6" if index else "ipv4",
        "uplinks": [
            {"uplink": usable.member.uplink, "weight": usable.member.weight} for usable in current
        ],
        "next": [usable.member.uplink for usable in following],
    }


def policy_problems(inspection: Inspection, found: Iterable[PolicyStatus]) -> Iterator[Problem]:
    """The policies without a usable member, in families in which their uplinks have addresses."""
    configured = {policy.name: policy for policy in inspection.config.policies}
    for status in found:
        if configured[status["name"]].is_uplink:
            continue  # the uplink's own state says so
        unusable = [
            family
            for family, way in zip(FAMILIES, status["ways"], strict=True)
            if not way["uplinks"]
        ]
        members = {member.uplink for member in configured[status["name"]].members}
        addressed = {
            path.family
            for uplink in inspection.plan.uplinks
            if uplink.config.name in members
            for path in uplink.paths
            if path.covered
        }
        concerned = [family for family in unusable if family in addressed]
        if len(unusable) == len(FAMILIES):
            concerned = concerned or unusable
        if concerned:
            yield problem(
                "policy-unusable",
                policy=status["name"],
                family=" and ".join(FAMILY_NAMES[family] for family in concerned),
                fate=FATES[status["last_resort"]],
            )


def policy_lines(status: Status, families: Mapping[str, str]) -> list[str]:
    """`policy office: IPv4 via wan1, then wan2; IPv6 unreachable`, for each."""
    lines = []
    for policy in status.get("policies", ()):
        ways = []
        for way in policy["ways"]:
            carriers = share_list((one["uplink"], one["weight"]) for one in way["uplinks"])
            following = f", then {' and '.join(way['next'])}" if way["next"] else ""
            where = f"via {carriers}" if carriers else FATES[policy["last_resort"]]
            ways.append(f"{families[way['family']]} {where}{following}")
        lines.append(f"policy {policy['name']}: {'; '.join(ways)}")
    return lines
