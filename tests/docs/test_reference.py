"""docs/ agrees with the program: schemas, fields, codes, kinds, and a world for each code."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Collection
from typing import Any, get_args

import pytest

from mproutd.configuration.options import METHODS, MODES
from mproutd.planning.uplinks import REASONS
from mproutd.status import event_types, types
from mproutd.status.events import EVENT_KINDS
from mproutd.status.metrics import ENDPOINT_STATES
from mproutd.status.problems import ADVICE, PROBLEMS
from mproutd.status.render_health import FAMILIES
from tests.docs import argument_specs
from tests.docs.reference import DOCS, TYPES, generated_schema, schema, tables
from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows
from tests.lab.faulty_worlds import BROKEN, ELSEWHERE, codes, paragraph
from tests.lab.marked import filled

jsonschema = pytest.importorskip("jsonschema")


@pytest.mark.parametrize("page", tables())
def test_the_tables_are_up_to_date(page: str) -> None:
    """If not: python -m tests.docs.reference"""
    text = (DOCS / page).read_text()
    assert filled(text, tables()[page]) == text


@pytest.mark.parametrize("name", TYPES)
def test_the_schemas_are_up_to_date(name: str) -> None:
    """If not: python -m tests.docs.reference"""
    assert (DOCS / f"{name}.schema.json").read_text() == generated_schema(name)


def test_the_options_of_the_ansible_role_are_up_to_date() -> None:
    """If not: python -m tests.docs.reference"""
    text = argument_specs.SPECS.read_text()
    assert argument_specs.filled(text) == text


@pytest.mark.parametrize("role", argument_specs.READMES)
def test_the_variables_of_the_ansible_roles_are_up_to_date(role: str) -> None:
    """If not: python -m tests.docs.reference"""
    text = argument_specs.READMES[role].read_text()
    assert filled(text, argument_specs.variables(role)) == text


@pytest.mark.parametrize(
    ("literal", "values"),
    [
        (types.Reason, REASONS),
        (event_types.EventKind, EVENT_KINDS),
        (types.EndpointState, ENDPOINT_STATES),
        (types.Mode, MODES),
        (types.Method, METHODS),
        (types.Family, FAMILIES),
    ],
)
def test_the_types_name_what_the_program_knows(literal: Any, values: Collection[str]) -> None:
    assert set(get_args(literal)) == set(values)


def test_every_code_has_its_advice_its_row_and_its_world() -> None:
    named = REASONS.keys() | PROBLEMS.keys()
    assert ADVICE.keys() == named
    assert BROKEN.keys() | ELSEWHERE.keys() == named
    assert not BROKEN.keys() & ELSEWHERE.keys()
    status, trouble = (DOCS / f"{name}.md" for name in ("status", "troubleshooting"))
    assert [code for code in named if f"| `{code}` |" not in status.read_text()] == []
    assert [code for code in BROKEN if f"\n`{code}`\n" not in trouble.read_text()] == []


def test_every_kind_of_line_is_documented() -> None:
    text = (DOCS / "monitor.md").read_text()
    assert [kind for kind in EVENT_KINDS if f"| `{kind}` |" not in text] == []


def closed(node: Any) -> Any:
    """The schema with nothing allowed that it does not name; a problem's values are its own."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(item) for key, item in node.items()}
    properties = node.get("properties", {})
    if properties and ("code" not in properties or "advice" not in properties):
        node["additionalProperties"] = False
    return node


def check(name: str, printed: Any) -> None:
    strict = closed(copy.deepcopy(schema(name)))
    jsonschema.Draft202012Validator.check_schema(strict)
    jsonschema.Draft202012Validator(strict).validate(printed)


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
        result = daemon.call("status")
        assert "\x1b" not in result.out
        assert max(map(len, result.out.splitlines())) <= 80
        one = daemon.call("status", "wan2")
        assert max(map(len, one.out.splitlines())) <= 80
        if not paragraph(result.out, daemon, code):
            assert REASONS[code] in " ".join(daemon.call("status", "wan2").out.split())
        elif code in PROBLEMS:
            assert result.code == 1
        check("status", daemon.status())
        daemon.stop()
        if daemon.call("status").code != 2:  # refused, where no good configuration is in use
            check("status", daemon.status())


@pytest.mark.kernel
def test_connections_fit_their_schema() -> None:
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        with Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
            printed = json.loads(daemon.call("connections", "--json").out)
        assert printed["connections"]
        check("connections", printed)
        check("status", daemon.status())


@pytest.mark.kernel
def test_reconcile_and_the_monitor_fit_their_schemas() -> None:
    """The monitor with lines of each source: daemon, services and kernel."""
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        run = "config uplink 'wan2'\n\toption on_down '/bin/false'\n\toption gateway '10.2.2.1'\n"
        daemon.configure(own=run)
        daemon.reconcile()
        monitor = wan.gateway.popen(
            *daemon.command("monitor", "--json"), stdout=subprocess.PIPE, text=True
        )
        assert monitor.stdout is not None
        lines = [monitor.stdout.readline()]
        with Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
            wan.unplug(2)
            eventually(lambda: (daemon.uplink("wan2")["action"] or {}).get("exit_status") == 1)
        check("status", daemon.status())
        wan.gateway.ip("rule delete priority 7501")
        daemon.configure(own="config mproutd 'globals'\n\toption mark_mask 'x'\n")
        assert daemon.call("reconcile", "--json").code == 2
        daemon.configure(own=run)
        check("reconcile", json.loads(daemon.call("reconcile", "--dry-run", "--json").out))
        check("reconcile", json.loads(daemon.call("reconcile", "--json").out))
        daemon.stop()
        lines += monitor.communicate(timeout=10)[0].splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        check("monitor", event)
    kinds = {event["kind"] for event in events}
    assert kinds >= {"begin", "decision", "change", "configuration", "action", "connection"}
    assert kinds >= {"subflow", "end"}


@pytest.mark.kernel
def test_the_screens_are_of_this_version() -> None:
    """They begin as a status does now."""
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        heading = daemon.call("status").out.split()[:7]
    printed = (DOCS / "screens" / "status.md").read_text()
    assert " ".join(heading) in " ".join(printed.split())
