"""The guide about uplinks that cost money: its configuration and its program work as printed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mproutd.configuration.uci import load
from tests.docs.reference import DOCS

GUIDE = (DOCS / "costly-lines.md").read_text()


def printed(name: str) -> str:
    """The block behind `<!-- file: NAME -->`."""
    match = re.search(rf"<!-- file: {name} -->\n```\n(.*?)```\n", GUIDE, re.DOTALL)
    assert match, name
    return match[1]


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    for name in ("network", "mproutd"):
        (tmp_path / name).write_text(printed(name))
    config = load(str(tmp_path))
    assert config.warnings == ()
    dsl, lte = config.uplinks
    assert (dsl.download, dsl.upload) == (50_000, 10_000)
    assert (lte.mode, lte.overflow, lte.metered) == ("backup", 80, True)
    assert (lte.quota, lte.quota_start, lte.quota_action) == (20 * 10**9, 5, "handover")
    assert lte.on_quota == ("/usr/local/bin/quota-mail",)


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        ("warn", "Subject: 80 % of the volume of lte are used"),
        ("limit", "Subject: the volume of lte is used up; its mode is handover"),
        ("reset", "Subject: a new period of lte begins"),
    ],
)
def test_the_program_writes_a_mail(tmp_path: Path, event: str, subject: str) -> None:
    msmtp = tmp_path / "msmtp"
    msmtp.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat >{tmp_path}/mail\n')
    msmtp.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MPROUTD_EVENT": event,
        "MPROUTD_UPLINK": "lte",
        "MPROUTD_MODE": "handover",
        "MPROUTD_PERCENT": "80",
        "MPROUTD_USED": "16000000000",
        "MPROUTD_QUOTA": "20000000000",
        "MPROUTD_PERIOD_END": "1796428800",
        "TZ": "UTC",
        "LC_ALL": "C",
    }
    subprocess.run(["sh", "-eu", "-c", printed("quota-mail")], env=environment, check=True)
    assert (tmp_path / "arguments").read_text().split()[-1] == "you@example.org"
    head, empty, body, end = (tmp_path / "mail").read_text().splitlines()
    assert (head, empty) == (subject, "")
    assert body == "used: 16000000000 of 20000000000 bytes"
    assert end.startswith("next period: ")
    assert "2026" in end
