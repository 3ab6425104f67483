"""The rounds of probes for one family of one uplink.

A round probes every host `count` times, with pauses, and ends when all have replied or the last
`timeout` has expired.

Invariants: two rounds of a tracker never overlap; without a path nothing is probed and the
verdict does not change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mproutd.configuration.health import HealthConfig
from mproutd.configuration.parsers import Target
from mproutd.eventloop import Loop, Timer
from mproutd.services.health.hysteresis import Hysteresis
from mproutd.services.health.probe import ProbePath, Prober
from mproutd.services.health.resolver import NameCache

PROBE_SPACING = 0.2
"""Seconds between two probes of one host."""
HOST_SPACING = 0.01
"""Seconds between the first probes of two hosts."""
RARE_INTERVAL = 300.0
"""Seconds between rounds of a metered uplink that only stands by."""
NEVER_REPLIED = "the host has never replied, and its address is only what a name server says"
UNSENT_RETRY_DELAY = 1.0
"""Seconds until the next round after one in which no probe could be sent."""


class TrackerContext(NamedTuple):
    """What all trackers share."""

    loop: Loop
    names: NameCache
    make_prober: Callable[[HealthConfig, ProbePath], Prober]
    """OSError when it cannot be made."""
    on_change: Callable[[Tracker], None]
    """Called when the verdict has changed."""


class TrackedHost:
    """What is known of one host."""

    def __init__(self) -> None:
        self.address = ""
        self.reachable: bool | None = None
        """Whether it replied in the last round; None while unknown."""
        self.error = ""
        self.sent = self.replies = 0


class _Probe(NamedTuple):
    started: float
    cancel: Callable[[], None]


class Tracker:
    """Runs the rounds and keeps the verdict."""

    def __init__(
        self, context: TrackerContext, uplink: str, family: int, options: HealthConfig
    ) -> None:
        self.uplink, self.family = uplink, family
        self.hysteresis = Hysteresis(options)
        self.hosts: dict[str, TrackedHost] = {}
        self.since: float | None = None
        """The epoch second of the last change of the verdict."""
        self.error = ""
        """Why nothing can be probed; "" when all is well."""
        self.rare = False
        """Whether rounds without news are RARE_INTERVAL apart: see set_rare()."""
        self._context = context
        self._path: ProbePath | None = None
        self._gateway = ""
        self._prober: Prober | None = None
        self._timers: list[Timer] = []
        self._latencies: dict[str, list[float | None]] = {}
        """Host → its probes of this round, None while there is no reply."""
        self._pending: dict[tuple[str, int], _Probe] = {}
        self._round_started = 0.0
        self._unsent = 0
        self._in_round = False

    @property
    def running(self) -> bool:
        """Whether there is a path to probe."""
        return self._path is not None

    def set_options(self, options: HealthConfig) -> None:
        """Use other options; a round under way is abandoned."""
        if options != self.hysteresis.options:
            self.hysteresis.set_options(options)
            path, gateway = self._path, self._gateway
            self.set_path(None, "", 0.0)
            self.hosts.clear()
            if path:
                self.set_path(path, gateway, 0.0)

    def set_path(self, path: ProbePath | None, gateway: str, delay: float) -> None:
        """Probe this path, or none; the first round begins after `delay` seconds."""
        if (path, gateway) == (self._path, self._gateway):
            return
        self._path, self._gateway = path, gateway
        self._abandon_round()
        if self._prober:
            self._prober.close()
            self._prober = None
        self.hysteresis.reset()
        if path:
            self._timers.append(self._context.loop.call_later(delay, self._start_round))

    def set_rare(self, rare: bool) -> None:
        """Probe rarely, or as configured again, beginning at once."""
        before, self.rare = self.rare, rare
        if before and not rare and self._path and not self._in_round:
            self._abandon_round()
            self._timers.append(self._context.loop.call_later(0.0, self._start_round))

    def _abandon_round(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for probe in self._pending.values():
            probe.cancel()
        self._timers, self._pending, self._latencies = [], {}, {}
        self._in_round = False

    # -- a round --------------------------------------------------------------------------

    def _start_round(self) -> None:
        assert self._path is not None
        options, loop = self.hysteresis.options, self._context.loop
        self._timers, self._latencies, self._pending = [], {}, {}
        self._round_started, self._in_round = loop.clock(), True
        self.error = ""
        if self._prober is None:
            try:
                self._prober = self._context.make_prober(options, self._path)
            except OSError as error:
                self.error = str(error.strerror or error).lower()
                self._end_round()
                return
        offset, last = 0.0, 0.0
        self._unsent = 0
        for target in options.targets(self.family):
            host = self.hosts.setdefault(target.text, TrackedHost())
            host.address = self._address(target, host)
            if host.address:
                for number in range(options.count):
                    last = offset + number * PROBE_SPACING
                    self._unsent += 1
                    send = partial(self._send, target.text, number)
                    self._timers.append(loop.call_later(last, send))
                offset += HOST_SPACING
        if not self._unsent:
            self._end_round()
            return
        deadline = max(last, offset) + options.timeout
        self._timers.append(loop.call_later(deadline, self._end_round))

    def _address(self, target: Target, host: TrackedHost) -> str:
        """Where to probe this host; "" while that is unknown."""
        if target.text in ("gateway", "gateway6"):
            host.error = "" if self._gateway else "there is no gateway"
            return self._gateway
        if not target.is_name:
            return target.text
        key, unreachable = (self.uplink, target.text, self.family), host.reachable is False
        address = self._context.names.address(*key, unreachable)
        if not address:
            host.reachable = None
            host.error = self._context.names.error(*key) or "its name is being resolved"
        return address

    def _counted(self, latencies: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
        """Without the hosts of which only a name server says that they exist."""
        counted, names = {}, self._context.names
        targets = {target.text: target for target in self.hysteresis.options.targets(self.family)}
        for name, probes in latencies.items():
            host, key = self.hosts[name], (self.uplink, name, self.family)
            if targets[name].is_name:
                if host.reachable:
                    names.on_reply(*key, host.address)
                elif not names.has_replied(*key):
                    host.error = NEVER_REPLIED
                    continue
            counted[name] = probes
        if latencies and not counted:
            self.error = NEVER_REPLIED
        return counted

    def _send(self, name: str, number: int) -> None:
        assert self._prober is not None
        self._unsent -= 1
        host, started = self.hosts[name], self._context.loop.clock()
        key = name, number
        try:
            cancel = self._prober.probe(host.address, name, partial(self._on_result, key, started))
        except OSError as error:
            host.error = str(error.strerror or error).lower()
            host.reachable = None
            self.error = host.error
        else:
            host.sent += 1
            self._latencies.setdefault(name, []).append(None)
            self._pending[key] = _Probe(started, cancel)
        self._end_round_early()

    def _on_result(self, key: tuple[str, int], started: float, error: str) -> None:
        host, latency = self.hosts[key[0]], self._context.loop.clock() - started
        self._pending.pop(key, None)
        if not error and latency <= self.hysteresis.options.timeout:
            latencies = self._latencies[key[0]]
            latencies[latencies.index(None)] = latency
            host.replies += 1
        host.error = error
        self._end_round_early()

    def _end_round_early(self) -> None:
        """End the round when nothing is pending, but not from within the prober's callback."""
        if self._in_round and not self._pending and not self._unsent:
            self._in_round = False
            for timer in self._timers:
                timer.cancel()
            self._timers = [self._context.loop.call_later(0.0, self._end_round)]

    def _end_round(self) -> None:
        for name, _ in self._pending:
            self.hosts[name].error = "no reply"
        for name, probes in self._latencies.items():
            host = self.hosts[name]
            host.reachable = any(latency is not None for latency in probes)
            host.error = "" if host.reachable else host.error or "no reply"
        latencies, started = self._latencies, self._round_started
        self._abandon_round()
        now = self._context.loop.clock()
        changed = self.hysteresis.record_round(now, self._counted(latencies))
        interval = self.hysteresis.interval()
        if self.rare and self.hysteresis.settled:
            interval = max(interval, RARE_INTERVAL)
        if not latencies:
            interval = min(UNSENT_RETRY_DELAY, interval)
        delay = max(0.0, started + interval - now)
        self._timers.append(self._context.loop.call_later(delay, self._start_round))
        if changed:
            self.since = time.time()
            self._context.on_change(self)
