"""Argument specifications of the Ansible roles: options from the option table, tables for READMEs.

In the specification of the role mproutd they stand between `# NAME` and `# end`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mproutd.configuration.options import (
    GLOBALS,
    INTERFACE,
    MEMBER,
    POLICY,
    RULE,
    UPLINK,
    OptionSpec,
)

ROLES = Path(__file__).parents[2] / "packaging/ansible/roles"
SPECS = ROLES / "mproutd/meta/argument_specs.yml"
READMES = {role: ROLES / role / "README.md" for role in ("mproutd", "mproutd_far_end")}
OPENWRT_ONLY = ("ifname", "proto")
"""Options of `network` that a role for Debian does not need."""
SECTIONS: Mapping[str, Mapping[str, OptionSpec]] = {
    "globals": GLOBALS,
    "uplink": {
        name: spec for name, spec in {**INTERFACE, **UPLINK}.items() if name not in OPENWRT_ONLY
    },
    "member": MEMBER,
    "policy": POLICY,
    "rule": RULE,
}
"""Mark in the specification → its options.  All are strings: `mproutd check` knows the values."""


def entry(name: str, spec: OptionSpec) -> str:
    kind = "{type: list, elements: str" if spec.is_list else "{type: str"
    default = "" if spec.default is None else f", default: {json.dumps(spec.default)}"
    summary = json.dumps(spec.summary, ensure_ascii=False)
    return f"{name}: {kind}{default}, description: {summary}}}\n"


def filled(text: str) -> str:
    """The specification as it should be."""
    for section, options in SECTIONS.items():
        entries = [entry(name, spec) for name, spec in options.items()]
        if section != "globals":
            entries.insert(0, "name: {type: str, required: true, description: its name}\n")
        block = re.compile(rf"^( +)# {section}\n.*?\1# end\n", re.MULTILINE | re.DOTALL)
        found = block.search(text)
        assert found, f"no place for {section} in {SPECS.name}"
        margin = found[1]
        lines = "".join(margin + line for line in (f"# {section}\n", *entries, "# end\n"))
        text = text[: found.start()] + lines + text[found.end() :]
    return text


def variables(role: str) -> dict[str, str]:
    """The tables of a role's README, by their places."""
    text = (ROLES / role / "meta/argument_specs.yml").read_text()
    options = yaml.safe_load(text)["argument_specs"]["main"]["options"]
    tables = {"variables": _table(options)}
    if role == "mproutd_far_end":
        tables["clients"] = _table(options["mproutd_far_end_clients"]["options"])
    return tables


def _table(options: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| name | type | default | |", "| --- | --- | --- | --- |"]
    for name, spec in options.items():
        kind = spec["type"] + (f" of {spec['elements']}" if "elements" in spec else "")
        default = f"`{json.dumps(spec['default'])}`" if "default" in spec else ""
        default = "required" if spec.get("required") else default
        given = spec["description"]
        description = " ".join([given] if isinstance(given, str) else given)
        description = re.sub(r"\b[CMOV]\((.*?)\)", r"`\1`", description)
        lines.append(f"| `{name}` | {kind} | {default} | {description} |")
    return "\n".join(lines)
