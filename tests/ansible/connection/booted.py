"""Ansible's connection to a machine of tests/booted: nsenter, as tests/booted/system.py does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: booted
short_description: a machine of tests/booted
description: Runs commands in its namespaces.
options:
  enter:
    description: the command line that runs another one in the machine, as JSON
    vars:
      - name: ansible_booted_enter
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    transport = "booted"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def close(self) -> None:
        self._connected = False

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = self._run("sh", "-c", cmd, data=in_data or b"")
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        file = Path(in_path)
        if not file.exists():
            raise AnsibleFileNotFound(f"{in_path}: no such file")
        self._copy("cat >$0", out_path, file.read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._copy("cat $0", in_path))

    def _copy(self, line: str, path: str, data: bytes = b"") -> bytes:
        done = self._run("sh", "-c", line, path, data=data)
        if done.returncode:
            raise AnsibleConnectionFailure(done.stderr.decode())
        return done.stdout

    def _run(self, *argv: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
        enter = self.get_option("enter")
        enter = json.loads(enter) if isinstance(enter, str) else enter
        return subprocess.run([*enter, *argv], input=data, capture_output=True)
