"""Where each uplink has its place: slot, table and mark.

A slot is a small number from 1.  From it follow the table (table_base + slot), the mark
(the slot's bits laid into mark_mask) and the priorities of the uplink's rules.  Slots
follow the order of the file at a fresh start and stay with their uplink after that, so
that an uplink that carries connections never moves because a section was added before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.planning.cache import cache_last

MAX_SLOT = 199
"""The rule windows (DESIGN: 7100+slot, 7300+slot ...) are 200 wide."""


class Numbers(NamedTuple):
    """What an uplink's slot gives it."""

    slot: int
    table: int
    mark: int
    """0: none left in the mask."""
    mask: int


def deposit(value: int, mask: int) -> int:
    """Lay the bits of `value` into the set bits of `mask`, lowest first; -1 if it does not fit."""
    result, bit = 0, 1
    while mask >= bit and value:
        if mask & bit:
            if value & 1:
                result |= bit
            value >>= 1
        bit <<= 1
    return -1 if value else result


def marks_overlap(mark: int, mask: int, other: int, other_mask: int) -> bool:
    """Whether the bits that both look at are the same, so that one mark selects both.

    Without a bit in common they are two fields of the mark, which do not meet.
    """
    common = mask & other_mask
    return bool(common) and (mark ^ other) & common == 0


@cache_last
def assign_numbers(config: Config, known: Mapping[str, int]) -> dict[str, Numbers]:
    """A place for every uplink; `known` are the slots of the last run.

    A pinned table inside the range takes that slot, so nobody else can get the table.
    """
    pinned = {
        uplink.table - config.table_base: uplink.name
        for uplink in config.uplinks
        if uplink.table and 0 < uplink.table - config.table_base <= MAX_SLOT
    }
    marks = [
        (uplink.mark, uplink.mask or config.mark_mask)
        for uplink in config.uplinks
        if uplink.mark is not None
    ]
    taken = dict(pinned)
    slots = {name: slot for slot, name in pinned.items()}
    for uplink in config.uplinks:
        slot = known.get(uplink.name, 0)
        if uplink.name not in slots and 0 < slot <= MAX_SLOT and slot not in taken:
            if _mark_is_free(config, uplink, slot, marks):
                slots[uplink.name], taken[slot] = slot, uplink.name
    numbers: dict[str, Numbers] = {}
    for uplink in config.uplinks:
        if uplink.name not in slots:
            free = [number for number in range(1, MAX_SLOT + 1) if number not in taken]
            slot = next(
                (number for number in free if _mark_is_free(config, uplink, number, marks)),
                free[0],  # resolve.py: there are no more uplinks than slots
            )
            slots[uplink.name], taken[slot] = slot, uplink.name
        numbers[uplink.name] = _numbers(config, uplink, slots[uplink.name], marks)
    return numbers


def _numbers(
    config: Config, uplink: UplinkConfig, slot: int, marks: Sequence[tuple[int, int]]
) -> Numbers:
    table = uplink.table or config.table_base + slot
    if uplink.mark is not None:
        return Numbers(slot, table, uplink.mark, uplink.mask or config.mark_mask)
    mark = deposit(slot, config.mark_mask)
    if not _mark_is_free(config, uplink, slot, marks):  # a pinned table takes its slot with it
        return Numbers(slot, table, 0, 0)
    if mark in (-1, config.mark_mask):  # all ones is the question to main: see plan.py
        return Numbers(slot, table, 0, 0)
    return Numbers(slot, table, mark, config.mark_mask)


def _mark_is_free(
    config: Config, uplink: UplinkConfig, slot: int, marks: Sequence[tuple[int, int]]
) -> bool:
    """Whether the slot's own mark meets none of the pinned ones."""
    if not marks or uplink.mark is not None:
        return True
    mark = deposit(slot, config.mark_mask)
    return mark == -1 or not any(marks_overlap(mark, config.mark_mask, *pinned) for pinned in marks)
