"""The sections of a UCI file, their values, and errors that name the line.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mproutd.configuration.parsers import quoted


class Option(NamedTuple):
    """What a section has under one name."""

    values: tuple[str, ...]
    lines: tuple[int, ...]
    """The line of each value, from 1."""
    is_list: bool = False
    """Written with `list`."""


class Section(NamedTuple):
    """A section of a UCI file; a file is its sections in their order."""

    file: str
    line: int
    type: str
    name: str
    """Empty for an anonymous one."""
    options: Mapping[str, Option]

    @property
    def title(self) -> str:
        kind = quoted(self.type)[1:-1]
        return f"{kind} {quoted(self.name)}" if self.name else f"anonymous {kind}"

    @property
    def location(self) -> str:
        return location(self.file, self.line)

    def error(self, reason: str) -> ConfigError:
        return ConfigError(reason, self.file, self.line, self.title)


class OptionValue(NamedTuple):
    """One value of an option, and where it was set."""

    value: Any
    """The text, or what its parser made of it."""
    section: Section
    option: str
    line: int

    @property
    def location(self) -> str:
        return location(self.section.file, self.line)

    def error(self, reason: str) -> ConfigError:
        return ConfigError(reason, self.section.file, self.line, self.section.title, self.option)


class ConfigError(Exception):
    """The configuration cannot be used; str() is one line for whoever wrote it."""

    def __init__(
        self, reason: str, file: str, line: int = 0, section: str = "", option: str = ""
    ) -> None:
        super().__init__(reason, file, line, section, option)
        self.reason, self.file, self.line = reason, file, line
        self.section, self.option = section, option

    def __str__(self) -> str:
        subject = [self.section] if self.section else []
        if self.option:
            subject.append(f"option {quoted(self.option)}")
        parts = (location(self.file, self.line), ", ".join(subject), self.reason)
        return ": ".join(part for part in parts if part)


def location(file: str, line: int) -> str:
    """ "FILE:LINE", or the file alone where the line is 0."""
    return quoted(file, 4096)[1:-1] + (f":{line}" if line else "")
