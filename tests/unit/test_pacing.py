"""Who removes what is ours gets it back, but not at any rate.  The clock is the test's."""

from __future__ import annotations

from itertools import pairwise
from socket import AF_INET

import pytest

from mproutd.model import Endpoint, Operation, Route, Rule
from mproutd.planning.pacing import (
    FIRST_DELAY,
    MISROUTED_GRACE,
    RESTORE_BURST,
    RESTORE_INTERVAL,
    GracePeriod,
    RemovalLimiter,
)

RULE = Rule(AF_INET, 7501, 7001, "10.1.1.2")
ROUTE = Route(AF_INET, 7001, "default", 5, "10.1.1.1")
ADD = Operation("add", RULE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(*values: Route | Rule | Endpoint) -> tuple[RemovalLimiter, Clock]:
    clock = Clock()
    removals = RemovalLimiter(clock)
    removals.record_pass([values or [RULE]])
    return removals, clock


def test_what_is_new_is_no_removal() -> None:
    removals = RemovalLimiter(Clock())
    for _ in range(20):
        assert removals.allow(ADD, ())
    assert removals.restored() == {}
    assert removals.total == 0
    assert removals.next_at() is None


def test_the_first_are_restored_at_once_and_further_ones_after_growing_delays() -> None:
    removals, clock = settled()
    for _ in range(RESTORE_BURST):
        assert removals.allow(ADD, ())
        removals.record_pass([[RULE]])
    assert not removals.allow(ADD, ())
    removals.record_pass([[RULE]], [RULE])
    assert removals.rate_limited() == {RULE}
    assert removals.restored() == {RULE: RESTORE_BURST}
    assert removals.total == RESTORE_BURST
    assert removals.next_at() == clock.now + FIRST_DELAY
    restored = fight(removals, clock, 10 * RESTORE_INTERVAL)
    delays = [after - before for before, after in pairwise(restored)]
    assert delays[:4] == [pytest.approx(FIRST_DELAY * 2**n, abs=0.02) for n in range(1, 5)]
    assert delays[-3:] == [pytest.approx(RESTORE_INTERVAL, abs=0.02)] * 3


def fight(removals: RemovalLimiter, clock: Clock, seconds: float) -> list[float]:
    """When the rule was restored while another program removes it at once, every time."""
    restored = []
    start = clock.now
    while clock.now < start + seconds:
        clock.now += 0.01
        if removals.allow(ADD, ()):
            restored.append(clock.now)
            removals.record_pass([[RULE]])
        else:
            removals.record_pass([[RULE]], [RULE])
    return restored


@pytest.mark.parametrize("deletions", [6, 10, 50])
def test_a_burst_of_deletions_that_has_ended_costs_no_five_seconds(deletions: int) -> None:
    """A program deletes the rule again whenever it sees it, 10 ms apart, until it is done."""
    removals, clock = settled()
    for _ in range(deletions):
        clock.now += 0.01
        there = removals.allow(ADD, ())
        removals.record_pass([[RULE]], () if there else [RULE])
        if not there:
            break  # what is gone cannot be deleted
    at = removals.next_at()
    assert at is not None
    assert at - clock.now == pytest.approx(FIRST_DELAY)
    clock.now = at
    assert removals.allow(ADD, ())


def test_next_at_is_when_it_may_be_done() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([[RULE]])
    removals.record_pass([[RULE]], [RULE])
    at = removals.next_at()
    assert at is not None
    clock.now = at - 0.01
    assert not removals.allow(ADD, ())
    at = removals.next_at()
    assert at is not None
    clock.now = at
    assert removals.allow(ADD, ())
    removals.record_pass([[RULE]])
    assert removals.next_at() is None


def test_what_is_left_alone_regains_its_burst() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([[RULE]])
    clock.now += (RESTORE_BURST + 1) * RESTORE_INTERVAL
    removals.record_pass([[RULE]])
    assert removals.restored() == {}
    assert removals.rate_limited() == set()
    assert [removals.allow(ADD, ()) for _ in range(RESTORE_BURST)] == [True] * RESTORE_BURST


def test_a_withheld_object_no_longer_wanted_causes_no_pass() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([[RULE]])
    removals.record_pass([[RULE]], [RULE])
    removals.record_pass([])
    clock.now += RESTORE_INTERVAL
    assert removals.next_at() is None
    assert removals.rate_limited() == set()


def test_a_blocked_object_causes_no_pass() -> None:
    """Its time is over, but no pass asks: it is misrouted, or its routes are missing."""
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([[RULE]])
    removals.record_pass([[RULE]], [RULE])
    assert removals.next_at() == clock.now + FIRST_DELAY
    removals.record_pass([[RULE]], [RULE])
    assert removals.next_at() is None
    assert removals.rate_limited() == {RULE}, "it is still missing because it was removed too often"
    assert not removals.allow(ADD, ()), "its turn, and its time is not over"
    removals.record_pass([[RULE]], [RULE])
    assert removals.next_at() == clock.now + FIRST_DELAY
    clock.now += FIRST_DELAY
    assert removals.allow(ADD, ())


def test_what_was_refused_was_not_removed() -> None:
    """A route that the kernel does not take is tried again and again, and that is no removal."""
    removals = RemovalLimiter(Clock())
    for _ in range(20):
        assert removals.allow(Operation("add", ROUTE), ())
        removals.record_pass([ROUTE], [ROUTE])
    assert removals.restored() == {}


def test_a_route_whose_device_had_an_event_went_with_it() -> None:
    removals, _ = settled(ROUTE)
    for _ in range(20):
        assert removals.allow(Operation("add", ROUTE), {5})
        removals.record_pass([[ROUTE]])
    assert removals.restored() == {}
    assert removals.allow(Operation("add", ROUTE), {6})
    assert removals.restored() == {ROUTE: 1}


def test_what_goes_is_never_held_back() -> None:
    removals, _ = settled()
    assert all(removals.allow(Operation("delete", RULE), ()) for _ in range(20))
    assert removals.restored() == {}


def test_an_endpoint_is_known_whatever_its_id() -> None:
    removals, _ = settled(Endpoint("10.1.1.2", 5, 2))
    assert removals.allow(Operation("add", Endpoint("10.1.1.2", 5, 2, 9)), ())
    assert removals.restored() == {Endpoint("10.1.1.2", 5, 2): 1}


def test_flags_that_are_wanted_anew_are_no_removal() -> None:
    removals, _ = settled(Endpoint("10.1.1.2", 5, 2))
    assert removals.allow(Operation("change", Endpoint("10.1.1.2", 5, 6, 9)), ())
    assert removals.restored() == {}


def test_what_we_take_away_ourselves_is_expected() -> None:
    endpoint = Endpoint("10.1.1.2", 5, 2)
    removals, _ = settled(endpoint)
    removals.expect_removal([endpoint])
    assert removals.allow(Operation("add", endpoint), ())
    assert removals.restored() == {}


def test_the_grace_period_of_a_misrouted_address_ends() -> None:
    clock = Clock()
    grace = GracePeriod(clock)
    assert grace.grant(["10.1.1.2"]) == {"10.1.1.2"}
    clock.now += MISROUTED_GRACE / 2
    assert grace.grant(["10.1.1.2", "10.2.2.2"]) == {"10.1.1.2", "10.2.2.2"}
    assert grace.next_at() == clock.now + MISROUTED_GRACE / 2
    clock.now += MISROUTED_GRACE / 2
    assert grace.grant(["10.1.1.2", "10.2.2.2"]) == {"10.2.2.2"}
    assert grace.grant([]) == frozenset()
    assert grace.next_at() is None
    assert grace.grant(["10.1.1.2"]) == {"10.1.1.2"}, "it was back, so its time begins anew"
