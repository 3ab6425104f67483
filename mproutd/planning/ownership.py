"""Which kernel objects are mproutd's: the one place that decides it.  Pure.

mproutd changes and removes only what it owns, so this must never say yes for an object that
somebody else made, however similar.  It must also say yes for everything that an earlier run
left behind: a daemon that was killed has no other way to clean up.  Hence one test for every
kind of object: would a daemon that starts now, with the configuration and the state file
alone, recognize it?

- Routes and rules carry a protocol number.  That is not enough, since the number is free for
  anybody to use: a route must also lie in a table, and a rule at a priority, that mproutd uses
  under this configuration or, as the state file records, used under an earlier one.
- Nexthop objects carry a protocol number too, and have ids in a range of ours.
- Endpoints, limits and sysctls carry no mark.  The state file lists them before they are
  written, and they are ours only while they still look as we left them: the endpoint has the
  same address, device and port, the limit or sysctl our value.  If the state file is lost, they are
  treated as somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mproutd.configuration.config import Config
from mproutd.configuration.options import OWN_RULES, RULE_SPAN, TABLE_SPAN
from mproutd.model import IMPLICIT, PROTOCOL, Endpoint, Limits, NexthopObject, Route, Rule
from mproutd.planning.cache import cache_last
from mproutd.planning.routes import OTHER_TRAFFIC, OTHER_TRAFFIC_MAIN
from mproutd.planning.sharing import NEXTHOP_IDS
from mproutd.planning.state import State

OUR_SYSCTLS = {"rp_filter": 2, "arp_ignore": 1, "arp_announce": 2}
"""The sysctls of a device that mproutd changes, and the one value that it gives each."""


class Ownership:
    """What is ours under this configuration and this state."""

    def __init__(self, config: Config, state: State) -> None:
        self.config, self.state = config, state
        self._endpoints = state.endpoints
        pinned = {uplink.table for uplink in config.uplinks if uplink.table}
        self.tables = _tables(config.table_base, state.tables | pinned)
        """Every table that may hold routes of ours."""
        bases = sorted({config.rule_priority, *state.priorities})
        self.priorities = (
            range(OTHER_TRAFFIC_MAIN, OTHER_TRAFFIC + 1),
            *(range(base, base + RULE_SPAN) for base in bases),
        )
        self._own_traffic = tuple(range(base + OWN_RULES, base + RULE_SPAN) for base in bases)
        """Where our rules lie, now and under earlier configurations."""

    def own_routes(self, routes: tuple[Route, ...]) -> frozenset[Route]:
        return _own_routes(routes, self.tables)

    def own_rules(self, rules: tuple[Rule, ...]) -> frozenset[Rule]:
        """Never one with an attribute that `Rule` cannot express: mproutd did not write it."""
        return _own_rules(rules, self.priorities, self._own_traffic)

    def owns_nexthop(self, value: NexthopObject) -> bool:
        return value.protocol == PROTOCOL and value.id in NEXTHOP_IDS

    def owns_endpoint(self, endpoint: Endpoint) -> bool:
        """By address and device, and port if it has one."""
        if endpoint.port:
            return (endpoint.address, endpoint.device, endpoint.port) in self.state.ports
        return (endpoint.address, endpoint.device) in self._endpoints

    def foreign_keys(self, endpoints: Iterable[Endpoint]) -> frozenset[tuple[str, int]]:
        """Where somebody else's endpoint takes the place of ours: (address, port).

        An implicit endpoint does not: the kernel made it and gives it up for ours.
        """
        return frozenset(
            endpoint.key
            for endpoint in endpoints
            if not self.owns_endpoint(endpoint) and not endpoint.flags & IMPLICIT
        )

    def owns_sysctl(self, device: int, key: str, value: int | None) -> bool:
        """Whether `value`, as found, is what mproutd wrote; `device` is an ifindex."""
        return (device, key) in self.state.sysctls and OUR_SYSCTLS.get(key, -1) == value

    def original_limits(self, current: Limits) -> Limits:
        """The limits without mproutd: a value that is not ours stands for itself."""
        if self.state.limits is None:
            return current
        original, *ours = self.state.limits
        return Limits(
            _original(current.subflows, original.subflows, [limits.subflows for limits in ours]),
            _original(
                current.add_addr_accepted,
                original.add_addr_accepted,
                [limits.add_addr_accepted for limits in ours],
            ),
        )


@cache_last
def _tables(base: int, others: frozenset[int]) -> frozenset[int]:
    return others.union(range(base, base + TABLE_SPAN))


@cache_last
def _own_routes(routes: tuple[Route, ...], tables: frozenset[int]) -> frozenset[Route]:
    return frozenset(
        [route for route in routes if route.protocol == PROTOCOL and route.table in tables]
    )


@cache_last
def _own_rules(
    rules: tuple[Rule, ...], priorities: tuple[range, ...], own_traffic: tuple[range, ...]
) -> frozenset[Rule]:
    """`own_traffic`: where rules of ours select by user, protocol or port."""
    own = [rule for rule in rules if rule.protocol == PROTOCOL and rule.plain]
    plain = [rule for rule in own if not any(rule.selectors)]
    found = [rule for span in priorities for rule in plain if rule.priority in span]
    if len(plain) < len(own):
        selecting = [rule for rule in own if any(rule.selectors)]
        found += [rule for span in own_traffic for rule in selecting if rule.priority in span]
    return frozenset(found)


def _original(current: int, original: int, ours: Collection[int]) -> int:
    return original if current in ours else current
