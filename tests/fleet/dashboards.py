"""The panels and queries of the dashboards in docs/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

VARIABLES = {"$instance": ".+", "$job": ".+", "$__rate_interval": "1m"}


class Query(NamedTuple):
    """A query of a panel as Grafana would send it, for all gateways."""

    panel: str
    expression: str
    legend: str


def panels(board: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(board.read_text())["panels"]
    return found


def queries(board: Path) -> Iterator[Query]:
    for panel in panels(board):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, f"{panel['title']}: an unknown variable"
            yield Query(panel["title"], expression, target["legendFormat"])


def variable_queries(board: Path) -> list[str]:
    variables = json.loads(board.read_text())["templating"]["list"]
    return [item["query"]["query"] for item in variables if item["type"] == "query"]
