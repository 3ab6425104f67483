"""The sources of the pages: plain files that draw no markup and load nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = ROOT / "packaging/openwrt/luci-app-mproutd"
SCRIPTS = sorted([*(ROOT / "web").rglob("*.js"), *(APP / "htdocs").rglob("*.js")])
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_draws_no_markup_and_fits_on_one_reading(path: Path) -> None:
    text = path.read_text()
    assert [word for word in MARKUP if word in text] == []
    assert len(text.splitlines()) <= 400
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


@pytest.mark.parametrize("path", [*(APP / "htdocs").rglob("*.js")], ids=lambda path: path.name)
def test_a_view_gives_luci_no_text_that_it_would_take_for_markup(path: Path) -> None:
    """E(tag, attributes, 'text') sets innerHTML; E(tag, attributes, ['text']) is text."""
    assert re.findall(r"\bE\([^()]*\{[^{}]*\},\s*[^\[\s]", path.read_text()) == []


def test_the_module_imports_itself_alone() -> None:
    """LuCI and Cockpit install web/page in different places."""
    for path in (ROOT / "web/page").glob("*.js"):
        for target in re.findall(r"from '([^']*)'", path.read_text()):
            assert (path.parent / target).is_file(), (path.name, target)
            assert target.startswith("./")


def test_cockpit_lets_the_page_load_its_own_files_only() -> None:
    manifest = json.loads((ROOT / "web/cockpit/manifest.json").read_text())
    assert manifest["content-security-policy"] == "default-src 'self'"
    page = (ROOT / "web/cockpit/index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [
        "page/page.css",
        "shell.css",
        "../base1/cockpit.js",
        "po.js",
        "shell.js",
    ]
