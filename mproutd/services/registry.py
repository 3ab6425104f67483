"""Which parts there are, which of them a configuration wants, and all of those in use as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from mproutd.configuration.config import Config
from mproutd.environment import find_program
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext

if TYPE_CHECKING:
    from mproutd.status.types import Status

Kind = tuple[str, Callable[[Config], bool], Callable[[ServiceContext], Service]]
"""Name, whether the configuration wants it (or the environment), and how it is made, which
imports it."""


def _asks(config: Config, *options: str) -> bool:
    """Whether any uplink sets one of these."""
    return any(getattr(uplink, option) for uplink in config.uplinks for option in options)


def _conntrack(context: ServiceContext) -> Service:
    from mproutd.services.conntrack import ConntrackFlusher

    return ConntrackFlusher(context)


def _actions(context: ServiceContext) -> Service:
    from mproutd.services.scripts import Scripts

    return Scripts(context)


def _health(context: ServiceContext) -> Service:
    from mproutd.services.health.checker import HealthChecker

    return HealthChecker(context)


def _notify(context: ServiceContext) -> Service:
    from mproutd.services.systemd import SystemdNotifier

    return SystemdNotifier(context, os.environ)


def _netifd(context: ServiceContext) -> Service:
    from mproutd.services.netifd import Netifd

    return Netifd(context)


SERVICES: tuple[Kind, ...] = (
    ("health", lambda config: config.enabled and _asks(config, "health"), _health),
    ("netifd", lambda config: bool(config.uplinks and find_program("ubus")), _netifd),
    ("notify", lambda config: "NOTIFY_SOCKET" in os.environ, _notify),
    ("conntrack", lambda config: _asks(config, "flush_conntrack"), _conntrack),
    ("actions", lambda config: _asks(config, "on_up", "on_down"), _actions),
)
"""In the order in which they are asked for facts."""


class Services:
    """The parts in use."""

    def __init__(self, context: ServiceContext, kinds: tuple[Kind, ...] = SERVICES) -> None:
        self._context, self._kinds = context, kinds
        self._used: dict[str, Service] = {}

    def on_configuration(self, config: Config) -> None:
        """Make what this configuration wants, close what it does not and does not stay."""
        for name, wanted, make in self._kinds:
            if wanted(config) and name not in self._used:
                self._used[name] = make(self._context)
            elif not wanted(config) and name in self._used and not self._used[name].persistent:
                self._used.pop(name).close()
        for service in self._used.values():
            service.on_configuration(config)

    def on_hint(self) -> None:
        for service in self._used.values():
            service.on_hint()

    def on_pass(self, outcomes: list[Outcome]) -> None:
        for service in self._used.values():
            for outcome in outcomes:
                service.on_pass(outcome)

    def on_reload_start(self) -> None:
        for service in self._used.values():
            service.on_reload_start()

    def on_reload_end(self, refused: str) -> None:
        for service in self._used.values():
            service.on_reload_end(refused)

    def add_facts(self, facts: Facts) -> Facts:
        for service in self._used.values():
            facts = service.add_facts(facts)
        return facts

    def add_to_status(self, status: Status) -> None:
        for service in self._used.values():
            service.add_to_status(status)

    def due(self) -> float | None:
        waits = [service.due() for service in self._used.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def turn(self) -> None:
        for service in self._used.values():
            service.turn()

    def close(self) -> None:
        for service in self._used.values():
            service.close()
        self._used = {}
