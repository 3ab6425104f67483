"""Keeps resolv.conf in the runtime directory; made as soon as a resolver of an uplink is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd import log, resolv_conf
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext
from mproutd.status.problems import add_problems, problem

if TYPE_CHECKING:
    from mproutd.status.types import Status

RETRY_INTERVAL = 10.0
"""Seconds until the next attempt after a failure."""


class ResolvConf(Service):
    """Writes the file when the resolvers in use have changed."""

    persistent = True

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._enabled = True
        self._text = ""
        """What the file should hold; empty to leave it as it is."""
        self._planned: object = None
        self._error = ""
        self._retry: Timer | None = None

    def on_configuration(self, config: Config) -> None:
        self._enabled, self._planned = config.enabled, None

    def on_pass(self, outcome: Outcome) -> None:
        plan = outcome.plan
        modes = [uplink.config.mode for uplink in plan.uplinks]
        planned = (self._enabled, plan.resolvers, modes)
        if planned != self._planned:
            self._planned = planned
            self._text = resolv_conf.wanted_text(plan)
            self._write()

    def _write(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        try:
            if not self._enabled:
                resolv_conf.remove(self._context.runtime_dir)
            elif self._text and resolv_conf.write(self._context.runtime_dir, self._text):
                names = [line.split()[1] for line in self._text.splitlines() if line[0] == "n"]
                text = f"resolvers in use: {', '.join(names)}"
                self._context.publish("decision", log.INFO, text)
            self._error = ""
        except OSError as error:
            self._error = error.strerror or str(error)
            self._retry = self._context.loop.call_later(RETRY_INTERVAL, self._write)

    def add_to_status(self, status: Status) -> None:
        if self._error:
            error = f"{self._context.runtime_dir}/{resolv_conf.NAME}: {self._error}"
            add_problems(status, [problem("resolv-conf-error", error=error)])

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
