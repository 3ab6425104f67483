"""When an uplink carries by overflow: seconds of load in, decisions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mproutd.planning.overflow import (
    HOLD,
    HOLD_MAX,
    MAX_PAUSE,
    SAMPLE_INTERVAL,
    Capacity,
    Learned,
    Load,
    Meter,
    Overflow,
    decode,
    encode,
    load,
)

MBIT = 1e6
KNOWN = Capacity(20 * MBIT)


class Site:
    """Regular uplinks of 20 Mbit/s and one costly uplink, sampled twice a second.

    The regular ones carry what they can of the demand, in equal parts; the costly one gets the rest
    while it carries.
    """

    def __init__(
        self, percent: int = 80, regular: int = 1, capacity: Capacity = KNOWN, direction: int = 0
    ) -> None:
        self.overflow = Overflow(percent)
        self.meter, self.now = Meter(), 1000.0
        self.names = tuple(f"dsl{number}" for number in range(1, regular + 1))
        self.bytes = dict.fromkeys((*self.names, "lte"), 0.0)
        self.capacity, self.direction = capacity, direction
        self.limit = 20 * MBIT
        """What a regular uplink really carries."""
        self.changes: list[tuple[float, bool]] = []

    def run(self, demand: float | Callable[[float], float], seconds: float) -> Site:
        """`demand` in Mbit/s, constant or by the seconds since now."""
        end, begin = self.now + seconds, self.now
        while self.now < end:
            wanted = demand(self.now - begin) if callable(demand) else demand
            self._step(wanted * MBIT)
        return self

    def _step(self, demand: float) -> None:
        share = min(demand / len(self.names), self.limit)
        rest = max(0.0, demand - share * len(self.names)) if self.overflow.carrying else 0.0
        for name, rate in (*((name, share) for name in self.names), ("lte", rest)):
            self.bytes[name] += rate / 8 * SAMPLE_INTERVAL
        self.now += SAMPLE_INTERVAL
        self.meter.add(
            self.now,
            {
                name: (int(count), 0) if self.direction == 0 else (0, int(count))
                for name, count in self.bytes.items()
            },
        )
        loads = [
            measured
            for name in self.names
            for direction in (0, 1)
            if (measured := load(self.meter, name, direction, self.capacity))
        ]
        if len(loads) == 2 * len(self.names):
            own = self.meter.rates("lte", 2.0) or (0.0, 0.0)
            own = own if self.overflow.carrying else (0.0, 0.0)
            if self.overflow.update(self.now, loads, own):
                self.changes.append((self.now - 1000, self.overflow.carrying))


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("regular", [1, 3])
def test_below_the_threshold_it_never_carries(regular: int, direction: int) -> None:
    site = Site(regular=regular, direction=direction).run(15.5 * regular, 120)
    assert site.changes == []


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("regular", [1, 3])
def test_carries_within_three_seconds_and_stops_within_fifteen(
    regular: int, direction: int
) -> None:
    site = Site(regular=regular, direction=direction).run(10 * regular, 30)
    site.run(30 * regular, 30).run(10 * regular, 60)
    (begun, carrying), (ended, idle) = site.changes
    assert (carrying, idle) == (True, False)
    assert 2 <= begun - 30 <= 3
    assert 10 <= ended - 60 <= 15


def test_the_reason_names_the_uplinks_their_load_and_the_direction() -> None:
    assert Site().run(30, 5).overflow.reason == "dsl1 is at 100 % (download)"
    site = Site(regular=2, direction=1).run(60, 5)
    assert site.overflow.reason == "dsl1 is at 100 % and dsl2 is at 100 % (upload)"


def test_one_regular_uplink_with_room_is_enough() -> None:
    site = Site(regular=2)
    full = Load("dsl1", 0, KNOWN, 20 * MBIT, 20 * MBIT)
    idle = [Load(name, direction, KNOWN, 0, 0) for name in ("dsl1", "dsl2") for direction in (0, 1)]
    assert not site.overflow.update(1, [full, *idle[1:]], (0, 0))
    assert site.overflow.update(2, [full, idle[1], full._replace(uplink="dsl2"), idle[3]], (0, 0))


@pytest.mark.parametrize("seconds", [0.5, 1, 1.5])
def test_a_short_peak_is_nothing(seconds: float) -> None:
    assert Site().run(5, 20).run(100, seconds).run(5, 60).changes == []


def test_it_stops_only_when_everything_fits_into_the_others() -> None:
    site = Site().run(30, 10).run(13, 60)  # 65 % of the regular one
    assert site.overflow.carrying
    assert not site.run(11.5, 15).overflow.carrying


def test_a_threshold_of_50_percent_releases_below_it() -> None:
    site = Site(percent=50).run(11, 10)
    assert site.overflow.carrying
    assert site.run(9, 60).overflow.carrying
    assert not site.run(7, 15).overflow.carrying


@pytest.mark.parametrize("period", [1, 2, 4, 7, 13, 19])
def test_a_saw_tooth_does_not_flap(period: int) -> None:
    """From nothing to twice the capacity and back again, for half an hour."""
    site = Site().run(lambda t: 40 * (t % period) / period, 1800)
    assert len(site.changes) <= 1


@pytest.mark.parametrize("half", [13, 16, 20])
def test_on_and_off_doubles_the_hold(half: int) -> None:
    """Long enough full and long enough idle to change each time."""
    site = Site().run(lambda t: 40.0 if t % (2 * half) < half else 0.0, 3600)
    # 10, 20, 40, 80, 160, then 300 s: an hour has no room for more than these
    assert len(site.changes) <= 2 * (6 + 3600 // HOLD_MAX)
    begun = [time for time, carrying in site.changes if carrying]
    gaps = [after - before for before, after in pairwise(begun)]
    assert min(gaps[6:]) >= HOLD_MAX


def test_the_hold_is_forgotten_after_five_quiet_minutes() -> None:
    site = Site().run(30, 10).run(0, 20).run(30, 10).run(0, 30)
    assert site.overflow.flaps == 1
    site.run(0, HOLD_MAX + 10).run(30, 10)
    assert (site.overflow.flaps, site.overflow.hold_remaining(site.now)) == (0, 0.0)


def test_the_remaining_hold_is_shown() -> None:
    site = Site().run(30, 10).run(0, 20).run(30, 4)
    assert 0 < site.overflow.hold_remaining(site.now) <= HOLD


def test_without_a_regular_uplink_there_is_nothing_to_decide() -> None:
    site = Site().run(30, 10)
    assert site.overflow.update(site.now, [], (0, 0))
    assert not site.overflow.carrying
    assert not site.overflow.update(site.now, [], (0, 0))


def test_without_a_capacity_nothing_is_full() -> None:
    site = Site(capacity=Capacity(0.0)).run(1000, 60)
    assert site.changes == []
    site.overflow.carrying = True  # as a daemon finds it that was restarted without one
    assert not site.run(0, 15).overflow.carrying


# -- learned capacities -------------------------------------------------------------------


def test_a_learned_capacity_that_is_right_lets_it_carry() -> None:
    site = Site(capacity=Capacity(20 * MBIT, learned=True)).run(10, 20).run(30, 60)
    assert [carrying for _, carrying in site.changes] == [True]


def test_a_learned_capacity_that_is_too_low_costs_short_trials_that_become_rare() -> None:
    """A steady stream of 5 Mbit/s is the highest rate so far, but the uplink has room for it."""
    site = Site(capacity=Capacity(5 * MBIT, learned=True)).run(5, 3600)
    trials = [time for time, carrying in site.changes if carrying]
    ends = [time for time, carrying in site.changes if not carrying]
    assert site.overflow.unneeded
    assert len(trials) <= 8
    assert max(end - begun for begun, end in zip(trials, ends, strict=True)) <= 5.5
    assert site.overflow.paused_until is not None


def test_a_pause_ends_with_a_trial_that_was_needed() -> None:
    site = Site(capacity=Capacity(5 * MBIT, learned=True)).run(5, 60)
    assert not site.overflow.carrying
    site.limit = 5 * MBIT
    site.run(10, MAX_PAUSE)
    assert site.overflow.carrying
    assert site.overflow.paused_until is None


def test_learned_is_the_highest_rate_of_the_last_day() -> None:
    learned = Learned()
    assert learned.record("dsl", (5e6, 1e6), 0)
    assert not learned.record("dsl", (4e6, 1e6), 1)
    assert learned.record("dsl", (4e6, 2e6), 1)
    assert learned.record("dsl", (3e6, 3e5), 7200)
    assert learned.capacity("dsl", 0) == Capacity(5e6, True)
    assert learned.capacity("dsl", 1) == Capacity(2e6, True)
    learned.record("dsl", (2e6, 2e5), 86400)
    assert learned.capacity("dsl", 0) == Capacity(3e6, True)
    assert learned.capacity("dsl", 1) == Capacity(3e5, True)
    assert learned.capacity("fibre", 0) == Capacity(0.0, True)


def test_more_than_what_was_learned_is_full_and_not_more_than_full() -> None:
    samples = meter([(n / 2, n * 1_000_000) for n in range(9)])
    found = load(samples, "dsl", 0, Capacity(5 * MBIT, learned=True))
    assert found is not None
    assert (found.percent, found.exceeds(99)) == (100.0, True)
    configured = load(samples, "dsl", 0, Capacity(8 * MBIT))
    assert configured is not None
    assert configured.percent == 200.0


def test_hardly_any_traffic_teaches_nothing() -> None:
    learned = Learned()
    learned.record("dsl", (90_000.0, 0.0), 0)
    assert learned.capacity("dsl", 0).rate == 0


def test_a_clock_that_was_ahead_leaves_no_rates_behind() -> None:
    learned = Learned()
    learned.record("dsl", (9e6, 9e6), 10**9)
    learned.record("dsl", (1e6, 1e6), 0)
    assert learned.capacity("dsl", 0).rate == 1e6


def test_learned_rates_can_be_read_again() -> None:
    learned = Learned()
    learned.record("dsl", (5e6, 1e6), 0)
    hours, written = decode(encode(learned, 3.0))
    assert (Learned(hours).hours, written) == (learned.hours, 3.0)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        {},
        {"version": 2},
        {"version": 1},
        {"version": 1, "time": 0, "uplinks": {"x": [[1]]}},
        {"version": 1, "time": 0, "uplinks": {"x": [[1, 2, "3"]]}},
        {"version": 1, "time": True, "uplinks": {}},
        {"version": 1, "time": float("inf"), "uplinks": {}},
    ],
)
def test_a_damaged_file_is_a_value_error(damaged: object) -> None:
    with pytest.raises(ValueError, match="not the learned rates"):
        decode(damaged)


# -- rates --------------------------------------------------------------------------------


def meter(samples: Sequence[tuple[float, int]]) -> Meter:
    made = Meter()
    for now, received in samples:
        made.add(now, {"dsl": (received, 2 * received)})
    return made


def test_rates_are_means_between_samples() -> None:
    half_seconds = meter([(n / 2, n * 1000) for n in range(9)])
    assert half_seconds.rates("dsl", 2.0) == (16000, 32000)
    assert half_seconds.rates("dsl", 2.0, 1.0) == (16000, 32000)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [(0, 5)],
        [(0, 5), (0.5, 6)],  # too young
        [(0, 9), (1, 5), (2, 6)],  # it began again
    ],
)
def test_no_rate_without_samples(samples: list[tuple[float, int]]) -> None:
    assert meter(samples).rates("dsl", 2.0) is None


def test_no_rate_of_an_unknown_uplink() -> None:
    assert meter([(0, 1), (2, 2)]).rates("fibre", 2.0) is None
    cleared = meter([(0, 1), (2, 2)])
    cleared.clear()
    assert cleared.rates("dsl", 2.0) is None


def test_samples_are_kept_for_ten_seconds() -> None:
    made = meter([(n / 2, n) for n in range(1000)])
    assert made.rates("dsl", 10.0) is not None
    assert made.rates("dsl", 12.0) is None


def test_late_timers_change_no_rate() -> None:
    jitter = meter([(n / 2 + (0.15 if n % 3 else 0), 1000 * n) for n in range(20)])
    rates = jitter.rates("dsl", 2.0)
    assert rates is not None
    assert abs(rates[0] - 16000) < 1600


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 60)), max_size=30))
def test_no_load_makes_it_change_more_often_than_the_hold_allows(
    parts: list[tuple[float, int]],
) -> None:
    site = Site()
    for demand, seconds in parts:
        site.run(demand, seconds)
    begun = [time for time, carrying in site.changes if carrying]
    assert [carrying for _, carrying in site.changes] == [
        n % 2 == 0 for n in range(len(site.changes))
    ]
    assert all(after - before >= 10 for before, after in pairwise(begun))
