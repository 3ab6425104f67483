"""The slot, table and mark of each uplink.  Pure.

A slot is a number from 1.  From it follow the table (table_base + slot), the mark (the slot's
bits in the bits of mark_mask) and the priorities of the uplink's rules.  Slots follow the order
of the file at a fresh start and stay with their uplink after that, so that an uplink that
carries connections keeps its numbers when a section is added before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.options import MAX_UPLINKS
from mproutd.planning.cache import cache_last


class Numbers(NamedTuple):
    """What follows from an uplink's slot."""

    slot: int
    table: int
    mark: int
    """0: the mask has none left."""
    mask: int


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
        slot = slots.get(uplink.name, 0)
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
