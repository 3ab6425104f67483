"""Parses the text of a UCI file: sections, options, and the line of each value.  Pure.

It follows libuci's grammar (file.c: quotes, backslashes, continued lines, comments) and is as
strict as libuci; it also rejects `;` outside quotes, where libuci loses text silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mproutd.configuration.parsers import quoted, suggestion
from mproutd.configuration.sections import ConfigError, Option, Section

SPACE = " \t\n\v\f\r"
KEYWORDS = {"package": 2, "config": 3, "option": 3, "list": 3}
"""Keyword → how many words its statement has at most."""
ABBREVIATIONS = {"p": "package", "c": "config", "o": "option", "l": "list"}


class Statement(NamedTuple):
    """One `config`, `option` or `list`, with quotes removed."""

    line: int
    keyword: str
    name: str
    value: str = ""


class _MalformedError(Exception):
    """What is wrong with the current statement."""


def parse_words(text: str, position: int) -> tuple[list[str], int]:
    """The words from `position` to the end of the statement, and the start of the next line."""
    words: list[str] = []
    parts: list[str] = []
    """Of the current word; an empty part makes an empty word."""
    while position < len(text):
        c = text[position]
        position += 1
        if c in SPACE:
            if parts:
                words.append("".join(parts))
                parts.clear()
            if c == "\n":
                return words, position
        elif c == "'":
            end = text.find("'", position)
            if end < 0:
                raise _MalformedError("unterminated ' quote")
            parts.append(text[position:end])
            position = end + 1
        elif c == '"':
            part, position = parse_double_quoted(text, position)
            parts.append(part)
        elif c == "\\":
            part, position = parse_escape(text, position)
            parts.append(part)
        elif c == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif c == ";":
            raise _MalformedError("';' outside quotes: write one statement per line")
        else:
            start = position - 1
            while position < len(text) and text[position] not in " \t\n\v\f\r'\"\\#;":
                position += 1
            parts.append(text[start:position])
    if parts:
        words.append("".join(parts))
    return words, position


def parse_escape(text: str, position: int) -> tuple[str, int]:
    """What a backslash before `position` makes of the next character: itself; nothing of a
    line's end."""
    for end in ("\n", "\r\n"):
        if text.startswith(end, position):
            return "", position + len(end)
    return text[position : position + 1], position + 1


def parse_double_quoted(text: str, position: int) -> tuple[str, int]:
    """The text in double quotes from `position` on, and the position behind them."""
    parts = []
    while position < len(text):
        end = text.find('"', position)
        if end < 0:
            break
        backslash = text.find("\\", position, end)
        parts.append(text[position : end if backslash < 0 else backslash])
        if backslash < 0:
            return "".join(parts), end + 1
        escaped, position = parse_escape(text, backslash + 1)
        parts.append(escaped)
    raise _MalformedError('unterminated " quote')


def parse_statement(text: str, position: int, line: int) -> tuple[Statement | None, int]:
    """The statement in the line at `position`, None for an empty one; the start of the next."""
    while position < len(text) and text[position] in " \t\v\f\r":
        position += 1
    words, after = parse_words(text, position)
    if not words:
        return None, after
    keyword = ABBREVIATIONS.get(words[0], words[0])
    starts_quoted = not text.startswith(words[0], position)
    if keyword in KEYWORDS and starts_quoted:
        raise _MalformedError(f"{quoted(words[0])} must not be quoted")
    end = position + len(words[0])
    if keyword not in KEYWORDS or text[end : end + 1] not in " \t\n":
        near = suggestion(keyword, KEYWORDS)
        raise _MalformedError(f"expected config, option or list, found {quoted(words[0])}{near}")
    if len(words) < 2 or not words[1]:
        raise _MalformedError(f"{keyword} has no {'type' if keyword == 'config' else 'name'}")
    if len(words) > KEYWORDS[keyword]:
        extra = quoted(words[KEYWORDS[keyword]])
        raise _MalformedError(f"unexpected {extra}: a value that contains spaces needs quotes")
    name, value = words[1], words[2] if len(words) == 3 else ""
    if keyword == "config":
        if not all("!" <= c <= "~" for c in name):
            raise _MalformedError(f"{quoted(name)} is not a valid section type: use ASCII")
        check_identifier(value or "none", "section")
    elif keyword == "package":  # a file's name may have a hyphen
        check_identifier(name.replace("-", "_"), "package", name)
    else:
        check_identifier(name, "option")
    return Statement(line, keyword, name, value), after


def check_identifier(name: str, kind: str, written: str = "") -> None:
    """libuci's rule for names (util.c, uci_validate_str)."""
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        text = quoted(written or name)
        raise _MalformedError(f"{text} is not a valid {kind} name: use letters, digits and _")


def parse_statements(file: str, text: str) -> Iterator[Statement]:
    """Every statement but `package`.  ConfigError for the first that libuci would reject."""
    position, line = 0, 1
    while position < len(text):
        try:
            statement, after = parse_statement(text, position, line)
        except _MalformedError as error:
            raise ConfigError(str(error), file, line) from None
        if statement and statement.keyword != "package":
            yield statement
        line += text.count("\n", position, after)
        position = after


class _SectionBuilder:
    """A section while its file is parsed."""

    def __init__(self, line: int, kind: str, name: str) -> None:
        self.line, self.kind, self.name = line, kind, name
        self.options: dict[str, tuple[list[str], list[int], bool]] = {}

    def add(self, item: Statement) -> None:
        """As libuci does: the last `option` counts, a list grows, and may begin with an option."""
        is_list = item.keyword == "list"
        if not is_list and not item.value:
            return
        values, lines, _ = (is_list and self.options.get(item.name)) or ([], [], is_list)
        values.append(item.value)
        lines.append(item.line)
        self.options[item.name] = (values, lines, is_list)


def parse_sections(file: str, text: str) -> tuple[Section, ...]:
    """The sections; one that comes again with its name and type is continued.  ConfigError."""
    order: list[_SectionBuilder] = []
    named: dict[str, _SectionBuilder] = {}
    current: _SectionBuilder | None = None
    for item in parse_statements(file, text):
        if item.keyword == "config":
            current = named.get(item.value)
            if current and current.kind != item.name:
                reason = (
                    f"section {quoted(item.value)} has type {quoted(item.name)} here, but "
                    f"{quoted(current.kind)} in line {current.line}"
                )
                raise ConfigError(reason, file, item.line)
            if current is None:
                current = _SectionBuilder(item.line, item.name, item.value)
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
            builder.line,
            builder.kind,
            builder.name,
            {
                name: Option(tuple(values), tuple(lines), is_list)
                for name, (values, lines, is_list) in builder.options.items()
            },
        )
        for builder in order
    )
