"""The values of both files, each by itself, and which sections are one uplink; pure.

Mistakes are gathered, since the first one in the files is not always the first one
that is met; the work stops when there are ENOUGH, however large the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mproutd.configuration.options import GLOBALS, INTERFACE, ON_THE_DEVICE, OPTIONS, UPLINK
from mproutd.configuration.parsers import ConfigError, OptionSpec, OptionValue, Section, hint, shown

ENOUGH = 20
"""Mistakes after which nobody looks for an earlier one."""
ALIASES_MOST = 8


class Group(NamedTuple):
    """The sections that are one uplink, since they have one device."""

    device: OptionValue
    members: list[Section]
    """Those that manage it, in the order of the files."""


class Reading:
    """One reading of the two files, with the mistakes found so far."""

    def __init__(self, network: Sequence[Section], mproutd: Sequence[Section]) -> None:
        self.files = list(dict.fromkeys(section.file for section in (*network, *mproutd)))
        self.network = [s for s in network if s.type == "interface"]
        self.interfaces = {s.name: s for s in self.network if s.name}
        self.extras = {s.name: s for s in mproutd if s.type == "uplink" and s.name}
        self.names = (*self.interfaces, *self.extras)
        self.errors: list[ConfigError] = []
        self.values: dict[tuple[str, str, str], list[OptionValue]] = {}

    def wrong(self, error: ConfigError) -> None:
        self.errors.append(error)
        if len(self.errors) == ENOUGH:
            self.stop_if_wrong()

    def stop_if_wrong(self) -> None:
        """Raise the mistake that stands first in the files."""
        if self.errors:
            raise min(self.errors, key=lambda e: (self.files.index(e.file), e.line))

    def read(self, section: Section, table: Mapping[str, OptionSpec], names: Iterable[str]) -> None:
        """Parse these options of the section, each value by itself."""
        for name in names:
            said = section.options.get(name)
            if said is None:
                continue
            known = table[name]
            told = [
                OptionValue(value, section, name, line)
                for value, line in zip(said.values, said.lines, strict=True)
            ]
            if said.many and not known.many:
                self.wrong(told[0].error("takes one value: write 'option', not 'list'"))
                continue
            if known.many and not said.many:  # blanks make a list of an option, as in netifd
                told = [one._replace(value=word) for one in told for word in one.value.split()]
            parsed = self.values.setdefault((section.file, section.name, name), [])
            for one in told:
                try:
                    parsed.append(one._replace(value=known.parse(one.value)))
                except ValueError as error:
                    self.wrong(one.error(str(error)))

    def all_told(self, section: Section | None, option: str) -> list[OptionValue]:
        return self.values.get((section.file, section.name, option), []) if section else []

    def read_network(self) -> None:
        """The modes in network; devices are read once it is clear whose are needed."""
        for section in self.network:
            if "multipath" in section.options and not section.name:
                self.wrong(section.error("an uplink needs a name"))
            self.read(section, INTERFACE, ("multipath",))

    def read_mproutd(self, sections: Sequence[Section]) -> dict[str, Any]:
        """Everything in mproutd; what its section of globals says, by name."""
        types = {kind: table for (file, kind), table in OPTIONS.items() if file == "mproutd"}
        first: Section | None = None
        for section in sections:
            table = types.get(section.type)
            if table is None:
                self.wrong(
                    section.error(
                        f"{shown(section.type)} is no type of section; say "
                        f"{' or '.join(types)}{hint(section.type, types)}"
                    )
                )
                continue
            for name, said in section.options.items():
                if name not in table:
                    unknown = OptionValue("", section, name, said.lines[0])
                    self.wrong(unknown.error(f"there is none{hint(name, table)}"))
            if section.type == "uplink" and not section.name:
                self.wrong(section.error("an uplink needs a name"))
            if section.type == "mproutd":
                if first:
                    self.wrong(section.error(f"the second one; see {first.place}"))
                first = first or section
            self.read(section, table, table)
        found = ((name, self.all_told(first, name)) for name in GLOBALS)
        return {name: told[0].value for name, told in found if told}

    def device(self, section: Section, seen: tuple[str, ...] = ()) -> OptionValue | None:
        """Who says what device a section has, aliases resolved; mproutd's word goes first.

        "@NAME" is the one that netifd makes for this interface, which only netifd can say.
        """
        told = None
        for whose, table in (
            (self.extras.get(section.name), UPLINK),
            (self.interfaces.get(section.name), INTERFACE),
        ):
            if told is None and table is INTERFACE and whose and _has_its_own(whose):
                return OptionValue(
                    f"@{whose.name}", whose, "proto", whose.options["proto"].lines[-1]
                )
            for option in ("device", "ifname"):
                if told is None and whose and option in whose.options:
                    if (whose.file, whose.name, option) not in self.values:
                        self.read(whose, table, (option,))
                    found = self.all_told(whose, option)
                    if not found:
                        return None
                    told = found[0]
        if told is None or told.value[0] != "@":
            return told
        name = told.value[1:]
        target = self.interfaces.get(name) or self.extras.get(name)
        if target is None:
            near = hint(name, self.names)
            self.wrong(told.error(f"there is no interface {shown(name)}{near}"))
            return None
        if name == section.name or name in seen or len(seen) == ALIASES_MOST:
            self.wrong(told.error(f"{shown(told.value)} leads back to itself or too far"))
            return None
        before = len(self.errors)
        behind = self.device(target, (*seen, section.name))
        if behind is None:
            if len(self.errors) == before:  # else the cause is told already
                self.wrong(told.error(f"{shown(name)} has no device that could be used"))
            return None
        return told._replace(value=behind.value)

    def groups(self) -> list[Group]:
        """What is managed, by device."""
        managed = [
            *(s for s in self.network if "multipath" in s.options or s.name in self.extras),
            *(s for s in self.extras.values() if s.name not in self.interfaces),
        ]
        found: dict[str, Group] = {}
        for section in managed:
            before = len(self.errors)
            told = self.device(section)
            if told:
                found.setdefault(told.value, Group(told, [])).members.append(section)
            elif len(self.errors) == before:
                alone = section.name not in self.interfaces
                near = hint(section.name, self.interfaces) if alone else ""
                what = "no device here and no such interface in network" if alone else "no device"
                self.wrong(section.error(f"{what}{near}"))
        return list(found.values())

    def interfaces_by_device(self) -> dict[str, list[str]]:
        """The names in network on each device, of what is managed and what is not."""
        found: dict[str, list[str]] = {}
        for section in self.network:
            told = self.device(section)
            if told and section.name:
                found.setdefault(told.value, []).append(section.name)
            self.errors.clear()  # of an interface that is not managed
        return found

    def one(self, group: Group, option: str) -> list[OptionValue]:
        """What the group's sections say for an option; those that say it twice must agree."""
        told = []
        for section in group.members:
            extra = self.extras.get(section.name)
            told += self.all_told(section, option)
            if extra is not section:
                told += self.all_told(extra, option)
        for other in told[1:]:
            if other.value != told[0].value and not UPLINK[option].many:
                first = told[0]
                text = first.section.options[option].values[0]
                self.wrong(
                    other.error(
                        f"{shown(other.section.options[option].values[0])}, but {shown(text)} in "
                        f"{first.place} for the same device {group.device.value}"
                    )
                )
        return told


def _has_its_own(interface: Section) -> bool:
    """Whether netifd makes the interface's device."""
    proto = interface.options.get("proto")
    return proto is not None and proto.values[-1] not in ON_THE_DEVICE


UPLINKS_MOST = 199
"""Slots 1..199: the windows of the rules are 200 priorities apart."""

Claims = tuple[OptionValue, dict[str, list[OptionValue]]]
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
    tables: dict[int, OptionValue] = {}
    marks: list[tuple[int, int, OptionValue]] = []
    arrivals: dict[str, OptionValue] = {}
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
    told: OptionValue, mark_mask: int, marks: list[tuple[int, int, OptionValue]]
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
