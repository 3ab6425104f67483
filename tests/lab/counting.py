"""mproutd with a witness: what it really asks and tells the kernel is counted."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.daemon import Daemon

WITNESS = Path(__file__).with_name("counting")
NOTED = "/run/mproutd-witness"


class Witnessed(Daemon):
    """A Daemon of whose commands every netlink message is noted (witness/sitecustomize.py)."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        env, python_path, *rest = super().command(verb, *arguments)
        assert env == "env"
        assert python_path.startswith("PYTHONPATH=")
        return [env, f"{python_path}:{WITNESS}", f"MPROUTD_WITNESS={NOTED}", *rest]

    def heard(self) -> bool:
        """Whether the kernel was asked anything since written() was called last."""
        return self.node.path(NOTED).stat().st_size > 0

    def written(self) -> list[str]:
        """What was written to the kernel since the last call, a line each.

        AssertionError when it was not even read: then nothing was tried.
        """
        noted = self.node.path(NOTED)
        lines = noted.read_text().splitlines()
        os.truncate(noted, 0)
        assert any(line.startswith("read rtnetlink") for line in lines), "no pass was made"
        return [line for line in lines if line.startswith("write")]
