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
