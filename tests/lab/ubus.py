"""A program `ubus` in a node that prints the reply set by the test.

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
    """Gives the node a `ubus` whose reply is `text`."""

    def __init__(self, node: Namespace, text: str) -> None:
        self._replies = 0
        self._at = node.path("/run/ubus")
        self._program = node.path(BIN) / "ubus"
        for folder in (self._at, self._program.parent):
            folder.mkdir(exist_ok=True)
        self.set_reply(text)
        self.install()

    def install(self) -> None:
        """Put the program there."""
        self._program.write_text(_SCRIPT)
        self._program.chmod(0o755)

    def set_reply(self, text: str, *, delay: float = 0.0, status: int = 0) -> None:
        """Its reply from now on, the delay in seconds, and its exit status."""
        self._replies += 1
        folder = self._at / str(self._replies)
        folder.mkdir()
        for name, value in (("answer", text), ("delay", str(delay)), ("status", str(status))):
            (folder / name).write_text(value)
        beside = self._at / "next"
        beside.symlink_to(folder.name)
        beside.replace(self._at / "now")

    def calls(self) -> int:
        """How often it was called."""
        try:
            return len((self._at / "calls").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def remove(self) -> None:
        """Remove the program until install()."""
        self._program.unlink()
