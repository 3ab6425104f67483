"""What the templates of the Ansible roles write, without a machine.

ansible-playbook runs copies of the roles that have only the tasks that write files, and every host
has a folder of its own.  Ansible validates the variables by the argument specifications first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

COLLECTION = Path(__file__).parents[2] / "packaging/ansible"
ROLES = COLLECTION / "roles"
WRITERS = {
    "mproutd": ("main.yml", "configure.yml"),
    "mproutd_far_end": ("main.yml", "files.yml"),
}
"""Role → its files of tasks that write files."""
DEBIAN = (
    *("etc/modules-load.d", "etc/shadowsocks-libev", "etc/sysctl.d", "etc/systemd/system"),
    "etc/wireguard",
)
"""Folders that exist once the packages are installed."""
TEMPLATE, FILE = "ansible.builtin.template", "ansible.builtin.file"
CONTENT = "{{{{ lookup('ansible.builtin.template', '{}') }}}}"
KEPT = ("name", "loop", "loop_control", "when", "register")
TIMEOUT = 100


class Case(NamedTuple):
    """A host, and what a play does there."""

    host: str
    role: str
    variables: Mapping[str, Any]
    play: Mapping[str, Any] = {}
    """A playbook's own, if it has more than the role."""


def ansible_playbook(folder: Path, *arguments: object) -> str:
    """What ansible-playbook prints, with no settings of this user; it writes below `folder`."""
    configuration = folder / "ansible.cfg"
    configuration.touch()
    settings = {
        "ANSIBLE_ACTION_PLUGINS": str(Path(__file__).parent / "ansible_actions"),
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    given = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE")}
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *map(str, arguments)],
        cwd=folder,
        env=given | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    ).stdout


class Rendered:
    """The files of every host."""

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        self._folder = folder
        hosts = {case.host: self._host(case) for case in cases}
        plays: list[dict[str, Any]] = []
        for role in WRITERS:
            self._writer(role)
            mine = ":".join(case.host for case in cases if case.role == role and not case.play)
            if mine:
                plays.append({"hosts": mine, "gather_facts": False, "roles": [role]})
        for case in cases:  # last, since a play that fails on all its hosts ends the run
            if case.play:
                plays.append({**case.play, "hosts": case.host, "gather_facts": False})
        inventory, playbook = folder / "inventory.json", folder / "playbook.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        playbook.write_text(json.dumps(plays))
        self._output = ansible_playbook(
            folder, "--inventory", inventory, "--forks", os.cpu_count(), playbook
        )

    def _host(self, case: Case) -> dict[str, Any]:
        root = self._folder / "hosts" / case.host
        for path in DEBIAN:
            (root / path).mkdir(parents=True)
        return {
            **case.variables,
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "root": str(root),
        }

    def _writer(self, role: str) -> None:
        copy = self._folder / "roles" / role
        shutil.copytree(ROLES / role, copy, ignore=shutil.ignore_patterns("handlers"))
        files = [copy / "tasks" / name for name in WRITERS[role]]
        tasks = [task for file in files for task in _writing(yaml.safe_load(file.read_text()))]
        (copy / "tasks/main.yml").write_text(json.dumps(tasks))

    def files(self, host: str) -> dict[str, str]:
        """Path → content."""
        error = self.error(host)
        assert not error, error
        root = self._folder / "hosts" / host
        return {
            f"/{path.relative_to(root)}": path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def error(self, host: str) -> str:
        """What Ansible refused; empty if it wrote the files."""
        if re.search(rf"^{re.escape(host)} +: ok=.* failed=0 ", self._output, re.MULTILINE):
            return ""
        failed = rf"^(?:fatal|failed): \[{re.escape(host)}\].*"
        return "\n".join(re.findall(failed, self._output, re.MULTILINE)) or self._output


def _writing(tasks: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of these tasks, and of blocks among them, those that write files and make folders."""
    for task in tasks:
        yield from _writing(task.get("block", ()))
        if TEMPLATE in task:
            given = task[TEMPLATE]
            source = re.sub(r"{{ (.*) }}", r"' ~ \1 ~ '", given["src"])
            written = {"dest": given["dest"], "content": CONTENT.format(source)}
        elif task.get(FILE, {}).get("state") == "directory":
            written = {"dest": task[FILE]["path"]}
        else:
            continue
        kept = {name: task[name] for name in KEPT if name in task}
        yield kept | {"write_file": written | {"dest": "{{ root }}" + written["dest"]}}


def examples(page: Path) -> list[str]:
    """The playbooks on a page: fenced blocks of YAML, and indented ones."""
    text = page.read_text()
    fenced = re.findall(r"^```yaml\n(- hosts:.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    - hosts:.*\n(?:    .*\n|\n(?=    ))*", text, re.MULTILINE)
    return fenced + [re.sub("(?m)^    ", "", block) for block in indented]
