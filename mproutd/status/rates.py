"""How fast a device sends and receives, without making anybody wait for a second sample.

The counters are sampled at each full pass and whenever a status is asked for; a rate is the
mean since a sample that is old enough to tell something.  So a status costs one read of one
file, and says over which time its rates are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MIN_INTERVAL = 1.0
"""Seconds; a mean over less says more about the packets than about the line."""
_COUNTERS = "/proc/thread-self/net/dev"


class Counters(NamedTuple):
    """Bytes since the device was made."""

    received: int
    sent: int


Sample = tuple[float, dict[str, Counters]]


class Rates:
    """The counters of this thread's network namespace, from one sample to the next."""

    def __init__(
        self, clock: Callable[[], float], read: Callable[[], dict[str, Counters]] | None = None
    ) -> None:
        self._clock, self._read = clock, read or read_counters
        self._older: Sample | None = None
        self._newer: Sample | None = None

    def sample(self) -> None:
        """Read the counters.  The older of the two samples stays while the newer is too young."""
        now = self._clock()
        if self._newer is None or now - self._newer[0] >= MIN_INTERVAL:
            self._older, self._newer = self._newer, (now, self._read())

    def device(self, device: str) -> dict[str, Any]:
        """`received`, `sent` and `rate` of a device up to the newest sample, as a status has them.

        Bytes, and bits a second; None for what is not known.
        """
        last = self._newer[1].get(device) if self._newer else None
        first = self._older[1].get(device) if self._older else None
        rate = None
        if last and first and self._newer and self._older:
            seconds = self._newer[0] - self._older[0]
            received, sent = last.received - first.received, last.sent - first.sent
            if received >= 0 and sent >= 0:  # else it was made again in between
                rate = {
                    "seconds": round(seconds, 3),
                    "received": round(received * 8 / seconds),
                    "sent": round(sent * 8 / seconds),
                }
        return {
            "received": last.received if last else None,
            "sent": last.sent if last else None,
            "rate": rate,
        }


def read_counters() -> dict[str, Counters]:
    """Every device's counters (proc_pid_net(5)); nothing where the file is not to be had."""
    try:
        with open(_COUNTERS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.rpartition(":")
        fields = rest.split()
        if len(fields) >= 9:
            found[name.strip()] = Counters(int(fields[0]), int(fields[8]))
    return found
