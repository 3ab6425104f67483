"""How much an uplink has carried in the current period of its quota.  Pure; the clock is passed in.

The kernel counts the bytes of a device from its creation.  Usage remembers the counters of the
last count and whose they were, so what a daemon that was killed did not see is counted later.

Invariants: nothing is counted twice; a clock that is set back never begins a period again, and
one that was ahead for a while loses nothing; a warning and the limit are reported once a period.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mproutd.configuration.config import UplinkConfig
from mproutd.planning.json_values import integer, real

MAX_INTERVAL, MIN_INTERVAL = 60.0, 0.5
"""Seconds between two counts: far from the limit, and just before it."""
ASSUMED_RATE = 12.5e6
"""Bytes per second that an uplink of unknown capacity may carry."""
_WRAP = 1 << 32
"""Some drivers count in 32 bits."""
VERSION = 1


class Calendar(NamedTuple):
    """The local time zone."""

    local: Callable[[float], Sequence[int]]
    """Epoch seconds → year, month, day, hour, minute, second, weekday (0 is Monday); as
    time.localtime()."""
    epoch: Callable[[tuple[int, int, int, int, int, int, int, int, int]], float]
    """The inverse, for values that may lie outside of their range; as time.mktime()."""

    def at(self, year: int, month: int, day: int, hour: int = 0) -> float:
        """The epoch second, with summer time where it holds."""
        return self.epoch((year, month, day, hour, 0, 0, 0, 1, -1))


class Device(NamedTuple):
    """Whose counters they are."""

    name: str
    ifindex: int
    """Another one means that the device was created again."""
    boot: str
    """An id of the running kernel; ifindexes repeat after a reboot."""


class Count(NamedTuple):
    """The counters of a device."""

    device: Device
    received: int
    sent: int


class Period(NamedTuple):
    """From `start` to just before `end`, in epoch seconds."""

    start: float
    end: float

    def includes(self, now: float) -> bool:
        return self.start <= now < self.end


NONE, WARNED, REACHED = 0, 1, 2
"""The stages of a period: below quota_warn, from there on, and from the limit on."""


class Usage(NamedTuple):
    """One entry of the ledger."""

    period: Period
    used: int = 0
    """Bytes in this period."""
    counted: Count | None = None
    """What was counted last."""
    stage: int = NONE
    """What has been reported."""
    previous: tuple[Period, int] | None = None
    """The period before, and the bytes in it."""

    def with_used(self, used: int, quota: UplinkConfig) -> Usage:
        """The same with another amount; what it implies is not reported."""
        return self._replace(used=max(0, used), stage=stage(used, quota))


def stage(used: int, uplink: UplinkConfig) -> int:
    """The stage for this many bytes; the uplink has a quota."""
    assert uplink.quota is not None
    if used >= uplink.quota:
        return REACHED
    return WARNED if used * 100 >= uplink.quota * uplink.quota_warn else NONE


# -- periods ------------------------------------------------------------------------------


def period_at(now: float, uplink: UplinkConfig, calendar: Calendar) -> Period:
    """The period in which `now` lies, as the options say."""
    kind, start = uplink.quota_period, uplink.quota_start or 0
    year, month, day, hour, _, _, weekday = calendar.local(now)[:7]
    if kind == "day":
        first = day if hour >= start else day - 1
        return Period(
            calendar.at(year, month, first, start), calendar.at(year, month, first + 1, start)
        )
    if kind == "week":
        first = day - (weekday - (start - 1)) % 7
        return Period(calendar.at(year, month, first), calendar.at(year, month, first + 7))
    if day < min(start, _days_of(year, month)):
        year, month = _month(year, month, -1)
    after_year, after_month = _month(year, month, 1)
    return Period(
        calendar.at(year, month, min(start, _days_of(year, month))),
        calendar.at(after_year, after_month, min(start, _days_of(after_year, after_month))),
    )


def _month(year: int, month: int, offset: int) -> tuple[int, int]:
    index = year * 12 + month - 1 + offset
    return index // 12, index % 12 + 1


def _days_of(year: int, month: int) -> int:
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


# -- counting -----------------------------------------------------------------------------


def growth(before: Count | None, now: Count) -> int:
    """The bytes since the last count.

    Nothing where it is the first one: what the device carried before it had a quota does not
    count.  Everything where the device was created again.
    """
    if before is None or before.device.name != now.device.name:
        return 0
    if before.device != now.device:
        return now.received + now.sent
    return _increase(before.received, now.received) + _increase(before.sent, now.sent)


def _increase(before: int, now: int) -> int:
    """A counter that fell has wrapped, if it is one of 32 bits near its end, or began again."""
    if now >= before:
        return now - before
    if _WRAP // 2 <= before < _WRAP and now < _WRAP // 2:
        return now + _WRAP - before
    return now


def advance(
    usage: Usage | None, count: Count | None, now: float, uplink: UplinkConfig, calendar: Calendar
) -> Usage:
    """The usage at `now`, by the wall clock; `count` is None while there is no device."""
    current = period_at(now, uplink, calendar)
    if usage is None:
        return Usage(current, counted=count)
    before = usage.used
    grown = growth(usage.counted, count) if count else 0
    usage = usage._replace(used=before + grown, counted=count or usage.counted)
    if usage.period.includes(now):
        return usage._replace(period=current)  # the options or the time zone may have changed
    if now >= usage.period.end:
        # What came since the last count belongs to the new period: rather too much than too little.
        return Usage(current, grown, usage.counted, NONE, (usage.period, before))
    if usage.previous and usage.previous[0].includes(now):
        # The clock was ahead, and the period that it began has not begun yet.
        period, earlier = usage.previous
        restored = usage._replace(period=period, previous=None)
        return restored.with_used(earlier + usage.used, uplink)
    return usage  # the clock is behind


def interval(usage: Usage, rate: float, uplink: UplinkConfig) -> float:
    """Seconds until the next count: the limit is not passed by much even at full speed.

    `rate`: bytes per second since the last count.
    """
    assert uplink.quota is not None
    if usage.used >= uplink.quota:
        return MAX_INTERVAL
    capacity = ((uplink.download or 0) + (uplink.upload or 0)) * 125.0
    fastest = max(rate, capacity or ASSUMED_RATE)
    return min(MAX_INTERVAL, max(MIN_INTERVAL, (uplink.quota - usage.used) / fastest / 2))


# -- the file -----------------------------------------------------------------------------


def encode(ledger: Mapping[str, Usage], now: float) -> dict[str, Any]:
    """The ledger as plain values for JSON; `now` is when it was written."""
    return {
        "version": VERSION,
        "time": now,
        "uplinks": {
            name: {
                "period": list(usage.period),
                "used": usage.used,
                "stage": usage.stage,
                "count": [*usage.counted.device, usage.counted.received, usage.counted.sent]
                if usage.counted
                else None,
                "previous": [*usage.previous[0], usage.previous[1]] if usage.previous else None,
            }
            for name, usage in ledger.items()
        },
    }


def decode(data: Any) -> tuple[dict[str, Usage], float]:
    """The inverse of encode().  ValueError when the data is not a ledger."""
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, not {VERSION}")
        ledger = {str(name): _usage(usage) for name, usage in data["uplinks"].items()}
        return ledger, _time(data["time"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a ledger of mproutd: {error}") from None


def _usage(saved: Any) -> Usage:
    start, end = map(_time, saved["period"])
    count, previous = saved["count"], saved["previous"]
    if count is not None:
        name, index, boot, received, sent = count
        device = Device(str(name), _bytes(index), str(boot))
        count = Count(device, _bytes(received), _bytes(sent))
    if previous is not None:
        first, last, before = previous
        previous = Period(_time(first), _time(last)), _bytes(before)
    reported = min(_bytes(saved["stage"]), REACHED)
    return Usage(Period(start, end), _bytes(saved["used"]), count, reported, previous)


def _time(value: object) -> float:
    return real(value, "time")


def _bytes(value: object) -> int:
    return integer(value, 1 << 64, "number of bytes")
