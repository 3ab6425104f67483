"""The dashboards: promtool parses their queries, and these use what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mproutd.status.metrics import METRICS
from tests.fleet import DASHBOARDS, promtool
from tests.fleet.dashboards import panels, queries, variable_queries

PROMETHEUS = {"instance", "job", "alertname", "alertstate"}
every_board = pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.stem)


@every_board
def test_promtool_parses_every_query(board: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{n}", "expr": query.expression} for n, query in enumerate(queries(board))
    ]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
    assert len(rules) > 15


@every_board
def test_only_existing_metrics_and_labels(board: Path) -> None:
    texts = [query.expression for query in queries(board)] + variable_queries(board)
    names = {name for text in texts for name in re.findall(r"mproutd_\w+", text)}
    assert names <= METRICS.keys()
    assert len(names) > 12
    for query in queries(board):
        used = re.findall(r"mproutd_\w+", query.expression)
        known = PROMETHEUS.union(*(METRICS[name].labels for name in used))
        for inside in re.findall(r"\{(.*?)\}", query.expression):
            assert set(re.findall(r"(\w+)\s*[=!]", inside)) <= known, query.panel
        for grouped in re.findall(r"\b(?:by|on) \((.*?)\)", query.expression):
            assert set(grouped.split(", ")) <= known, query.panel
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= known, query.panel


def labelled(name: str, **labels: str) -> str:
    pairs = {"job": "mproutd", "instance": "a", **labels}
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in pairs.items()) + "}"


def world(*usable: str) -> dict[str, int]:
    """The series of a gateway with two uplinks, of which these are usable."""
    series = {labelled("up"): 1, labelled("mproutd_up"): 1}
    for name in ("wan1", "wan2"):
        series[labelled("mproutd_uplink_info", uplink=name, mode="on")] = 1
        series[labelled("mproutd_uplink_usable", uplink=name, family="ipv4")] = name in usable
    return series


ALERT = labelled("ALERTS", alertname="MproutdDrift", alertstate="firing")
COUNTS = (
    *("Not scraped", "Daemon down", "No uplink", "One uplink left", "Firing alerts"),
    "Unusable uplinks",
)
"""Panels that show 0 where they count nothing."""
WORLDS: dict[str, tuple[dict[str, int], tuple[int | None, ...]]] = {
    "no gateway": ({}, (None, None, None, None, None, None)),
    "not scraped": ({labelled("up"): 0}, (1, None, None, None, 0, None)),
    "down": ({labelled("up"): 1, labelled("mproutd_up"): 0}, (0, 1, None, None, 0, None)),
    "healthy": (world("wan1", "wan2"), (0, 0, 0, 0, 0, 0)),
    "one uplink": (world("wan1"), (0, 0, 0, 1, 0, 1)),
    "no uplink": (world(), (0, 0, 1, 0, 0, 2)),
    "an alert": (world("wan1", "wan2") | {ALERT: 1}, (0, 0, 0, 0, 1, 0)),
}
"""Series, and what these panels show of them; None: no data."""


def test_a_panel_shows_no_zero_without_data(tmp_path: Path) -> None:
    found = [query for board in DASHBOARDS for query in queries(board)]
    counts = {query.panel: query.expression for query in found if " or " in query.expression}
    assert counts.keys() == set(COUNTS)
    tests = []
    for name, (series, shown) in WORLDS.items():
        expected = []
        for panel, value in zip(COUNTS, shown, strict=True):
            labels = '{instance="a"}' if "count by (instance)" in counts[panel] else "{}"
            samples = [] if value is None else [{"labels": labels, "value": value}]
            expected.append({"expr": counts[panel], "eval_time": "1m", "exp_samples": samples})
        given = [{"series": text, "values": f"{value + 0}x9"} for text, value in series.items()]
        tests.append({"name": name, "input_series": given, "promql_expr_test": expected})
    (tmp_path / "rules.json").write_text('{"groups": []}')
    file = tmp_path / "test.json"  # JSON is YAML
    file.write_text(
        json.dumps({"rule_files": ["rules.json"], "evaluation_interval": "15s", "tests": tests})
    )
    tested = promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@every_board
def test_panels_do_not_overlap(board: Path) -> None:
    cells: list[tuple[int, int]] = []
    for panel in panels(board):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells += [(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])]
    assert len(set(cells)) == len(cells)
    assert len({panel["id"] for panel in panels(board)}) == len(panels(board)) > 10
    assert all(panel["targets"] and panel["description"] for panel in panels(board))
