"""systemd-resolved does not wait for the resolvers of an uplink that is dead with a carrier.

planning/resolved.py decides.  A thread calls systemd-resolved when the uplinks that are concerned
have changed, and again after a failure.

Invariant: nothing is called while all is well and nothing is on record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer, Worker
from mproutd.planning.plan import Outcome
from mproutd.planning.resolved import Change, Links, plan_links
from mproutd.services.base import Service, ServiceContext
from mproutd.services.resolved_bus import (
    Bus,
    RecordFile,
    Result,
    SystemBus,
    apply,
    command,
    error_text,
)
from mproutd.status.problems import add_problems, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mproutd.status.types import Status

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until the next attempt after a failure; doubled each time."""


class ResolvedLinks(Service):
    """Keeps `default-route` of the uplinks' links as the uplinks are."""

    persistent = True

    def __init__(self, context: ServiceContext, connect: Callable[[], Bus] = SystemBus) -> None:
        self._context, self._connect = context, connect
        self._file = RecordFile(context.runtime_dir)
        self._worker = Worker(context.loop)
        self._enabled = True
        self._links: Links | None = None
        """None before the first pass."""
        self._pending = False
        """Whether the links have changed since the call that is under way."""
        self._busy = False
        self._failed: Mapping[Change, str] = {}
        self._failures = 0
        self._retry: Timer | None = None

    def on_configuration(self, config: Config) -> None:
        self._enabled = config.enabled

    def on_pass(self, outcome: Outcome) -> None:
        links = plan_links(outcome.plan.uplinks, self._enabled)
        if links != self._links:
            self._links = links
            self._start()

    def _start(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        links = self._links or Links()
        self._pending = self._busy
        if self._busy:
            return
        if not links.silent and not self._file.record:
            self._failed, self._failures = {}, 0
            return
        self._busy = True
        self._worker.submit(
            lambda: self._apply(links), lambda result, error: self._on_applied(result)
        )

    def _apply(self, links: Links) -> Result:
        """In the thread, which alone uses the record meanwhile."""
        try:
            bus = self._connect()
            try:
                return apply(links, self._file, bus)
            finally:
                bus.close()
        except (OSError, ValueError) as error:
            wanted = [Change(index, name, False) for index, name in links.silent.items()]
            wanted += [
                Change(index, name, True)
                for index, name in self._file.record.items()
                if index not in links.silent
            ]
            return Result((), dict.fromkeys(wanted, error_text(error)))

    def _on_applied(self, result: Result) -> None:
        self._busy = False
        for change in result.done:
            text = f"systemd-resolved: {command(change.device, change.default_route)}"
            self._context.publish("decision", log.INFO, text, device=change.device)
        for change, error in result.failed.items():
            if self._failed.get(change) != error:
                done = command(change.device, change.default_route)
                text = f"systemd-resolved: {done}: {error}"
                self._context.publish("decision", log.WARNING, text, device=change.device)
        self._failed = result.failed
        if self._pending:
            self._start()
        elif result.failed:
            delay = min(INITIAL_BACKOFF * 2 ** min(self._failures, 10), MAX_BACKOFF)
            self._failures += 1
            self._retry = self._context.loop.call_later(delay, self._start)
        else:
            self._failures = 0

    def add_to_status(self, status: Status) -> None:
        problems = [
            problem(
                "resolved-unchanged",
                device=change.device,
                value="yes" if change.default_route else "no",
                error=error,
                command=command(change.device, change.default_route),
            )
            for change, error in self._failed.items()
        ]
        add_problems(status, problems)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._worker.close()
