"""`mproutd` as an installed command of a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab import Daemon, Namespace
from tests.lab.ubus import BIN

_MPROUTD = """\
#!/bin/sh
verb=$1
shift
exec {command} "$@"
"""


def install_program(node: Namespace, name: str, text: str) -> Path:
    """A script first in the PATH of what runs in the node."""
    file = node.path(BIN) / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def install_command(daemon: Daemon, command: Sequence[str] = ()) -> None:
    """`mproutd VERB …`, with the directories of this daemon; by another `command` if given."""
    # The verb is a variable of the shell.
    words = " ".join(command or daemon.command('"$verb"'))
    install_program(daemon.node, "mproutd", _MPROUTD.format(command=words))
