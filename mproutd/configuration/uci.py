"""The configuration from a directory: read, never written.

libuci reads the values where pyuci is installed (OpenWrt), uciparse where it is not;
ucitext knows their lines.  What is saved but not committed is no configuration yet
and must not count, and both readers must give the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from mproutd.configuration.config import Config, build
from mproutd.configuration.parsers import ConfigError, Section, shown
from mproutd.configuration.uci_parser import parse_sections
from mproutd.safefile import writable_by_others

SIZE_MOST = 1 << 20
"""Bytes; a real file has a few thousand."""

Values = list[dict[str, tuple[str, ...]]]
"""What the options of each section say, by section in the order of the file."""


def load(directory: str) -> Config:
    """The configuration in `directory`.  ConfigError for anything that cannot be used."""
    network = read(os.path.join(directory, "network"))
    if network is None:
        raise ConfigError("no such file", os.path.join(directory, "network"))
    config = build(network, read(os.path.join(directory, "mproutd")) or ())
    files = [directory, *(os.path.join(directory, name) for name in ("network", "mproutd"))]
    told = [
        f"{shown(file, 4096)[1:-1]}: {why}" for file in files if (why := writable_by_others(file))
    ]
    return config._replace(warnings=(*config.warnings, *told)) if told else config


def read(file: str) -> tuple[Section, ...] | None:
    """The sections of a UCI file; None if there is no file."""
    text = contents(file)
    if text is None:
        return None
    outline = parse_sections(file, text)
    try:
        from uci import Uci as _  # noqa: F401
    except ImportError:
        values = by_uciparse(file, outline)
    else:
        values = by_libuci(file, text)
    shape = [{name: len(said) for name, said in found.items()} for found in values]
    if shape != [{n: len(o.values) for n, o in section.options.items()} for section in outline]:
        raise ConfigError("is read in two ways; write each value in plain quotes", file)
    return tuple(
        section._replace(
            options={
                name: option._replace(values=found[name])
                for name, option in section.options.items()
            }
        )
        for section, found in zip(outline, values, strict=True)
    )


def contents(file: str) -> str | None:
    """The text of a file; None if there is none.  Never waits, as a FIFO would make it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(reason(error), file) from None
    try:
        with open(descriptor, "rb") as source:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
                raise ConfigError(f"is {what}", file)
            data = source.read(SIZE_MOST + 1)
    except OSError as error:
        raise ConfigError(reason(error), file) from None
    if len(data) > SIZE_MOST:
        raise ConfigError("is larger than 1 MiB, which no configuration is", file)
    zero = data.find(0)
    if zero >= 0:
        raise ConfigError("holds a NUL byte", file, data.count(b"\n", 0, zero) + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"byte {data[error.start]:#04x} is not UTF-8", file, line) from None


def reason(error: OSError | ValueError) -> str:
    """An error of the system in its own words, in small letters."""
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error)).lower()


def by_libuci(file: str, text: str) -> Values:
    """The values as libuci reads this text.

    It gets the text as an unnamed file in memory: the same bytes that were checked,
    and a name for which no saved changes exist.  libuci looks for those in /tmp/.uci
    by the file's name, whatever savedir says (libuci.c, uci_alloc_context).
    """
    from uci import Uci, UciException

    descriptor = os.memfd_create("mproutd", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            copy.write(text.encode())
        package = Uci(confdir="/proc/self/fd", savedir="/dev/null").get(str(descriptor))
    except UciException:  # it carries no text
        raise ConfigError("libuci cannot read it", file) from None
    except OSError as error:
        raise ConfigError(reason(error), file) from None
    finally:
        os.close(descriptor)
    return [
        {name: (said,) if isinstance(said, str) else tuple(said) for name, said in section.items()}
        for section in package.values()
    ]


def by_uciparse(file: str, outline: Sequence[Section]) -> Values:
    """The values as uciparse reads them, each statement in the spelling that it knows.

    It reads a line at a time, takes what stands between the first and the last quote,
    and has no backslash, so it gets one value in one pair of quotes.  A value with a
    backslash, a backspace or a line's end has no such spelling and comes from ucitext.
    """
    try:
        from uciparse.uci import UciFile, UciListLine, UciOptionLine
    except ImportError:
        raise ConfigError("neither pyuci nor uciparse is installed, which read it", file) from None
    values: Values = []
    for section in outline:
        spelt = [
            f"{'list' if option.many else 'option'} {name} '{value}'"
            for name, option in section.options.items()
            for value in option.values
            if not any(c in value for c in "\\\b\n")
        ]
        told = iter(UciFile.from_lines(spelt).lines)
        found: dict[str, tuple[str, ...]] = {}
        for name, option in section.options.items():
            each = []
            for value in option.values:
                if not any(c in value for c in "\\\b\n"):
                    line = next(told)
                    assert isinstance(line, (UciListLine, UciOptionLine))
                    value = line.value
                each.append(value)
            found[name] = tuple(each)
        values.append(found)
    return values
