"""A real terminal in a node: tmux, with a socket of its own in the node's /run."""

from __future__ import annotations

from tests.lab.namespace import Namespace
from tests.lab.wait import eventually


class Terminal:
    """A shell on a screen of 80x24.  Use as a context manager, or call close()."""

    def __init__(self, node: Namespace, columns: int = 80, rows: int = 24) -> None:
        self.node = node
        size = ["-x", str(columns), "-y", str(rows)]
        self.tmux("new-session", "-d", *size, "env -u NO_COLOR PS1='$ ' sh")
        eventually(lambda: "$" in self.screen())

    def tmux(self, *words: str) -> str:
        """A command of tmux, and what it printed."""
        return self.node.run("tmux", "-u", "-S", "/run/tmux", "-f", "/dev/null", *words)

    def type(self, *keys: str) -> None:
        """Keys as tmux's send-keys names them."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size while something runs."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, colours: bool = False) -> str:
        """What one sees now; with `colours` the terminal's own sequences are in it."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def close(self) -> None:
        """End it and whatever runs in it."""
        self.tmux("kill-server")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
