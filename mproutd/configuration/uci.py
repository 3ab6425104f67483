"""Reads the configuration from a directory; never writes it.

uci_parser.py reads the files.  Where pyuci is installed (OpenWrt), libuci reads them as well
and its values count, so that mproutd sees what every other program sees; libuci knows no line
numbers.  What is saved but not committed (`uci set` alone) does not count in either.
"""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE

from mproutd.configuration.config import Config, build, without_programs
from mproutd.configuration.parsers import quoted
from mproutd.configuration.sections import ConfigError, Section
from mproutd.configuration.uci_parser import parse_sections
from mproutd.environment import find_program
from mproutd.safefile import replaceable_by_others, writable_by_others

MAX_FILE_BYTES = 1 << 20
"""A real file has a few thousand."""
OPENWRT_DIRECTORY, OVERRIDES = "/etc/config", "/var/run/uci"
"""libuci of 2025 and later reads OVERRIDES/NAME instead of OPENWRT_DIRECTORY/NAME if it exists."""


def load(directory: str) -> Config:
    """The configuration in `directory`.  ConfigError for anything that cannot be used."""
    network, mproutd = (file_in(directory, name) for name in ("network", "mproutd"))
    sections = read(network)
    if sections is None:
        raise ConfigError("no such file", network)
    config = with_user_numbers(build(sections, read(mproutd) or ()))
    # Afterwards, so that what was read cannot have been put there by somebody else since.
    config = _with_dnsmasq(config)
    faults = _writers(network, mproutd)
    return without_programs(config, faults) if faults else config


def with_user_numbers(config: Config) -> Config:
    """The configuration with the numbers of the users that rules name.  ConfigError."""
    if not any(isinstance(rule.user, str) for rule in config.rules):
        return config
    from pwd import getpwnam

    rules = []
    for rule in config.rules:
        if isinstance(rule.user, str):
            try:
                number = getpwnam(rule.user).pw_uid
            except KeyError:
                file, _, line = rule.location.rpartition(":")
                reason = f"there is no user {quoted(rule.user)} on this host"
                title = f"rule {quoted(rule.name)}"
                raise ConfigError(reason, file, int(line), title, "user") from None
            rule = rule._replace(user=(number, number))
        rules.append(rule)
    return config._replace(rules=tuple(rules))


def _with_dnsmasq(config: Config) -> Config:
    """With a warning for the first rule whose domains no dnsmasq resolves."""
    rule = next((rule for rule in config.rules if rule.domains), None)
    if rule is None or any(map(find_program, ("dnsmasq", "/usr/sbin/dnsmasq"))):
        return config
    file, _, line = rule.location.rpartition(":")
    reason = "has no effect: dnsmasq, which resolves it for the hosts, is not installed"
    warning = ConfigError(reason, file, int(line), f"rule {quoted(rule.name)}", "domain")
    return config._replace(warnings=(*config.warnings, str(warning)))


def _writers(*files: str) -> list[str]:
    """Who but root or we can change these files, and by which path."""
    paths = dict.fromkeys((*map(os.path.dirname, files), *files))
    faults = [f"{path}: {who}" for path in paths if (who := writable_by_others(path))]
    parents = (replaceable_by_others(path) for path in paths)
    return [quoted(fault, 4096)[1:-1] for fault in dict.fromkeys((*faults, *parents)) if fault]


def file_in(directory: str, name: str) -> str:
    """The path of the file that counts: as libuci decides, also where pyuci is not installed."""
    override = os.path.join(OVERRIDES, name)
    if os.path.normpath(directory) == OPENWRT_DIRECTORY and os.path.exists(override):
        return override
    return os.path.join(directory, name)


def read(file: str) -> tuple[Section, ...] | None:
    """The sections of a UCI file; None if there is no file.  ConfigError."""
    text = read_text(file)
    if text is None:
        return None
    sections = parse_sections(file, text)
    if not text.isascii():
        _require_utf8(sections)
    try:
        from uci import Uci as _  # noqa: F401
    except ImportError:
        return sections
    values = _read_with_libuci(file, text)
    counts = [{name: len(options) for name, options in section.items()} for section in values]
    if counts != [
        {name: len(option.values) for name, option in section.options.items()}
        for section in sections
    ]:
        raise ConfigError("libuci reads it differently; put each value in plain quotes", file)
    return tuple(
        section._replace(
            options={
                name: option._replace(values=options[name])
                for name, option in section.options.items()
            }
        )
        for section, options in zip(sections, values, strict=True)
    )


def _require_utf8(sections: tuple[Section, ...]) -> None:
    """ConfigError for a value with a byte that is not UTF-8; in a comment it does no harm."""
    for section in sections:
        for option in section.options.values():
            for value, line in zip(option.values, option.lines, strict=True):
                for c in value:
                    if "\udc80" <= c <= "\udcff":
                        byte = c.encode(errors="surrogateescape")[0]
                        raise ConfigError(f"byte {byte:#04x} is not UTF-8", section.file, line)


def read_text(file: str) -> str | None:
    """The text of a file; None if there is none.  ConfigError.  Never waits, even for a FIFO.

    A byte that is not UTF-8 becomes a surrogate (`surrogateescape` in Python's codecs).
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(_message(error), file) from None
    try:
        with open(descriptor, "rb") as source:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
                raise ConfigError(kind, file)
            data = source.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(_message(error), file) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError("is larger than 1 MiB, too large for a configuration", file)
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise ConfigError("is UTF-16; save it as UTF-8", file)
    nul = data.find(0)
    if nul >= 0:
        raise ConfigError("contains a NUL byte", file, data.count(b"\n", 0, nul) + 1)
    # Some editors begin a file with a byte order mark.
    return data.decode("utf-8-sig", "surrogateescape")


def _message(error: OSError | ValueError) -> str:
    """The system's own text, in lower case."""
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error)).lower()


def _read_with_libuci(file: str, text: str) -> list[dict[str, tuple[str, ...]]]:
    """The values of each section as libuci reads this text.  ConfigError.

    libuci gets the text as an unnamed file in memory: the same bytes that were checked, and a
    name for which there are no saved changes.  It looks for those in /tmp/.uci by the file's
    name, whatever savedir is (libuci.c, uci_alloc_context).
    """
    from uci import Uci, UciException

    descriptor = os.memfd_create("mproutd", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            copy.write(text.encode(errors="surrogateescape"))
        package = Uci(confdir="/proc/self/fd", savedir="/dev/null").get(str(descriptor))
    except UciException:  # it carries no text
        raise ConfigError("libuci cannot read it; see: uci show", file) from None
    except OSError as error:
        raise ConfigError(_message(error), file) from None
    finally:
        os.close(descriptor)
    return [
        {
            name: (value,) if isinstance(value, str) else tuple(value)
            for name, value in options.items()
        }
        for options in package.values()
    ]
