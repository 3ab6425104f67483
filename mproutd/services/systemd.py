"""Reports the daemon's state to the service manager: ready, reloading, stopping, alive.

The protocol of sd_notify(3): a datagram of KEY=value lines to the socket in NOTIFY_SOCKET.
Made only where that is set.  Not by libsystemd's sd_notify(): that blocks while the manager's
queue is full (with the interpreter's lock held, so a thread would not help), and the loop must
not wait for a manager that hangs.

Invariants: READY=1 follows the first pass and the start of the control socket; WATCHDOG=1 comes
from a timer of the loop and nothing else, so that a loop that hangs stops sending it; nothing
blocks, and what could not be sent is sent later, in order.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import time
from collections.abc import Mapping

from mproutd.configuration.config import Config
from mproutd.eventloop import Timer
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext
from mproutd.status.changes import MAX_STATUS_LENGTH, status_line

RESEND_INTERVAL = 1.0
"""Seconds until what the manager's socket did not take is sent again."""


class SystemdNotifier(Service):
    """The connection to one service manager."""

    def __init__(self, context: ServiceContext, environment: Mapping[str, str]) -> None:
        """OSError when no socket can be made."""
        self._loop = context.loop
        self._address = socket_address(environment["NOTIFY_SOCKET"])
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._watchdog_interval = watchdog_interval(environment, os.getpid())
        if self._watchdog_interval:
            # The watchdog ends the daemon with SIGABRT: print where every thread is.
            faulthandler.enable()
        self._config = Config(enabled=False)
        self._config_error = ""
        self._status = self._sent_status = ""
        self._ready = False
        self._unsent: list[str] = []
        self._resend: Timer | None = None

    def on_configuration(self, config: Config) -> None:
        self._config = config

    def on_pass(self, outcome: Outcome) -> None:
        first, self._status = not self._status, status_line(self._config, outcome.plan.uplinks)
        if self._ready:
            self._send()
        elif first:
            self._loop.call_later(0.0, self._send_ready)  # the control socket is made before that

    def on_reload_start(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def on_reload_end(self, error: str) -> None:
        self._config_error = error
        self._send("READY=1")

    def close(self) -> None:
        self._send("STOPPING=1")
        self._socket.close()

    def _send_ready(self) -> None:
        self._ready = True
        self._send("READY=1")
        if self._watchdog_interval:  # the manager counts from READY=1
            self._send_watchdog()

    def _send_watchdog(self) -> None:
        self._loop.call_later(self._watchdog_interval, self._send_watchdog)
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        """Send these lines, and the status if it has changed."""
        status = self._status
        if self._config_error:
            status = (
                f"configuration rejected, using the last good one: {self._config_error}; {status}"
            )
        status = "".join(char if char.isprintable() else " " for char in status)[:MAX_STATUS_LENGTH]
        if status and status != self._sent_status:
            self._sent_status = status
            lines = (*lines, f"STATUS={status}")
        # Only the last line of each key counts: a manager that does not read costs no memory.
        keys = [line.partition("=")[0] for line in lines]
        earlier = [line for line in self._unsent if line.partition("=")[0] not in keys]
        self._unsent = [*earlier, *lines]
        if not self._unsent:
            return
        try:
            self._socket.sendto("\n".join(self._unsent).encode(), self._address)
        except OSError:
            if self._resend is None or not self._resend.active:
                self._resend = self._loop.call_later(RESEND_INTERVAL, self._send)
        else:
            self._unsent = []


def socket_address(name: str) -> str | bytes:
    """The address in NOTIFY_SOCKET: a path, or with a leading @ an abstract name (unix(7))."""
    return b"\0" + os.fsencode(name[1:]) if name.startswith("@") else name


def watchdog_interval(environment: Mapping[str, str], pid: int) -> float:
    """Seconds between two WATCHDOG=1, half of the manager's timeout; 0 without a watchdog.

    WATCHDOG_USEC counts only for the process WATCHDOG_PID, if that is set: sd_watchdog_enabled(3).
    """
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    timeout = environment.get("WATCHDOG_USEC", "")
    return int(timeout) / 2e6 if timeout.isdecimal() else 0.0
