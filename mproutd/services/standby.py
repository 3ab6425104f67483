"""Whether this gateway of a pair carries, as `mproutd standby on` and `off` command.

The state file keeps it (planning/state.py): it outlives the daemon, and not a reboot.
"""

from __future__ import annotations

from typing import Any

from mproutd import log
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext


class Standby(Service):
    """Keeps the last command until a pass has recorded it, and reports changes."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._commanded: bool | None = None
        self._recorded: bool | None = None
        """As the last pass had it."""

    def on_request(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if request.get("command") != "standby":
            return None
        wanted = request.get("standby")
        if not isinstance(wanted, bool):
            return {"error": "standby: true or false is missing"}
        self._commanded = wanted
        self._context.request_pass()
        return {"standby": wanted}

    def add_facts(self, facts: Facts) -> Facts:
        return facts if self._commanded is None else facts._replace(standby=self._commanded)

    def on_pass(self, outcome: Outcome) -> None:
        before, self._recorded = self._recorded, outcome.plan.state.standby
        if self._recorded == before or self._recorded is None:
            return
        if self._recorded:
            text = "standby: no endpoints, and no default route for other traffic"
        else:
            text = "active"
        self._context.publish("standby", log.INFO, text)
