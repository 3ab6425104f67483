"""Tells the service manager how the daemon stands: ready, reloading, stopping, alive.

The protocol of sd_notify(3): a datagram of KEY=value lines to the socket that NOTIFY_SOCKET
names.  It is made only where that is set.  libsystemd would do the same for 0.7 MB.

What must hold: READY comes when the first pass is done and the control socket answers; the
watchdog is fed by the turns of the loop and by nothing else, so that a loop that is stuck
goes hungry; nothing here waits, and what could not be said is said later, in order.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import time
from collections.abc import Mapping

from mproutd.configuration.config import Config
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext
from mproutd.status.changes import MAX_STATUS_LENGTH, status_line

AGAIN = 1.0
"""Seconds until what the manager's socket did not take is offered again."""


class SystemdNotifier(Service):
    """One service manager."""

    def __init__(self, context: ServiceContext, environment: Mapping[str, str]) -> None:
        """OSError when there are no sockets left."""
        self._clock = context.clock
        self._address = address(environment["NOTIFY_SOCKET"])
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._every = interval(environment, os.getpid())
        if self._every:
            # The watchdog ends us with SIGABRT: then every thread says where it was.
            faulthandler.enable()
        self._feed_at = self._clock()
        self._config = Config(enabled=False)
        self._refused = ""
        self._line = self._said = ""
        self._ready = False
        self._unsaid: list[str] = []
        self._again_at = 0.0

    def on_configuration(self, config: Config) -> None:
        self._config = config

    def on_pass(self, outcome: Outcome) -> None:
        self._line = status_line(self._config, outcome.plan.uplinks)
        if self._ready:
            self._say()

    def on_reload_start(self) -> None:
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def on_reload_end(self, refused: str) -> None:
        self._refused = refused
        self._say("READY=1")

    def due(self) -> float | None:
        if self._unsaid:
            return max(0.0, self._again_at - self._clock())
        if self._line and not self._ready:
            return 0.0
        return max(0.0, self._feed_at - self._clock()) if self._every else None

    def turn(self) -> None:
        if self._line and not self._ready:
            self._ready = True
            self._say("READY=1")
        if self._every and self._clock() >= self._feed_at:
            self._feed_at = self._clock() + self._every
            self._say("WATCHDOG=1")
        elif self._unsaid and self._clock() >= self._again_at:
            self._say()

    def close(self) -> None:
        self._say("STOPPING=1")
        self._socket.close()

    def _say(self, *lines: str) -> None:
        """These, and the status if it is another than the one that was said."""
        told = self._line
        if self._refused:
            told = f"configuration refused, the last good one is in use: {self._refused}; {told}"
        told = "".join(each if each.isprintable() else " " for each in told)[:MAX_STATUS_LENGTH]
        if told and told != self._said:
            self._said = told
            lines = (*lines, f"STATUS={told}")
        # Of what waits, the last word of each kind counts: a manager that is away fills nothing.
        kinds = [line.partition("=")[0] for line in lines]
        waiting = [line for line in self._unsaid if line.partition("=")[0] not in kinds]
        self._unsaid = [*waiting, *lines]
        if not self._unsaid:
            return
        try:
            self._socket.sendto("\n".join(self._unsaid).encode(), self._address)
        except OSError:
            self._again_at = self._clock() + AGAIN
        else:
            self._unsaid = []


def address(told: str) -> str | bytes:
    """What NOTIFY_SOCKET means: a path, or with an @ in front an abstract name (unix(7))."""
    return b"\0" + os.fsencode(told[1:]) if told.startswith("@") else told


def interval(environment: Mapping[str, str], pid: int) -> float:
    """Seconds from one feeding to the next, half of what is allowed; 0 without a watchdog.

    WATCHDOG_USEC is meant for the process WATCHDOG_PID, where that is set: sd_watchdog_enabled(3).
    """
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    allowed = environment.get("WATCHDOG_USEC", "")
    return int(allowed) / 2e6 if allowed.isdecimal() else 0.0
