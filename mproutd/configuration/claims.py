"""What two uplinks may not both have: a table, a mark, a device that packets arrive on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mproutd.configuration.parsers import shown
from mproutd.configuration.sections import ConfigError, Told

UPLINKS_MOST = 199
"""Slots 1..199: the windows of the rules are 200 priorities apart."""

Claims = tuple[Told, dict[str, list[Told]]]
"""An uplink's device and what its sections say, by option."""


def conflicts(table_base: int, mark_mask: int, uplinks: Sequence[Claims]) -> Iterator[ConfigError]:
    """Every claim that cannot be met, in the order of the uplinks."""
    unmarked = sum(not said["mark"] for _, said in uplinks)
    most = min((1 << mark_mask.bit_count()) - 2, UPLINKS_MOST)
    if unmarked > most or len(uplinks) > UPLINKS_MOST:
        device = uplinks[-1][0]
        yield device.section.error(
            f"{len(uplinks)} uplinks are too many: {UPLINKS_MOST} have a place, and mark_mask "
            f"{mark_mask:#x} has marks for {most} without a mark of their own"
        )
        return
    devices = {device.value: device for device, _ in uplinks}
    tables: dict[int, Told] = {}
    marks: list[tuple[int, int, Told]] = []
    arrivals: dict[str, Told] = {}
    for _, said in uplinks:
        for told in said["table"][:1]:
            if told.value == table_base:
                yield told.error(
                    f"{told.value} is table_base, which holds the default for other traffic"
                )
            elif told.value in tables:
                yield told.error(f"{told.value} is taken in {tables[told.value].place}")
            tables.setdefault(told.value, told)
        for told in said["mark"][:1]:
            yield from mark_conflicts(told, mark_mask, marks)
        for told in said["iif"]:
            if told.value in devices:
                other = devices[told.value].section.title
                yield told.error(f"{shown(told.value)} is itself the device of {other}")
            elif told.value in arrivals:
                yield told.error(f"{shown(told.value)} is taken in {arrivals[told.value].place}")
            arrivals.setdefault(told.value, told)


def mark_conflicts(
    told: Told, mark_mask: int, marks: list[tuple[int, int, Told]]
) -> Iterator[ConfigError]:
    """What speaks against a mark; it joins the `marks` that later ones are held against."""
    mark, own = told.value
    mask = mark_mask if own is None else own
    text = told.section.options["mark"].values[0]
    if own is None and mark & ~mark_mask:
        enough = (1 << (mark.bit_length() + 7) // 8 * 8) - 1
        yield told.error(
            f"mark {text} lies outside mark_mask {mark_mask:#x}: "
            f"write '{text}/{enough:#x}' or set mark_mask"
        )
    elif not (mark ^ mark_mask) & mask:
        yield told.error(
            f"{shown(text)} selects {mark_mask:#x}, all bits of mark_mask, "
            "which mproutd keeps for its own questions"
        )
    else:
        for other, other_mask, who in marks:
            if not (mark ^ other) & mask & other_mask:
                yield told.error(
                    f"{shown(text)} can select the same packet as "
                    f"{shown(who.section.options['mark'].values[0])} in {who.place}"
                )
                break
    marks.append((mark, mask, told))
