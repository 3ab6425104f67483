"""Files and functions stay short enough to read in one sitting.

A function may be longer, or take more parameters, if its docstring says why: write
"Long because …" or "Many parameters because …".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("mproutd", "tests", "bench")
    for path in (ROOT / folder).rglob("*.py")
)
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_no_file_of_the_program_is_too_long() -> None:
    lengths = {
        str(path): len((ROOT / path).read_text().splitlines())
        for path in FILES
        if path.parts[0] == "mproutd"
    }
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "mproutd"], ids=str)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    wrong = []
    for function in functions(path):
        reason = ast.get_docstring(function) or ""
        lines = (function.end_lineno or 0) - function.lineno + 1
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        count = len([parameter for parameter in parameters if parameter.arg not in ("self", "cls")])
        if lines > MAX_FUNCTION_LINES and "Long because" not in reason:
            wrong.append(f"{function.name} (line {function.lineno}): {lines} lines")
        if count > MAX_PARAMETERS and "Many parameters because" not in reason:
            wrong.append(f"{function.name} (line {function.lineno}): {count} parameters")
    assert wrong == []
