"""A program `ubus` in a node, that answers what the test has it answer.

Netifd itself cannot run here; what mproutd sees of it is one program, and this is that program,
with its faults.
"""

from __future__ import annotations

from tests.lab.namespace import Namespace

BIN = "/run/bin"
"""First in the PATH of a Daemon."""

_SCRIPT = """\
#!/bin/sh
# ubus call network.interface dump
[ "$*" = "call network.interface dump" ] || exit 2
echo x >> /run/ubus/calls
cd -P /run/ubus/now || exit 2
sleep "$(cat delay)"
cat answer
exit "$(cat status)"
"""


class Ubus:
    """From now on the node has a `ubus`, whose answer is `text`."""

    def __init__(self, node: Namespace, text: str) -> None:
        self._said = 0
        self._at = node.path("/run/ubus")
        self._program = node.path(BIN) / "ubus"
        for folder in (self._at, self._program.parent):
            folder.mkdir(exist_ok=True)
        self.says(text)
        self.install()

    def install(self) -> None:
        """Put the program there."""
        self._program.write_text(_SCRIPT)
        self._program.chmod(0o755)

    def says(self, text: str, *, delay: float = 0.0, status: int = 0) -> None:
        """What it answers, after how many seconds, and how it ends; from one question on."""
        self._said += 1
        folder = self._at / str(self._said)
        folder.mkdir()
        for name, value in (("answer", text), ("delay", str(delay)), ("status", str(status))):
            (folder / name).write_text(value)
        beside = self._at / "next"
        beside.symlink_to(folder.name)
        beside.replace(self._at / "now")

    def calls(self) -> int:
        """How often it was asked."""
        try:
            return len((self._at / "calls").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def remove(self) -> None:
        """There is no such program any more, until install()."""
        self._program.unlink()
