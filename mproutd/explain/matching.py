"""Which rule of the configuration a flow matches.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mproutd.configuration.matches import ANY_USER, Selection
from mproutd.configuration.policies import RuleConfig
from mproutd.explain.request import Request
from mproutd.model import contains

InSet = Callable[[RuleConfig], bool]
"""Whether the kernel's sets of a rule (`set`, `domain`) contain the destination."""


class Undecided(NamedTuple):
    """A rule that matches or not, depending on what the request leaves open."""

    rule: RuleConfig
    arguments: tuple[str, ...]
    """Those that decide."""


class Match(NamedTuple):
    """The first rule that matches."""

    rule: RuleConfig | None = None
    undecided: tuple[Undecided, ...] = ()
    """Earlier ones that were taken for not matching."""


def first_match(
    rules: Sequence[RuleConfig], request: Request, forwarded: bool, in_set: InSet
) -> Match:
    """The rule for this flow; `forwarded`: it does not come from this host."""
    undecided: list[Undecided] = []
    for rule in rules:
        if rule.forwarded is not forwarded or request.family not in rule.families:
            continue
        unknown: list[str] = []
        if all(verdict for verdict in _verdicts(rule, request, in_set, unknown)):
            if not unknown:
                return Match(rule, tuple(undecided))
            undecided.append(Undecided(rule, tuple(unknown)))
    return Match(None, tuple(undecided))


def _verdicts(
    rule: RuleConfig, request: Request, in_set: InSet, unknown: list[str]
) -> Iterable[bool]:
    """Whether each condition holds; one that is open counts, and its argument becomes unknown."""

    def known(value: object, argument: str) -> bool:
        if not value:
            unknown.append(argument)
        return bool(value)

    yield (
        not rule.protocols
        or not known(request.protocol, "--proto")
        or (request.protocol in rule.protocols)
    )
    for ports, port, argument in (
        (rule.source_ports, request.source_port, "--sport"),
        (rule.destination_ports, request.destination_port, "--port"),
    ):
        yield not ports or not known(port, argument) or _in_ranges(ports, port)
    for prefixes, address, argument in (
        (rule.sources, request.source, "--from"),
        (rule.destinations, request.destination, "--to"),
    ):
        yield not prefixes or not known(address, argument) or _in_prefixes(prefixes, address)
    for selection, value, argument in (
        (rule.devices, request.iif, "--iif"),
        (rule.macs, request.mac, "--mac"),
    ):
        yield not selection or not known(value, argument) or _among(selection, value)
    yield not rule.dscp or _among(rule.dscp, request.dscp)
    yield not (rule.set or rule.domains) or in_set(rule)
    user = rule.user
    if isinstance(user, tuple) and user != ANY_USER:
        if request.uid is None:
            unknown.append("--user")
        yield request.uid is None or user[0] <= request.uid <= user[1]
    else:
        yield not isinstance(user, str)  # a name that does not exist here


def _among(selection: Selection, value: object) -> bool:
    return (value in selection.values) is not selection.negated


def _in_ranges(selection: Selection, value: int) -> bool:
    found = any(first <= value <= last for first, last in selection.values)
    return found is not selection.negated


def _in_prefixes(selection: Selection, address: str) -> bool:
    return any(_covers(prefix, address) for prefix in selection.values) is not selection.negated


def _covers(network: str, address: str) -> bool:
    """Like contains(), where the whole of one family ends in /0."""
    if network in ("0.0.0.0/0", "::/0"):
        return (":" in network) is (":" in address)
    return contains(network, address)
