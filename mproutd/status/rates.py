"""The traffic rates of devices, computed without waiting for a second sample.

The counters are sampled at each full pass and for each status; a rate is the mean since a
sample that is at least MIN_INTERVAL old.  A status thus costs one read of one file and says
over which interval its rates are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mproutd.status.types import Rate, Traffic

MIN_INTERVAL = 1.0
"""Seconds between two samples: shorter means follow packets rather than traffic."""
_COUNTERS = "/proc/thread-self/net/dev"


class Counters(NamedTuple):
    """Bytes since the device was created."""

    received: int
    sent: int


class Sample(NamedTuple):
    """The counters of all devices at one time."""

    time: float
    """Seconds of any clock."""
    counters: dict[str, Counters]


class Rates:
    """The counters of this thread's network namespace, from one sample to the next."""

    def __init__(
        self, clock: Callable[[], float], read: Callable[[], dict[str, Counters]] | None = None
    ) -> None:
        self._clock, self._read = clock, read or read_counters
        self._previous: Sample | None = None
        self._latest: Sample | None = None

    def sample(self) -> None:
        """Read the counters, unless the latest sample is younger than MIN_INTERVAL."""
        now = self._clock()
        if self._latest is None or now - self._latest.time >= MIN_INTERVAL:
            self._previous, self._latest = self._latest, Sample(now, self._read())

    def device(self, device: str) -> Traffic:
        """A device's counters and rates up to the latest sample; None for what is unknown."""
        if self._latest is None or device not in self._latest.counters:
            return {"received": None, "sent": None, "rate": None}
        counters = self._latest.counters[device]
        rate = _rate(device, self._previous, self._latest) if self._previous else None
        return {"received": counters.received, "sent": counters.sent, "rate": rate}


def _rate(device: str, previous: Sample, latest: Sample) -> Rate | None:
    """None where the device is new, or was created again in between."""
    if device not in previous.counters:
        return None
    first, last = previous.counters[device], latest.counters[device]
    if last.received < first.received or last.sent < first.sent:
        return None
    seconds = latest.time - previous.time
    return {
        "seconds": round(seconds, 3),
        "received": round((last.received - first.received) * 8 / seconds),
        "sent": round((last.sent - first.sent) * 8 / seconds),
    }


def read_counters() -> dict[str, Counters]:
    """Every device's counters (proc_pid_net(5)); none where the file cannot be read."""
    try:
        with open(_COUNTERS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    counters = {}
    for line in lines:
        name, _, rest = line.rpartition(":")
        fields = rest.split()
        if len(fields) >= 9:
            counters[name.strip()] = Counters(int(fields[0]), int(fields[8]))
    return counters
