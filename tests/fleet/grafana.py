"""The dashboards against Grafana's own types of a dashboard, by the TypeScript compiler."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import DASHBOARDS, ROOT

TOOLS = ROOT / ".build/grafana"
TYPES = Path(__file__).with_name("dashboard.ts")
OPTIONS = (
    "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022"
)

Board = dict[str, Any]


def errors(board: Board, name: str) -> str:
    """What the compiler says about it; the packages are looked up beside the file."""
    file = TOOLS / f"{name}.ts"
    file.write_text(
        f"{TYPES.read_text()}\nconst board: Board = {json.dumps(board)};\nexport default board;\n"
    )
    argv = [str(TOOLS / "node_modules/.bin/tsc"), *OPTIONS.split(), str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=TOOLS)
    file.unlink()
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_dashboard_has_grafanas_types(path: Path) -> None:
    assert errors(json.loads(path.read_text()), path.stem) == ""


def misspelt(board: Board) -> None:
    board["panels"][0]["options"]["colourMode"] = "background"


def unknown_value(board: Board) -> None:
    board["panels"][0]["options"]["colorMode"] = "blink"


def without_height(board: Board) -> None:
    del board["panels"][0]["gridPos"]["h"]


def unknown_panel(board: Board) -> None:
    board["panels"][0]["type"] = "graph"


def without_expression(board: Board) -> None:
    del board["panels"][0]["targets"][0]["expr"]


@pytest.mark.parametrize(
    "spoil", [misspelt, unknown_value, without_height, unknown_panel, without_expression]
)
def test_a_broken_dashboard_has_not(spoil: Callable[[Board], None]) -> None:
    board = json.loads(DASHBOARDS[1].read_text())
    spoil(board)
    assert "error TS" in errors(board, spoil.__name__)
