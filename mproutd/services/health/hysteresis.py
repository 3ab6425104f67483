"""Whether a line is taken for dead: rounds of answers in, a verdict out.  Pure, with no clock.

A round has failed when fewer than `reliability` hosts are good.  `down` failed rounds in a row
take the line out, `up` good ones bring it back.  A line that fails again before it was back for
`hold_max` has to stay out for `hold` at least, twice as long each time, up to `hold_max`.

What must hold: a round in which nobody could be asked says nothing; a verdict changes only at
the end of a round; rounds that are missed (a line without carrier) neither count nor forgive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.health import HealthConfig

Answers = Mapping[str, Sequence[float | None]]
"""Host → for each probe of a round, the seconds until its answer; None for one that was lost."""


class Quality(NamedTuple):
    """What the last probes to a host say."""

    probes: int
    lost: int
    latency: float | None
    """The mean of those that were answered, in seconds; None when none was."""

    @property
    def loss(self) -> float:
        """Percent."""
        return 100.0 * self.lost / self.probes if self.probes else 0.0


class Hysteresis:
    """The verdict on one family of one uplink."""

    def __init__(self, asked: HealthConfig, failed: bool = False) -> None:
        """`failed`: the verdict to begin with."""
        self.asked = asked
        self.failed = failed
        self.good = self.bad = 0
        """Rounds in a row."""
        self.why = ""
        """What the last round said: "1 of 2 hosts answer", and what is wrong with the quality."""
        self.answering: tuple[int, int] | None = None
        """(good, asked) hosts of the last round."""
        self.flaps = 0
        """How often in a row it came back and did not stay."""
        self.held_until: float | None = None
        """When it may be back; None where nothing holds it."""
        self._back_at: float | None = None
        self._last: dict[str, deque[float | None]] = {}

    def change(self, asked: HealthConfig) -> None:
        """Judge by other options from now on; the verdict stays until they say otherwise."""
        if asked != self.asked:
            self.asked = asked
            self.forget()

    def forget(self) -> None:
        """Another line may be behind the device: what was counted is void, the verdict stays."""
        self.good = self.bad = 0
        self.answering, self.why = None, ""
        self._last.clear()

    def quality(self, host: str) -> Quality:
        """Of the last `quality_window` probes to a host."""
        last = self._last.get(host, ())
        answered = [each for each in last if each is not None]
        mean = sum(answered) / len(answered) if answered else None
        return Quality(len(last), len(last) - len(answered), mean)

    def pause(self) -> float:
        """Seconds from the beginning of one round to that of the next."""
        if self.failed:
            return self.asked.recovery_interval or self.asked.interval
        return self.asked.failure_interval if self.bad else self.asked.interval

    def wait(self, now: float) -> float:
        """Seconds until it may be back, however good it is."""
        return max(0.0, self.held_until - now) if self.held_until is not None else 0.0

    def round(self, now: float, answers: Answers) -> bool:
        """Take note of a round that is over.  Whether the verdict is another one now."""
        if not answers:
            return False
        faults = {host: self._fault(host, probes) for host, probes in answers.items()}
        good = sum(fault == "" for fault in faults.values())
        self.answering = (good, len(answers))
        self.why = f"{good} of {len(answers)} hosts answer"
        worse = sorted({fault for fault in faults.values() if fault and fault != "silent"})
        if worse:
            self.why = f"{good} of {len(answers)} hosts are good ({', '.join(worse)})"
        if good >= min(self.asked.reliability, len(answers)):
            self.good, self.bad = self.good + 1, 0
            if self.failed and self.good >= self.asked.up and not self.wait(now):
                self.failed, self.held_until, self._back_at = False, None, now
                return True
        else:
            self.good, self.bad = 0, self.bad + 1
            if not self.failed and self.bad >= self.asked.down:
                self._fail(now)
                return True
        return False

    def _fail(self, now: float) -> None:
        asked, self.failed = self.asked, True
        again = self._back_at is not None and now - self._back_at < asked.hold_max
        self.flaps = self.flaps + 1 if again else 0
        self.held_until = None
        if self.flaps and asked.hold:
            doublings = min(self.flaps - 1, 20)
            self.held_until = now + min(asked.hold * 2**doublings, asked.hold_max)

    def _fault(self, host: str, probes: Sequence[float | None]) -> str:
        """What is wrong with a host; "silent" when it does not answer at all."""
        asked = self.asked
        last = self._last.get(host)
        if last is None or last.maxlen != asked.quality_window:
            last = self._last[host] = deque(maxlen=asked.quality_window)
        answered = any(each is not None for each in probes)
        if answered and last and all(each is None for each in last):
            last.clear()  # the outage is over, and says nothing of how good the line is now
        last.extend(probes)
        if not answered:
            return "silent"
        # A line that is in use is not condemned before the window is full.
        if not asked.check_quality or not (self.failed or len(last) == last.maxlen):
            return ""
        found = self.quality(host)
        delay = (found.latency or 0.0) * 1000
        if self.failed:
            lossy, slow = found.loss > asked.recovery_loss, delay > asked.recovery_latency
        else:
            lossy, slow = found.loss >= asked.failure_loss, delay >= asked.failure_latency
        if lossy:
            return f"{found.loss:.0f} % lost"
        return f"{delay:.0f} ms" if slow else ""
