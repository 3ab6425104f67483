"""What policies and rules contradict, and rules without effect.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from mproutd.configuration.matches import Selection
from mproutd.configuration.options import MAX_OWN_RULES, POLICY_TABLES, TABLE_SPAN
from mproutd.configuration.policies import Policies, RuleConfig, own_rules_of
from mproutd.configuration.resolve import Resolver
from mproutd.configuration.sections import ConfigError, OptionValue
from mproutd.model import bits, family_of

Values = Mapping[str, Sequence[OptionValue]]
"""An uplink's values by option."""


# -- numbers ------------------------------------------------------------------------------


def number_conflicts(
    resolver: Resolver,
    policies: Policies,
    table_base: int,
    masks: tuple[int, int],
    uplinks: Sequence[Values],
) -> Iterator[ConfigError]:
    """Marks, tables and priorities that policies cannot have; `masks`: mark_mask, policy_mask."""
    mark_mask, policy_mask = masks
    if not policies.rules:
        return
    if mark_mask & policy_mask:
        options = [
            value
            for section in resolver.of_type("mproutd")
            for name in ("policy_mask", "mark_mask")
            for value in resolver.parsed(section, name)
        ]
        reason = f"mark_mask {mark_mask:#x} and policy_mask {policy_mask:#x} share bits"
        yield options[0].error(f"{reason}: change one of them")
    for values in uplinks:
        for mark in values["mark"][:1]:
            mask = mark.value[1]
            if mask is not None and mask & policy_mask:
                reason = f"its mask shares bits with policy_mask {policy_mask:#x}"
                yield mark.error(f"{reason}: change one of them")
        for table in values["table"][:1]:
            if table.value - table_base in range(POLICY_TABLES, TABLE_SPAN):
                first, last = table_base + POLICY_TABLES, table_base + TABLE_SPAN - 1
                yield table.error(f"tables {first} to {last} are for policies")
    sticky = [rule for rule in policies.rules if rule.sticky]
    wanted, available = len(policies.policies) + len(sticky), (1 << policy_mask.bit_count()) - 1
    available = min(available, TABLE_SPAN - POLICY_TABLES - 1)
    last_rule = resolver.of_type("rule")[-1]
    if wanted > available:
        yield last_rule.error(
            f"too many policies and sticky rules: {wanted}, and policy_mask {policy_mask:#x} "
            f"has marks for {available}"
        )
    own = sum(map(own_rules_of, policies.rules))
    if own > MAX_OWN_RULES:
        yield last_rule.error(
            f"rules with user need {own} ip rules, and there is room for {MAX_OWN_RULES}: "
            "use prefixes and ranges instead of lists"
        )


# -- rules without effect -----------------------------------------------------------------


def rule_warnings(
    resolver: Resolver,
    policies: Policies,
    devices: Mapping[str, str],
    local: Sequence[str],
    pin_flows: bool,
) -> Iterator[ConfigError]:
    """Rules that never match, members that carry nothing, and options without effect.

    `devices`: device → its uplink.  `local`: uplinks without a default route.
    """
    sections = {section.name: section for section in resolver.of_type("rule")}
    for rule, earlier in covered_rules(policies.rules):
        yield sections[rule.name].error(
            f"never matches: {earlier.name} at {earlier.location} matches everything that it does"
        )
    for rule in policies.rules:
        if rule.sticky and not pin_flows:
            value = resolver.parsed(sections[rule.name], "sticky")[0]
            yield value.error("has no effect with pin_flows 0: no connection keeps its uplink")
        for device in () if rule.devices.negated else rule.devices.values:
            if device in devices:
                value = resolver.parsed(sections[rule.name], "src_iface")[0]
                reason = f"has no effect for {device}: it is the device of uplink {devices[device]}"
                yield value.error(f"{reason}, and connections from there keep it")
    for section in resolver.of_type("member"):
        for value in resolver.parsed(section, "interface"):
            if value.value in local:
                yield value.error(f"has no effect: {value.value} has default_route 0")


class _Ranges(NamedTuple):
    """A rule as ranges of numbers, which are quick to compare."""

    rule: RuleConfig
    families: frozenset[int]
    selections: tuple[tuple[bool, tuple[tuple[int, int], ...] | None], ...]
    """Negated, and ranges; None for any."""
    plain: tuple[tuple[bool, frozenset[Any] | None], ...]
    """Negated, and values; None for any."""


def covered_rules(rules: Sequence[RuleConfig]) -> list[tuple[RuleConfig, RuleConfig]]:
    """(rule, an earlier rule that matches everything that it does)."""
    found = []
    earlier: list[tuple[int, int, _Ranges]] = []
    for rule in rules:
        ranges = _as_ranges(rule)
        # Of most pairs the sources decide, in a fraction of the time that the rest takes.
        low, high = _hull(ranges)
        for first, last, other in earlier:
            if first <= low and high <= last and _covers(other, ranges):
                found.append((rule, other.rule))
                break
        else:
            earlier.append((low, high, ranges))
    return found


def _hull(ranges: _Ranges) -> tuple[int, int]:
    """The lowest and the highest source; every one where they are not limited."""
    negated, sources = ranges.selections[0]
    if negated or not sources:
        return 0, 1 << 130
    return min(first for first, _ in sources), max(last for _, last in sources)


def _as_ranges(rule: RuleConfig) -> _Ranges:
    def plain(values: Sequence[Any], negated: bool = False) -> tuple[bool, frozenset[Any] | None]:
        return negated, frozenset(values) if values else None

    def ranges(
        selection: Selection, convert: Callable[[Any], tuple[int, int]]
    ) -> tuple[bool, tuple[tuple[int, int], ...] | None]:
        if not selection:
            return False, None
        return selection.negated, tuple(map(convert, selection.values))

    users = rule.user if isinstance(rule.user, tuple) else None
    return _Ranges(
        rule,
        frozenset(rule.families),
        (
            ranges(rule.sources, _prefix_range),
            ranges(rule.destinations, _prefix_range),
            ranges(rule.source_ports, tuple),
            ranges(rule.destination_ports, tuple),
            (False, None if users is None else (users,)),
        ),
        (
            plain((rule.user,) if isinstance(rule.user, str) else ()),
            plain(rule.protocols),
            plain(rule.devices.values, rule.devices.negated),
            plain(rule.macs.values, rule.macs.negated),
            plain(rule.dscp.values, rule.dscp.negated),
            plain((rule.set,) if rule.set else ()),
            plain(rule.domains),
        ),
    )


def _prefix_range(text: str) -> tuple[int, int]:
    """Its first and last address; those of IPv6 come after all of IPv4."""
    address, _, length = text.partition("/")
    family = family_of(address)
    size = bits(family)
    first = int.from_bytes(inet_pton(family, address), "big")
    if family != AF_INET:
        first += 1 << 129
    return first, first + (1 << size - int(length or size)) - 1


def _covers(wide: _Ranges, narrow: _Ranges) -> bool:
    """Whether whatever `narrow` matches, `wide` matches too; False where it is not certain."""
    if wide.rule.forwarded is not narrow.rule.forwarded or not wide.families >= narrow.families:
        return False
    for (negated, values), (other_negated, others) in zip(wide.plain, narrow.plain, strict=True):
        if values is None:
            continue
        if others is None or negated is not other_negated:
            return False
        if not (values <= others if negated else values >= others):
            return False
    return all(
        _ranges_cover(*mine, *other)
        for mine, other in zip(wide.selections, narrow.selections, strict=True)
    )


def _ranges_cover(
    negated: bool,
    ranges: tuple[tuple[int, int], ...] | None,
    other_negated: bool,
    others: tuple[tuple[int, int], ...] | None,
) -> bool:
    if ranges is None:
        return True
    if others is None:
        return False
    if negated and other_negated:  # everything that is excluded here is excluded there
        return all(_is_within(excluded, others) for excluded in ranges)
    if negated:
        return not any(
            first <= last_out and first_out <= last
            for first, last in others
            for first_out, last_out in ranges
        )
    return not other_negated and all(_is_within(other, ranges) for other in others)


def _is_within(part: tuple[int, int], ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= part[0] and part[1] <= last for first, last in ranges)
