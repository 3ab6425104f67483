"""`mproutd files`: the unit, hooks, examples, manual pages and completions of a pip installation.

pip, pipx and uv put files nowhere but below their own prefix.  There the wheel has them in
share/mproutd, laid out as below /, and the manual pages and completions in share.  A package of
the distribution has its files in place already and needs nothing of this.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mproutd.commands import INVALID, CommandError
from mproutd.safefile import unlink_if_present

TREE, SHARE = "share/mproutd/", "share/"
"""Where a file of the wheel lies, and below what it goes: / and /usr/local/share."""
UNIT = "/etc/systemd/system/mproutd.service"
CONFIGURATION = "/etc/mproutd/"
SYSTEMD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
"""Where systemd finds a program by its name alone."""
HIDDEN = ("/home", "/root", "/run/user")
"""What the service cannot see (ProtectHome=yes)."""
NEEDS = {
    "/etc/network/": "/etc/network",
    "/etc/dhcp/": "/etc/dhcp",
    "/etc/NetworkManager/": "/etc/NetworkManager",
    "/etc/polkit-1/": "/etc/polkit-1/rules.d",
    "/usr/local/share/cockpit/": "/usr/share/cockpit",
}
"""Where a file goes → the folder of the program that reads it; without that it is not needed."""


class File(NamedTuple):
    """One file and its target path."""

    target: str
    """Absolute, below the root that was asked for."""
    content: bytes
    path: Path
    """The same below that root."""

    @property
    def state(self) -> str:
        try:
            there = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        if there == self.content:
            return "installed"
        return "yours" if self.target.startswith(CONFIGURATION) else "differs"


def find_files(root: str = "/") -> list[File]:
    """Every file for this system, by target path.  CommandError where pip has not installed us."""
    files = []
    for target, source in sorted(_sources()):
        needed = [folder for start, folder in NEEDS.items() if target.startswith(start)]
        if not all(os.path.isdir(root + folder) for folder in needed):
            continue
        content = source.read_bytes()
        if target == UNIT:
            content = _with_program(content.decode()).encode()
        files.append(File(target, content, Path(root, target[1:])))
    return files


def install_files(files: list[File]) -> Iterator[str]:
    """Put in place what is missing or differs; the configuration only where there is none."""
    for file in files:
        if file.state in ("installed", "yours"):
            continue
        file.path.parent.mkdir(parents=True, exist_ok=True)
        beside = file.path.with_name(file.path.name + ".new")
        beside.write_bytes(file.content)
        beside.chmod(0o755 if file.content.startswith(b"#!") else 0o644)
        beside.rename(file.path)
        yield file.target


def remove_files(files: list[File]) -> Iterator[str]:
    """Take away what install_files() put there, but no configuration."""
    for file in files:
        if not file.target.startswith(CONFIGURATION) and file.state != "missing":
            unlink_if_present(str(file.path))
            yield file.target


def hidden_program() -> str:
    """The folder of the program, if the service could not see it; empty when it can."""
    for folder in (sys.prefix, sys.base_prefix, os.path.realpath(_program())):
        if folder.startswith(tuple(f"{hidden}/" for hidden in HIDDEN)):
            return folder
    return ""


def _sources() -> Iterator[tuple[str, Path]]:
    """(target path, file) of all that the wheel brought beside its modules."""
    try:
        recorded = metadata.files("mproutd") or []
    except metadata.PackageNotFoundError:
        raise CommandError(
            "mproutd came with a package of the system, which has put its files in place: "
            "dpkg -L mproutd"
        ) from None
    listed = []
    for file in recorded:
        name = file.as_posix()
        if TREE in name:
            listed.append(("/" + name.partition(TREE)[2], Path(str(file.locate()))))
        elif SHARE in name:
            listed.append(
                ("/usr/local/share/" + name.partition(SHARE)[2], Path(str(file.locate())))
            )
    if not listed:
        tree = Path(__file__).resolve().parents[1]
        raise CommandError(
            f"mproutd runs from its sources in {tree}, where its files are in etc, if-up.d, "
            "docs/man and packaging/completions; to install it: pip install, or make deb",
            INVALID,
        )
    yield from listed


def _with_program(unit: str) -> str:
    """The unit with this program in it, where systemd would not find it by its name."""
    program = _program()
    if os.path.dirname(program) in SYSTEMD_PATH:
        return unit
    if re.search(r"[^\w./+@:,-]", program):
        raise CommandError(f"{program}: systemd cannot have such a path in a unit", INVALID)
    return re.sub(r"\bmproutd (?=run|check|reconcile)", f"{program} ", unit)


def _program() -> str:
    """The path of this program as it was called."""
    called = sys.argv[0]
    return os.path.abspath(called if os.sep in called else shutil.which(called) or called)
