"""The alerts, by promtool: they fire, they do not fire, and they lead to a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mproutd.status.metrics import METRICS
from mproutd.status.problems import PROBLEMS
from tests.docs.test_links import DOCS, anchors
from tests.fleet import RULES, promtool

TESTS = RULES.with_name("mproutd.rules.test.yml")
ALERTS = dict(re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", RULES.read_text(), re.DOTALL))


def test_the_rules_are_valid() -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout
    assert len(ALERTS) > 15


def test_they_fire_and_do_not_fire() -> None:
    tested = promtool("test", "rules", str(TESTS))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(1)"])
def test_a_broken_alert_is_noticed(alert: str, expression: str, tmp_path: Path) -> None:
    """The cases of an alert fail for one that never fires, and for one that always does."""
    head, *cases = re.split(r"(?=  - name: )", TESTS.read_text())
    mine = [case for case in cases if case.startswith(f'  - name: "{alert}: ')]
    broken = re.sub(
        r"expr: .*?(?=\n        (for|labels):)",
        f"expr: {expression}",
        ALERTS[alert],
        flags=re.DOTALL,
    )
    rules = f"groups:\n  - name: broken\n    rules:\n      - alert: {alert}\n{broken}\n"
    (tmp_path / RULES.name).write_text(rules)
    (tmp_path / TESTS.name).write_text(head + "".join(mine))
    tested = promtool("test", "rules", str(tmp_path / TESTS.name))
    assert (tested.returncode, "FAILED" in tested.stdout + tested.stderr) == (1, True)


def test_they_use_only_existing_metrics_labels_and_codes() -> None:
    text = RULES.read_text().split("groups:")[1]
    expressions = "\n".join(re.findall(r"expr: (.*?)\n        (?:for|labels):", text, re.DOTALL))
    names = set(re.findall(r"\bmproutd_\w+", expressions))
    assert names <= METRICS.keys()
    assert len(names) > 12
    codes = "|".join(re.findall(r'code=~?"(.*?)"', expressions)).split("|")
    assert set(codes) <= PROBLEMS.keys()


def test_every_alert_has_a_severity_a_command_and_a_page() -> None:
    for alert, text in ALERTS.items():
        assert re.search(r"severity: (critical|warning|info)\n", text), alert
        assert re.search(r"`(mproutd|systemctl|journalctl) ", text), alert
        (target,) = re.findall(r"runbook_url: (\S+)", text)
        page, _, anchor = target.partition("#")
        assert (DOCS / page).is_file(), f"{alert}: no page {page}"
        assert not anchor or anchor in anchors(DOCS / page), f"{alert}: no heading {target}"
