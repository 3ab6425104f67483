"""Who removes what is ours gets it back, but not at any rate.  The clock is the test's."""

from __future__ import annotations

from socket import AF_INET

from mproutd.model import Endpoint, Operation, Route, Rule
from mproutd.planning.pacing import (
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
    removals.record_pass(values or [RULE])
    return removals, clock


def test_what_is_new_is_no_removal() -> None:
    removals = RemovalLimiter(Clock())
    for _ in range(20):
        assert removals.allow(ADD, ())
    assert removals.restored() == {}
    assert removals.next_at() is None


def test_the_first_ones_are_made_good_at_once_and_then_one_an_interval() -> None:
    removals, clock = settled()
    for _ in range(RESTORE_BURST):
        assert removals.allow(ADD, ())
        removals.record_pass([RULE])
    assert not removals.allow(ADD, ())
    removals.record_pass([RULE], [RULE])
    assert removals.rate_limited() == {RULE}
    assert removals.restored() == {RULE: RESTORE_BURST}
    assert removals.next_at() == clock.now + RESTORE_INTERVAL
    done = 0
    start = clock.now
    while clock.now < start + 10 * RESTORE_INTERVAL:
        clock.now += 0.1
        if removals.allow(ADD, ()):
            done += 1
            removals.record_pass([RULE])
        else:
            removals.record_pass([RULE], [RULE])
    assert 9 <= done <= 10


def test_next_at_is_when_it_may_be_done() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([RULE])
    removals.record_pass([RULE], [RULE])
    at = removals.next_at()
    assert at is not None
    clock.now = at - 0.01
    assert not removals.allow(ADD, ())
    at = removals.next_at()
    assert at is not None
    clock.now = at
    assert removals.allow(ADD, ())
    removals.record_pass([RULE])
    assert removals.next_at() is None


def test_what_is_left_alone_regains_its_burst() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([RULE])
    clock.now += (RESTORE_BURST + 1) * RESTORE_INTERVAL
    removals.record_pass([RULE])
    assert removals.restored() == {}
    assert removals.rate_limited() == set()
    assert [removals.allow(ADD, ()) for _ in range(RESTORE_BURST)] == [True] * RESTORE_BURST


def test_what_is_held_back_and_no_longer_wanted_wakes_nobody() -> None:
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([RULE])
    removals.record_pass([RULE], [RULE])
    removals.record_pass([])
    clock.now += RESTORE_INTERVAL
    assert removals.next_at() is None
    assert removals.rate_limited() == set()


def test_what_waits_for_something_else_wakes_nobody() -> None:
    """Its time is over, but no pass asks: it is misrouted, or its routes are missing."""
    removals, clock = settled()
    while removals.allow(ADD, ()):
        removals.record_pass([RULE])
    removals.record_pass([RULE], [RULE])
    assert removals.next_at() == clock.now + RESTORE_INTERVAL
    removals.record_pass([RULE], [RULE])
    assert removals.next_at() is None
    assert removals.rate_limited() == {RULE}, "it is still missing because it was removed too often"
    assert not removals.allow(ADD, ()), "its turn, and its time is not over"
    removals.record_pass([RULE], [RULE])
    assert removals.next_at() == clock.now + RESTORE_INTERVAL
    clock.now += RESTORE_INTERVAL
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
        removals.record_pass([ROUTE])
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


def test_patience_with_an_address_that_is_led_away_has_an_end() -> None:
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
