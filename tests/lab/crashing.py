"""mproutd that dies between two operations, whichever a test wants."""

from __future__ import annotations

from pathlib import Path

from tests.lab.daemon import Daemon

HOOK = Path(__file__).with_suffix("")


class Mortal(Daemon):
    """A Daemon whose process is gone after `dies_after` changes (mortal/sitecustomize.py).

    -1: it lives.  The commands die as well, each with a count of its own.
    """

    dies_after = -1
    mortal = False
    """Whether the daemon that was begun last has a count."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        env, python_path, *rest = super().command(verb, *arguments)
        if self.dies_after < 0:
            return [env, python_path, *rest]
        assert python_path.startswith("PYTHONPATH=")
        return [env, f"{python_path}:{HOOK}", f"MPROUTD_DIES_AFTER={self.dies_after}", *rest]

    def begin(self, dies_after: int = -1) -> None:
        """Start the daemon without waiting for anything; it may be dead before it answers."""
        assert not self.alive, "it runs already"
        self.dies_after = dies_after
        self.mortal = dies_after >= 0
        try:
            self.process = self.node.popen(*self.command("run"), stdout=self._log, stderr=self._log)
        finally:
            self.dies_after = -1

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None
