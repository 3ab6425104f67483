"""The documents name everything that the program knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mproutd.configuration.options import OPTIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("section", "option"),
    [(f"{file} {kind}", name) for (file, kind), known in OPTIONS.items() for name in known],
)
def test_every_option_is_in_the_table_of_its_section(section: str, option: str) -> None:
    text = (DOCS / "configuration.md").read_text()
    file, kind = section.split()
    part = text.split(f"## {file}\n", 1)[1]
    if file == "mproutd":
        part = part.split(f"### config {kind} ", 1)[1].split("\n### ", 1)[0]
    assert f"`{option}`" in part.split("\n## ", 1)[0]
