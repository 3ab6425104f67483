"""Periods and counting of quotas: tables of dates, clocks and counters, and any sequence."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import UplinkConfig
from mproutd.planning.quota import (
    MAX_INTERVAL,
    NONE,
    REACHED,
    WARNED,
    Calendar,
    Count,
    Device,
    Period,
    Usage,
    advance,
    decode,
    encode,
    growth,
    interval,
    period_at,
    stage,
)

UTC = Calendar(time.gmtime, calendar.timegm)
LOCAL = Calendar(time.localtime, time.mktime)
G = 10**9
LTE = UplinkConfig("lte", "wwan0", quota=20 * G, quota_start=1, quota_action="backup")
DEVICE = Device("wwan0", 4, "boot1")


def at(text: str, zone: Calendar = UTC) -> float:
    """ "2026-11-30 18:00" as epoch seconds."""
    parsed = time.strptime(text, "%Y-%m-%d %H:%M" if " " in text else "%Y-%m-%d")
    return zone.epoch((*parsed[:6], 0, 1, -1))  # type: ignore[arg-type]


def dates(period: Period, zone: Calendar = UTC) -> tuple[str, ...]:
    """Both ends, without a time of day that is midnight."""
    ends = []
    for epoch in period:
        year, month, day, hour, minute, *_ = zone.local(epoch)
        clock = f" {hour:02}:{minute:02}" if hour or minute else ""
        ends.append(f"{year}-{month:02}-{day:02}{clock}")
    return tuple(ends)


@pytest.fixture
def berlin() -> Iterator[None]:
    """Summer time from 2026-03-29 02:00 to 2026-10-25 03:00."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("period", "start", "now", "expected"),
    [
        ("month", 1, "2026-11-30 18:00", ("2026-11-01", "2026-12-01")),
        ("month", 1, "2026-12-01 00:00", ("2026-12-01", "2027-01-01")),
        ("month", 15, "2026-01-14 23:59", ("2025-12-15", "2026-01-15")),
        ("month", 15, "2026-01-15 00:00", ("2026-01-15", "2026-02-15")),
        # the 31st of months that have none is their last day
        ("month", 31, "2026-01-30", ("2025-12-31", "2026-01-31")),
        ("month", 31, "2026-01-31", ("2026-01-31", "2026-02-28")),
        ("month", 31, "2026-02-27", ("2026-01-31", "2026-02-28")),
        ("month", 31, "2026-02-28", ("2026-02-28", "2026-03-31")),
        ("month", 31, "2026-03-30", ("2026-02-28", "2026-03-31")),
        ("month", 31, "2026-04-30", ("2026-04-30", "2026-05-31")),
        ("month", 30, "2028-02-29", ("2028-02-29", "2028-03-30")),
        ("month", 30, "2028-02-28", ("2028-01-30", "2028-02-29")),
        ("month", 29, "2100-02-28", ("2100-02-28", "2100-03-29")),
        ("month", 29, "2000-02-28", ("2000-01-29", "2000-02-29")),
        # weeks across months and years; 2026-11-30 is a Monday
        ("week", 1, "2026-11-30", ("2026-11-30", "2026-12-07")),
        ("week", 1, "2026-11-29 23:59", ("2026-11-23", "2026-11-30")),
        ("week", 7, "2026-11-30", ("2026-11-29", "2026-12-06")),
        ("week", 4, "2027-01-01", ("2026-12-31", "2027-01-07")),
        # days begin at an hour
        ("day", 0, "2026-12-31 12:00", ("2026-12-31", "2027-01-01")),
        ("day", 6, "2027-01-01 05:59", ("2026-12-31 06:00", "2027-01-01 06:00")),
        ("day", 6, "2027-01-01 06:00", ("2027-01-01 06:00", "2027-01-02 06:00")),
    ],
)
def test_periods(period: str, start: int, now: str, expected: tuple[str, str]) -> None:
    uplink = LTE._replace(quota_period=period, quota_start=start)
    assert dates(period_at(at(now), uplink, UTC)) == expected


@pytest.mark.parametrize(
    ("period", "start", "now", "expected", "hours"),
    [
        ("day", 0, "2026-03-29 12:00", ("2026-03-29", "2026-03-30"), 23),
        ("day", 0, "2026-10-25 12:00", ("2026-10-25", "2026-10-26"), 25),
        ("day", 3, "2026-03-29 01:30", ("2026-03-28 03:00", "2026-03-29 03:00"), 23),
        ("week", 1, "2026-03-29 12:00", ("2026-03-23", "2026-03-30"), 167),
        ("month", 1, "2026-10-31 12:00", ("2026-10-01", "2026-11-01"), 745),
    ],
)
def test_summer_time(
    berlin: None, period: str, start: int, now: str, expected: tuple[str, str], hours: int
) -> None:
    computed = period_at(
        at(now, LOCAL), LTE._replace(quota_period=period, quota_start=start), LOCAL
    )
    assert dates(computed, LOCAL) == expected
    assert computed.end - computed.start == hours * 3600


@given(
    st.sampled_from(["month", "week", "day"]),
    st.integers(0, 31),
    st.integers(0, 4 * 10**9),
)
def test_periods_include_the_time_and_follow_one_another(period: str, start: int, now: int) -> None:
    start = {"month": max(1, start), "week": start % 7 + 1, "day": start % 24}[period]
    uplink = LTE._replace(quota_period=period, quota_start=start)
    computed = period_at(now, uplink, UTC)
    assert computed.includes(now)
    assert period_at(computed.start, uplink, UTC) == computed
    assert period_at(computed.end - 1, uplink, UTC) == computed
    assert period_at(computed.end, uplink, UTC).start == computed.end


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (Count(DEVICE, 100, 10), Count(DEVICE, 150, 15), 55),
        (None, Count(DEVICE, 150, 15), 0),
        # 32 bits
        (Count(DEVICE, 2**32 - 10, 5), Count(DEVICE, 20, 5), 30),
        (Count(DEVICE, 2**32 - 10, 2**32 - 1), Count(DEVICE, 20, 1), 32),
        # a driver that began again: not near the end of 32 bits, or far beyond
        (Count(DEVICE, 10**6, 10**6), Count(DEVICE, 7, 3), 10),
        (Count(DEVICE, 10**12, 0), Count(DEVICE, 7, 0), 7),
        # the device was created again, or the machine was rebooted
        (Count(DEVICE, 100, 10), Count(DEVICE._replace(ifindex=5), 150, 15), 165),
        (Count(DEVICE, 100, 10), Count(DEVICE._replace(boot="boot2"), 150, 15), 165),
        # another device: what it carried before is not known to be this uplink's
        (Count(DEVICE, 100, 10), Count(DEVICE._replace(name="wwan1"), 150, 15), 0),
    ],
)
def test_growth(before: Count | None, now: Count, expected: int) -> None:
    assert growth(before, now) == expected


def counted(received: int, sent: int = 0) -> Count:
    return Count(DEVICE, received, sent)


def test_a_new_quota_begins_with_nothing() -> None:
    usage = advance(None, counted(5 * G), at("2026-11-30"), LTE, UTC)
    assert (usage.used, usage.stage) == (0, NONE)
    usage = advance(usage, counted(6 * G, G), at("2026-11-30 01:00"), LTE, UTC)
    assert usage.used == 2 * G


def test_without_a_device_nothing_is_counted_and_nothing_lost() -> None:
    usage = advance(None, counted(5 * G), at("2026-11-30"), LTE, UTC)
    usage = advance(usage, None, at("2026-11-30 01:00"), LTE, UTC)
    assert advance(usage, counted(6 * G), at("2026-11-30 02:00"), LTE, UTC).used == G


def test_a_period_ends() -> None:
    usage = advance(None, counted(0), at("2026-11-30"), LTE, UTC)
    usage = advance(usage, counted(7 * G), at("2026-11-30 23:59"), LTE, UTC)._replace(stage=WARNED)
    usage = advance(usage, counted(8 * G), at("2026-12-01 00:00"), LTE, UTC)
    assert (usage.used, usage.stage) == (G, NONE)
    assert dates(usage.period) == ("2026-12-01", "2027-01-01")
    assert usage.previous is not None
    assert usage.previous[1] == 7 * G


def test_a_clock_that_is_behind_begins_no_period() -> None:
    usage = advance(None, counted(0), at("2026-11-30"), LTE, UTC)
    usage = advance(usage, counted(G), at("1970-01-01 00:05"), LTE, UTC)
    assert (usage.used, dates(usage.period)) == (G, ("2026-11-01", "2026-12-01"))
    assert advance(usage, counted(2 * G), at("2026-11-30"), LTE, UTC).used == 2 * G


def test_a_clock_that_was_ahead_loses_nothing() -> None:
    usage = advance(None, counted(0), at("2026-11-30"), LTE, UTC)
    usage = advance(usage, counted(17 * G), at("2026-11-30 01:00"), LTE, UTC)
    usage = advance(usage, counted(18 * G), at("2036-01-01"), LTE, UTC)
    assert usage.used == G
    usage = advance(usage, counted(19 * G), at("2026-11-30 02:00"), LTE, UTC)
    assert (usage.used, usage.stage) == (19 * G, WARNED)
    assert dates(usage.period) == ("2026-11-01", "2026-12-01")
    assert usage.previous is None


def test_an_hour_back_in_autumn_counts_on(berlin: None) -> None:
    uplink = LTE._replace(quota_period="day", quota_start=3)
    end = at("2026-10-25 03:00", LOCAL)
    usage = advance(None, counted(0), end - 60, uplink, LOCAL)
    usage = advance(usage, counted(G), end - 1, uplink, LOCAL)
    assert usage.used == G
    assert advance(usage, counted(2 * G), end, uplink, LOCAL).used == G


def test_other_options_move_the_period_and_keep_what_is_used() -> None:
    usage = advance(None, counted(0), at("2026-11-30"), LTE, UTC)
    usage = advance(usage, counted(G), at("2026-11-30 01:00"), LTE, UTC)
    weekly = LTE._replace(quota_period="week")
    usage = advance(usage, counted(2 * G), at("2026-11-30 02:00"), weekly, UTC)
    assert (usage.used, dates(usage.period)) == (2 * G, ("2026-11-30", "2026-12-07"))


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0, NONE), (16 * G - 1, NONE), (16 * G, WARNED), (20 * G - 1, WARNED), (20 * G, REACHED)],
)
def test_stages(used: int, expected: int) -> None:
    assert stage(used, LTE) == expected


def test_a_figure_that_is_entered_is_not_reported() -> None:
    usage = Usage(Period(0, 1), G)
    assert usage.with_used(21 * G, LTE) == Usage(Period(0, 1), 21 * G, stage=REACHED)
    assert usage.with_used(-5, LTE).used == 0


@pytest.mark.parametrize(
    ("uplink", "used", "rate", "expected"),
    [
        (LTE, 0, 0.0, MAX_INTERVAL),
        (LTE, 20 * G - 25_000_000, 0.0, 1.0),  # 100 Mbit/s are assumed
        (LTE, 20 * G - 25_000_000, 25e6, 0.5),  # it is faster
        (LTE._replace(download=8000, upload=8000), 20 * G - 25_000_000, 0.0, 6.25),
        (LTE, 20 * G - 1, 0.0, 0.5),
        (LTE, 20 * G, 1e9, MAX_INTERVAL),
    ],
)
def test_how_soon_to_count_again(
    uplink: UplinkConfig, used: int, rate: float, expected: float
) -> None:
    assert interval(Usage(Period(0, 1), used), rate, uplink) == expected


LEDGER = {
    "lte": Usage(Period(1.0, 2.0), 3, Count(DEVICE, 4, 5), WARNED, (Period(0.0, 1.0), 6)),
    "sat": Usage(Period(1.0, 2.0)),
}


def test_the_ledger_can_be_read_again() -> None:
    assert decode(encode(LEDGER, 7.0)) == (LEDGER, 7.0)


GOOD = encode(LEDGER, 1)["uplinks"]["lte"]
DAMAGES = [
    None,
    [],
    {},
    {"version": 2, "time": 1, "uplinks": {}},
    {"version": 1, "time": 1, "uplinks": []},
    {"version": 1, "time": "x", "uplinks": {}},
    {"version": 1, "time": float("nan"), "uplinks": {}},
    {"version": 1, "time": 1, "uplinks": {"lte": {"period": [1, 2]}}},
    *(
        {
            "version": 1,
            "time": 1,
            "uplinks": {"lte": {**encode(LEDGER, 1)["uplinks"]["lte"], **bad}},
        }
        for bad in (
            {"used": -1},
            {"used": True},
            {"used": 1.5},
            {"period": [1]},
            {"period": [True, 2]},
            {"count": ["wwan0", 1]},
            {"count": ["wwan0", 1, "boot", 2**64, 0]},
            {"previous": [1, 2]},
            {"stage": "x"},
        )
    ),
]


@pytest.mark.parametrize("damaged", DAMAGES)
def test_a_damaged_ledger_is_a_value_error(damaged: object) -> None:
    with pytest.raises(ValueError, match="not a ledger"):
        decode(damaged)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**9), st.booleans())))
def test_whatever_the_clock_does_nothing_is_counted_twice(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Of all that was carried, the current period and the one before never have more."""
    usage, total, device = advance(None, counted(0), 0, LTE, UTC), 0, DEVICE
    received = 0
    for now, carried, created_again in steps:
        if created_again:
            device, received = device._replace(ifindex=device.ifindex + 1), 0
        received += carried
        total += carried
        usage = advance(usage, Count(device, received, 0), now, LTE, UTC)
        assert usage.used + (usage.previous[1] if usage.previous else 0) <= total
