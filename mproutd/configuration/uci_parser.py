"""The text of a UCI file: which section and option stands in which line.

libuci reads the values, and says of a file that it cannot read only that it cannot.
So that every message can name a line, this goes through the same text by the same
grammar (libuci, file.c: quotes, backslashes, continued lines, comments).  It is as
strict as libuci, and stricter where libuci loses text without a word: `;`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mproutd.configuration.parsers import ConfigError, Option, Section, hint, shown

SPACE = " \t\n\v\f\r"
KEYWORDS = {"package": 2, "config": 3, "option": 3, "list": 3}
"""And how many words a statement has at most."""
SHORT = {"p": "package", "c": "config", "o": "option", "l": "list"}


class Statement(NamedTuple):
    """One `config`, `option` or `list`, quotes undone."""

    line: int
    keyword: str
    name: str
    value: str = ""


class _MalformedError(Exception):
    """What is wrong with the statement that is being read."""


def words(text: str, at: int) -> tuple[list[str], int]:
    """The words from `at` to the end of the statement, and where the next line begins."""
    found: list[str] = []
    parts: list[str] = []
    """Of the word that is being read; an empty part makes an empty word."""
    while at < len(text):
        c = text[at]
        at += 1
        if c in SPACE:
            if parts:
                found.append("".join(parts))
                parts.clear()
            if c == "\n":
                return found, at
        elif c == "'":
            end = text.find("'", at)
            if end < 0:
                raise _MalformedError("a ' is never closed")
            parts.append(text[at:end])
            at = end + 1
        elif c == '"':
            quoted, at = double_quoted(text, at)
            parts.append(quoted)
        elif c == "\\":
            escaped, at = backslash(text, at)
            parts.append(escaped)
        elif c == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif c == ";":
            raise _MalformedError("a ';' outside quotes; write one statement in a line")
        else:
            start = at - 1
            while at < len(text) and text[at] not in " \t\n\v\f\r'\"\\#;":
                at += 1
            parts.append(text[start:at])
    if parts:
        found.append("".join(parts))
    return found, at


def backslash(text: str, at: int) -> tuple[str, int]:
    """What a backslash before `at` stands for: the next character; nothing for a line's end."""
    for end in ("\n", "\r\n"):
        if text.startswith(end, at):
            return "", at + len(end)
    return text[at : at + 1], at + 1


def double_quoted(text: str, at: int) -> tuple[str, int]:
    """What stands in double quotes from `at`, and the place behind them."""
    parts = []
    while at < len(text):
        end = text.find('"', at)
        if end < 0:
            break
        escape = text.find("\\", at, end)
        parts.append(text[at : end if escape < 0 else escape])
        if escape < 0:
            return "".join(parts), end + 1
        escaped, at = backslash(text, escape + 1)
        parts.append(escaped)
    raise _MalformedError('a " is never closed')


def statement(text: str, at: int, line: int) -> tuple[Statement | None, int]:
    """The statement in the line that begins at `at` (none in an empty one), and the next line."""
    while at < len(text) and text[at] in " \t\v\f\r":
        at += 1
    said, after = words(text, at)
    if not said:
        return None, after
    keyword = SHORT.get(said[0], said[0])
    without_endpoint = text.startswith(said[0], at)
    if keyword in KEYWORDS and not without_endpoint:
        raise _MalformedError(f"{shown(said[0])} in quotes where config or option is expected")
    if keyword not in KEYWORDS or text[at + len(said[0]) : at + len(said[0]) + 1] not in " \t\n":
        near = hint(keyword, KEYWORDS)
        raise _MalformedError(f"{shown(said[0])} where config, option or list is expected{near}")
    if len(said) < 2 or not said[1]:
        raise _MalformedError(f"{keyword} without a {'type' if keyword == 'config' else 'name'}")
    if len(said) > KEYWORDS[keyword]:
        extra = shown(said[KEYWORDS[keyword]])
        raise _MalformedError(
            f"{extra} follows the end of the statement; a value with blanks stands in quotes"
        )
    name, value = said[1], said[2] if len(said) == 3 else ""
    if keyword == "config":
        if not all("!" <= c <= "~" for c in name):
            raise _MalformedError(f"{shown(name)} cannot be a type of section")
        identifier(value or "none", "section")
    elif keyword == "package":  # a file's name may have a hyphen
        identifier(name.replace("-", "_"), "package", name)
    else:
        identifier(name, "option")
    return Statement(line, keyword, name, value), after


def identifier(name: str, what: str, written: str = "") -> None:
    """libuci's rule for names (util.c, uci_validate_str)."""
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        whole = shown(written or name)
        raise _MalformedError(f"{whole} cannot name a {what}: letters, digits and _ can")


def statements(file: str, text: str) -> Iterator[Statement]:
    """Every statement but `package`.  ConfigError for the first that libuci would refuse."""
    at, line = 0, 1
    while at < len(text):
        try:
            found, after = statement(text, at, line)
        except _MalformedError as error:
            raise ConfigError(str(error), file, line) from None
        if found and found.keyword != "package":
            yield found
        line += text.count("\n", at, after)
        at = after


class Draft:
    """A section while its file is read."""

    def __init__(self, line: int, kind: str, name: str) -> None:
        self.line, self.kind, self.name = line, kind, name
        self.options: dict[str, tuple[list[str], list[int], bool]] = {}

    def add(self, item: Statement) -> None:
        """As libuci does: the last option counts, a list grows, and begins with an option."""
        many = item.keyword == "list"
        if not many and not item.value:
            return
        values, lines, _ = (many and self.options.get(item.name)) or ([], [], many)
        values.append(item.value)
        lines.append(item.line)
        self.options[item.name] = (values, lines, many)


def parse_sections(file: str, text: str) -> tuple[Section, ...]:
    """The file's sections; one that comes again under its name and type is continued."""
    order: list[Draft] = []
    named: dict[str, Draft] = {}
    current: Draft | None = None
    for item in statements(file, text):
        if item.keyword == "config":
            current = named.get(item.value)
            if current and current.kind != item.name:
                reason = (
                    f"section {shown(item.value)} is of type {shown(current.kind)} in line "
                    f"{current.line} and of type {shown(item.name)} here"
                )
                raise ConfigError(reason, file, item.line)
            if current is None:
                current = Draft(item.line, item.name, item.value)
                order.append(current)
                if item.value:
                    named[item.value] = current
        elif current is None:
            raise ConfigError(f"{item.keyword} before the first config", file, item.line)
        else:
            current.add(item)
    return tuple(
        Section(
            file,
            draft.line,
            draft.kind,
            draft.name,
            {
                name: Option(tuple(values), tuple(lines), many)
                for name, (values, lines, many) in draft.options.items()
            },
        )
        for draft in order
    )
