"""One family of one uplink, asked round after round.

A round asks every host `count` times, a little apart, and ends when all have answered or the
last `timeout` is over.  What must hold: no two rounds of a line overlap; without a line nothing
is asked, and nothing is concluded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mproutd.configuration.health import HealthConfig
from mproutd.configuration.parsers import Target
from mproutd.services.health.hysteresis import Hysteresis
from mproutd.services.health.probe import ProbePath, Prober
from mproutd.services.health.resolver import NameCache
from mproutd.services.health.timers import Timer, Timers

PROBE_SPACING = 0.2
"""Seconds between two probes to one host."""
HOST_SPACING = 0.01
"""Seconds between the first probes to two hosts."""
UNSENT_RETRY_DELAY = 1.0
"""Seconds until the next round where nobody could be asked."""


class TrackerContext(NamedTuple):
    """What all tracks share."""

    clock: Callable[[], float]
    timers: Timers
    names: NameCache
    asker: Callable[[HealthConfig, ProbePath], Prober]
    """OSError when it cannot be made."""
    changed: Callable[[Tracker], None]
    """Told of another verdict."""


class TrackedHost:
    """What is known of one that is asked."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: bool | None = None
        """None while nothing is known."""
        self.fault = ""
        self.sent = self.answered = 0


class _Probe(NamedTuple):
    begun: float
    stop: Callable[[], None]


class Tracker:
    """Asks, and has a judge."""

    def __init__(
        self, tools: TrackerContext, uplink: str, family: int, asked: HealthConfig
    ) -> None:
        self.uplink, self.family = uplink, family
        self.hysteresis = Hysteresis(asked)
        self.hosts: dict[str, TrackedHost] = {}
        self.since: float | None = None
        """The epoch second of the last change of the verdict."""
        self.error = ""
        """Why nothing can be asked; "" when all is well."""
        self._tools = tools
        self._way: ProbePath | None = None
        self._gateway = ""
        self._asker: Prober | None = None
        self._timers: list[Timer] = []
        self._results: dict[str, list[float | None]] = {}
        self._open: dict[tuple[str, int], _Probe] = {}
        self._begun = 0.0
        self._unsent = 0
        self._in_round = False

    @property
    def running(self) -> bool:
        """Whether there is a line to be asked by."""
        return self._way is not None

    def change(self, asked: HealthConfig) -> None:
        """Other options; what is under way by the old ones is void."""
        if asked != self.hysteresis.asked:
            self.hysteresis.change(asked)
            way, gateway = self._way, self._gateway
            self.move(None, "", 0.0)
            self.hosts.clear()
            if way:
                self.move(way, gateway, 0.0)

    def move(self, way: ProbePath | None, gateway: str, after: float) -> None:
        """The line is another one, or gone.  The first round begins `after` seconds from now."""
        if (way, gateway) == (self._way, self._gateway):
            return
        self._way, self._gateway = way, gateway
        self._stop()
        if self._asker:
            self._asker.close()
            self._asker = None
        self.hysteresis.forget()
        if way:
            self._timers.append(self._tools.timers.later(after, self._begin))

    def _stop(self) -> None:
        """End what is under way, without a word about it."""
        for timer in self._timers:
            timer.cancel()
        for probe in self._open.values():
            probe.stop()
        self._timers, self._open, self._results = [], {}, {}
        self._in_round = False

    # -- a round --------------------------------------------------------------------------

    def _begin(self) -> None:
        assert self._way is not None
        asked = self.hysteresis.asked
        self._timers, self._results, self._open = [], {}, {}
        self._begun, self._in_round = self._tools.clock(), True
        self.error = ""
        if self._asker is None:
            try:
                self._asker = self._tools.asker(asked, self._way)
            except OSError as error:
                self.error = str(error.strerror or error).lower()
                return self._end()
        offset, last = 0.0, 0.0
        self._unsent = 0
        for target in asked.targets(self.family):
            host = self.hosts.setdefault(target.text, TrackedHost())
            host.address = self._address(target, host)
            if host.address:
                for number in range(asked.count):
                    last = offset + number * PROBE_SPACING
                    self._unsent += 1
                    send = partial(self._send, target.text, number)
                    self._timers.append(self._tools.timers.later(last, send))
                offset += HOST_SPACING
        if not self._unsent:
            return self._end()
        final = max(last, offset) + asked.timeout
        self._timers.append(self._tools.timers.later(final, self._end))
        return None

    def _address(self, target: Target, host: TrackedHost) -> str:
        if target.text in ("gateway", "gateway6"):
            host.fault = "" if self._gateway else "there is no gateway"
            return self._gateway
        if not target.is_name:
            return target.text
        key, doubtful = (self.uplink, target.text, self.family), host.answers is False
        address = self._tools.names.address(*key, doubtful)
        if not address:
            host.answers = None
            error = self._tools.names.error(*key)
            host.fault = error or "its address is being looked up"
        return address

    def _send(self, name: str, number: int) -> None:
        assert self._asker is not None
        self._unsent -= 1
        host, begun = self.hosts[name], self._tools.clock()
        key = name, number
        try:
            stop = self._asker.ask(host.address, name, partial(self._heard, key, begun))
        except OSError as error:
            host.fault = str(error.strerror or error).lower()
            host.answers = None
            self.error = host.fault
        else:
            host.sent += 1
            self._results.setdefault(name, []).append(None)
            self._open[key] = _Probe(begun, stop)
        self._ended_early()

    def _heard(self, key: tuple[str, int], begun: float, fault: str) -> None:
        host, took = self.hosts[key[0]], self._tools.clock() - begun
        self._open.pop(key, None)
        if not fault and took <= self.hysteresis.asked.timeout:
            results = self._results[key[0]]
            results[results.index(None)] = took
            host.answered += 1
        host.fault = fault
        self._ended_early()

    def _ended_early(self) -> None:
        """In the loop's next turn, since whoever calls may be in the middle of something."""
        if self._in_round and not self._open and not self._unsent:
            self._in_round = False
            for timer in self._timers:
                timer.cancel()
            self._timers = [self._tools.timers.later(0.0, self._end)]

    def _end(self) -> None:
        """All has been heard that will be: the judge says what it means."""
        for name, _ in self._open:
            self.hosts[name].fault = "no answer"
        for name, answers in self._results.items():
            host = self.hosts[name]
            host.answers = any(each is not None for each in answers)
            host.fault = "" if host.answers else host.fault or "no answer"
        results, begun = self._results, self._begun
        self._stop()
        now = self._tools.clock()
        changed = self.hysteresis.round(now, results)
        pause = (
            self.hysteresis.pause() if results else min(UNSENT_RETRY_DELAY, self.hysteresis.pause())
        )
        again = max(0.0, begun + pause - now)
        self._timers.append(self._tools.timers.later(again, self._begin))
        if changed:
            self.since = time.time()
            self._tools.changed(self)
