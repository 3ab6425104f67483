"""From sections to uplinks: values parsed, aliases resolved, conflicts found.  Pure.

Errors are collected, since the first one in the files is not always the first one met; the
work stops after MAX_ERRORS, however large the files are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mproutd.configuration.options import (
    DEVICE_PROTOCOLS,
    GLOBALS,
    INTERFACE,
    MAX_UPLINKS,
    OPTIONS,
    UPLINK,
    OptionSpec,
)
from mproutd.configuration.parsers import quoted, suggestion
from mproutd.configuration.sections import ConfigError, OptionValue, Section

MAX_ERRORS = 20
"""Errors after which an earlier one is not looked for."""
LOOPBACK = "lo"
MAX_ALIASES = 8
"""From one interface to the next until one has a device."""


class UplinkSections(NamedTuple):
    """The sections that are one uplink, since they have one device."""

    device: OptionValue
    sections: list[Section]
    """Those that manage it, in the order of the files."""


class Resolver:
    """The two files, with the values and errors found so far."""

    def __init__(self, network: Sequence[Section], mproutd: Sequence[Section]) -> None:
        self.files = list(dict.fromkeys(section.file for section in (*network, *mproutd)))
        self.errors: list[ConfigError] = []
        self._mproutd = mproutd
        self.warnings: list[ConfigError] = []
        self._values: dict[tuple[str, str, str], list[OptionValue]] = {}
        interfaces = [section for section in network if section.type == "interface"]
        disabled = {section.name for section in interfaces if self._is_disabled(section)}
        self._interfaces = [section for section in interfaces if section.name not in disabled]
        self._by_name = {section.name: section for section in self._interfaces if section.name}
        self._uplinks = {
            section.name: section
            for section in mproutd
            if section.type == "uplink" and section.name and section.name not in disabled
        }
        self._names = (*self._by_name, *self._uplinks)

    def raise_first(self) -> None:
        """Raise the error that comes first in the files, if there is any."""
        if self.errors:
            raise min(self.errors, key=lambda error: (self.files.index(error.file), error.line))

    def _add(self, error: ConfigError) -> None:
        self.errors.append(error)
        if len(self.errors) == MAX_ERRORS:
            self.raise_first()

    def _is_disabled(self, section: Section) -> bool:
        """`option disabled '1'`; an anonymous section cannot be managed anyway."""
        self._parse(section, INTERFACE, ("disabled",))
        return bool(section.name) and any(v.value for v in self._parsed(section, "disabled"))

    # -- values ---------------------------------------------------------------------------

    def parse_interfaces(self) -> None:
        """The modes in network; devices are parsed once it is clear which are needed."""
        for section in self._interfaces:
            if "multipath" in section.options and not section.name:
                self._add(section.error("an uplink needs a name: config interface 'NAME'"))
            self._parse(section, INTERFACE, ("multipath",))

    def parse_mproutd(self) -> dict[str, Any]:
        """Every value in mproutd; returns those of its globals that are set, by name."""
        types = {kind: table for (file, kind), table in OPTIONS.items() if file == "mproutd"}
        first: Section | None = None
        for section in self._mproutd:
            table = types.get(section.type)
            if table is None:
                self._add(
                    section.error(
                        f"unknown type of section: use {' or '.join(types)}"
                        f"{suggestion(section.type, types)}"
                    )
                )
                continue
            for name, option in section.options.items():
                if name not in table:
                    unknown = OptionValue("", section, name, option.lines[0])
                    self._add(unknown.error(f"unknown option{suggestion(name, table)}"))
            if section.type == "uplink" and not section.name:
                self._add(section.error("an uplink needs a name: config uplink 'NAME'"))
            if section.type == "mproutd":
                if first:
                    reason = f"only one such section is allowed; the first is at {first.location}"
                    self._add(section.error(reason))
                first = first or section
            self._parse(section, table, table)
        values = ((name, self._parsed(first, name)) for name in GLOBALS)
        return {
            name: tuple(value.value for value in parsed)
            if GLOBALS[name].is_list
            else parsed[0].value
            for name, parsed in values
            if parsed
        }

    def merged(self, uplink: UplinkSections, option: str) -> list[OptionValue]:
        """What the uplink's sections set for an option; unless it is a list, they must agree."""
        values = []
        for section in uplink.sections:
            own = self._uplinks.get(section.name)
            values += self._parsed(section, option)
            if own is not section:
                values += self._parsed(own, option)
        if option == "multipath":
            values.sort(key=lambda value: _has_one_family(value.section))
        for other in values[1:]:
            first = values[0]
            if other.value == first.value or UPLINK[option].is_list:
                continue
            if option == "multipath" and _has_one_family(other.section):
                self.warnings.append(
                    other.error(
                        f"ignored: {first.section.title} has the same device, "
                        f"{uplink.device.value}, and its mode {_written(first)} holds for both"
                    )
                )
            else:
                self._add(
                    other.error(
                        f"{_written(other)} contradicts {_written(first)} at {first.location}: "
                        f"both sections have device {uplink.device.value}; modems that share a "
                        "port need a macvlan device each"
                    )
                )
        return values

    def _parse(
        self, section: Section, table: Mapping[str, OptionSpec], names: Iterable[str]
    ) -> None:
        """Parse these options of the section, each value by itself."""
        for name in names:
            option = section.options.get(name)
            if option is None:
                continue
            spec = table[name]
            texts = [
                OptionValue(value, section, name, line)
                for value, line in zip(option.values, option.lines, strict=True)
            ]
            if option.is_list and not spec.is_list:
                self._add(texts[0].error("takes one value: write 'option' instead of 'list'"))
                continue
            if spec.is_list and not option.is_list:  # spaces make a list of an option, as in netifd
                texts = [text._replace(value=item) for text in texts for item in text.value.split()]
            parsed = self._values.setdefault((section.file, section.name, name), [])
            for text in texts:
                try:
                    parsed.append(text._replace(value=spec.parse(text.value)))
                except ValueError as error:
                    self._add(text.error(str(error)))

    def of_type(self, kind: str) -> list[Section]:
        """mproutd's sections of this type."""
        return [section for section in self._mproutd if section.type == kind]

    def parsed(self, section: Section, option: str) -> list[OptionValue]:
        """The values of an option of a section of mproutd."""
        return self._parsed(section, option)

    def device_of_interface(self, name: str) -> str | None:
        """The device of an interface of network; the name itself where there is none; None if only
        netifd knows it."""
        section = self._by_name.get(name)
        if section is None:
            return name
        errors = len(self.errors)
        device = self._device(section)
        del self.errors[errors:]
        return None if device is None or device.value[0] == "@" else str(device.value)

    def _parsed(self, section: Section | None, option: str) -> list[OptionValue]:
        return self._values.get((section.file, section.name, option), []) if section else []

    # -- devices --------------------------------------------------------------------------

    def uplinks(self) -> list[UplinkSections]:
        """What is managed, by device."""
        managed = [
            *(s for s in self._interfaces if "multipath" in s.options or s.name in self._uplinks),
            *(s for s in self._uplinks.values() if s.name not in self._by_name),
        ]
        by_device: dict[str, UplinkSections] = {}
        for section in managed:
            errors = len(self.errors)
            device = self._device(section)
            if device and device.value == LOOPBACK:
                if any(mode.value != "off" for mode in self._parsed(section, "multipath")):
                    self.warnings.append(device.error("the loopback device is never an uplink"))
            elif device:
                by_device.setdefault(device.value, UplinkSections(device, [])).sections.append(
                    section
                )
            elif len(self.errors) == errors:
                reason = "has no device"
                if section.name not in self._by_name:
                    near = suggestion(section.name, self._by_name)
                    reason += f", and network has no interface of this name{near}"
                self._add(section.error(f"{reason}: set option device"))
        return list(by_device.values())

    def interfaces_by_device(self) -> dict[str, list[str]]:
        """The names in network on each device, managed or not."""
        names: dict[str, list[str]] = {}
        for section in self._interfaces:
            device = self._device(section)
            if device and section.name:
                names.setdefault(device.value, []).append(section.name)
            self.errors.clear()  # those of interfaces that are not managed do not matter
        return names

    def _device(self, section: Section, seen: tuple[str, ...] = ()) -> OptionValue | None:
        """The section's device, aliases resolved; mproutd's setting overrides network's.

        "@NAME" is the device that netifd makes for this interface, which only netifd knows.
        """
        device = self._own_device(section)
        if device is None or device.option == "proto" or device.value[0] != "@":
            return device
        name = device.value[1:]
        target = self._by_name.get(name) or self._uplinks.get(name)
        if target is None:
            near = suggestion(name, self._names)
            self._add(device.error(f"there is no interface {quoted(name)}{near}"))
            return None
        if name == section.name or name in seen or len(seen) == MAX_ALIASES:
            reason = f"{quoted(device.value)} refers to itself, or through too many aliases"
            self._add(device.error(reason))
            return None
        errors = len(self.errors)
        resolved = self._device(target, (*seen, section.name))
        if resolved is None:
            if len(self.errors) == errors:  # else the cause is reported already
                self._add(device.error(f"interface {quoted(name)} has no usable device"))
            return None
        return device._replace(value=resolved.value)

    def _own_device(self, section: Section) -> OptionValue | None:
        """The device as it is set for this name, which may be an alias."""
        for owner, table in (
            (self._uplinks.get(section.name), UPLINK),
            (self._by_name.get(section.name), INTERFACE),
        ):
            if owner is None:
                continue
            proto = owner.options.get("proto") if table is INTERFACE else None
            if proto and proto.values[-1] not in DEVICE_PROTOCOLS:
                return OptionValue(f"@{owner.name}", owner, "proto", proto.lines[-1])
            for option in ("device", "ifname"):
                if option in owner.options:
                    if (owner.file, owner.name, option) not in self._values:
                        self._parse(owner, table, (option,))
                    return next(iter(self._parsed(owner, option)), None)
        return None


def _has_one_family(section: Section) -> bool:
    """Whether netifd uses the section for one family: the IPv6 half of an uplink, say."""
    proto = section.options.get("proto")
    return proto is not None and proto.values[-1] == "dhcpv6"


def _written(value: OptionValue) -> str:
    """The value as it stands in the file."""
    return quoted(value.section.options[value.option].values[0])


# -- what uplinks may not share -----------------------------------------------------------

DeviceAndValues = tuple[OptionValue, Mapping[str, Sequence[OptionValue]]]
"""An uplink's device and its values by option."""


def conflicts(
    table_base: int, mark_mask: int, uplinks: Sequence[DeviceAndValues]
) -> Iterator[ConfigError]:
    """Every table, mark and incoming device that cannot be had, in the order of the uplinks."""
    unmarked = sum(not values["mark"] for _, values in uplinks)
    marks_left = min((1 << mark_mask.bit_count()) - 2, MAX_UPLINKS)
    if unmarked > marks_left or len(uplinks) > MAX_UPLINKS:
        yield uplinks[-1][0].section.error(
            f"too many uplinks: {len(uplinks)}, at most {MAX_UPLINKS}; mark_mask {mark_mask:#x} "
            f"has marks for {marks_left} that set no mark of their own"
        )
        return
    devices = {device.value: device for device, _ in uplinks}
    tables: dict[int, OptionValue] = {}
    marks: list[tuple[int, int, OptionValue]] = []
    incoming: dict[str, OptionValue] = {}
    for _, values in uplinks:
        for table in values["table"][:1]:
            if table.value == table_base:
                yield table.error(f"{table.value} is table_base, the table for other traffic")
            elif table.value in tables:
                taken = tables[table.value].location
                yield table.error(f"table {table.value} is already used at {taken}")
            tables.setdefault(table.value, table)
        for mark in values["mark"][:1]:
            yield from _mark_conflicts(mark, mark_mask, marks)
        for name in values["iif"]:
            if name.value in devices:
                other = devices[name.value].section.title
                yield name.error(f"{quoted(name.value)} is the device of {other}")
            elif name.value in incoming:
                taken = incoming[name.value].location
                yield name.error(f"{quoted(name.value)} is already used at {taken}")
            incoming.setdefault(name.value, name)
        if any(not item.value for item in values["default_route"]):
            yield from _local_conflicts(values)


def _local_conflicts(values: Mapping[str, Sequence[OptionValue]]) -> Iterator[ConfigError]:
    """What contradicts `default_route` 0, by which an uplink leads to its own subnets only."""
    off = values["default_route"][0]
    for option in ("gateway", "gateway6"):
        for gateway in values[option][:1]:
            yield gateway.error(f"contradicts default_route '0' at {off.location}: remove one")
    for mode in values["multipath"][:1]:
        if mode.value in ("master", "handover"):
            yield off.error(
                f"contradicts multipath {mode.value} at {mode.location}, which is for a way to the "
                "internet: use on, backup or off"
            )


def _mark_conflicts(
    value: OptionValue, mark_mask: int, marks: list[tuple[int, int, OptionValue]]
) -> Iterator[ConfigError]:
    """The conflict of a mark, which is added to the `marks` that later ones must differ from."""
    mark, own_mask = value.value
    mask = mark_mask if own_mask is None else own_mask
    text = value.section.options["mark"].values[0]
    if own_mask is None and mark & ~mark_mask:
        enough = (1 << (mark.bit_length() + 7) // 8 * 8) - 1
        yield value.error(
            f"{quoted(text)} lies outside mark_mask {mark_mask:#x}: "
            f"write '{text}/{enough:#x}', or change mark_mask"
        )
    elif not (mark ^ mark_mask) & mask:
        yield value.error(
            f"{quoted(text)} matches {mark_mask:#x}, all bits of mark_mask, which mproutd uses "
            "for its own lookups"
        )
    else:
        for other, other_mask, other_value in marks:
            if not (mark ^ other) & mask & other_mask:
                yield value.error(
                    f"{quoted(text)} can match the same packet as {_written(other_value)} "
                    f"at {other_value.location}"
                )
                break
    marks.append((mark, mask, value))
