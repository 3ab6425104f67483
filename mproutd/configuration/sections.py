"""The sections of a UCI file as plain values, and the one way to say what is wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mproutd.configuration.parsers import shown


class Option(NamedTuple):
    """What a section says for one name."""

    values: tuple[str, ...]
    lines: tuple[int, ...]
    """The line of each value, from 1."""
    many: bool = False
    """Said with `list`."""


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
        kind = shown(self.type)[1:-1]
        return f"{kind} {shown(self.name)}" if self.name else f"{kind} without a name"

    @property
    def place(self) -> str:
        return place(self.file, self.line)

    def error(self, reason: str) -> ConfigError:
        return ConfigError(reason, self.file, self.line, self.title)


class Told(NamedTuple):
    """One value of an option, who said it and where."""

    value: Any
    """The text, or what its parser made of it."""
    section: Section
    option: str
    line: int

    @property
    def place(self) -> str:
        return place(self.section.file, self.line)

    def error(self, reason: str) -> ConfigError:
        return ConfigError(reason, self.section.file, self.line, self.section.title, self.option)


class ConfigError(Exception):
    """The configuration cannot be used; str() is one line for the one who wrote it."""

    def __init__(
        self, reason: str, file: str, line: int = 0, section: str = "", option: str = ""
    ) -> None:
        super().__init__(reason, file, line, section, option)
        self.reason, self.file, self.line = reason, file, line
        self.section, self.option = section, option

    def __str__(self) -> str:
        whose = [self.section] if self.section else []
        if self.option:
            whose.append(f"option {shown(self.option)}")
        parts = (place(self.file, self.line), ", ".join(whose), self.reason)
        return ": ".join(part for part in parts if part)


def place(file: str, line: int) -> str:
    """ "FILE:LINE", or the file alone where the line is 0."""
    return shown(file, 4096)[1:-1] + (f":{line}" if line else "")
