"""Which ip rule led a packet to a table: the kernel names only the table.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mproutd.explain.request import Request
from mproutd.model import Route, Rule, contains, leading_bits


def matching_rule(
    rules: Iterable[Rule], request: Request, iif: str, mark: int, route: Route
) -> Rule | None:
    """The first rule that selects the packet and leads to the table of the route found."""
    for rule in sorted(rules, key=lambda rule: rule.priority):
        if (
            rule.family == request.family
            and rule.table == route.table
            and _length(route.destination) > rule.suppress_prefixlength
            and selects(rule, request, iif, mark)
        ):
            return rule
    return None


def selects(rule: Rule, request: Request, iif: str, mark: int) -> bool:
    """Whether the rule's conditions hold for a packet that no socket binds to a device."""
    addresses = all(
        not prefix or (bool(address) and contains(prefix, address))
        for prefix, address in (
            (rule.source, request.source),
            (rule.destination, request.destination),
        )
    )
    # The kernel takes the loopback device for what this host sends.
    arrived = not rule.iif or rule.iif == (iif or "lo")
    marked = (mark ^ rule.fwmark) & rule.fwmask == 0
    wanted, given = rule.selectors, request.selectors
    ranges = all(
        limits is None or (value is not None and limits[0] <= value[0] <= limits[1])
        for limits, value in zip(wanted[:3], given[:3], strict=True)
    )
    protocol = wanted.protocol in (0, given.protocol)
    found = addresses and arrived and marked and ranges and protocol and not rule.oif
    return found is not rule.inverted


def _length(destination: str) -> int:
    return 0 if destination == "default" else leading_bits(destination)[1]
