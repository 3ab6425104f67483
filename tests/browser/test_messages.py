"""The translations: every text of the pages is there, and each translation fits its text."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    """packaging/messages.py."""
    spec = importlib.util.spec_from_file_location("messages", ROOT / "packaging/messages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"[{](\w+)[^}]*[}]", text))


def test_the_template_has_every_text(messages: ModuleType) -> None:
    """If not: make messages."""
    assert (ROOT / messages.TEMPLATE).read_text() == messages.template()


def test_german_has_every_text_of_the_pages_and_keeps_what_is_filled_in(
    messages: ModuleType,
) -> None:
    """A sentence of the daemon's may be newer: the page shows it in English."""
    catalog = messages.catalog(messages.languages()["de"])
    pages = messages.messages(messages.template()) - {"", *messages.daemon_texts()}
    assert pages - set(catalog) == set()
    for text, translation in catalog.items():
        assert placeholders(text) == placeholders(translation), text
        for word in re.findall(r"`\w+`|DEVICE|INTERFACE", text):
            assert word in translation, text


def test_cockpits_catalog_is_made_of_it(messages: ModuleType) -> None:
    for language, po in messages.languages().items():
        made = (ROOT / messages.COCKPIT / f"po.{language}.js").read_text()
        assert made == messages.cockpit_catalog(po, language)
