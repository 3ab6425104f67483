"""Links, anchors and code names in the documents lead somewhere; every page is in the index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
SUFFIXES = (".py", ".md", ".sh", ".cfg", ".toml", ".yml", ".json", ".txt", ".svg")
FOLDERS = ("mproutd", "tests", "bench", "docs", "packaging", "etc", "hotplug", "if-up.d", ".ci")
FOLDERS_SLASH = tuple(f"{folder}/" for folder in FOLDERS)
ELSEWHERE = re.compile(r"^(/|~|\.build/|net/|linux/)|[<>{}*$…]|[A-Z]{3,}/|\s")
"""Absolute paths, kernel sources, patterns and what a build makes."""
BASENAMES = {file.name for folder in FOLDERS for file in (ROOT / folder).rglob("*.*")}
OTHER_PROGRAMS = frozenset(
    ("state.json", "netifd.json", "resolved.json", "quota.json", "capacity.json")
    + ("bench/results.json", "redir.json", "up.sh", "down.sh")
)
"""Files that a run makes, and those of other programs."""


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            if "://" not in target:
                yield page, target


def anchors(page: Path) -> set[str]:
    """The anchors that forges and mkdocs give to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {slug.replace(" ", "-") for slug in slugs}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_links() -> None:
    assert len(list(links())) > 50


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for source, target in links():
        if source != page:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{name(page)}: no file {target}"
        if anchor:
            assert anchor in anchors(file), f"{name(page)}: no heading {target}"


def code_names(page: Path) -> set[str]:
    """What is in backquotes and looks like a file of ours."""
    words = (word.removesuffix("/") for word in CODE.findall(prose(page)))
    return {
        word
        for word in words
        if not ELSEWHERE.search(word)
        and (word.startswith(FOLDERS_SLASH) or word.endswith(SUFFIXES))
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    missing = {
        word
        for word in code_names(page) - OTHER_PROGRAMS
        if not (ROOT / word.partition("::")[0]).exists()
        and not (ROOT / "mproutd" / word).exists()
        and not (page.parent / word).exists()
        and not ("/" not in word and word in BASENAMES)
    }
    assert not missing, f"{name(page)} names files that do not exist"


def test_every_page_is_in_the_index_and_in_the_navigation() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    index = {target.partition("#")[0] for target in LINK.findall(prose(DOCS / "index.md"))}
    navigation = set(
        re.findall(r"^\s*- (?:.*: )?(\S+\.md)$", (ROOT / "packaging/mkdocs.yml").read_text(), re.M)
    )
    assert navigation == pages
    assert pages - index - {"index.md"} == set()


def module_tables() -> dict[str, set[str]]:
    """Package → the modules that docs/design.md lists for it."""
    text = (DOCS / "design.md").read_text().split("\n## Modules\n")[1]
    tables = re.findall(r"^\| `(mproutd/|\w+/)` \|.*\n\| --- .*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return {
        package.removeprefix("mproutd/"): set(re.findall(r"`(\w+\.py)`", rows))
        for package, rows in tables
    }


def test_the_module_tables_of_the_design_match_the_tree() -> None:
    tree: dict[str, set[str]] = {}
    for file in (ROOT / "mproutd").rglob("*.py"):
        package = file.parent.relative_to(ROOT / "mproutd").parts
        if not file.name.startswith("__"):
            tree.setdefault("".join(f"{name}/" for name in package[:1]), set()).add(file.name)
    assert module_tables() == tree
