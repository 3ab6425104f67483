"""The fake kernel's view of one flow: routes for any packet, and tracked connections."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH
from socket import AF_INET

from mproutd.explain.request import Reply, Request
from mproutd.model import TO_TABLE, UNICAST, Route, Rule, contains, split_prefix
from mproutd.netlink.conntrack import Connection
from tests.lab.fake_world import World

ERRORS = {6: EINVAL, 7: EHOSTUNREACH, 8: EACCES}
"""RTN_* → the error of IPv4's lookup (net/ipv4/fib_semantics.c, fib_props)."""
LOCAL = 2


class Flows:
    """Answers as explain/kernel.py does.  `world`: with the daemon's routes and rules."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tracked: Sequence[Connection] | None = ()
        self.refuses = 0
        """The errno of every lookup; 0 for none."""

    def is_local(self, address: str) -> bool:
        return any(own.address == address for own in self.world.addresses)

    def device_towards(self, address: str) -> int:
        found = self.walk(Request(address), "", 0)
        return self.world._devices(found)[0] if found else 0

    def connections(self, request: Request) -> Sequence[Connection] | None:
        return self.tracked

    def route(self, request: Request, iif: int, mark: int) -> Reply:
        name = self.world.links[iif].name if iif else ""
        entry = self.walk(request, name, mark)
        if self.refuses or entry is None:
            return Reply(None, None, self.refuses or ENETUNREACH)
        if entry.type == LOCAL:
            return Reply(entry, entry)
        if entry.type != UNICAST and request.family == AF_INET:
            return Reply(None, None, ERRORS[entry.type])
        if entry.type != UNICAST:
            return Reply(entry, None, EHOSTUNREACH)
        if not entry.nexthop_id:
            return Reply(entry, entry)
        hop = self.world.nexthops.hops(entry.nexthop_id)[0]
        return Reply(entry, entry._replace(device=hop.device, gateway=hop.gateway))

    def walk(self, request: Request, iif: str, mark: int) -> Route | None:
        """The entry that the rules lead to, whatever its type (fib_rules_lookup)."""
        for rule in sorted(self.world.rules, key=lambda rule: rule.priority):
            if rule.family != request.family or not selected(rule, request, iif, mark):
                continue
            if rule.action != TO_TABLE:
                return None
            route = self.world.match(rule.table, request.destination, 0, source=request.source)
            if route is None:
                continue
            length = split_prefix(route.destination, request.family)[1]
            if route.type == UNICAST and length <= rule.suppress_prefixlength:
                continue
            return route
        return None


def selected(rule: Rule, request: Request, iif: str, mark: int) -> bool:
    """Whether a rule selects the packet, condition by condition (fib_rule_match)."""
    conditions = [
        mark & rule.fwmask == rule.fwmark & rule.fwmask,
        rule.iif in ("", iif or "lo"),
        not rule.oif,
    ]
    for prefix, address in ((rule.source, request.source), (rule.destination, request.destination)):
        if prefix:
            conditions.append(bool(address) and contains(prefix, address))
    uids, sports, dports, protocol = rule.selectors
    if uids:
        conditions.append(request.uid is not None and uids[0] <= request.uid <= uids[1])
    if sports:
        conditions.append(sports[0] <= request.source_port <= sports[1])
    if dports:
        conditions.append(dports[0] <= request.destination_port <= dports[1])
    if protocol:
        conditions.append(protocol == request.protocol)
    return all(conditions) is not rule.inverted
