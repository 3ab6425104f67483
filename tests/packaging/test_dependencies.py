"""Other people's code: which, within which bounds, and that the daemon runs no more of it."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Daemon, Wan, eventually

ROOT = Path(__file__).parents[2]
LISTED = re.findall(
    r"^\| `([\w.-]+)` \| ([^|]*) \|",
    (ROOT / "docs/security.md").read_text().partition("## Dependencies")[2],
    re.MULTILINE,
)
"""docs/security.md, the table of dependencies: (name, when it is imported)."""
INSIDE: set[str] = set()
"""What a daemon on Debian imports of these while nothing goes wrong."""


def demanded() -> dict[str, str]:
    """Distribution → its bounds, of everything that setup.cfg may install."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return dict(line.split(maxsplit=1) if " " in line else (line, "") for line in lines)


@pytest.mark.parametrize(("name", "bounds"), demanded().items())
def test_a_dependency_is_pinned_by_a_range(name: str, bounds: str) -> None:
    assert re.fullmatch(r">=[\d.]+, <[\d.]+", bounds), f"{name}: {bounds!r}"


def test_every_dependency_is_listed_and_nothing_else() -> None:
    assert sorted(name for name, _ in LISTED) == sorted(demanded())


class Telling(Daemon):
    """A Daemon that writes down, when it ends, what it has imported."""

    NOTED = "/run/mproutd-imports"
    CODE = (
        "import atexit, sys\n"
        f"atexit.register(lambda: open({NOTED!r}, 'w').write(' '.join(sys.modules)))\n"
    )

    def command(self, verb: str, *arguments: str) -> list[str]:
        words = super().command(verb, *arguments)
        index = next(n for n, word in enumerate(words) if word.startswith("PYTHONPATH="))
        words[index] += ":/run/imports"
        return words


@pytest.mark.kernel
def test_a_running_daemon_imports_nothing_else() -> None:
    with Wan(shaped=False, lan=False).usual() as wan:
        wan.gateway.path("/run/imports").mkdir()
        wan.gateway.path("/run/imports/sitecustomize.py").write_text(Telling.CODE)
        with Telling(wan.gateway) as daemon:
            wan.unplug(1)
            eventually(lambda: "endpoint 10.1.1.2" not in wan.gateway.state())
            wan.plug(1)
            daemon.settle()
            daemon.reconcile()
            noted = wan.gateway.path(Telling.NOTED)
            noted.unlink()  # the command's
            daemon.stop()
            imported = {name.partition(".")[0] for name in noted.read_text().split()}
    initial = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        check=True,
        text=True,
        capture_output=True,
    )
    given = {name.partition(".")[0] for name in initial.stdout.split()} | {
        "sitecustomize",
        "mproutd",
    }
    missing = imported - given - sys.stdlib_module_names
    assert "mproutd" in imported
    assert missing == INSIDE
    assert {name for name, when in LISTED if when.startswith("by the daemon, always")} == INSIDE
