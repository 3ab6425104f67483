"""The unit, by the tools that systemd brings; on a booted machine: tests/booted/test_service.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_man import COMMANDS
from tests.lab.daemon import REPOSITORY

UNIT = REPOSITORY / "etc/systemd/system/mproutd.service"
WORST = 2.0
"""What `systemd-analyze security` may say at most."""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here"
)


def settings() -> list[tuple[str, str]]:
    lines = UNIT.read_text().splitlines()
    return [
        (name, value)
        for name, mark, value in (line.partition("=") for line in lines)
        if mark and not name.startswith("#")
    ]


@needs_analyze
def test_the_sandbox_is_as_tight_as_documented():
    output = subprocess.run(
        ["systemd-analyze", "--no-pager", "security", "--offline=true", str(UNIT)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    figure = float(re.findall(r"exposure level for \S+: ([\d.]+)", output)[-1])
    assert figure <= WORST, output
    page = (REPOSITORY / "docs/service.md").read_text()
    assert f"an exposure of {figure:g} " in page


@needs_analyze
def test_systemd_accepts_the_unit_without_warnings(tmp_path: Path):
    """Every line is known to it.  The program is not installed here: any other stands for it."""
    unit = tmp_path / "mproutd.service"
    text = UNIT.read_text().replace("=mproutd ", "=/bin/true ")
    unit.write_text(re.sub("^Documentation=.*\n", "", text, flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
    )
    assert [line for line in done.stderr.splitlines() if "mproutd" in line] == []
    assert done.returncode == 0


def test_what_it_runs_are_commands_of_ours():
    run = " ".join(value for name, value in settings() if name.startswith("Exec"))
    used = re.findall(r"\bmproutd ([a-z]+)", run)
    assert sorted(used) == ["check", "reconcile", "run"]
    assert set(used) <= set(COMMANDS)


def test_it_waits_for_no_network():
    ordering = {name: value for name, value in settings() if name in ("After", "Wants", "Requires")}
    assert ordering == {"After": "network-pre.target", "Wants": "network.target"}
