"""The daemon: waits for events and answers each with a pass.

Kernel events, hooks, signals, timers and the control socket only decide when a pass is made, not
what it does: passes compare everything (passes.py).  There is no delay before a pass; events
that arrive during one cause one more.

Invariants: the loop never blocks except in its own wait; stopping leaves the kernel as it is.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import time
from typing import Any

from mproutd import log
from mproutd.configuration.config import ConfigError
from mproutd.control.server import Server
from mproutd.environment import network_namespace, package_version
from mproutd.eventloop import Loop, Timer
from mproutd.hints import HintsWatch
from mproutd.limits import PassLimiter
from mproutd.model import already_deleted
from mproutd.monitor import Monitor
from mproutd.netlink.bpf import ifindex_of, is_relevant
from mproutd.netlink.kernel import device_name
from mproutd.netlink.path_manager import EndpointDeleter
from mproutd.planning.anticipation import ANTICIPATION_DELAY
from mproutd.planning.plan import Outcome, Plan
from mproutd.planning.relevance import Relevance, relevance
from mproutd.reconciler import Reconciler
from mproutd.services.base import ServiceContext, StateDirectory
from mproutd.services.registry import Services
from mproutd.statefile import CONTROL_SOCKET
from mproutd.status import connections
from mproutd.status.changes import changes, planned_changes
from mproutd.status.rates import Rates
from mproutd.status.usable import usable_uplinks
from mproutd.subflows.retry import SubflowRetrier

RESYNC_INTERVAL = 60.0
"""Seconds between full passes: endpoints and limits change without an event."""
CROWDED_RESYNC_INTERVAL = 2.0
"""The same while an address waits for a free endpoint."""
UNEXPLAINED_INTERVAL = 1.0
"""Seconds between passes caused by subflows that were closed without an error."""
HINTS_INTERVAL = 1.0
"""Seconds between two looks at the hints, for kernels that do not report changes."""
HALT_SECONDS = 5.0
"""A resync that is later than this means that the process was stopped meanwhile."""
ERROR_RETRY_DELAY = 1.0
"""Seconds until the pass after one in which the kernel did not answer."""


class Daemon:
    """The daemon of one network namespace; made and run once."""

    def __init__(
        self, reconciler: Reconciler, runtime_dir: str, state_dir: StateDirectory | None = None
    ) -> None:
        """OSError when a socket cannot be made.

        `state_dir` outlives a reboot; without one, nothing does.
        """
        self._reconciler, self._loop = reconciler, Loop()
        self._events = reconciler.kernel.events()
        self._monitor = Monitor(reconciler, self._loop)
        self._deleter: EndpointDeleter | None = None
        self._retrier: SubflowRetrier | None = None
        path_manager = reconciler.kernel.path_manager
        if path_manager:
            self._deleter = path_manager.deleter()
            reconciler.use_deleter(self._deleter)
            self._retrier = SubflowRetrier(
                reconciler,
                path_manager,
                self._deleter,
                self._loop,
                self._monitor.publish,
                self._on_unexplained_close,
            )
        self._services = Services(
            ServiceContext(
                self._loop,
                self.request_pass,
                self._monitor.publish,
                runtime_dir,
                state_dir or StateDirectory(runtime_dir),
                path_manager,
            )
        )
        reconciler.add_service_facts = self._services.add_facts
        self._control_socket = os.path.join(runtime_dir, CONTROL_SOCKET)
        self._hints_watch = HintsWatch(runtime_dir)
        self._signals, self._signal_write = socket.socketpair()
        self._namespace, self._package = network_namespace(), package_version()
        self._rates = Rates(time.monotonic)
        self._running = True
        self._touched: set[int] | None = None
        """ifindexes with events since the last pass; None when events were lost."""
        self._pass_timer: Timer | None = None
        self._pass_requested = False
        self._anticipation = Timer(0.0, self._anticipate)
        self._resync_at = self._unexplained_at = 0.0
        self._limiter = PassLimiter()
        self._delayed_at = math.inf
        """When the pass is due that events of a noisy source ask for."""
        self._kernel_error = False
        """The kernel did not answer the last pass, so only an event or time causes the next."""

    def run(self) -> None:
        """Until SIGTERM or SIGINT.  OSError when the control socket cannot be made."""
        self._watch()
        self._services.on_configuration(self._reconciler.config)
        self._pass(sweep=True)
        # What is there now stays, so the collector need not look at it during a pass.
        gc.collect()
        gc.freeze()
        # Made after the first pass, so that whoever can connect sees its result.
        server = Server(
            self._control_socket,
            self._loop,
            self.answer,
            self._monitor.initial_events,
            self._monitor.on_listeners,
        )
        self._monitor.server = server
        try:
            log.event(log.INFO, f"ready, {len(self._reconciler.config.uplinks)} uplinks")
            while self._running:
                self._loop.run_once()
        finally:
            signal.set_wakeup_fd(-1)
            self._services.close()
            server.close()
            self._events.close()
            self._loop.close()
            log.event(log.INFO, "stopped; the kernel stays as it is")

    # -- events ---------------------------------------------------------------------------

    def _watch(self) -> None:
        self._signals.setblocking(False)
        self._signal_write.setblocking(False)
        signal.set_wakeup_fd(self._signal_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO):
            signal.signal(number, lambda number, frame: None)
        self._hints_watch.renew()
        if not self._hints_watch.supported:
            self._look_for_hints()
        self._loop.watch(self._events, self._on_kernel_events)
        self._loop.watch(self._signals, self._on_signal)
        if self._deleter:
            self._loop.watch(self._deleter, self._on_endpoints_deleted)
        if self._retrier:
            self._loop.watch(self._retrier, self._retrier.on_events)

    def _on_kernel_events(self) -> None:
        if not self._read_events():
            return
        if delay := self._limiter.delay():
            self._delayed_at = min(self._delayed_at, time.monotonic() + delay)
            self._arm()
        else:
            self.request_pass()

    def _read_events(self) -> bool:
        """Read the pending events; return whether one of them may change the plan."""
        messages = self._events.read()
        self._reconciler.kernel.on_events(messages)
        if messages is None:
            self._touched = None
            return True
        arguments = self._relevance()
        relevant = [message for message in messages if is_relevant(message, *arguments)]
        if self._touched is not None:
            self._touched.update(map(ifindex_of, relevant))
        self._limiter.add((message.type >> 2, ifindex_of(message)) for message in relevant)
        return bool(relevant)

    def _relevance(self) -> Relevance:
        last = self._reconciler.last
        snapshot, uplinks = (last.snapshot, last.plan.uplinks) if last else (None, ())
        return relevance(self._reconciler.config, snapshot, uplinks)

    def _on_hint(self) -> None:
        """A hook has changed something in the directory of the hints."""
        if self._reconciler.refresh():
            self.request_pass()
        self._services.on_hint()

    def _look_for_hints(self) -> None:
        """For a kernel that does not report changes of a directory."""
        if self._hints_watch.has_changed():
            self._on_hint()
        self._loop.call_later(HINTS_INTERVAL, self._look_for_hints)

    def _on_endpoints_deleted(self) -> None:
        assert self._deleter is not None
        for operation, ack in self._deleter.collect():
            if not already_deleted(operation, ack.errno):
                text = ack.text or os.strerror(ack.errno)
                self._reconciler.retries.deletion_failed(operation, text)
        self.request_pass()

    def _on_unexplained_close(self) -> None:
        """Somebody may have deleted an endpoint: make a pass that sees it, but not too often."""
        now = time.monotonic()
        if now >= self._unexplained_at:
            self._unexplained_at = now + UNEXPLAINED_INTERVAL
            self.request_pass()
        else:
            self._resync_at = min(self._resync_at, self._unexplained_at)
            self._arm()

    def _on_signal(self) -> None:
        numbers = self._signals.recv(4096)
        if signal.SIGIO in numbers:
            self._on_hint()
        for number in numbers:
            if number == signal.SIGHUP:
                reply = self.answer({"command": "reconcile"})
                if "error" in reply:
                    log.event(log.WARNING, reply["error"])
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._running = False

    # -- passes ---------------------------------------------------------------------------

    def request_pass(self) -> None:
        """Make a pass in this turn of the loop, after what else is ready."""
        if not self._pass_requested:
            self._pass_requested = True
            self._arm()

    def _arm(self) -> None:
        """Set the timer of the next pass; the only place that does."""
        at = self._next_pass_at()
        if self._pass_timer is not None:
            if self._pass_timer.active and self._pass_timer.at == at:
                return
            self._pass_timer.cancel()
        self._pass_timer = self._loop.call_at(at, self._pass)

    def _next_pass_at(self) -> float:
        if self._pass_requested:
            return time.monotonic()
        at = min(self._resync_at, self._delayed_at)
        if self._kernel_error or self._deleting:
            return at
        reconcile_at = self._reconciler.next_at()
        return at if reconcile_at is None else min(at, reconcile_at)

    @property
    def _deleting(self) -> bool:
        """Whether endpoints are being deleted in the background; a pass follows their end."""
        return self._deleter is not None and self._deleter.busy

    def _pass(self, sweep: bool = False) -> None:
        if not self._running:
            return
        now = time.monotonic()
        full = sweep or now >= self._resync_at
        before = self._last_plan()
        if full:
            self._read_before_resync(now)
        touched, self._touched, self._pass_requested = self._touched, set(), False
        self._delayed_at = math.inf
        self._limiter.begin()
        try:
            outcome = self._reconciler.reconcile(
                sweep=sweep, full=full, touched=touched, background=True
            )
        except OSError as error:
            # For example an interrupted dump, or a device that is gone meanwhile.
            log.event(log.WARNING, f"the kernel does not answer: {error}; trying again")
            self._resync_at, self._kernel_error = now + ERROR_RETRY_DELAY, True
            self._arm()
            return
        self._kernel_error = False
        if full:
            self._rates.sample()
            crowded = bool(outcome.plan.over_cap)
            self._resync_at = now + (CROWDED_RESYNC_INTERVAL if crowded else RESYNC_INTERVAL)
        self._report(before, [outcome])
        self._limiter.end(outcome.run_again)
        if outcome.run_again and not self._deleting:
            self.request_pass()
        if outcome.done:
            self._anticipation.cancel()
            self._anticipation = self._loop.call_later(ANTICIPATION_DELAY, self._anticipate)
        self._arm()

    def _anticipate(self) -> None:
        if not self._deleting:
            self._reconciler.anticipate()

    def _read_before_resync(self, now: float) -> None:
        """Read the pending events before a full pass, so that what the kernel removed does not
        count as removed by another program; after a halt nothing counts so, since events may be
        missing."""
        self._read_events()
        self._hints_watch.renew()
        if self._resync_at and now - self._resync_at > HALT_SECONDS:
            self._touched = None

    def _last_plan(self) -> Plan | None:
        return self._reconciler.last.plan if self._reconciler.last else None

    def _report(self, before: Plan | None, outcomes: list[Outcome]) -> None:
        self._monitor.report_passes(before, outcomes)
        self._services.on_pass(outcomes)
        if self._retrier:
            self._retrier.on_pass()
        self._relevance()  # before the next event needs it

    # -- the control socket ---------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request of the control socket."""
        command = request.get("command")
        try:
            if command == "status":
                return self._status()
            if command == "usable":
                own = self._reconciler
                return usable_uplinks(self._last_plan(), own.config, own.state_file)
            if command == "connections":
                return self._connections()
            if command == "reconcile":
                directory = request.get("directory")
                if directory and directory != os.path.realpath(self._reconciler.directory):
                    return {"error": f"the running daemon uses {self._reconciler.directory}"}
                return self._reconcile(dry_run=request.get("dry_run") is True)
            if (reply := self._services.on_request(request)) is not None:
                return reply
        except OSError as error:
            return {"error": f"the kernel does not answer: {error}"}
        except Exception as error:
            if not isinstance(error, ImportError) and package_version() == self._package:
                raise
            return {"error": f"the daemon's files have changed, restart it: {error}"}
        return {"error": f"unknown command: {command!r}"}

    def _status(self) -> dict[str, Any]:
        from mproutd.status.build import build_status

        self._finish_deletions()
        inspection = self._reconciler.inspect()
        self._rates.sample()
        reply = build_status(inspection, self._rates.device, os.getpid())
        self._services.add_to_status(reply)
        if inspection.drift:
            self.request_pass()
        return {**reply, "namespace": self._namespace}

    def _connections(self) -> dict[str, Any]:
        """The MPTCP connections and their subflows, as `mproutd connections --json` prints them."""
        plan = self._last_plan()
        names = connections.observed_uplink_names(plan.uplinks if plan else ())
        sockets = self._reconciler.kernel.sockets()
        return connections.reply(*sockets, names, device_name)

    def _reconcile(self, dry_run: bool) -> dict[str, Any]:
        """Read the configuration again and make passes; the changes.  OSError."""
        self._finish_deletions()
        if dry_run:
            try:
                preview = self._services.preview(self._reconciler.preview())
                return {"changes": planned_changes(preview)}
            except ConfigError as error:
                return {"refused": str(error)}
        self._services.on_reload_start()
        try:
            return self._reload()
        except ConfigError as error:
            text = f"configuration rejected, using the last good one: {error}"
            self._monitor.publish("configuration", log.ERROR, text)
            return {"refused": str(error)}
        finally:
            self._services.on_reload_end(self._reconciler.config_error)

    def _reload(self) -> dict[str, Any]:
        """ConfigError, OSError."""
        self._reconciler.configure()
        self._services.on_configuration(self._reconciler.config)
        before = self._last_plan()
        outcomes = self._reconciler.converge()
        self._report(before, outcomes)
        self._arm()
        return {"changes": changes(outcomes)}

    def _finish_deletions(self) -> None:
        """Wait for the deletions in the background: the path manager blocks until then."""
        if self._deleting:
            self._on_endpoints_deleted()
