"""The log, and the events that `mproutd monitor` shows: the daemon's own and the kernel's.

Invariants: without a listener the kernel's MPTCP events are not subscribed to, so that a busy
proxy's thousands a second never reach Python; with one, a wake-up reads at most
MAX_MESSAGES_PER_WAKEUP of them, so that passes are not delayed.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, cast

from mproutd import log
from mproutd.control.server import Server
from mproutd.eventloop import Loop
from mproutd.iproute2 import DeviceNames, device_names, ip_command
from mproutd.limits import LineLimiter
from mproutd.model import Endpoint, Operation, Route, Rule, Sysctl
from mproutd.netlink import mptcp_pm
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.sockets import Events
from mproutd.planning.plan import Outcome, Plan
from mproutd.reconciler import Reconciler
from mproutd.status.changes import decisions
from mproutd.status.connections import observed_uplink_names
from mproutd.status.events import kernel_event, make_event

if TYPE_CHECKING:
    from mproutd.status.event_types import EventKind, MonitorEvent

MAX_MESSAGES_PER_WAKEUP = 64
LINES, LINE_PERIOD = 20, 10.0
"""How many lines of one kind about one uplink are logged at once, and seconds for each further
one: a flapping uplink must not fill the disk."""


class Monitor:
    """Writes events to the log and sends them to the listeners of the control socket."""

    def __init__(self, reconciler: Reconciler, loop: Loop) -> None:
        self.server: Server | None = None
        """None before the control socket is made: then there are no listeners."""
        self._reconciler, self._loop = reconciler, loop
        self._events: Events | None = None
        """The kernel's MPTCP events; None without a listener."""
        self._lines = LineLimiter(loop, LINES, LINE_PERIOD, self._on_left_out)

    # -- the daemon's events --------------------------------------------------------------

    def publish(
        self,
        kind: EventKind,
        priority: int,
        text: str,
        uplink: str = "",
        device: str = "",
        operation: str = "",
    ) -> None:
        """Write an event of the daemon to the log and send it to the listeners."""
        if priority >= log.DEBUG or self._lines.admit((kind, uplink)):
            log.event(priority, text, UPLINK=uplink, DEVICE=device, OPERATION=operation)
        self._send(kind, text, uplink, device)

    def _on_left_out(self, key: Hashable, count: int) -> None:
        """Log how many lines were left out and, for decisions, how things stand now."""
        kind, uplink = cast("tuple[EventKind, str]", key)
        about = f"{uplink}: " if uplink else ""
        text = f"{about}{count} more lines of the kind {kind!r} left out within {LINE_PERIOD:.0f} s"
        log.event(log.NOTICE, text, UPLINK=uplink)
        last = self._reconciler.last
        for decision in decisions(None, last.plan) if last and kind == "decision" else ():
            if decision.uplink == uplink:
                priority = log.INFO if decision.good else log.WARNING
                log.event(priority, decision.text, UPLINK=uplink, DEVICE=decision.device)

    def report_passes(self, before: Plan | None, outcomes: list[Outcome]) -> None:
        """Publish what passes decided, changed and failed to change; `before` is the last plan."""
        for outcome in outcomes:
            for decision in decisions(before, outcome.plan):
                priority = log.INFO if decision.good else log.WARNING
                self.publish("decision", priority, decision.text, decision.uplink, decision.device)
            before = outcome.plan
            name = device_names(outcome.snapshot.links)
            for operation in outcome.done if self._wants(log.DEBUG) else ():
                fields = _fields(operation, name, outcome.plan)
                self.publish("change", log.DEBUG, ip_command(operation, name), *fields)
            for failure in outcome.failures:
                fields = _fields(failure.operation, name, outcome.plan)
                text = f"{ip_command(failure.operation, name)}: {failure.text}"
                self.publish("failure", log.WARNING, text, *fields)

    def _wants(self, priority: int) -> bool:
        """Whether anybody gets events of this priority: a change is not described for nobody."""
        return priority <= log.level or (self.server is not None and self.server.has_listeners)

    def _send(self, kind: EventKind, text: str, uplink: str = "", device: str = "") -> None:
        if self.server is not None and self.server.has_listeners:
            self.server.publish(make_event(kind, time.time(), text, uplink, device))

    # -- listeners ------------------------------------------------------------------------

    def initial_events(self) -> list[MonitorEvent]:
        """What a new listener gets first: the state of each uplink."""
        now = time.time()
        events = [make_event("begin", now, "listening to mproutd")]
        last = self._reconciler.last
        for decision in decisions(None, last.plan) if last else ():
            events.append(
                make_event("decision", now, decision.text, decision.uplink, decision.device)
            )
        return events

    def on_listeners(self, any_left: bool) -> None:
        """Subscribe to the kernel's events for the first listener, until the last one is gone."""
        if any_left:
            self._subscribe()
        elif self._events is not None:
            self._loop.unwatch(self._events)
            self._events.close()
            self._events = None

    def _subscribe(self) -> None:
        path_manager = self._reconciler.kernel.path_manager
        if path_manager is None:
            return
        try:
            self._events = path_manager.events()
        except OSError as error:
            self._send("overrun", f"cannot subscribe to the kernel's MPTCP events: {error}")
            return
        self._loop.watch(self._events, self._on_events)

    # -- the kernel's events --------------------------------------------------------------

    def _on_events(self) -> None:
        assert self._events is not None
        messages = self._events.read(MAX_MESSAGES_PER_WAKEUP)
        if messages is None:
            self._send("overrun", "the kernel sent more events than could be read; some are lost")
            return
        last = self._reconciler.last
        uplinks = observed_uplink_names(last.plan.uplinks if last else ())
        device = device_names(last.snapshot.links if last else {})
        now = time.time()
        for message in messages:
            try:
                event = kernel_event(mptcp_pm.event(message.body), now, uplinks, device)
            except DecodeError as error:
                event = make_event("other", now, f"cannot decode an event: {error}")
            if self.server is not None:
                self.server.publish(event)


def _fields(operation: Operation, name: DeviceNames, plan: Plan) -> tuple[str, str, str]:
    """(uplink, device, operation) of a change: "wan2", "eth2", "add-endpoint"."""
    value = operation.value
    device = ""
    if isinstance(value, Route | Endpoint) and value.device:
        device = name(value.device)
    elif isinstance(value, Rule):
        device = value.oif or value.iif
    elif isinstance(value, Sysctl):
        device = value.device
    owners = [observed.config.name for observed in plan.uplinks if observed.config.device == device]
    uplink = operation.uplink or "".join(owners)
    return uplink, device, f"{operation.verb}-{type(value).__name__.lower()}"
