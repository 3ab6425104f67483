"""When a health check fails and recovers: rounds of probes in, a verdict out.  Pure, no clock.

A round is bad when fewer than `reliability` hosts are good.  `down` bad rounds in a row fail the
check, `up` good ones recover it.  A check that fails again within `hold_max` of its recovery
stays failed for at least `hold`, doubled with each such flap, up to `hold_max`.

Invariants: a round in which no probe could be sent says nothing; the verdict changes only at the
end of a round; time without rounds (no carrier, say) neither counts nor forgives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.health import HealthConfig

Replies = Mapping[str, Sequence[float | None]]
"""Host → for each probe of a round, the seconds until its reply; None for a lost one."""


class Quality(NamedTuple):
    """The latest probes of a host."""

    probes: int
    lost: int
    latency: float | None
    """Mean of the replies, in seconds; None without any."""

    @property
    def loss(self) -> float:
        """Percent."""
        return 100.0 * self.lost / self.probes if self.probes else 0.0


class Hysteresis:
    """The verdict on one family of one uplink."""

    def __init__(self, options: HealthConfig, failed: bool = False) -> None:
        """`failed` is the initial verdict."""
        self.options = options
        self.failed = failed
        self.good_rounds = self.bad_rounds = 0
        """In a row."""
        self.summary = ""
        """Of the last round: "1 of 2 hosts reply", or what is wrong with their quality."""
        self.flaps = 0
        """Failures in a row that came soon after a recovery."""
        self.held_until: float | None = None
        """The earliest time of a recovery; None when any time will do."""
        self._recovered_at: float | None = None
        self._windows: dict[str, deque[float | None]] = {}
        """Host → its latest probes."""

    def set_options(self, options: HealthConfig) -> None:
        """Use these options from now on; the verdict stays until they change it."""
        if options != self.options:
            self.options = options
            self.reset()

    def reset(self) -> None:
        """Drop all counts, since another network may be behind the device; keep the verdict."""
        self.good_rounds = self.bad_rounds = 0
        self.summary = ""
        self._windows.clear()

    def quality(self, host: str) -> Quality:
        """Of the last `quality_window` probes of a host."""
        window = self._windows.get(host, ())
        replies = [latency for latency in window if latency is not None]
        mean = sum(replies) / len(replies) if replies else None
        return Quality(len(window), len(window) - len(replies), mean)

    @property
    def settled(self) -> bool:
        """Whether no recent round speaks against the verdict."""
        return not (self.good_rounds if self.failed else self.bad_rounds)

    def interval(self) -> float:
        """Seconds from the start of one round to the start of the next."""
        if self.failed:
            return self.options.recovery_interval or self.options.interval
        return self.options.failure_interval if self.bad_rounds else self.options.interval

    def hold_remaining(self, now: float) -> float:
        """Seconds until it may recover, however good the rounds are."""
        return max(0.0, self.held_until - now) if self.held_until is not None else 0.0

    def record_round(self, now: float, replies: Replies) -> bool:
        """Take a finished round into account; return whether the verdict has changed."""
        if not replies:
            return False
        faults = {host: self._fault(host, probes) for host, probes in replies.items()}
        good = sum(fault == "" for fault in faults.values())
        self.summary = f"{good} of {len(replies)} hosts reply"
        poor = sorted({fault for fault in faults.values() if fault and fault != "silent"})
        if poor:
            self.summary = f"{good} of {len(replies)} hosts are good ({', '.join(poor)})"
        if good >= min(self.options.reliability, len(replies)):
            self.good_rounds, self.bad_rounds = self.good_rounds + 1, 0
            recovered = self.failed and self.good_rounds >= self.options.up
            if recovered and not self.hold_remaining(now):
                self.failed, self.held_until, self._recovered_at = False, None, now
                return True
        else:
            self.good_rounds, self.bad_rounds = 0, self.bad_rounds + 1
            if not self.failed and self.bad_rounds >= self.options.down:
                self._fail(now)
                return True
        return False

    def _fail(self, now: float) -> None:
        options, self.failed = self.options, True
        flapped = self._recovered_at is not None and now - self._recovered_at < options.hold_max
        self.flaps = self.flaps + 1 if flapped else 0
        self.held_until = None
        if self.flaps and options.hold:
            doublings = min(self.flaps - 1, 20)
            self.held_until = now + min(options.hold * 2**doublings, options.hold_max)

    def _fault(self, host: str, probes: Sequence[float | None]) -> str:
        """What is wrong with a host; "silent" when it does not reply at all."""
        options = self.options
        window = self._windows.get(host)
        if window is None or window.maxlen != options.quality_window:
            window = self._windows[host] = deque(maxlen=options.quality_window)
        replied = any(latency is not None for latency in probes)
        if replied and window and all(latency is None for latency in window):
            window.clear()  # the outage is over and says nothing about the quality from now on
        window.extend(probes)
        if not replied:
            return "silent"
        # An uplink in use does not fail for its quality before the window is full.
        if not options.check_quality or not (self.failed or len(window) == window.maxlen):
            return ""
        quality = self.quality(host)
        latency = (quality.latency or 0.0) * 1000
        if self.failed:
            lossy = quality.loss > options.recovery_loss
            slow = latency > options.recovery_latency
        else:
            lossy = quality.loss >= options.failure_loss
            slow = latency >= options.failure_latency
        if lossy:
            return f"{quality.loss:.0f} % lost"
        return f"{latency:.0f} ms" if slow else ""
