"""How values of options are spelt: what every table of options is made of.

A parser takes the text of one value and raises ValueError with half a sentence that says what
is wrong; whoever calls it knows the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

TRUE = ("1", "yes", "on", "true", "enabled")
FALSE = ("0", "no", "off", "false", "disabled")
"""What UCI takes for a boolean (OpenWrt's uci documentation)."""


class OptionSpec(NamedTuple):
    """An option that mproutd reads."""

    parse: Callable[[str], Any]
    summary: str
    default: str | None = None
    """As it would be written; None where there is no fixed one."""
    many: bool = False
    """A list: each value is parsed by itself."""


def shown(text: str, limit: int = 60) -> str:
    """A piece of input for a message: in quotes, control characters escaped, cut if long."""
    cut = text[:limit]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f"'{safe}{'…' if len(text) > limit else ''}'"


def hint(text: str, known: Collection[str]) -> str:
    """ " (did you mean 'x'?)" when a known word is near, else nothing."""
    if not text or len(text) > 40 or len(known) > 300:
        return ""
    from difflib import get_close_matches

    near = get_close_matches(text.lower(), tuple(known), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def number(text: str) -> int:
    """A whole number without a sign, decimal or 0x…; no leading zero (C reads octal there)."""
    if text.isascii() and len(text) <= 20:
        if text.isdigit() and (text == "0" or text[0] != "0"):
            return int(text)
        digits = text[2:]
        if text[:2] in ("0x", "0X") and digits.isalnum():
            try:
                return int(digits, 16)
            except ValueError:
                pass
    raise ValueError(f"{shown(text)} is no number")


def between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = number(text)
        if not low <= value <= high:
            raise ValueError(f"{shown(text)} is not within {low}..{high}")
        return value

    return parse


def one_of(what: str, words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in words:
            return text
        say = f"{', '.join(words[:-1])} or {words[-1]}"
        raise ValueError(f"{shown(text)} is no {what}; say {say}{hint(text, words)}")

    return parse


def boolean(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f"{shown(text)} is neither 1 nor 0 (yes, on, true; no, off, false)")


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


class OptionValue(NamedTuple):
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
