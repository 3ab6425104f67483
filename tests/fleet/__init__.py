"""Many gateways: alerts, dashboards and their data in a real Prometheus.

What needs Debian's prometheus alone is part of `make test`; `make fleet` also checks the dashboards
against Grafana's published types, and measures a fleet of 200.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "packaging/prometheus/mproutd.rules.yml"
DASHBOARDS = (ROOT / "docs/grafana-dashboard.json", ROOT / "docs/grafana-fleet.json")


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where it is missing."""
    unpacked = ROOT / ".build/unpacked/usr/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        text = f"no {name} here: packaging/setup.sh unpack"
        if os.environ.get("CI") == "true":
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return found


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments], input=text, capture_output=True, text=True, timeout=100
    )
