"""docs/ says what the program says: fields, codes, kinds, and a broken world for each code."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mproutd.planning.uplinks import REASONS
from mproutd.status.events import EVENT_KINDS
from mproutd.status.problems import ADVICE, PROBLEMS
from tests.docs.reference import DOCS, filled, parts, schema
from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows
from tests.lab.faulty_worlds import BROKEN, ELSEWHERE, codes, paragraph

jsonschema = pytest.importorskip("jsonschema")


@pytest.mark.parametrize("page", parts())
def test_the_pages_are_as_the_code_has_it(page: str) -> None:
    """Else: python -m tests.docs.reference"""
    text = (DOCS / page).read_text()
    assert filled(text, parts()[page]) == text


def test_every_code_has_its_advice_its_line_and_its_world() -> None:
    named = REASONS.keys() | PROBLEMS.keys()
    assert ADVICE.keys() == named
    assert BROKEN.keys() | ELSEWHERE.keys() == named
    assert not BROKEN.keys() & ELSEWHERE.keys()
    status, trouble = (DOCS / f"{name}.md" for name in ("status", "troubleshooting"))
    assert [code for code in named if f"| `{code}` |" not in status.read_text()] == []
    assert [code for code in BROKEN if f"\n`{code}`\n" not in trouble.read_text()] == []


def test_every_kind_of_line_is_on_its_page() -> None:
    text = (DOCS / "monitor.md").read_text()
    assert [kind for kind in EVENT_KINDS if f"| `{kind}` |" not in text] == []


def closed(node: Any) -> Any:
    """The schema with nothing allowed that it does not name; a problem's values are its own."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(each) for key, each in node.items()}
    named = node.get("properties", {})
    if named and ("code" not in named or "advice" not in named):
        node["additionalProperties"] = False
    return node


def check(name: str, told: Any) -> None:
    strict = closed(copy.deepcopy(schema(name)))
    jsonschema.Draft202012Validator.check_schema(strict)
    jsonschema.Draft202012Validator(strict).validate(told)


def test_the_schema_would_notice() -> None:
    strict = jsonschema.Draft202012Validator(closed(schema("connections")))
    assert strict.is_valid({"version": 1, "connections": []})
    assert not strict.is_valid({"version": 1, "connections": [], "more": 1})
    assert not strict.is_valid({"version": "1", "connections": []})


@pytest.mark.kernel
@pytest.mark.parametrize("code", BROKEN)
def test_the_broken_world_is_named_and_fits_the_schema(code: str) -> None:
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        BROKEN[code].make(wan, daemon)
        eventually(lambda: code in codes(daemon), what=f"{code} in the status")
        answer = daemon.call("status")
        assert "\x1b" not in answer.out
        assert max(map(len, answer.out.splitlines())) <= 80
        one = daemon.call("status", "wan2")
        assert max(map(len, one.out.splitlines())) <= 80
        if not paragraph(answer.out, daemon, code):
            assert REASONS[code] in " ".join(daemon.call("status", "wan2").out.split())
        elif "not usable" not in answer.out or code in PROBLEMS:
            assert answer.code == 1
        check("status", daemon.status())
        daemon.stop()
        if daemon.call("status").code != 2:  # refused, where no good configuration is in use
            check("status", daemon.status())


@pytest.mark.kernel
def test_connections_fit_their_schema() -> None:
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        with Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
            told = json.loads(daemon.call("connections", "--json").out)
        assert told["connections"]
        check("connections", told)
        check("status", daemon.status())


@pytest.mark.kernel
def test_a_line_for_each_screen() -> None:
    """The screens are of this version: they have what a status of now begins with."""
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        heading = daemon.call("status").out.split()[:7]
    printed = (DOCS / "screens" / "status.md").read_text()
    assert " ".join(heading) in " ".join(printed.split())
