"""The slot, table and mark of each uplink.  Pure.

A slot is a number from 1.  From it follow the table (table_base + slot), the mark (the slot's
bits in the bits of mark_mask) and the priorities of the uplink's rules.  Slots follow the order
of the file at a fresh start and stay with their uplink after that, so that an uplink that
carries connections keeps its numbers when a section is added before it.  With `pair` they always
follow the order of the file, so that two gateways with the same file have the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.options import MAX_UPLINKS, POLICY_TABLES, TABLE_SPAN
from mproutd.planning.cache import cache_last

if TYPE_CHECKING:
    from mproutd.configuration.policies import RuleConfig


class Numbers(NamedTuple):
    """What follows from an uplink's slot."""

    slot: int
    table: int
    mark: int
    """0: the mask has none left."""
    mask: int


class PolicyNumbers(NamedTuple):
    """What follows from the number of a policy, or of a sticky rule."""

    number: int
    table: int
    """The policy's."""
    mark: int
    """In the bits of policy_mask."""


def sticky_key(rule: RuleConfig) -> str:
    """The name of a sticky rule among the policies' numbers; UCI's names have no slash."""
    return f"{rule.policy}/{rule.name}"


@cache_last
def assign_policy_numbers(config: Config, known: Mapping[str, int]) -> dict[str, PolicyNumbers]:
    """The numbers of every policy, and of every sticky rule with a policy, by sticky_key().

    A sticky rule has a mark of its own, so that what it selects is distinct from the rest of its
    policy, and its policy's table.  `known` are the numbers of the last run; as with slots, they
    stay, since the marks of connections outlive a reload.
    """
    policies = {policy.name: policy.name for policy in config.policies}
    sticky = (rule for rule in config.rules if rule.sticky and rule.policy in policies)
    owners = policies | {sticky_key(rule): rule.policy for rule in sticky}
    highest = min((1 << config.policy_mask.bit_count()) - 1, TABLE_SPAN - POLICY_TABLES - 1)
    assigned: dict[str, int] = {}
    for name in owners:
        number = 0 if config.pair else known.get(name, 0)
        if 0 < number <= highest and number not in assigned.values():
            assigned[name] = number
    free = iter([n for n in range(1, highest + 1) if n not in assigned.values()])
    for name in owners:
        if name not in assigned:
            assigned[name] = next(free)  # configuration/policy_checks.py allows no more
    first = config.table_base + POLICY_TABLES
    return {
        name: PolicyNumbers(
            assigned[name], first + assigned[policy], deposit(assigned[name], config.policy_mask)
        )
        for name, policy in owners.items()
    }


def deposit(value: int, mask: int) -> int:
    """Put the bits of `value` into the set bits of `mask`, lowest first; -1 if they do not fit."""
    result, bit = 0, 1
    while mask >= bit and value:
        if mask & bit:
            if value & 1:
                result |= bit
            value >>= 1
        bit <<= 1
    return -1 if value else result


def marks_overlap(mark: int, mask: int, other: int, other_mask: int) -> bool:
    """Whether both agree in the bits that they share, so that one packet can match both.

    Without a shared bit they are separate fields of the mark, which do not conflict.
    """
    common = mask & other_mask
    return bool(common) and (mark ^ other) & common == 0


@cache_last
def assign_numbers(config: Config, slots: Mapping[str, int]) -> dict[str, Numbers]:
    """Every uplink's numbers; `slots` are those of the last run.

    A table that is configured and in the slots' range takes its slot with it, so that no other
    uplink gets that table.
    """
    pinned = {
        uplink.name: uplink.table - config.table_base
        for uplink in config.uplinks
        if uplink.table and 0 < uplink.table - config.table_base <= MAX_UPLINKS
    }
    marks = [
        (uplink.mark, uplink.mask or config.mark_mask)
        for uplink in config.uplinks
        if uplink.mark is not None
    ]
    assigned = dict(pinned)
    taken = set(pinned.values())
    for uplink in config.uplinks:
        slot = 0 if config.pair else slots.get(uplink.name, 0)
        if uplink.name not in assigned and 0 < slot <= MAX_UPLINKS and slot not in taken:
            if _mark_is_free(config, uplink, slot, marks):
                assigned[uplink.name] = slot
                taken.add(slot)
    numbers: dict[str, Numbers] = {}
    for uplink in config.uplinks:
        if uplink.name not in assigned:
            free = [slot for slot in range(1, MAX_UPLINKS + 1) if slot not in taken]
            slot = next(
                (slot for slot in free if _mark_is_free(config, uplink, slot, marks)),
                free[0],  # there is one: configuration/resolve.py allows no more uplinks
            )
            assigned[uplink.name] = slot
            taken.add(slot)
        numbers[uplink.name] = _numbers(config, uplink, assigned[uplink.name], marks)
    return numbers


def tables_in_use(
    config: Config, slots: Mapping[str, int], policies: Mapping[str, int]
) -> set[int]:
    """The tables of uplinks, of other traffic and of policies."""
    tables = {own.table for own in assign_numbers(config, slots).values()} | {config.table_base}
    if config.policies:
        tables.update(own.table for own in assign_policy_numbers(config, policies).values())
    return tables


def _numbers(
    config: Config, uplink: UplinkConfig, slot: int, marks: Sequence[tuple[int, int]]
) -> Numbers:
    table = uplink.table or config.table_base + slot
    if uplink.mark is not None:
        return Numbers(slot, table, uplink.mark, uplink.mask or config.mark_mask)
    mark = deposit(slot, config.mark_mask)
    if not _mark_is_free(config, uplink, slot, marks):  # where the table decides the slot
        return Numbers(slot, table, 0, 0)
    if mark in (-1, config.mark_mask):  # all ones is for lookups in main: see routes.py
        return Numbers(slot, table, 0, 0)
    return Numbers(slot, table, mark, config.mark_mask)


def _mark_is_free(
    config: Config, uplink: UplinkConfig, slot: int, marks: Sequence[tuple[int, int]]
) -> bool:
    """Whether the slot's mark overlaps none of the configured `marks`."""
    if not marks or uplink.mark is not None:
        return True
    mark = deposit(slot, config.mark_mask)
    return mark == -1 or not any(marks_overlap(mark, config.mark_mask, *other) for other in marks)
