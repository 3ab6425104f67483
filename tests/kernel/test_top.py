"""`mproutd top` in a real terminal: tmux, inside the gateway."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.lab import SERVER, Daemon, Iperf, Terminal, Wan, eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(lan=False) as world:
        yield world.usual()


class Top(Terminal):
    """A terminal in which `mproutd top` runs."""

    def __init__(self, daemon: Daemon, program: Sequence[str] = ("-m", "mproutd")) -> None:
        super().__init__(daemon.node)
        words = daemon.command("top")
        at = words.index("-m")
        command = shlex.join([*words[:at], *program, *words[at + 2 :]])
        script = f"trap : INT\n{command}\necho ended with $?\n"
        self.node.path("/run/top").write_text(script)
        self.type("clear; stty -a >/run/before; sh /run/top", "Enter")
        eventually(lambda: "sorted by" in self.screen())

    def matching(self, pattern: str) -> str:
        """The screen.  AssertionError with it, where it does not match."""
        screen = self.screen()
        assert re.search(pattern, screen), screen
        return screen

    def ended(self, status: int) -> None:
        """It is over, and the terminal is as before."""
        eventually(lambda: f"ended with {status}\n" in self.screen())
        assert "sorted by" not in self.screen()
        self.type("stty -a >/run/after; echo do''ne", "Enter")
        eventually(lambda: "\ndone" in self.screen())
        before, after = (self.node.path(f"/run/{name}") for name in ("before", "after"))
        assert after.read_text() == before.read_text()
        assert self.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on}") == "1 0\n"

    def pid(self) -> str:
        """The process of `mproutd top`: only those of this node's network are asked."""
        inode = os.stat(f"/proc/{self.node.pid}/ns/net").st_ino
        for pid in self.node.run("pgrep", "-f", "[m]proutd top --config-dir").split():
            program = os.readlink(f"/proc/{pid}/exe")
            if os.stat(f"/proc/{pid}/ns/net").st_ino == inode and "python" in program:
                return pid
        raise AssertionError("it does not run")


@pytest.mark.alone
def test_top_in_a_terminal(wan: Wan) -> None:
    with Daemon(wan.gateway) as daemon, Top(daemon) as terminal:
        eventually(lambda: "wan1" in terminal.screen(), 20)
        transfer = Iperf(wan.gateway, wan.server, SERVER, 12)
        screen = eventually(lambda: terminal.matching(r"out +\d+ Mbit/s .*[▃▄▅▆▇█]"), 20)
        assert re.search(r"^mproutd  \d\d:\d\d:\d\d  ok$", screen, re.MULTILINE)
        assert re.search(r"^wan1  master +eth1  up \d+ s +\d subflows?  default IPv4", screen, re.M)
        assert re.search(r"^  10\.2\.2\.2 via 10\.2\.2\.1", screen, re.MULTILINE)
        assert screen.index("\nwan1") < screen.index("\nwan2")
        assert "\x1b[32mup " in terminal.screen(colours=True)

        terminal.type("s")
        eventually(lambda: "sorted by rate in" in terminal.screen())
        terminal.type("ss")
        eventually(lambda: "sorted by name" in terminal.screen())
        terminal.type("Space")
        eventually(lambda: "paused" in terminal.screen())
        wan.unplug(2)
        time.sleep(1.5)
        assert "no carrier" not in terminal.screen()
        terminal.type("Space")
        eventually(lambda: terminal.matching(r"(?m)^wan2 .* no carrier"))
        assert "1 of 2 not usable" in terminal.screen()
        transfer.result()

        terminal.resize(40, 8)
        eventually(lambda: terminal.screen().splitlines()[7].startswith("q quit"))
        terminal.resize(100, 40)
        eventually(lambda: terminal.screen().splitlines()[39].startswith("q quit"))

        terminal.resize(80, 24)
        daemon.stop()
        eventually(lambda: "mproutd is not running" in terminal.screen())
        daemon.start()
        eventually(lambda: "1 of 2 not usable" in terminal.screen())
        terminal.type("q")
        terminal.ended(0)


@pytest.mark.parametrize("end", ["INT", "TERM", "HUP"])
def test_the_terminal_is_as_before(wan: Wan, end: str) -> None:
    with Daemon(wan.gateway) as daemon, Top(daemon) as terminal:
        number = signal.Signals[f"SIG{end}"]
        if end == "INT":
            terminal.type("C-c")
        else:
            wan.gateway.run("kill", f"-{number.value}", terminal.pid())
        terminal.ended(128 + number)


def test_what_goes_wrong_inside_gives_the_terminal_back(wan: Wan) -> None:
    broken = (
        "import sys; from mproutd import cli; from mproutd.status import top; "
        "drawn = iter([top.screen_lines]); top.screen_lines = lambda *a: next(drawn)(*a); "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    # It draws once, and then raises StopIteration.
    with Daemon(wan.gateway) as daemon, Top(daemon, ["-c", broken]) as terminal:
        terminal.ended(1)


def test_running_out_of_descriptors_is_waited_for(wan: Wan) -> None:
    with Daemon(wan.gateway) as daemon, Top(daemon) as terminal:
        pid = terminal.pid()
        wan.gateway.run("prlimit", f"--pid={pid}", "--nofile=3:1024")
        eventually(lambda: "does not reply" in terminal.screen())
        wan.gateway.run("prlimit", f"--pid={pid}", "--nofile=1024:1024")
        eventually(lambda: terminal.matching(r"(?m)  ok$"))
        terminal.type("q")
        terminal.ended(0)


def test_without_a_terminal_or_a_daemon(wan: Wan) -> None:
    daemon = Daemon(wan.gateway)
    result = daemon.call("top")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("mproutd: top needs a terminal")
    script = "script --quiet --return --command"
    command = shlex.join(daemon.command("top"))
    for terminal in ("xterm", "nonsense"):
        output = wan.gateway.run(
            "sh", "-c", f"TERM={terminal} {script} {shlex.quote(command)} /dev/null; echo $?"
        )
        error, code = output.splitlines()
        assert error.startswith("mproutd: mproutd is not running")
        assert code == "3"
    with daemon:
        output = wan.gateway.run(
            "sh", "-c", f"TERM=nonsense {script} {shlex.quote(command)} /dev/null; echo $?"
        )
        error, code = output.splitlines()
        assert "TERM='nonsense'" in error
        assert code == "2"
