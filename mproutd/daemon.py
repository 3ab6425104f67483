"""The loop: an event wakes it, and it makes a pass.

Nothing is decided here.  The loop waits for kernel events, the control socket, signals and
timers; whatever comes, the answer is a whole pass.  There is no delay before a pass: what
arrives meanwhile makes one more.

What must hold: the loop never waits for anything but all of these at once; stopping it
leaves the kernel as it is.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

from mproutd import log
from mproutd.configuration.config import ConfigError
from mproutd.control.server import Server
from mproutd.eventloop import Loop
from mproutd.hints import WakeFifo
from mproutd.monitor import Monitor
from mproutd.netlink.bpf import is_relevant
from mproutd.netlink.kernel import device_name
from mproutd.netlink.nlmsg import U32, Message
from mproutd.netlink.path_manager import EndpointDeleter
from mproutd.passes import already_deleted
from mproutd.planning.overlaps import subnet_keys
from mproutd.planning.plan import Outcome, Plan
from mproutd.reconciler import Reconciler
from mproutd.services.base import ServiceContext
from mproutd.services.registry import Services
from mproutd.statefile import CONTROL_SOCKET
from mproutd.status import connections
from mproutd.status.build import build_status
from mproutd.status.changes import changes, planned_changes
from mproutd.status.rates import Rates
from mproutd.subflows.retry import SubflowRetrier

RESYNC = 60.0
"""Seconds between passes without an event: endpoints and limits change silently."""
CROWDED = 2.0
"""The same while an address waits for a free endpoint."""

LOOK = 1.0
"""Seconds between passes because of subflows that were closed without a reason."""


class Daemon:
    """One daemon in one network namespace; made, run, and done with."""

    def __init__(self, reconciler: Reconciler, runtime: str) -> None:
        """OSError when a socket cannot be made."""
        self._reconciler = reconciler
        self._loop = Loop()
        self._events = reconciler.kernel.events()
        self._deleter: EndpointDeleter | None = None
        self._reviving: SubflowRetrier | None = None
        self._monitor = Monitor(reconciler)
        path_manager = reconciler.kernel.path_manager
        if path_manager:
            self._deleter = path_manager.deleter()
            reconciler.use_deleter(self._deleter)
            self._reviving = SubflowRetrier(
                reconciler, path_manager, self._monitor.publish, self._look
            )
        context = ServiceContext(
            self._loop, self._want_pass, self._monitor.publish, time.monotonic, runtime
        )
        self._services = Services(context)
        reconciler.add_service_facts = self._services.add_facts
        self._socket = os.path.join(runtime, CONTROL_SOCKET)
        self._wake = WakeFifo(runtime)
        self._signals, self._waker = socket.socketpair()
        self._rates = Rates(time.monotonic)
        self._running = True
        self._due = True
        self._touched: set[int] | None = None
        """ifindexes with events since the last pass; None when events were lost."""
        self._resync_at = self._look_at = 0.0
        self._silent = False
        """The kernel did not answer the last pass, so only an event or time brings the next."""

    def run(self) -> None:
        """Until SIGTERM or SIGINT.  OSError when the kernel does not answer at all."""
        self._signals.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        watch = self._loop.watch
        watch(self._events, self._kernel_events)
        watch(self._signals, self._signal)
        watch(self._wake, self._woken)
        if self._deleter:
            watch(self._deleter, self._closed)
        if self._reviving:
            watch(self._reviving, self._reviving.on_events)
        self._services.on_configuration(self._reconciler.config)
        self._pass(sweep=True)
        # Whoever finds the socket finds the first pass done.
        self._server = Server(
            self._socket, self.answer, time.monotonic, self._monitor.initial_events
        )
        self._monitor.server = self._server
        try:
            log.event(log.INFO, f"ready, {len(self._reconciler.config.uplinks)} uplinks")
            while self._running:
                self._wait()
                if self._due:
                    self._pass()
        finally:
            signal.set_wakeup_fd(-1)
            self._services.close()
            self._server.close()
            self._events.close()
            self._loop.close()
            log.event(log.INFO, "stopped; the kernel stays as it is")

    # -- waiting --------------------------------------------------------------------------

    def _wait(self) -> None:
        self._watch()
        self._loop.run_once(self._timeout())
        self._server.expire()
        if self._reviving and self._deleter:
            self._reviving.turn(self._deleter)
        self._services.turn()
        if self._next_pass() <= 0:
            self._due = True

    def _timeout(self) -> float:
        """Seconds until there is something to do without an event."""
        if self._due:
            return 0.0
        waits = [self._next_pass()]
        deadline = self._server.deadline()
        timers = [self._services.due()]
        if self._reviving and self._deleter and not self._deleter.busy:
            timers.append(self._reviving.due())
        waits += [wait for wait in timers if wait is not None]
        if deadline is not None:
            waits.append(deadline - time.monotonic())
        return max(0.0, min(waits))

    def _next_pass(self) -> float:
        """Seconds until a pass is worth making without an event.

        While endpoints are being closed it is only the end of that which lets one go on.
        """
        resync = self._resync_at - time.monotonic()
        wait = None if self._silent or self._closing else self._reconciler.due()
        return resync if wait is None else min(resync, wait)

    @property
    def _closing(self) -> bool:
        """Whether endpoints are being closed in the background."""
        return self._deleter is not None and self._deleter.busy

    def _watch(self) -> None:
        """Keep the loop in step with the clients, and with whether anybody listens."""
        self._server.watch(self._loop)
        opened, closed = self._monitor.update_subscription()
        if closed is not None:
            self._loop.unwatch(closed)
            closed.close()
        if opened is not None:
            self._loop.watch(opened, self._monitor.on_events)

    def _want_pass(self) -> None:
        self._due = True

    def _woken(self) -> None:
        """A hook has something to say."""
        self._wake.drain()
        self._reconciler.refresh()
        self._services.on_hint()
        self._due = True

    def _kernel_events(self) -> None:
        messages = self._events.read()
        self._reconciler.kernel.on_events(messages)
        if messages is not None:
            last = self._reconciler.last
            uplinks = last.plan.uplinks if last else ()
            wanted = frozenset(uplink.device for uplink in self._reconciler.config.uplinks)
            indexes = frozenset(entry.link.index for entry in uplinks if entry.link)
            subnets = subnet_keys(uplinks)
            messages = [each for each in messages if is_relevant(each, indexes, wanted, subnets)]
            if not messages:
                return
            if self._touched is not None:
                self._touched.update(map(_ifindex, messages))
        else:
            self._touched = None
        self._due = True

    def _look(self) -> None:
        """An endpoint of ours may be gone: make a pass that sees it, but not too often."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._due = True
        else:
            self._resync_at = min(self._resync_at, self._look_at)

    def _closed(self) -> None:
        assert self._deleter is not None
        for operation, ack in self._deleter.collect():
            if not already_deleted(operation, ack.errno):
                text = ack.text or os.strerror(ack.errno)
                self._reconciler.retries.deletion_failed(operation, text)
        self._due = True

    def _signal(self) -> None:
        for number in self._signals.recv(64):
            if number == signal.SIGHUP:
                told = self.answer({"command": "reconcile"})
                if "error" in told:
                    log.event(log.WARNING, told["error"])
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._running = False
                self._due = False

    # -- acting ---------------------------------------------------------------------------

    def _pass(self, sweep: bool = False) -> None:
        now = time.monotonic()
        full = sweep or now >= self._resync_at
        before = self._reconciler.last.plan if self._reconciler.last else None
        touched, self._touched, self._due = self._touched, set(), False
        try:
            outcome = self._reconciler.reconcile(
                sweep=sweep, full=full, touched=touched, background=True
            )
        except OSError as error:
            # A dump that failed or a device that went in between: ask again, soon.
            log.event(log.WARNING, f"the kernel does not answer: {error}; trying again")
            self._resync_at, self._silent = now + 1.0, True
            return
        self._silent = False
        if full:
            self._rates.sample()
            self._resync_at = now + (CROWDED if outcome.plan.over_cap else RESYNC)
        if outcome.run_again and not self._closing:
            self._due = True
        self._told_of(before, [outcome])

    def _told_of(self, before: Plan | None, outcomes: list[Outcome]) -> None:
        self._monitor.report_passes(before, outcomes)
        self._services.on_pass(outcomes)

    # -- the control socket ---------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request of the control socket."""
        what = request.get("command")
        try:
            if what == "status":
                return self._status()
            if what == "connections":
                return self._connections()
            if what == "reconcile":
                asked = request.get("directory")
                if asked and asked != os.path.realpath(self._reconciler.directory):
                    return {"error": f"the daemon that runs uses {self._reconciler.directory}"}
                return self._reconcile(dry=request.get("dry_run") is True)
        except OSError as error:
            return {"error": f"the kernel does not answer: {error}"}
        return {"error": f"no such command: {what!r}"}

    def _status(self) -> dict[str, Any]:
        self._wait_for_closer()
        inspection = self._reconciler.inspect()
        self._rates.sample()
        told = build_status(inspection, self._rates.device)
        self._services.add_to_status(told)
        if inspection.drift:
            self._due = True
        return {**told, "running": True, "pid": os.getpid()}

    def _connections(self) -> dict[str, Any]:
        """Every MPTCP connection with its subflows, as `mproutd connections --json` prints them."""
        last = self._reconciler.last
        names = connections.observed_uplink_names(last.plan.uplinks if last else ())
        sockets = self._reconciler.kernel.sockets()
        found = connections.connections(*sockets, names, device_name)
        return {"version": connections.VERSION, "connections": found}

    def _reconcile(self, dry: bool) -> dict[str, Any]:
        """Read the configuration again, go there, and tell the changes.  OSError."""
        self._wait_for_closer()
        if not dry:
            self._services.on_reload_start()
        try:
            if dry:
                return {"changes": planned_changes(self._reconciler.preview())}
            return self._reload()
        except ConfigError as error:
            if not dry:
                text = f"configuration refused, the last good one stays: {error}"
                self._monitor.publish("configuration", log.ERROR, text)
            return {"refused": str(error)}
        finally:
            if not dry:
                self._services.on_reload_end(self._reconciler.refused)

    def _reload(self) -> dict[str, Any]:
        """ConfigError when it is refused."""
        self._reconciler.configure()
        self._services.on_configuration(self._reconciler.config)
        before = self._reconciler.last.plan if self._reconciler.last else None
        outcomes = self._reconciler.converge()
        self._told_of(before, outcomes)
        return {"changes": changes(outcomes)}

    def _wait_for_closer(self) -> None:
        """Let endpoints finish closing: the path manager answers nobody meanwhile."""
        if self._closing:
            self._closed()


def _ifindex(message: Message) -> int:
    """The device of a link or address event; harmless nonsense for the others."""
    return U32.unpack_from(message.body, 4)[0] if len(message.body) >= 8 else 0
