"""docs/fleet.md: its files, by the programs that read them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from netjsonconfig import OpenWrt

from mproutd.configuration.uci import load
from tests.fleet import RULES, program
from tests.fleet.test_alerts import ALERTS
from tests.networks.guide import Guide

GUIDE = Guide("../fleet")


def test_the_configuration_of_prometheus(tmp_path: Path) -> None:
    (text,) = GUIDE.files("monitoring").values()
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(RULES, tmp_path)
    argv = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_every_alert_is_listed() -> None:
    listed = GUIDE.path.read_text().split("## Alerts")[1].split("\n## ")[0]
    missing = [alert for alert in ALERTS if f"`{alert}`" not in listed]
    assert not missing


def test_the_template_of_openwisp(tmp_path: Path) -> None:
    """What netjsonconfig renders is a configuration of ours."""
    (text,) = GUIDE.files("openwisp").values()
    variables = {"name": "gw01", "track_ip": "192.0.2.1"}
    rendered = OpenWrt(json.loads(text), context=variables).render()
    for package in rendered.split("package ")[1:]:
        name, _, content = package.partition("\n")
        (tmp_path / name).write_text(content)
    argv = [sys.executable, "-m", "mproutd", "check", "--enabled", str(tmp_path)]
    checked = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout + checked.stderr
    config = load(str(tmp_path))
    assert [(uplink.name, uplink.device, uplink.mode) for uplink in config.uplinks] == [
        ("wan1", "eth1", "master"),
        ("wan2", "eth2", "on"),
    ]
    assert all("192.0.2.1" in str(uplink.health) for uplink in config.uplinks)
