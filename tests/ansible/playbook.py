"""Runs a role of packaging/ansible against a machine of tests/booted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.booted import Booted
from tests.booted.system import REPOSITORY

ROLES = REPOSITORY / "packaging/ansible/roles"
RESULT = re.compile(r"^(ok|changed|failed|fatal|skipping): \[machine\]", re.MULTILINE)
TIMEOUT = 300


class Run(NamedTuple):
    """What ansible-playbook did."""

    status: int
    output: str

    @property
    def changed(self) -> list[str]:
        """The tasks and handlers that changed something, with the item if they have several."""
        changed = []
        for block in re.split(r"^(?=TASK|RUNNING HANDLER|PLAY)", self.output, flags=re.MULTILINE):
            name = re.match(r"(?:TASK|RUNNING HANDLER) \[\w+ : (.*?)\] \*", block)
            for item in re.findall(r"^changed: \[machine\](.*)$", block, re.MULTILINE):
                label = re.search(r"\(item=(.*?)\)", item)
                assert name is not None, block
                changed.append(name[1] + (f" {label[1]}" if label else ""))
        return changed


def play(folder: Path, machine: Booted, role: str, variables: dict[str, Any], *flags: str) -> Run:
    """Run the role; `folder` keeps what Ansible writes on the controller."""
    playbook, inventory = folder / "playbook.json", folder / "inventory.json"
    playbook.write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "vars": variables, "roles": [role]}])
    )
    host = {
        "ansible_connection": "booted",
        "ansible_booted_enter": machine.command(),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory.write_text(json.dumps({"all": {"hosts": {"machine": host}}}))
    settings = {
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_ROLES_PATH": str(ROLES),
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connection"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(inventory)),
            *(*flags, str(playbook)),
        ],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE")}, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return Run(done.returncode, done.stdout)
