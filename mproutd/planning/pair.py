"""What the configurations of two gateways must have in common.  Pure.

A connection that moves to the other gateway brings its mark and its translation, and nothing
else.  So the same mark has to lead to the same uplink or policy there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.matches import Selection
from mproutd.configuration.policies import PolicyConfig, RuleConfig
from mproutd.planning.numbering import assign_numbers, assign_policy_numbers

MARKS = "a connection that moves would follow another uplink, or none"
NUMBERS = "rules and scripts that name the number mean another uplink on the other gateway"
STEERING = "new connections would take another uplink after a change of the gateway"


_Named = TypeVar("_Named", UplinkConfig, PolicyConfig, RuleConfig)


class Difference(NamedTuple):
    """One thing that two configurations have differently."""

    where: str
    """The section, and the option or what follows from it."""
    own: str
    other: str
    """Empty for what is missing."""
    why: str

    def text(self, own_directory: str, other_directory: str) -> str:
        """One line."""
        own, other = self.own or "missing", self.other or "missing"
        return f"{self.where}: {own} in {own_directory}, {other} in {other_directory}: {self.why}"


def differences(own: Config, other: Config) -> list[Difference]:
    """In the order of the file; devices and gateways may differ."""
    return [
        *_globals(own, other),
        *_uplinks(own, other),
        *_policies(own, other),
        *_rules(own, other),
    ]


def _globals(own: Config, other: Config) -> Iterator[Difference]:
    without = (
        "its numbers follow its own history, and it is active after a boot; set option pair '1'"
    )
    if not (own.pair and other.pair):
        yield _difference("mproutd, option pair", (int(own.pair), int(other.pair)), without)
    if own.enabled != other.enabled:
        states = ["enable" if config.enabled else "disable" for config in (own, other)]
        why = "one of the gateways cannot take over"
        yield _difference("network, option multipath of globals", states, why)
    named: tuple[tuple[str, str], ...] = (
        ("mark_mask", MARKS),
        ("policy_mask", MARKS),
        ("pin_flows", "connections that move would not keep their uplink on one of the gateways"),
        ("table_base", NUMBERS),
        ("rule_priority", NUMBERS),
        ("main_routes", STEERING),
    )
    for option, why in named:
        values = [getattr(config, option) for config in (own, other)]
        if values[0] != values[1]:
            show = hex if option.endswith("mask") else int
            yield _difference(f"mproutd, option {option}", map(show, values), why)
    if set(own.virtual_address) != set(other.virtual_address):
        addresses = [" ".join(sorted(config.virtual_address)) for config in (own, other)]
        why = "an address that moves would get an endpoint on one of the gateways"
        yield _difference("mproutd, option virtual_address", addresses, why)


def _uplinks(own: Config, other: Config) -> Iterator[Difference]:
    numbers = assign_numbers(own, {}), assign_numbers(other, {})
    uplinks = _by_name(own.uplinks), _by_name(other.uplinks)
    for name in dict.fromkeys((*uplinks[0], *uplinks[1])):
        where = f"uplink {name}"
        present = [f"slot {of[name].slot}" if name in of else "" for of in numbers]
        if "" in present:
            yield _difference(where, present, MARKS)
            continue
        mine, theirs = numbers[0][name], numbers[1][name]
        if (mine.mark, mine.mask) != (theirs.mark, theirs.mask):
            marks = [f"mark {of.mark:#x}/{of.mask:#x}" for of in (mine, theirs)]
            order = "; order the uplinks alike, or set option table or mark"
            yield _difference(where, marks, MARKS + order)
        elif (mine.slot, mine.table) != (theirs.slot, theirs.table):
            places = [f"slot {of.slot}, table {of.table}" for of in (mine, theirs)]
            yield _difference(where, places, NUMBERS)
        yield from _options(where, uplinks[0][name], uplinks[1][name])


def _options(where: str, own: UplinkConfig, other: UplinkConfig) -> Iterator[Difference]:
    for option in ("mode", "weight", "metric", "strict", "failback", "default_route", "nat6"):
        values = getattr(own, option), getattr(other, option)
        if values[0] != values[1]:
            name = "multipath" if option == "mode" else option
            shown = [_shown(value) for value in values]
            yield _difference(f"{where}, option {name}", shown, STEERING)


def _policies(own: Config, other: Config) -> Iterator[Difference]:
    numbers = assign_policy_numbers(own, {}), assign_policy_numbers(other, {})
    for name in dict.fromkeys((*numbers[0], *numbers[1])):
        kind = "sticky rule" if "/" in name else "policy"
        marks = [f"mark {of[name].mark:#x}" if name in of else "" for of in numbers]
        if marks[0] != marks[1]:
            yield _difference(f"{kind} {name}", marks, MARKS)
    policies = _by_name(own.policies), _by_name(other.policies)
    for name in policies[0].keys() & policies[1].keys():
        shown = [_members(of[name]) for of in policies]
        if shown[0] != shown[1]:
            yield _difference(f"policy {name}", shown, STEERING)


def _rules(own: Config, other: Config) -> Iterator[Difference]:
    rules = _by_name(own.rules), _by_name(other.rules)
    for name in dict.fromkeys((*rules[0], *rules[1])):
        mine, theirs = rules[0].get(name), rules[1].get(name)
        if mine is None or theirs is None:
            shown = ["present" if rule else "" for rule in (mine, theirs)]
            yield _difference(f"rule {name}", shown, STEERING)
        else:
            fields = [
                field
                for field in RuleConfig._fields
                if field not in ("devices", "location")
                and getattr(mine, field) != getattr(theirs, field)
            ]
            shown = [
                ", ".join(f"{field} {_shown(getattr(rule, field))}" for field in fields)
                for rule in (mine, theirs)
            ]
            if fields:
                yield _difference(f"rule {name}", shown, STEERING)
    shared = [[name for name in of if name in rules[0] and name in rules[1]] for of in rules]
    if shared[0] != shared[1]:
        why = f"the first rule that matches decides; {STEERING}"
        yield _difference("order of the rules", (", ".join(order) for order in shared), why)


def _members(policy: PolicyConfig) -> str:
    members = [
        f"{member.uplink} metric {member.metric} weight {member.weight}"
        for member in policy.members
    ]
    return f"{', '.join(members)}; last resort {policy.last_resort}"


def _by_name(items: Iterable[_Named]) -> dict[str, _Named]:
    return {item.name: item for item in items}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Selection):
        return ("not " if value.negated else "") + (" ".join(map(_shown, value.values)) or "any")
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "not set"
    return "not set" if value in (None, "") else str(value)


def _difference(where: str, values: Iterable[object], why: str) -> Difference:
    own, other = map(str, values)
    return Difference(where, own, other, why)
