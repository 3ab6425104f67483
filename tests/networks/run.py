"""A connection that runs while a cable is unplugged and plugged in again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from tests.lab import Iperf, Measured, Namespace

Happens = Callable[[], object]

SETTLED = 1.5
"""Seconds after a change that count for no rate."""


class Run(NamedTuple):
    """iperf3's report, and the seconds at which the cable was unplugged and plugged in again."""

    measured: Measured
    unplugged: float
    plugged: float

    @property
    def rates(self) -> tuple[float, float, float]:
        """Mbit/s over both uplinks, over one, over both again."""
        measured = self.measured
        return (
            measured.between(SETTLED, self.unplugged),
            measured.between(self.unplugged + SETTLED, self.plugged),
            measured.between(self.plugged + SETTLED, measured.intervals[-1].start),
        )

    def table(self) -> str:
        """The figures for docs/performance.md."""
        both, one, again = self.rates
        worst = min(interval.mbit for interval in self.measured.intervals[:-1])
        return (
            f"both uplinks       {both:5.1f} Mbit/s\n"
            f"one uplink         {one:5.1f} Mbit/s\n"
            f"both again         {again:5.1f} Mbit/s\n"
            f"worst half second  {worst:5.1f} Mbit/s\n"
        )


def interrupted(
    client: Namespace,
    server: Namespace,
    address: str,
    seconds: float,
    unplug: Happens,
    plug: Happens,
    *,
    mptcp: bool = False,
) -> Run:
    """One iperf3 from client to server; `unplug` at a third of its time, `plug` at two."""
    third = seconds / 3
    iperf = Iperf(client, server, address, seconds, mptcp=mptcp)
    begun = time.monotonic()

    def wait(until: float) -> float:
        time.sleep(max(0.0, begun + until - time.monotonic()))
        return time.monotonic() - begun

    unplugged = wait(third)
    unplug()
    plugged = wait(2 * third)
    plug()
    return Run(iperf.result(), unplugged, plugged)
