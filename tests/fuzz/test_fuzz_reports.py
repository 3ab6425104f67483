"""What is printed from any status: no escape sequence, no second line, 80 columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mproutd import log
from mproutd.format import safe, truncate
from mproutd.status.events import EVENT_KINDS, make_event
from mproutd.status.metrics import samples
from mproutd.status.render import (
    change_lines,
    connection_lines,
    event_line,
    status_lines,
    wrap,
)
from mproutd.status.render_uplink import uplink_lines
from mproutd.status.top_view import Rates, View, screen_lines
from tests.fuzz.material import NASTY, TEXTS, quick

DOCS = Path(__file__).parents[2] / "docs"
FREE = st.one_of(
    TEXTS,
    st.sampled_from(("wan1", "eth1", "10.1.1.2", "2001:db8:1::2", "via 10.1.1.1 dev eth1")),
    st.lists(st.sampled_from(("the", "uplink", "is", *NASTY)), max_size=30).map(" ".join),
)


DEVICES = TEXTS.filter(
    lambda text: len(text.encode(errors="surrogatepass")) < 16 and not set(text) & set("/: \n\r")
)
"""What the kernel takes for a device's name (net/core/dev.c, dev_valid_name): escapes too."""


ONE_WORD = "token local remote state uplink gateway gateway_from reason mark table_from".split()
"""Of the texts, those that never hold a blank."""


def shaped(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Any value that the schema allows, as far as our schemas go; `name` is its property's."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if name == "device":
        return DEVICES
    one_word = FREE.map(lambda text: text.replace(" ", "_"))
    if name in ONE_WORD:
        return one_word
    if name in ("addresses", "sources", "prefixes", "flags"):
        return st.lists(one_word, max_size=2)
    if name == "families":
        return st.lists(shaped(schema["items"]), min_size=1, max_size=2)
    kinds = schema["type"]
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return st.one_of(*(_of_type(kind, schema) for kind in kinds))


def _of_type(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        known = schema.get("properties", {})
        if not known:
            values = schema.get("additionalProperties")
            values = shaped(values) if isinstance(values, dict) else FREE
            return st.dictionaries(st.sampled_from(("ipv4", "ipv6")), values, max_size=2)
        required = set(schema.get("required", known))
        return st.fixed_dictionaries(
            {name: shaped(value, name) for name, value in known.items() if name in required},
            optional={
                name: shaped(value, name) for name, value in known.items() if name not in required
            },
        )
    if kind == "array":
        return st.lists(shaped(schema["items"]), max_size=2)
    return {
        "string": FREE,
        "boolean": st.booleans(),
        "null": st.none(),
        "integer": st.integers(schema.get("minimum", -(1 << 63)), 1 << 63),
        "number": st.floats(schema.get("minimum", -1e10), 1e10),
    }[kind]


def statuses() -> st.SearchStrategy[Any]:
    return shaped(json.loads((DOCS / "status.schema.json").read_text()))


def fits(printed: list[str], width: int = 80) -> None:
    """Columns count, but a word is never broken: it may have to be pasted."""
    for line in printed:
        assert line.isprintable(), repr(line)
        if line.startswith("  $ "):  # a command, in one line to be pasted
            continue
        words = line.split()
        assert len(line) <= width or len(words) <= 2 or max(map(len, words)) > width // 2, line


@quick
@given(statuses(), st.floats(0, 1e10))
def test_any_status_is_printed(status: dict[str, Any], now: float) -> None:
    fits(status_lines(status, now=now))
    for uplink in status["uplinks"]:
        fits(uplink_lines(status, uplink, now, "2026-11-20 12:00:00"))


@quick
@given(statuses(), st.integers(0, 120), st.integers(0, 40), st.floats(0, 1e10))
def test_any_status_fits_any_screen(
    status: dict[str, Any], columns: int, height: int, now: float
) -> None:
    moved = {uplink["device"]: [Rates(1e6, None), Rates(0, 1e300)] for uplink in status["uplinks"]}
    drawn = screen_lines(View(status, moved, None, now=now), columns, height)
    assert len(drawn) <= height
    for line in drawn:
        whole = "".join(piece.text for piece in line)
        assert len(whole) <= columns
        assert whole.isprintable()


@quick
@given(statuses())
def test_any_status_has_metrics(status: dict[str, Any]) -> None:
    exposition = pytest.importorskip("mproutd.status.exporter").metrics_text(lambda: status)
    samples_of_status = samples(status)
    assert samples_of_status["mproutd_up"] == [((), 1.0)]
    assert exposition.count("\nmproutd_up 1.0\n") == 1
    for line in exposition.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line or line.startswith(("# ", "mproutd_"))


@quick
@given(st.lists(shaped(json.loads((DOCS / "connections.schema.json").read_text())), max_size=1))
def test_any_connections_are_printed(connections: list[dict[str, Any]]) -> None:
    for connection in connections:
        fits(connection_lines(connection["connections"]))


@quick
@given(st.sampled_from(sorted(EVENT_KINDS)), FREE, FREE, FREE)
def test_any_event_is_one_line(kind: str, words: str, uplink: str, device: str) -> None:
    event = make_event(kind, 0.0, words, uplink, device)
    assert event_line(event, "12:00:00").isprintable()
    json.dumps(event).encode("ascii")


@quick
@given(st.lists(st.fixed_dictionaries({"command": FREE, "error": st.none() | FREE}), max_size=3))
def test_any_change_is_one_line(changes: list[dict[str, Any]]) -> None:
    printed = change_lines(changes)
    assert len(printed) == len(changes)
    assert all(line.isprintable() for line in printed)


@quick
@given(FREE, st.integers(0, 100))
@example("\udcff\x9b31m", 3)
def test_text_from_outside_is_made_safe_and_short(words: str, width: int) -> None:
    assert safe(words).isprintable()
    safe(words).encode()
    assert len(truncate(safe(words), width)) <= max(width, 1)
    assert all(line.isprintable() for line in wrap(words, ""))


@pytest.mark.parametrize("words", NASTY, ids=range(len(NASTY)))
def test_the_log_has_one_line_for_any_text(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    log.event(log.ERROR, f"before {words} after", UPLINK=words, DEVICE=words)
    output = capfd.readouterr().err
    assert output.endswith("after\n")
    assert output[:-1].isprintable()
