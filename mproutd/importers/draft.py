"""A configuration in the making: sections, and comments on what has no counterpart.  Pure.

Every option of the other program ends up in the draft: as an option, or as a comment with the
reason.  What `mproutd check` would refuse becomes a comment as well (check()), so that the output
is always accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import build
from mproutd.configuration.matches import MAX_RULE_NAME
from mproutd.configuration.options import OPTIONS
from mproutd.configuration.sections import ConfigError, Section, location
from mproutd.configuration.uci_parser import parse_sections

FILE = "mproutd"
"""The file whose text the draft is."""
_WHOLE = ("member", "policy", "rule")
"""Types of section that are dropped as a whole when an option is refused: a rule with one
condition less would select more than before."""
_LINE_LENGTH = 100


class Source:
    """A section of the other program, and which of its options were used."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.unused = dict(section.options)

    def value(self, option: str, default: str = "") -> str:
        """The last value, as UCI counts."""
        found = self.unused.pop(option, None) or self.section.options.get(option)
        return found.values[-1] if found else default

    def values(self, option: str) -> list[str]:
        """All values; spaces make a list of an option."""
        found = self.unused.pop(option, None) or self.section.options.get(option)
        if found is None:
            return []
        return list(found.values) if found.is_list else found.values[-1].split()

    def flag(self, option: str, default: bool) -> bool:
        """As OpenWrt's config_get_bool reads it."""
        value = self.value(option).lower()
        if value in ("1", "yes", "on", "true", "enabled"):
            return True
        return False if value in ("0", "no", "off", "false", "disabled") else default


class DraftSection:
    """One of our sections, or only comments if it has no type."""

    def __init__(self, kind: str, name: str, source: Section | None = None) -> None:
        self.type, self.name, self.source = kind, name, source
        self.options: dict[str, list[str]] = {}
        self.comments: list[str] = []
        self.refused = ""
        """Why the whole section stands as a comment."""

    def set(self, option: str, *values: str) -> None:
        """No value, or an empty one, sets nothing."""
        given = [value for value in values if value]
        if given:
            self.options[option] = given

    def comment(self, text: str) -> None:
        self.comments.append(text)

    def skip(self, option: str, reason: str) -> None:
        """Comment on an option of the source that has no counterpart."""
        assert self.source is not None
        self.comment(skipped(self.source, option, reason))

    def lines(self) -> Iterator[tuple[str, str]]:
        """(line, the option that it sets or "")."""
        hidden = "# " if self.refused else ""
        for comment in self.comments:
            yield from ((line, "") for line in _wrapped(comment))
        if self.refused:
            yield from ((line, "") for line in _wrapped(self.refused))
        if not self.type:
            return
        name = f" {_quoted(self.name)}" if self.name else ""
        yield f"{hidden}config {self.type}{name}", ""
        lists = OPTIONS.get((FILE, self.type), {})
        for option, values in self.options.items():
            is_list = option in lists and lists[option].is_list
            for value in values if is_list else [" ".join(values)]:
                yield (
                    f"{hidden}\t{'list' if is_list else 'option'} {option} {_quoted(value)}",
                    option,
                )


class Draft:
    """The sections in their order."""

    def __init__(self) -> None:
        self.sections: list[DraftSection] = []

    def add(self, kind: str = "", name: str = "", source: Section | None = None) -> DraftSection:
        section = DraftSection(kind, name, source)
        self.sections.append(section)
        return section

    def find(self, kind: str, name: str) -> DraftSection | None:
        return next((s for s in self.sections if (s.type, s.name) == (kind, name)), None)

    def text(self) -> str:
        return "".join(f"{line}\n" for line, _, _ in self._lines())

    def _lines(self) -> Iterator[tuple[str, DraftSection | None, str]]:
        for index, section in enumerate(self.sections):
            lines = list(section.lines())
            if lines and index:
                yield "", None, ""
            for line, option in lines:
                yield line, section, option

    def check(self, network: Sequence[Section]) -> None:
        """Turn what `mproutd check` refuses into comments.  ConfigError where network is at
        fault."""
        while True:
            try:
                build(network, parse_sections(FILE, self.text()))
            except ConfigError as error:
                self._drop(error)
            else:
                return

    def _drop(self, error: ConfigError) -> None:
        """Take out what the error is about; again the error where that is not in this draft."""
        owners = list(self._lines())
        section, option = None, ""
        if error.file == FILE and error.line:
            _, section, option = owners[error.line - 1]
        if section is None or section.refused:
            raise error
        if option and section.type not in _WHOLE:
            values = " ".join(section.options.pop(option))
            section.comment(f"option {option} {_quoted(values)}: {error.reason}")
        else:
            named = f"option {option}: " if option else ""
            section.refused = f"left out: {named}{error.reason}"


class Names:
    """Names that mproutd accepts; every section of a file needs one of its own."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used = set(taken)

    def make(self, text: str, kind: str) -> str:
        plain = re.sub("[^A-Za-z0-9_]+", "_", text).strip("_")
        if not plain[:1].isalpha():
            plain = f"{kind}_{plain}".strip("_")
        name, number = plain[:MAX_RULE_NAME], 2
        while name in self._used:
            ending = f"_{number}"
            name, number = plain[: MAX_RULE_NAME - len(ending)] + ending, number + 1
        self._used.add(name)
        return name


class Missing(NamedTuple):
    """Reasons why options of the other program are not carried over, by type of section."""

    program: str
    reasons: Mapping[str, Mapping[str, str]]

    def comment(self, section: DraftSection, source: Source) -> None:
        """Comment on every option of the source that was not used."""
        known = self.reasons.get(source.section.type, {})
        for option in source.unused:
            reason = known.get(option, f"not an option of {self.program} that mproutd knows")
            section.comment(skipped(source.section, option, reason))


def skipped(source: Section, option: str, reason: str) -> str:
    """ "FILE:LINE: option NAME 'VALUE': REASON"."""
    found = source.options[option]
    where = location(source.file, found.lines[-1])
    return f"{where}: option {option} {_quoted(' '.join(found.values))}: {reason}"


def left_out(source: Section, reason: str) -> str:
    """The comment in place of a section."""
    return f"{source.location}: {source.title}: {reason}"


def unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _quoted(value: str) -> str:
    """As UCI reads it back; in single quotes a quote has to be outside."""
    shown = "".join(c if c.isprintable() else "?" for c in value)
    return "'" + shown.replace("'", "'\\''") + "'"


def _wrapped(comment: str) -> Iterator[str]:
    """A comment, in lines that an editor shows whole."""
    from textwrap import wrap

    shown = "".join(c if c.isprintable() else "?" for c in comment)
    lines = wrap(shown, _LINE_LENGTH - 4, break_long_words=False, break_on_hyphens=False)
    for index, line in enumerate(lines):
        yield f"# {'  ' if index else ''}{line}"
