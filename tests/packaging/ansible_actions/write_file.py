"""Writes a file on this machine, in Ansible's own process: its modules take half a second each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Arguments: `dest`, and `content`, without which it makes a folder."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        result = super().run(tmp, task_vars)
        dest = Path(self._task.args["dest"])
        if "content" in self._task.args:
            dest.write_text(self._task.args["content"])
        else:
            dest.mkdir(parents=True, exist_ok=True)
        return result
