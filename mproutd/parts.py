"""What runs beside the passes in the daemon's one loop, and only where it is asked for.

A part hears what passes saw, says what the kernel cannot (Facts), and adds to the status.  It
is imported when the configuration wants it, so that a router pays for nothing else.  What must
hold: a part never waits, and none knows of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from mproutd.configuration.config import Config
from mproutd.loop import Loop
from mproutd.planning.paths import Facts
from mproutd.programs import found
from mproutd.reconcile import Outcome


class Tell(Protocol):
    """Say something to the log and to whoever listens (Monitor.tell)."""

    def __call__(
        self,
        kind: str,
        priority: int,
        text: str,
        uplink: str = "",
        device: str = "",
        operation: str = "",
    ) -> None: ...


class Host(NamedTuple):
    """What a part may ask of the daemon that it is in."""

    loop: Loop
    """Where it waits for its descriptors."""
    again: Callable[[], None]
    """Ask for a pass: the facts have changed."""
    tell: Tell
    clock: Callable[[], float]
    """Seconds; only differences count."""
    runtime: str
    """The runtime directory."""


class Part:
    """One part.  All methods may be left as they are; each says when it is called."""

    def configured(self, config: Config) -> None:
        """A configuration is in use, at the start and whenever it was read again."""

    def woken(self) -> None:
        """A hook has something to say."""

    def passed(self, outcome: Outcome) -> None:
        """A pass is done."""

    def reloading(self) -> None:
        """The configuration is about to be read again."""

    def reloaded(self, refused: str) -> None:
        """It was, and its passes are done; or why it is refused, so that the old one stays."""

    def facts(self, facts: Facts) -> Facts:
        """What other sources know, with what this one adds.  Quick: every pass asks."""
        return facts

    def told(self, status: dict[str, Any]) -> None:
        """Add to a status before it goes out."""

    def due(self) -> float | None:
        """Seconds until turn() has something to do; None for never."""
        return None

    def turn(self) -> None:
        """Do what time has brought; called after every wait."""

    def close(self) -> None:
        """The daemon ends, or nobody asks for this part any more."""


Kind = tuple[str, Callable[[Config], bool], Callable[[Host], Part]]
"""Name, whether the configuration wants it (or the environment), and how it is made, which
imports it."""


def _asks(config: Config, *options: str) -> bool:
    """Whether any uplink sets one of these."""
    return any(getattr(uplink, option) for uplink in config.uplinks for option in options)


def _conntrack(host: Host) -> Part:
    from mproutd.forwarded import Forwarded

    return Forwarded(host)


def _actions(host: Host) -> Part:
    from mproutd.actions import Actions

    return Actions(host)


def _health(host: Host) -> Part:
    from mproutd.health.checks import Checks

    return Checks(host)


def _notify(host: Host) -> Part:
    from mproutd.notify import Notify

    return Notify(host, os.environ)


def _netifd(host: Host) -> Part:
    from mproutd.ubus import Netifd

    return Netifd(host)


KINDS: tuple[Kind, ...] = (
    ("health", lambda config: config.enabled and _asks(config, "health"), _health),
    ("netifd", lambda config: bool(config.uplinks and found("ubus")), _netifd),
    ("notify", lambda config: "NOTIFY_SOCKET" in os.environ, _notify),
    ("conntrack", lambda config: _asks(config, "flush_conntrack"), _conntrack),
    ("actions", lambda config: _asks(config, "on_up", "on_down"), _actions),
)
"""In the order in which they are asked for facts."""


class Parts:
    """The parts in use."""

    def __init__(self, host: Host, kinds: tuple[Kind, ...] = KINDS) -> None:
        self._host, self._kinds = host, kinds
        self._used: dict[str, Part] = {}

    def configured(self, config: Config) -> None:
        """Make what this configuration wants, close what it does not."""
        for name, wanted, make in self._kinds:
            if wanted(config) and name not in self._used:
                self._used[name] = make(self._host)
            elif not wanted(config) and name in self._used:
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
