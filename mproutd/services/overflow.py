"""Overflow: measures how full the regular uplinks are, and says when others are to carry as well.

Rates are sampled twice a second while there are MPTCP connections, which alone have subflows on
several uplinks.  Otherwise the kernel's event of the next one is awaited, so that a quiet gateway
stays quiet; while rates are sampled, no event is read, however many connections there are.
planning/overflow.py decides, planning/modes.py changes the mode.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.eventloop import Timer
from mproutd.netlink.bpf import established_event_filter
from mproutd.netlink.mptcp_info import parse_counters
from mproutd.netlink.sockets import Events
from mproutd.planning.modes import may_overflow
from mproutd.planning.overflow import (
    DIRECTIONS,
    LEARN_SECONDS,
    SAMPLE_INTERVAL,
    Capacity,
    Learned,
    Load,
    Meter,
    Overflow,
    decode,
    encode,
    load,
)
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext
from mproutd.services.savedfile import SavedFile
from mproutd.status.problems import add_problems, problem
from mproutd.status.rates import read_counters

if TYPE_CHECKING:
    from mproutd.status.cost_types import DirectionLoad, LoadStatus, OverflowStatus
    from mproutd.status.types import Status

FILE = "capacity.json"
CONNECTIONS_INTERVAL = 5.0
"""Seconds between two looks whether there still are MPTCP connections."""
REGULAR_MODES = ("master", "on")


class OverflowWatcher(Service):
    """The decisions for all uplinks with `overflow`."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._uplinks: dict[str, UplinkConfig] = {}
        self._overflows: dict[str, Overflow] = {}
        self._since: dict[str, float] = {}
        """Uplink → the epoch second of its last change."""
        self._file = SavedFile(context, FILE)
        self._learned = Learned(self._file.load(decode))
        self._meter = Meter()
        self._devices: dict[str, str] = {}
        """Uplink → its device."""
        self._regular: tuple[str, ...] = ()
        """The regular uplinks that are usable."""
        self._able: Collection[str] = ()
        """Those with `overflow` that are usable, and whose quota is not used up."""
        self._loads: list[Load] = []
        """As of the last sample."""
        self._had_pass = False
        self._events: Events | None = None
        """Of established connections; None while rates are sampled."""
        self._timer: Timer | None = None
        self._look_at = 0.0
        """When to look for connections again."""

    def on_configuration(self, config: Config) -> None:
        self._uplinks = {uplink.name: uplink for uplink in config.uplinks}
        wanted = {
            uplink.name: uplink.overflow or 0 for uplink in config.uplinks if may_overflow(uplink)
        }
        self._overflows = {
            name: self._overflows.get(name) or Overflow(percent) for name, percent in wanted.items()
        }
        for name, percent in wanted.items():
            self._overflows[name].percent = percent

    def on_pass(self, outcome: Outcome) -> None:
        uplinks = outcome.plan.uplinks
        self._devices = {
            uplink.config.name: uplink.link.name for uplink in uplinks if uplink.link is not None
        }
        self._regular = tuple(
            uplink.config.name
            for uplink in uplinks
            if uplink.usable and uplink.config.mode in REGULAR_MODES
        )
        self._able = self._overflows.keys() & {
            uplink.config.name for uplink in uplinks if uplink.usable and not uplink.over_quota
        }
        unable = self._overflows.keys() - self._able
        if not self._had_pass:
            self._had_pass = True
            for name in outcome.plan.state.overflowing & self._overflows.keys():
                self._overflows[name].carrying = True
            self._start()
        elif self._release_all(self._overflows if not self._regular else unable):
            self._context.request_pass()

    def add_facts(self, facts: Facts) -> Facts:
        if not self._had_pass:
            return facts  # those of the state file count
        carrying = (name for name, overflow in self._overflows.items() if overflow.carrying)
        return facts._replace(overflowing=frozenset(carrying))

    # -- while there are connections ------------------------------------------------------

    def _start(self) -> None:
        """Await a connection; if there is one, sample."""
        if self._events is None and self._context.path_manager is not None:
            try:
                self._events = self._context.path_manager.events()
            except OSError as error:
                text = f"overflow: cannot await MPTCP connections: {error}"
                self._context.publish("overflow", log.WARNING, text)
                return
            self._events.attach(established_event_filter())
            self._context.loop.watch(self._events, self._on_event)
        if connections() or any(overflow.carrying for overflow in self._overflows.values()):
            self._begin()

    def _on_event(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._end_events()
        self._meter.clear()
        self._look_at = self._context.clock() + CONNECTIONS_INTERVAL
        self._sample()

    def _end_events(self) -> None:
        if self._events is not None:
            self._context.loop.unwatch(self._events)
            self._events.close()
            self._events = None

    def _pause(self) -> bool:
        """Stop sampling where no connection is left; whether that is so."""
        self._look_at = self._context.clock() + CONNECTIONS_INTERVAL
        if connections():
            return False
        self._loads = []
        if self._release_all(self._overflows):
            self._context.request_pass()
        self._start()
        return True

    # -- samples --------------------------------------------------------------------------

    def _sample(self) -> None:
        clock = self._context.clock()
        if clock >= self._look_at and self._pause():
            return
        # Before the work of this sample, so that the times of samples do not drift.
        self._timer = self._context.loop.call_at(clock + SAMPLE_INTERVAL, self._sample)
        counters = read_counters()
        self._meter.add(
            clock,
            {
                name: (counters[device].received, counters[device].sent)
                for name, device in self._devices.items()
                if device in counters
            },
        )
        self._learn()
        loads = [
            load(self._meter, name, direction, self._capacity(name, direction))
            for name in self._regular
            for direction in range(len(DIRECTIONS))
        ]
        self._loads = [measured for measured in loads if measured is not None]
        if len(self._loads) == len(loads):
            self._decide(clock)

    def _decide(self, clock: float) -> None:
        own = [0.0, 0.0]
        for name, overflow in self._overflows.items():
            rates = self._meter.rates(name, 2.0) if overflow.carrying else None
            for direction, rate in enumerate(rates or ()):
                own[direction] += rate
        changed = [
            name
            for name, overflow in self._overflows.items()
            if name in self._able and overflow.update(clock, self._loads, (own[0], own[1]))
        ]
        for name in changed:
            self._report(name)
        if changed:
            self._context.request_pass()

    def _release_all(self, names: Iterable[str]) -> bool:
        """Whether any of these carried."""
        released = [name for name in names if self._overflows[name].release(self._context.clock())]
        for name in released:
            self._report(name)
        return bool(released)

    def _report(self, name: str) -> None:
        overflow, uplink = self._overflows[name], self._uplinks[name]
        self._since[name] = time.time()
        if overflow.carrying:
            text = f"{name} carries, because {overflow.reason}"
            hold = overflow.hold_remaining(self._context.clock())
            text += f"; for {hold:.0f} s at least, since it soon had to carry again" if hold else ""
        elif overflow.unneeded:
            text = f"{name} stops carrying: the other uplinks were not full"
        else:
            text = f"{name} stops carrying: the other uplinks have room"
        self._context.publish("overflow", log.INFO, text, name, uplink.device)

    # -- capacities -----------------------------------------------------------------------

    def _capacity(self, name: str, direction: int) -> Capacity:
        uplink = self._uplinks.get(name)
        configured = getattr(uplink, DIRECTIONS[direction], None)
        if configured is not None:
            return Capacity(configured * 1000.0)
        return self._learned.capacity(name, direction)

    def _learn(self) -> None:
        """Record the rates of uplinks whose capacity is not configured."""
        for name in self._regular:
            uplink = self._uplinks.get(name)
            if uplink and (uplink.download is None or uplink.upload is None):
                rates = self._meter.rates(name, LEARN_SECONDS)
                if rates is not None and self._learned.record(name, rates, time.time()):
                    self._file.save(self._encoded)

    def _encoded(self) -> dict[str, Any]:
        return encode(self._learned, time.time())

    # -- the status -----------------------------------------------------------------------

    def add_to_status(self, status: Status) -> None:
        for uplink in status["uplinks"]:
            name = uplink["name"]
            overflow = self._overflows.get(name)
            uplink["overflow"] = self._overflow_status(name, overflow) if overflow else None
            regular = uplink["mode"] in REGULAR_MODES
            uplink["load"] = self._load_status(name) if regular else None
        unknown = [
            name
            for name in self._regular
            if not any(self._capacity(name, direction).rate for direction in (0, 1))
        ]
        for name in self._overflows if unknown else ():
            undecided = problem("capacity-unknown", uplink=name, regular=" and ".join(unknown))
            add_problems(status, [undecided])

    def _overflow_status(self, name: str, overflow: Overflow) -> OverflowStatus:
        return {
            "threshold": overflow.percent,
            "carrying": overflow.carrying,
            "since": self._since.get(name),
            "reason": overflow.reason or None,
            "hold": round(overflow.hold_remaining(self._context.clock()), 1),
            "measuring": self._timer is not None and self._timer.active,
        }

    def _load_status(self, name: str) -> LoadStatus:
        return {"download": self._direction(name, 0), "upload": self._direction(name, 1)}

    def _direction(self, name: str, direction: int) -> DirectionLoad:
        capacity = self._capacity(name, direction)
        measured = [
            load for load in self._loads if load.uplink == name and load.direction == direction
        ]
        rate = round(measured[0].mean) if measured else None
        known = bool(capacity.rate)
        return {
            "capacity": round(capacity.rate) if known else None,
            "learned": capacity.learned,
            "rate": rate,
            "percent": round(rate * 100 / capacity.rate, 1) if known and rate is not None else None,
        }

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end_events()
        self._file.close()


def connections() -> int:
    """The established MPTCP connections of this network namespace.

    A kernel that does not count those counts sockets, among them listening ones.
    """
    try:
        with open("/proc/thread-self/net/netstat", encoding="ascii") as file:
            established = parse_counters(file.read()).get("MPCurrEstab")
        if established is not None:
            return established
        with open("/proc/thread-self/net/protocols", encoding="ascii") as file:
            rows = [line.split() for line in file if line.startswith("MPTCP")]
        return sum(int(row[2]) for row in rows)
    except (OSError, ValueError, IndexError):
        return 0
