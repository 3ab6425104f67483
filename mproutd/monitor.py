"""What the daemon tells: its own doings to the log, and to listeners the kernel's events too.

What must hold: while nobody listens nothing is subscribed to, so a busy proxy's thousands of
events a second never reach Python; while somebody does, a wake-up reads no more than MOST of
them, so the loop always comes back to its real work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mproutd import log
from mproutd.control.server import Server
from mproutd.iproute2 import DeviceNames, device_names, ip_command
from mproutd.model import Endpoint, Operation, Route, Rule, Sysctl
from mproutd.netlink import mptcp_pm
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.sockets import Events
from mproutd.planning.plan import Outcome, Plan
from mproutd.reconciler import Reconciler
from mproutd.status.changes import decisions
from mproutd.status.connections import UplinkNames
from mproutd.status.events import kernel_event, make_event

if TYPE_CHECKING:
    from mproutd.status.types import EventKind, MonitorEvent

MOST = 64
"""Messages read at one wake-up."""


class Monitor:
    """The log and the listeners of `mproutd monitor`.  Without a server nobody listens."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.server: Server | None = None
        self.events: Events | None = None
        """The kernel's events, for the loop to wait for; None while nobody listens."""
        self._reconciler = reconciler
        self._following = False

    @property
    def has_listeners(self) -> bool:
        return self.server is not None and self.server.has_listeners

    def publish(
        self,
        kind: EventKind,
        priority: int,
        text: str,
        uplink: str = "",
        device: str = "",
        operation: str = "",
    ) -> None:
        """Something of our own: to the log, and to whoever listens."""
        log.event(priority, text, UPLINK=uplink, DEVICE=device, OPERATION=operation)
        self._send(kind, text, uplink, device)

    def report_passes(self, before: Plan | None, outcomes: list[Outcome]) -> None:
        """What passes decided, did and were refused.  `before`: what was wanted until then."""
        for outcome in outcomes:
            for each in decisions(before, outcome.plan):
                priority = log.INFO if each.good else log.WARNING
                self.publish("decision", priority, each.text, each.uplink, each.device)
            before = outcome.plan
            name = device_names(outcome.snapshot.links)
            for operation in outcome.done:
                fields = _fields(operation, name, outcome.plan)
                self.publish("change", log.DEBUG, ip_command(operation, name), *fields)
            for failure in outcome.failures:
                fields = _fields(failure.operation, name, outcome.plan)
                text = f"{ip_command(failure.operation, name)}: {failure.text}"
                self.publish("failure", log.WARNING, text, *fields)

    def _send(self, kind: EventKind, text: str, uplink: str = "", device: str = "") -> None:
        if self.server is not None and self.server.has_listeners:
            self.server.publish(make_event(kind, time.time(), text, uplink, device))

    def initial_events(self) -> list[MonitorEvent]:
        """The first lines for a new listener: each uplink as it stands."""
        now = time.time()
        lines = [make_event("begin", now, "mproutd tells what happens from now on")]
        last = self._reconciler.last
        for each in decisions(None, last.plan) if last else ():
            lines.append(make_event("decision", now, each.text, each.uplink, each.device))
        return lines

    def update_subscription(self) -> tuple[Events | None, Events | None]:
        """Open or close the kernel's events as listeners come and go: (opened, closed)."""
        if self.has_listeners == self._following:
            return None, None
        self._following = self.has_listeners
        closed, self.events = self.events, None
        if not self._following:
            return None, closed
        if self._reconciler.kernel.path_manager is not None:
            try:
                self.events = self._reconciler.kernel.path_manager.events()
            except OSError as error:
                self._send("overrun", f"no events of the kernel: {error}")
        return self.events, None

    def on_events(self) -> None:
        """Read what the kernel has to say, and publish it."""
        assert self.events is not None
        messages = self.events.read(MOST)
        if messages is None:
            self._send("overrun", "the kernel had more events than could be read; some are missing")
            return
        where, device = self._where()
        now = time.time()
        for message in messages:
            try:
                line = kernel_event(mptcp_pm.event(message.body), now, where, device)
            except DecodeError as error:
                line = make_event("other", now, f"an event that makes no sense: {error}")
            if self.server is not None:
                self.server.publish(line)

    def _where(self) -> tuple[UplinkNames, Any]:
        last = self._reconciler.last
        if last is None:
            return UplinkNames(), device_names({})
        by_address: dict[str, str] = {}
        by_device: dict[int, str] = {}
        for uplink in last.plan.uplinks:
            if uplink.link:
                by_device[uplink.link.index] = uplink.config.name
            for path in uplink.paths:
                for address in (*path.eligible, *path.covered):
                    by_address.setdefault(address.address, uplink.config.name)
        return UplinkNames(by_address, by_device), device_names(last.snapshot.links)


def _fields(operation: Operation, name: DeviceNames, target: Plan) -> tuple[str, str, str]:
    """(uplink, device, operation) of a change: "wan2", "eth2", "add-endpoint"."""
    value = operation.value
    device = ""
    if isinstance(value, Route | Endpoint) and value.device:
        device = name(value.device)
    elif isinstance(value, Rule):
        device = value.oif or value.iif
    elif isinstance(value, Sysctl):
        device = value.device
    whose = [each.config.name for each in target.uplinks if each.config.device == device]
    uplink = operation.uplink or "".join(whose)
    return uplink, device, f"{operation.verb}-{type(value).__name__.lower()}"
