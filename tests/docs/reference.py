"""The parts of docs/ that are the code's own words: tables of fields, codes and kinds.

    python -m tests.docs.reference       writes them into docs/status.md, connections.md, …

Between `<!-- NAME -->` and `<!-- end -->` in a page stands what is written here; a test holds
the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES, side
from mproutd.planning.uplinks import REASONS
from mproutd.status.events import EVENT_KINDS
from mproutd.status.metrics import METRICS
from mproutd.status.problems import ADVICE, CONFLICT_ADVICE, PROBLEMS

DOCS = Path(__file__).parents[2] / "docs"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / f"{name}.schema.json").read_text())
    return loaded


def fields(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """A row for each field of a schema, however deep."""
    for name, each in node.get("properties", {}).items():
        kinds = each["type"] if isinstance(each["type"], list) else [each["type"]]
        words = " or ".join(kinds)
        yield f"| `{path}{name}` | {words} | {each['description']} |"
        yield from fields(each, f"{path}{name}.")
        if "items" in each:
            yield from fields(each["items"], f"{path}{name}[].")


def table(head: str, rows: Iterator[str] | list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *rows])


def _codes(texts: dict[str, str]) -> list[str]:
    return [
        f"| `{code}` | {re.sub('[{](.*?)(:.*?|!r)?[}]', lambda m: m[1].upper(), text)} "
        f"| {ADVICE[code]} |"
        for code, text in texts.items()
    ]


def parts() -> dict[str, dict[str, str]]:
    """Page → name of the part → what it says."""
    head = "| field | type | what |"
    codes = "| code | what it says | what to do |"
    return {
        "status.md": {
            "fields": table(head, fields(schema("status"))),
            "reasons": table(codes, _codes(REASONS)),
            "problems": table(codes, _codes(PROBLEMS)),
            "rivals": table(
                "| code | beside | what to do |",
                [
                    f"| `{code}` | {name} | {text} |"
                    for (code, name), text in CONFLICT_ADVICE.items()
                ],
            ),
        },
        "metrics.md": {
            "metrics": table(
                "| metric | type | labels | what |",
                [
                    f"| `{name}` | {kind} | {', '.join(labels)} | {text} |"
                    for name, (kind, text, labels) in METRICS.items()
                ],
            )
        },
        "connections.md": {"fields": table(head, fields(schema("connections")))},
        "test.md": {
            "verdicts": table(
                "| verdict | who | what it says | what to do |",
                [
                    f"| `{code}` | {side(code) or '-'} | {text} | {REMEDIES.get(code, '-')} |"
                    for code, text in EXPLANATIONS.items()
                ],
            ),
            "fields": table(head, fields(schema("test"))),
        },
        "monitor.md": {
            "kinds": table(
                "| kind | what |", [f"| `{k}` | {text} |" for k, text in EVENT_KINDS.items()]
            )
        },
    }


def filled(page: str, told: dict[str, str]) -> str:
    """A page with its parts as they should be."""
    for name, text in told.items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        assert found, f"no place for {name}"
        page = before + begin + text + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    for name, told in parts().items():
        (DOCS / name).write_text(filled((DOCS / name).read_text(), told))
