"""The resolvers of an uplink in the status, and what is wrong with them.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mproutd.iproute2 import DeviceNames, describe
from mproutd.model import FAMILIES, Rule
from mproutd.planning.inspection import Inspection
from mproutd.planning.resolvers import RESOLVER, UplinkResolver, in_use
from mproutd.status.problems import problem

if TYPE_CHECKING:
    from mproutd.status.resolver_types import ResolverStatus
    from mproutd.status.types import Problem


def resolver_status(inspection: Inspection, uplink: str, name: DeviceNames) -> list[ResolverStatus]:
    """Those of one uplink, in the order of their use."""
    plan = inspection.plan
    if not plan.resolvers:
        return []
    used = {resolver.address for resolver in in_use(plan.resolvers, plan.uplinks)}
    off = {observed.config.name for observed in plan.uplinks if observed.config.mode == "off"}
    rules = _rules(inspection)
    return [
        {
            "address": resolver.address,
            "origin": resolver.origin,
            "in_use": resolver.usable and uplink not in off and resolver.address in used,
            "rule": _described(rules.get((uplink, resolver.address)), name),
            "no_rule": resolver.reason or None,  # type: ignore[typeddict-item]
            "shared_with": [other for other in resolver.sharers if other != uplink],
        }
        for resolver in plan.resolvers
        if resolver.uplink == uplink
    ]


def _rules(inspection: Inspection) -> dict[tuple[str, str], Rule]:
    """(uplink, resolver) → its rule."""
    priority = inspection.config.rule_priority + RESOLVER
    return {
        (uplink, rule.destination): rule
        for rule, uplink in inspection.plan.rules.items()
        if rule.priority == priority
    }


def _described(rule: Rule | None, name: DeviceNames) -> str | None:
    if rule is None:
        return None
    return ("-6 " if rule.family != FAMILIES[0] else "") + describe(rule, name)


def resolver_problems(inspection: Inspection, name: DeviceNames) -> Iterator[Problem]:
    """Resolvers in use to which the kernel leads queries through an uplink that did not name them.

    Where several uplinks name one, that is a problem only if other traffic leaves through none of
    these: a public resolver answers everybody.
    """
    plan = inspection.plan
    if any(isinstance(operation.value, Rule) for operation in inspection.drift):
        return  # the plan is not in the kernel yet
    devices = {
        observed.config.name: observed.link.index for observed in plan.uplinks if observed.link
    }
    known = {resolver.address: resolver for resolver in in_use(plan.resolvers, plan.uplinks)}
    for flow, route in inspection.flows:
        if flow.kind != "resolver":
            continue
        expected = {devices[uplink] for uplink in flow.uplinks if uplink in devices}
        actual = set(route.devices) if route else set()
        if actual and actual <= expected:
            continue
        leaving = " and ".join(map(name, dict.fromkeys(route.devices))) if route else "no device"
        yield _problem(known[flow.packet.destination], flow.uplinks, leaving, map(name, expected))


def _problem(
    resolver: UplinkResolver, uplinks: tuple[str, ...], actual: str, expected: Iterable[str]
) -> Problem:
    if resolver.reason == "shared":
        return problem(
            "resolver-shared",
            address=resolver.address,
            uplinks=f"{', '.join(uplinks[:-1])} and {uplinks[-1]}",
            actual=actual,
        )
    return problem(
        "resolver-diverted",
        uplink=resolver.uplink,
        address=resolver.address,
        actual=actual,
        device="".join(expected),
        command=f"ip route get {resolver.address}",
    )
