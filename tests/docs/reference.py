"""Generates the JSON schemas and the tables in docs/ from the code.

    python -m tests.docs.reference       writes docs/*.schema.json, docs/status.md, …
                                         and the argument specification of the Ansible role

A table stands between `<!-- NAME -->` and `<!-- end -->` in its page; a test compares both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mproutd.explain.types import Explanation
from mproutd.pathtest.types import PathTestResult
from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES, side
from mproutd.planning.uplinks import REASONS
from mproutd.status.change_types import Reconciliation
from mproutd.status.conflicts import CONFLICT_ADVICE
from mproutd.status.connection_types import ConnectionGroups, ConnectionList
from mproutd.status.event_types import MonitorEvent
from mproutd.status.events import EVENT_KINDS
from mproutd.status.metrics import METRICS
from mproutd.status.problems import ADVICE, PROBLEMS
from mproutd.status.types import Status
from tests.docs import argument_specs
from tests.docs.schema import document
from tests.lab.marked import filled

DOCS = Path(__file__).parents[2] / "docs"

TYPES = {
    "status": Status,
    "reconcile": Reconciliation,
    "connections": ConnectionList,
    "connection-groups": ConnectionGroups,
    "monitor": MonitorEvent,
    "test": PathTestResult,
    "explain": Explanation,
}
"""Name of a schema in docs/ → the type that it is generated from."""


def schema(name: str) -> dict[str, Any]:
    """A schema in docs/."""
    loaded: dict[str, Any] = json.loads((DOCS / f"{name}.schema.json").read_text())
    return loaded


def generated_schema(name: str) -> str:
    """The content of a schema in docs/ as it should be."""
    return json.dumps(document(TYPES[name], name), indent=2, ensure_ascii=False) + "\n"


def fields(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """A row for each field of a schema, however deep."""
    for name, field in node.get("properties", {}).items():
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        yield f"| `{path}{name}` | {' or '.join(kinds)} | {field['description']} |"
        yield from fields(field, f"{path}{name}.")
        if "items" in field:
            yield from fields(field["items"], f"{path}{name}[].")


def table(head: str, rows: Iterator[str] | list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *rows])


def _code_rows(texts: dict[str, str]) -> list[str]:
    return [
        f"| `{code}` | {re.sub('[{](.*?)(:.*?|!r)?[}]', lambda m: m[1].upper(), text)} "
        f"| {ADVICE[code]} |"
        for code, text in texts.items()
    ]


def _field_table(name: str) -> str:
    return table("| field | type | meaning |", fields(document(TYPES[name], name)))


def tables() -> dict[str, dict[str, str]]:
    """Page → name of a table → its text."""
    codes = "| code | text | advice |"
    return {
        "status.md": {
            "fields": _field_table("status"),
            "reconcile": _field_table("reconcile"),
            "reasons": table(codes, _code_rows(REASONS)),
            "problems": table(codes, _code_rows(PROBLEMS)),
            "conflicts": table(
                "| code | daemon | advice |",
                [
                    f"| `{code}` | {daemon} | {text} |"
                    for (code, daemon), text in CONFLICT_ADVICE.items()
                ],
            ),
        },
        "metrics.md": {
            "metrics": table(
                "| metric | type | labels | meaning |",
                [
                    f"| `{name}` | {kind} | {', '.join(labels)} | {text} |"
                    for name, (kind, text, labels) in METRICS.items()
                ],
            )
        },
        "connections.md": {
            "fields": _field_table("connections"),
            "groups": _field_table("connection-groups"),
        },
        "explain.md": {"fields": _field_table("explain")},
        "test.md": {
            "verdicts": table(
                "| verdict | who | what it says | what to do |",
                [
                    f"| `{code}` | {side(code) or '-'} | {text} | {REMEDIES.get(code, '-')} |"
                    for code, text in EXPLANATIONS.items()
                ],
            ),
            "fields": _field_table("test"),
        },
        "monitor.md": {
            "fields": _field_table("monitor"),
            "kinds": table(
                "| kind | event |", [f"| `{kind}` | {text} |" for kind, text in EVENT_KINDS.items()]
            ),
        },
    }


def main() -> None:
    for name in TYPES:
        (DOCS / f"{name}.schema.json").write_text(generated_schema(name))
    for page, texts in tables().items():
        (DOCS / page).write_text(filled((DOCS / page).read_text(), texts))
    specs = argument_specs.SPECS
    specs.write_text(argument_specs.filled(specs.read_text()))
    for role, readme in argument_specs.READMES.items():
        readme.write_text(filled(readme.read_text(), argument_specs.variables(role)))


if __name__ == "__main__":
    main()
