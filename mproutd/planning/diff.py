"""From what is found to what is wanted: an ordered list of operations.

What is ours is decided here and nowhere else, by one question: how would a daemon that
has just started, with no state, know it?  Routes and rules by their protocol and their
place, endpoints by the state file, sysctls and limits by the value before ours.

Order: coming up is connected route, default route, rule, endpoint; going down the reverse.
Nothing is taken away before its successor is there, except where the kernel allows only one.
"""

from __future__ import annotations

from collections.abc import Collection

from mproutd.configuration.config import Config
from mproutd.model import (
    BACKUP,
    FULLMESH,
    IMPLICIT,
    PROTOCOL,
    Endpoint,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
)
from mproutd.planning.cache import cache_last
from mproutd.planning.endpoints import foreign_addresses, is_ours
from mproutd.planning.plan import Plan, own_priorities, own_tables
from mproutd.planning.state import State
from mproutd.planning.tunables import OURS, settings
from mproutd.planning.uplinks import by_name


def routing(
    config: Config, snapshot: Snapshot, state: State, plan: Plan
) -> tuple[list[Operation], list[Operation]]:
    """(raising, clearing): sysctls, routes and rules that come or change; rules, then routes
    that go, once the endpoints that used them are gone.
    """
    tables = own_tables(config, state)
    routes = {
        route for route in snapshot.routes if route.protocol == PROTOCOL and route.table in tables
    }
    rules = _own_rules(snapshot.rules, own_priorities(config, state))
    keys = {route.key for route in routes}
    coming = [item for item in plan.routes.items() if item[0] not in routes]
    raising = _sysctls(snapshot, plan) + [
        Operation("replace" if route.key in keys else "add", route, uplink)
        for route, uplink in sorted(coming, key=_connected_first)
    ]
    replaced = {operation.value.key for operation in raising if isinstance(operation.value, Route)}
    raising += [
        Operation("add", rule, uplink) for rule, uplink in plan.rules.items() if rule not in rules
    ]
    clearing = [
        Operation("delete", rule) for rule in sorted(rules - plan.rules.keys(), key=_rule_order)
    ]
    clearing += [
        Operation("delete", route)
        for route in sorted(routes - plan.routes.keys(), key=_default_first)
        if route.key not in replaced
    ]
    return raising, clearing


@cache_last
def _own_rules(rules: tuple[Rule, ...], priorities: list[range]) -> frozenset[Rule]:
    return frozenset(
        rule
        for rule in rules
        if rule.protocol == PROTOCOL
        and rule.plain
        and any(rule.priority in own for own in priorities)
    )


def _connected_first(item: tuple[Route, str]) -> bool:
    """A gateway has to be reachable before it is used.  The common table stays last."""
    return item[0].destination == "default"


def _default_first(route: Route) -> tuple[bool, tuple[int, int, str, int]]:
    return (route.destination != "default", route.key)


def _rule_order(rule: Rule) -> tuple[int, int, str, str, str]:
    return (rule.priority, rule.family, rule.source, rule.destination, rule.oif or rule.iif)


def endpoints(
    snapshot: Snapshot,
    state: State,
    plan: Plan,
    misrouted: Collection[str] = (),
    tolerated: Collection[str] = (),
) -> tuple[list[Operation], list[Operation]]:
    """(closing, opening): endpoints that go, each of which takes the kernel an RCU grace
    period; limits, endpoints that change, endpoints that come.

    `unproved` are the addresses from which a lookup does not give the wanted route: no
    endpoint is opened there, and one that is there is closed, unless it is also `patient`.
    """
    if snapshot.mptcp is None:
        return [], []
    found = snapshot.mptcp.endpoints
    others = foreign_addresses(found, state)
    ours = {
        endpoint.address: endpoint
        for endpoint in found
        if is_ours(endpoint, state) and not endpoint.flags & IMPLICIT
    }
    closing: list[Operation] = []
    opening: list[Operation] = []
    if plan.limits and plan.limits != snapshot.mptcp.limits:
        opening.append(Operation("change", plan.limits))
    kept = set()
    for endpoint, uplink in plan.endpoints.items():
        if endpoint.address in others:
            continue
        if endpoint.address in misrouted:
            if endpoint.address in tolerated:
                kept.add(endpoint.address)
            continue
        there = ours.get(endpoint.address)
        if there is None:
            opening.append(Operation("add", endpoint, uplink))
        elif there.device == endpoint.device and _live(there) == _live(endpoint):
            kept.add(endpoint.address)
            if there.flags != endpoint.flags:
                opening.append(Operation("change", endpoint._replace(id=there.id), uplink))
        else:
            closing.append(Operation("delete", there, uplink))
            kept.add(endpoint.address)
            opening.append(Operation("add", endpoint, uplink))
    closing += [
        Operation("delete", endpoint) for address, endpoint in ours.items() if address not in kept
    ]
    closing += _left(
        snapshot, found, state.without_endpoint - plan.state.without_endpoint - ours.keys()
    )
    return closing, opening


def _left(
    snapshot: Snapshot, found: Collection[Endpoint], addresses: Collection[str]
) -> list[Operation]:
    """Close what began at addresses that are on no device any more: by id 0, or by the
    endpoint that the kernel made there, which would take up one of its few slots for good.
    """
    present = {address.address for address in snapshot.addresses}
    implicit = {endpoint.address: endpoint for endpoint in found if endpoint.flags & IMPLICIT}
    return [
        Operation("delete", implicit.get(address, Endpoint(address)))
        for address in sorted(addresses)
        if address not in present
    ]


def _live(endpoint: Endpoint) -> int:
    """The flags that a living endpoint cannot change (MPTCP_PM_CMD_SET_FLAGS)."""
    return endpoint.flags & ~(BACKUP | FULLMESH)


def _sysctls(snapshot: Snapshot, plan: Plan) -> list[Operation]:
    values = settings(snapshot.links)
    named = by_name(snapshot.links)
    wanted = {
        (named[setting.device].index, setting.key): (setting, uplink)
        for setting, uplink in plan.sysctls.items()
    }
    steps = [
        Operation("change", setting, uplink)
        for place, (setting, uplink) in wanted.items()
        if values[place] != setting.value
    ]
    steps += [
        Operation("change", Sysctl(snapshot.links[place[0]].name, place[1], before))
        for place, before in plan.state.sysctls.items()
        if place not in wanted and values.get(place) == OURS[place[1]]
    ]
    return steps
