"""Which parts there are, which of them a configuration wants, and all of those in use as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mproutd.configuration.config import Config
from mproutd.environment import found
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Host, Service

Kind = tuple[str, Callable[[Config], bool], Callable[[Host], Service]]
"""Name, whether the configuration wants it (or the environment), and how it is made, which
imports it."""


def _asks(config: Config, *options: str) -> bool:
    """Whether any uplink sets one of these."""
    return any(getattr(uplink, option) for uplink in config.uplinks for option in options)


def _conntrack(host: Host) -> Service:
    from mproutd.services.conntrack import ConntrackFlusher

    return ConntrackFlusher(host)


def _actions(host: Host) -> Service:
    from mproutd.services.scripts import Scripts

    return Scripts(host)


def _health(host: Host) -> Service:
    from mproutd.services.health.checker import HealthChecker

    return HealthChecker(host)


def _notify(host: Host) -> Service:
    from mproutd.services.systemd import SystemdNotifier

    return SystemdNotifier(host, os.environ)


def _netifd(host: Host) -> Service:
    from mproutd.services.netifd import Netifd

    return Netifd(host)


SERVICES: tuple[Kind, ...] = (
    ("health", lambda config: config.enabled and _asks(config, "health"), _health),
    ("netifd", lambda config: bool(config.uplinks and found("ubus")), _netifd),
    ("notify", lambda config: "NOTIFY_SOCKET" in os.environ, _notify),
    ("conntrack", lambda config: _asks(config, "flush_conntrack"), _conntrack),
    ("actions", lambda config: _asks(config, "on_up", "on_down"), _actions),
)
"""In the order in which they are asked for facts."""


class Services:
    """The parts in use."""

    def __init__(self, host: Host, kinds: tuple[Kind, ...] = SERVICES) -> None:
        self._host, self._kinds = host, kinds
        self._used: dict[str, Service] = {}

    def configured(self, config: Config) -> None:
        """Make what this configuration wants, close what it does not and does not stay."""
        for name, wanted, make in self._kinds:
            if wanted(config) and name not in self._used:
                self._used[name] = make(self._host)
            elif not wanted(config) and name in self._used and not self._used[name].stays:
                self._used.pop(name).close()
        for part in self._used.values():
            part.configured(config)

    def woken(self) -> None:
        for part in self._used.values():
            part.woken()

    def passed(self, outcomes: list[Outcome]) -> None:
        for part in self._used.values():
            for outcome in outcomes:
                part.passed(outcome)

    def reloading(self) -> None:
        for part in self._used.values():
            part.reloading()

    def reloaded(self, refused: str) -> None:
        for part in self._used.values():
            part.reloaded(refused)

    def facts(self, facts: Facts) -> Facts:
        for part in self._used.values():
            facts = part.facts(facts)
        return facts

    def told(self, status: dict[str, Any]) -> None:
        for part in self._used.values():
            part.told(status)

    def due(self) -> float | None:
        waits = [part.due() for part in self._used.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def turn(self) -> None:
        for part in self._used.values():
            part.turn()

    def close(self) -> None:
        for part in self._used.values():
            part.close()
        self._used = {}
