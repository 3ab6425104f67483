"""When an uplink with `overflow` carries: samples of counters in, a decision out.  Pure, no clock.

It begins to carry once every regular usable uplink has been above `overflow` percent of its
capacity for two seconds, in one direction.  It stops once everything would have fit into three
quarters of that for ten seconds, in both.  If it has to carry again within HOLD_MAX, it carries for
at least HOLD seconds, doubled each time, up to HOLD_MAX.

Where the capacity is only learned, a full uplink and a busy one look alike.  So the uplink carries
for a trial first: if all uplinks together do not get more through than the regular ones did alone,
those were not full, and the next trial waits: INITIAL_PAUSE, doubled each time, up to MAX_PAUSE.

Invariants: an uplink without a known capacity is never full; without a usable regular uplink there
is nothing to decide, and the mode does what it does anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mproutd.planning.json_values import real

SAMPLE_INTERVAL = 0.5
"""Seconds."""
ENGAGE_SECONDS = (2.0, 1.0, 0.0)
"""Ages between which a regular uplink must have been full: two seconds, each of them."""
RELEASE_SECONDS, RELEASE_SHARE = 10.0, 0.75
"""How long everything has to fit, and into which share of `overflow`."""
HOLD, HOLD_MAX = 10.0, 300.0
TRIAL_SECONDS, TRIAL_GAIN = 5.0, 1.1
"""How long a trial takes, and how much more has to get through."""
INITIAL_PAUSE, MAX_PAUSE = 30.0, 3600.0
LEARN_SECONDS = 10.0
"""A learned capacity is the highest mean over this time."""
BUCKET_SECONDS, BUCKETS = 3600.0, 24
"""Learned rates are kept by the hour, for a day."""
MIN_LEARNED = 128_000
"""Bit/s; a lower rate says nothing about a capacity."""

DOWNLOAD, UPLOAD = 0, 1
DIRECTIONS = ("download", "upload")

VERSION = 1

Rates = tuple[float, float]
"""Bit/s: download, upload."""


class Capacity(NamedTuple):
    """What an uplink can carry in one direction."""

    rate: float
    """Bit/s; 0: unknown."""
    learned: bool = False
    """Not configured, but the highest rate of the last day."""


class Meter:
    """The rates of uplinks, from samples of their counters over the last LEARN_SECONDS."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, tuple[int, int]]]] = deque()

    def add(self, now: float, counters: Mapping[str, tuple[int, int]]) -> None:
        """Uplink → bytes (received, sent)."""
        self._samples.append((now, counters))
        while len(self._samples) > 2 and self._samples[1][0] <= now - LEARN_SECONDS:
            self._samples.popleft()

    def clear(self) -> None:
        """Forget everything; after a pause, rates would be means over it."""
        self._samples.clear()

    def rates(self, uplink: str, since: float, until: float = 0.0) -> Rates | None:
        """The mean rates between two ages, in seconds; None where samples are missing.

        The ages are rounded to samples.
        """
        first, last = self._at(since), self._at(until)
        if first is None or last is None or first[0] >= last[0]:
            return None
        before, after = first[1].get(uplink), last[1].get(uplink)
        if before is None or after is None:
            return None
        seconds = last[0] - first[0]
        received, sent = after[0] - before[0], after[1] - before[1]
        if received < 0 or sent < 0:  # the device was created again, or a counter has wrapped
            return None
        return received * 8 / seconds, sent * 8 / seconds

    def _at(self, age: float) -> tuple[float, Mapping[str, tuple[int, int]]] | None:
        """The youngest sample that is at least this old, but for the jitter of timers."""
        if not self._samples:
            return None
        latest = self._samples[-1][0] - age + SAMPLE_INTERVAL / 2
        return next((sample for sample in reversed(self._samples) if sample[0] <= latest), None)


class Learned:
    """The highest rates of each uplink in the last day."""

    def __init__(self, kept: Mapping[str, Mapping[int, Rates]] | None = None) -> None:
        self.hours: dict[str, dict[int, Rates]] = {
            name: dict(hours) for name, hours in (kept or {}).items()
        }
        """Uplink → hour (of the epoch) → highest rates in it."""

    def record(self, uplink: str, rates: Rates, now: float) -> bool:
        """Whether they are higher than before in this hour; `now` by the wall clock."""
        hour = int(now // BUCKET_SECONDS)
        hours = self.hours.setdefault(uplink, {})
        known = hours.get(hour, (0.0, 0.0))
        hours[hour] = max(known[0], rates[0]), max(known[1], rates[1])
        for old in [old for old in hours if not hour - BUCKETS < old <= hour]:
            del hours[old]
        return hours[hour] != known

    def capacity(self, uplink: str, direction: int) -> Capacity:
        highest = max(
            (rates[direction] for rates in self.hours.get(uplink, {}).values()), default=0
        )
        return Capacity(highest if highest >= MIN_LEARNED else 0.0, learned=True)


class Load(NamedTuple):
    """How full a regular uplink is in one direction."""

    uplink: str
    direction: int
    capacity: Capacity
    lowest: float
    """Bit/s: the lower one of the last two seconds' means."""
    mean: float
    """Bit/s over the last two seconds."""

    @property
    def percent(self) -> float:
        return 100.0 * self.mean / self.capacity.rate if self.capacity.rate else 0.0

    def exceeds(self, percent: float) -> bool:
        return bool(self.capacity.rate) and self.lowest * 100 > self.capacity.rate * percent


def load(meter: Meter, uplink: str, direction: int, capacity: Capacity) -> Load | None:
    """None while there are too few samples."""
    first = meter.rates(uplink, *ENGAGE_SECONDS[:2])
    second = meter.rates(uplink, *ENGAGE_SECONDS[1:])
    if first is None or second is None:
        return None
    lowest = min(first[direction], second[direction])
    mean = (first[direction] + second[direction]) / 2
    if capacity.learned and 0 < capacity.rate < mean:
        capacity = capacity._replace(rate=mean)
    return Load(uplink, direction, capacity, lowest, mean)


class Overflow:
    """Whether one uplink carries."""

    def __init__(self, percent: int, carrying: bool = False) -> None:
        """`carrying` is the initial decision."""
        self.percent = percent
        """The option: it may be changed."""
        self.carrying = carrying
        self.reason = ""
        """Why it carries: "dsl is at 93 % (download)"."""
        self.flaps = 0
        """How many times in a row it soon had to carry again."""
        self.held_until: float | None = None
        """It carries at least until then."""
        self.paused_until: float | None = None
        """No trial before then."""
        self.unneeded = False
        """The last trial showed that the regular uplinks were not full."""
        self._fits_since: float | None = None
        self._released_at: float | None = None
        self._trial: tuple[float, int, float] | None = None
        """(its end, direction, bit/s of the regular uplinks before it)."""
        self._pause = INITIAL_PAUSE

    def hold_remaining(self, now: float) -> float:
        """Seconds for which it goes on at least."""
        return max(0.0, self.held_until - now) if self.held_until is not None else 0.0

    def release(self, now: float) -> bool:
        """Nothing is to be carried, or no regular uplink is usable; return whether that is new."""
        changed = self.carrying
        if changed:
            self._released_at = now
        self.carrying, self.reason, self.unneeded = False, "", False
        self._fits_since = self._trial = self.held_until = None
        return changed

    def update(self, now: float, loads: Sequence[Load], own: Rates) -> bool:
        """Take a sample into account; return whether the decision has changed.

        `loads`: of every regular usable uplink, in both directions; `own`: the rates of the uplinks
        that carry beside them.
        """
        if not loads:
            return self.release(now)
        if self.carrying:
            return self._may_release(now, loads, own)
        for direction in (DOWNLOAD, UPLOAD):
            regular = [load for load in loads if load.direction == direction]
            if all(load.exceeds(self.percent) for load in regular):
                return self._engage(now, direction, regular)
        return False

    def _engage(self, now: float, direction: int, regular: Sequence[Load]) -> bool:
        learned = any(load.capacity.learned for load in regular)
        if learned and self.paused_until is not None and now < self.paused_until:
            return False
        percents = [f"{load.uplink} is at {load.percent:.0f} %" for load in regular]
        self.reason = f"{' and '.join(percents)} ({DIRECTIONS[direction]})"
        recent = self._released_at is not None and now - self._released_at < HOLD_MAX
        self.flaps = self.flaps + 1 if recent else 0
        self.held_until = None
        if self.flaps:
            self.held_until = now + min(HOLD * 2 ** min(self.flaps - 1, 20), HOLD_MAX)
        self._trial = None
        if learned:
            before = sum(load.mean for load in regular)
            self._trial = (now + TRIAL_SECONDS, direction, before)
        self.carrying, self._fits_since = True, None
        return True

    def _may_release(self, now: float, loads: Sequence[Load], own: Rates) -> bool:
        if self._trial and now >= self._trial[0]:
            _, direction, before = self._trial
            self._trial = None
            total = own[direction] + sum(load.mean for load in loads if load.direction == direction)
            if total < before * TRIAL_GAIN:
                self.paused_until = now + self._pause
                self._pause = min(self._pause * 2, MAX_PAUSE)
                self.release(now)
                self.unneeded = True
                return True
            self._pause, self.paused_until = INITIAL_PAUSE, None
        if not self._fits(loads, own):
            self._fits_since = None
            return False
        if self._fits_since is None:
            self._fits_since = now
        if self.hold_remaining(now) or now - self._fits_since < RELEASE_SECONDS:
            return False
        return self.release(now)

    def _fits(self, loads: Sequence[Load], own: Rates) -> bool:
        """Whether the regular uplinks could carry everything."""
        for direction in (DOWNLOAD, UPLOAD):
            regular = [load for load in loads if load.direction == direction]
            if all(load.capacity.rate for load in regular):
                total = own[direction] + sum(load.mean for load in regular)
                capacity = sum(load.capacity.rate for load in regular)
                if total * 100 > capacity * self.percent * RELEASE_SHARE:
                    return False
        return True


# -- the file -----------------------------------------------------------------------------


def encode(learned: Learned, now: float) -> dict[str, Any]:
    """The learned rates as plain values for JSON; `now` is when they were written."""
    return {
        "version": VERSION,
        "time": now,
        "uplinks": {
            name: [[hour, *map(round, rates)] for hour, rates in hours.items()]
            for name, hours in learned.hours.items()
        },
    }


def decode(data: Any) -> tuple[dict[str, dict[int, Rates]], float]:
    """The inverse of encode().  ValueError when the data is not of that kind."""
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, not {VERSION}")
        hours = {
            str(name): {int(real(hour)): (real(down), real(up)) for hour, down, up in listed}
            for name, listed in data["uplinks"].items()
        }
        return hours, real(data["time"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the learned rates of mproutd: {error}") from None
