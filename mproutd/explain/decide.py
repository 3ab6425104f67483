"""Follows one flow: connection, rule, mark, table, uplink, and what comes next.  Pure.

The order is the kernel's: the firewall's table marks a forwarded packet, then the ip rules choose a
routing table.  What the routing does is asked of the kernel, with the mark; what the firewall does
follows from the configuration in use, as long as the kernel has the table that belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EACCES, EHOSTUNREACH, EINVAL, EXDEV
from socket import AF_INET
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mproutd.configuration.config import Config
from mproutd.configuration.matches import PROTOCOLS
from mproutd.configuration.policies import DEFAULT, PolicyConfig, RuleConfig
from mproutd.explain.ip_rules import matching_rule
from mproutd.explain.marks import Marks
from mproutd.explain.matching import Match, Undecided, first_match
from mproutd.explain.request import Reply, Request
from mproutd.explain.standby import standby
from mproutd.iproute2 import describe, device_names
from mproutd.model import Rule, Snapshot
from mproutd.netlink.conntrack import Connection, End
from mproutd.planning.plan import Plan

if TYPE_CHECKING:
    from mproutd.explain.types import Explanation, FlowStatus, Kind, OpenRule, RuleStatus

VERSION = 1
DISCARDING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
"""linux/rtnetlink.h, RTN_*.  IPv6 reports such a route, IPv4 only the error."""
REFUSALS = {EHOSTUNREACH: "unreachable", EACCES: "prohibit"}
"""Errors of a lookup that such a route ends (net/ipv4/fib_semantics.c, fib_props)."""


SECOND_LOOKUP = (
    "a socket without an address gets one of any device where there is no route, and the kernel "
    "looks up again: it may leave by that address's uplink; --from shows the way of an address"
)
"""net/ipv6/ip6_output.c, ip6_dst_lookup_tail."""


class Kernel(Protocol):
    """What is asked about a flow; see kernel.py."""

    def is_local(self, address: str) -> bool: ...
    def device_towards(self, address: str) -> int: ...
    def route(self, request: Request, iif: int, mark: int) -> Reply: ...
    def connections(self, request: Request) -> Sequence[Connection] | None: ...


class World(NamedTuple):
    """The configuration in use, and what the kernel and the plan have."""

    config: Config
    snapshot: Snapshot
    plan: Plan
    in_set: Callable[[str, str], bool]
    """Whether a set of the table `inet mproutd` has an address."""
    pins: bool | None = True
    """Whether the kernel has the table `inet mproutd` as planned; None where it is not wanted."""


class UnknownDeviceError(Exception):
    """There is no device of this name."""


def explain(request: Request, world: World, kernel: Kernel) -> Explanation:
    """The whole answer.  UnknownDeviceError."""
    return _Explainer(request, world, kernel).explain()


class _Found(NamedTuple):
    """What each step found."""

    kind: Kind
    match: Match
    kept: str
    """The uplink that the connection keeps, or the source by a sticky rule; or ""."""
    mark: tuple[int, int]
    """And its mask."""
    reply: Reply
    ip_rule: Rule | None
    tracked: bool = False
    """It belongs to a tracked connection."""


class _Explainer:
    def __init__(self, request: Request, world: World, kernel: Kernel) -> None:
        self._world, self._kernel = world, kernel
        self._names = device_names(world.snapshot.links)
        self._notes: list[str] = []
        self._marks = Marks(world.config, world.plan)
        self._iif, self._forwarded = self._arrival(request)
        if self._iif and not request.iif:
            request = request._replace(iif=self._names(self._iif))
        self._request = request

    def _arrival(self, request: Request) -> tuple[int, bool]:
        """(the ifindex of the device that it arrives by or 0, whether it comes from elsewhere)."""
        if request.iif:
            links = self._world.snapshot.links.values()
            index = next((link.index for link in links if link.name == request.iif), 0)
            if not index:
                raise UnknownDeviceError(request.iif)
            return index, True
        if not request.source or self._kernel.is_local(request.source):
            return 0, False
        index = self._kernel.device_towards(request.source)
        if index:
            name = self._names(index)
            self._notes.append(f"{name} is where replies to {request.source} go; --iif says more")
        return index, True

    def explain(self) -> Explanation:
        kind: Kind = "forwarded" if self._forwarded else "own"
        match, connection = Match(), None
        if self._kernel.is_local(self._request.destination):
            kind = "to-host"
        else:
            connection = self._tracked_connection()
            # Rules are for what comes from the hosts behind, not from an uplink.
            if not self._marks.uplink_of_device(self._iif):
                rules = self._world.config.rules
                match = first_match(rules, self._request, self._forwarded, self._in_set)
        kept, mark, mask = self._marking(match, connection)
        self._note_endpoint(kind)
        mark = self._request.mark & ~mask | mark
        reply = self._kernel.route(self._request, self._iif, mark)
        found = _Found(kind, match, kept, (mark & mask, mask), reply, self._ip_rule(reply, mark))
        return self._answer(found._replace(tracked=connection is not None))

    def _note_endpoint(self, kind: Kind) -> None:
        mptcp = self._world.snapshot.mptcp
        source = self._request.source
        if kind == "own" and mptcp and any(e.address == source for e in mptcp.endpoints):
            self._notes.append(f"{source} is an MPTCP endpoint: its subflows go this way")

    # -- the firewall ---------------------------------------------------------------------

    def _tracked_connection(self) -> Connection | None:
        """The connection that this flow continues; None for a new one."""
        if not self._world.pins:
            if self._world.pins is False:
                self._notes.append("the table inet mproutd is not in place: no packet is marked")
            return None
        listed = self._kernel.connections(self._request)
        if listed is None:
            self._notes.append("connection tracking cannot be read; a new connection is assumed")
            return None
        found = [connection for connection in listed if self._continues(connection)]
        if self._request.source_port and self._request.destination_port:
            return found[0] if found else None
        uplinks = {self._marks.uplink_of_connection(one.mark) for one in found} - {""}
        if uplinks:
            self._notes.append(
                f"this is about a new connection; tracked ones keep "
                f"{' and '.join(sorted(uplinks))}: name the ports of one with --proto, --sport "
                "and --port"
            )
        return None

    def _continues(self, connection: Connection) -> bool:
        """Whether the flow's packets belong to this connection, in one of its directions.

        Of this host's own packets only replies whose address is translated back are marked.
        """
        if self._forwarded:
            return self._is_end(connection.original) or self._is_end(connection.reply)
        translated = connection.reply.source != connection.original.destination
        return translated and self._is_end(connection.reply)

    def _is_end(self, end: End) -> bool:
        request = self._request
        wanted = (*request[1::-1], *request[2:5])
        return all(not asked or asked == found for asked, found in zip(wanted, end, strict=True))

    def _marking(self, match: Match, connection: Connection | None) -> tuple[str, int, int]:
        """The uplink that the flow keeps or "", the bits of its mark that the firewall sets, and
        their mask."""
        kept, mark = "", (0, 0)
        if connection is not None:
            kept = self._marks.uplink_of_connection(connection.mark)
            if kept == self._marks.uplink_of_device(self._iif):
                kept = ""
            if self._forwarded and self._is_end(connection.original):
                mark = self._marks.of_connection(connection.mark)
        elif match.rule is not None and self._forwarded and self._world.pins:
            mark = self._marks.of_rule(match.rule)
            kept = self._sticky_uplink(match.rule)
        own = self._marks.of_uplink(kept)
        return kept, mark[0] | own[0], mark[1] | own[1]

    def _sticky_uplink(self, rule: RuleConfig) -> str:
        """The uplink of the source's earlier connections; "" for none."""
        sets = self._marks.sticky_sets(rule, self._request.family)
        source, in_set = self._request.source, self._world.in_set
        return next((uplink for name, uplink in sets.items() if in_set(name, source)), "")

    def _in_set(self, rule: RuleConfig) -> bool:
        """Whether the kernel's sets of a rule (`set`, `domain`) have the destination."""
        names = self._marks.destination_sets(rule, self._request.family)
        return all(self._world.in_set(name, self._request.destination) for name in names)

    # -- routing --------------------------------------------------------------------------

    def _ip_rule(self, reply: Reply, mark: int) -> Rule | None:
        if reply.entry is None:
            return None
        rules = self._world.snapshot.rules
        return matching_rule(rules, self._request, self._request.iif, mark, reply.entry)

    def _error(self, reply: Reply) -> str:
        """Why the packet does not leave; "" when it does."""
        if reply.entry is not None and reply.entry.type in DISCARDING:
            return f"the route is {DISCARDING[reply.entry.type]}"
        if reply.chosen is not None:
            return ""
        if reply.error in REFUSALS:
            return f"the route is {REFUSALS[reply.error]}"
        if reply.error in (EINVAL, EXDEV) and self._forwarded:
            unexpected = f"{self._request.source} is not expected on {self._request.iif}"
            other = " or the route is blackhole" if reply.error == EINVAL else ""
            return f"the kernel drops it: {unexpected} (rp_filter, martian){other}"
        return "the route is blackhole" if reply.error == EINVAL else "there is no route"

    def _answer(self, found: _Found) -> Explanation:
        reply, rule = found.reply, found.ip_rule
        error = self._error(reply)
        if (
            error
            and found.kind == "own"
            and not self._request.source
            and ":" in (self._request.destination)
        ):
            self._notes.append(SECOND_LOOKUP)
        chosen = None if error or found.kind == "to-host" else reply.chosen
        policy = self._policy(found)
        uplink = self._marks.uplink_of_device(chosen.device) if chosen else ""
        config, plan = self._world.config, self._world.plan
        line = standby(config, plan, self._request.family, policy, rule, uplink)
        mark, mask = found.mark
        return {
            "version": VERSION,
            "flow": self._flow(),
            "kind": found.kind,
            "rule": _rule(found.match.rule) if found.match.rule else None,
            "applies": _applies(found, policy),
            "open_rules": [_open_rule(undecided) for undecided in found.match.undecided],
            "kept_uplink": found.kept or None,
            "kept_by": ("connection" if found.tracked else "sticky") if found.kept else None,
            "mark": f"{mark:#x}/{mask:#x}" if mask else None,
            "ip_rule": describe(rule, self._names) if rule else None,
            "table": reply.entry.table if reply.entry else None,
            "route": describe(reply.entry, self._names) if reply.entry else None,
            "uplink": uplink or None,
            "device": self._names(chosen.device) if chosen else None,
            "gateway": (chosen.gateway or None) if chosen else None,
            "source": (self._request.source or chosen.source or None) if chosen else None,
            "error": error or None,
            "standby": line.members,
            "last_resort": line.last_resort,
            "notes": self._notes,
        }

    def _policy(self, found: _Found) -> PolicyConfig | None:
        """The policy whose table decides, or will after the uplink that the flow keeps.

        Without a route, an error is all that the kernel says: then it is that of the rule.
        """
        if found.kept:
            return self._marks.policy_of_mark(found.mark[0])
        if found.reply.entry is not None:
            return self._marks.policy_of_table(found.reply.entry.table)
        rule = found.match.rule
        return self._marks.policy(rule.policy) if rule and not found.tracked else None

    def _flow(self) -> FlowStatus:
        request = self._request
        return {
            "family": "ipv4" if request.family == AF_INET else "ipv6",
            "source": request.source or None,
            "destination": request.destination,
            "protocol": protocol_name(request.protocol) if request.protocol else None,
            "source_port": request.source_port or None,
            "destination_port": request.destination_port or None,
            "iif": request.iif or None,
            "uid": None if self._forwarded else request.uid,
            "mac": request.mac or None,
            "dscp": request.dscp,
        }


def protocol_name(number: int) -> str:
    """ "tcp"; the number where it has no name here."""
    return next((name for name, known in PROTOCOLS.items() if known == number), str(number))


def _rule(rule: RuleConfig) -> RuleStatus:
    return {"name": rule.name, "location": rule.location, "policy": rule.policy}


def _open_rule(undecided: Undecided) -> OpenRule:
    rule, arguments = undecided
    return {"name": rule.name, "location": rule.location, "arguments": [*arguments]}


def _applies(found: _Found, policy: PolicyConfig | None) -> bool:
    """Whether the rule of the configuration is what decided."""
    rule, ip_rule = found.match.rule, found.ip_rule
    if rule is None or found.tracked:
        return False
    if rule.policy != DEFAULT:
        return policy is not None and rule.policy == policy.name
    return rule.forwarded or (ip_rule is not None and bool(any(ip_rule.selectors) or ip_rule.iif))
