"""mproutd with a witness that counts its netlink messages."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.daemon import Daemon

WITNESS = Path(__file__).with_name("counting")
NOTED = "/run/mproutd-witness"


class Witnessed(Daemon):
    """A Daemon of whose commands every netlink message is recorded (counting/sitecustomize.py)."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        env, python_path, *rest = super().command(verb, *arguments)
        assert env == "env"
        assert python_path.startswith("PYTHONPATH=")
        return [env, f"{python_path}:{WITNESS}", f"MPROUTD_WITNESS={NOTED}", *rest]

    def has_traffic(self) -> bool:
        """Whether a netlink message was sent since written() was called last."""
        return self.node.path(NOTED).stat().st_size > 0

    def written(self) -> list[str]:
        """What was written to the kernel since the last call, a line each.

        AssertionError when it was not even read: then nothing was tried.
        """
        noted = self.node.path(NOTED)
        records = noted.read_text().splitlines()
        os.truncate(noted, 0)
        assert any(line.startswith("read rtnetlink") for line in records), "no pass was made"
        return [line for line in records if line.startswith("write")]
