"""Who removes what is ours gets it back, but not at any rate.  The clock is the test's."""

from __future__ import annotations

from socket import AF_INET

from mproutd.model import Endpoint, Operation, Route, Rule
from mproutd.planning.pacing import BURST, INTERVAL, PATIENCE, Patience, Restraint

RULE = Rule(AF_INET, 7501, 7001, "10.1.1.2")
ROUTE = Route(AF_INET, 7001, "default", 5, "10.1.1.1")
ADD = Operation("add", RULE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(*values: Route | Rule | Endpoint) -> tuple[Restraint, Clock]:
    clock = Clock()
    restraint = Restraint(clock)
    restraint.settle(values or [RULE])
    return restraint, clock


def test_what_is_new_is_no_removal() -> None:
    restraint = Restraint(Clock())
    for _ in range(20):
        assert restraint.allow(ADD, ())
    assert restraint.removed() == {}
    assert restraint.due() is None


def test_the_first_ones_are_made_good_at_once_and_then_one_an_interval() -> None:
    restraint, clock = settled()
    for _ in range(BURST):
        assert restraint.allow(ADD, ())
        restraint.settle([RULE])
    assert not restraint.allow(ADD, ())
    restraint.settle([RULE], [RULE])
    assert restraint.held() == {RULE}
    assert restraint.removed() == {RULE: BURST}
    wait = restraint.due()
    assert wait == INTERVAL
    done = 0
    start = clock.now
    while clock.now < start + 10 * INTERVAL:
        clock.now += 0.1
        if restraint.allow(ADD, ()):
            done += 1
            restraint.settle([RULE])
        else:
            restraint.settle([RULE], [RULE])
    assert 9 <= done <= 10


def test_due_is_when_it_may_be_done() -> None:
    restraint, clock = settled()
    while restraint.allow(ADD, ()):
        restraint.settle([RULE])
    restraint.settle([RULE], [RULE])
    wait = restraint.due()
    assert wait is not None
    clock.now += wait - 0.01
    assert not restraint.allow(ADD, ())
    wait = restraint.due()
    assert wait is not None
    clock.now += wait
    assert restraint.allow(ADD, ())
    restraint.settle([RULE])
    assert restraint.due() is None


def test_what_is_left_alone_regains_its_burst() -> None:
    restraint, clock = settled()
    while restraint.allow(ADD, ()):
        restraint.settle([RULE])
    clock.now += (BURST + 1) * INTERVAL
    restraint.settle([RULE])
    assert restraint.removed() == {}
    assert restraint.held() == set()
    assert [restraint.allow(ADD, ()) for _ in range(BURST)] == [True] * BURST


def test_what_is_held_back_and_no_longer_wanted_wakes_nobody() -> None:
    restraint, clock = settled()
    while restraint.allow(ADD, ()):
        restraint.settle([RULE])
    restraint.settle([RULE], [RULE])
    restraint.settle([])
    clock.now += INTERVAL
    assert restraint.due() is None
    assert restraint.held() == set()


def test_what_waits_for_something_else_wakes_nobody() -> None:
    """Its time is over, but no pass comes to it: it is led away, or its routes are missing."""
    restraint, clock = settled()
    while restraint.allow(ADD, ()):
        restraint.settle([RULE])
    restraint.settle([RULE], [RULE])
    assert restraint.due() == INTERVAL
    restraint.settle([RULE], [RULE])
    assert restraint.due() is None
    assert restraint.held() == {RULE}, "it is still missing because it was removed too often"
    assert not restraint.allow(ADD, ()), "its turn, and its time is not over"
    restraint.settle([RULE], [RULE])
    assert restraint.due() == INTERVAL
    clock.now += INTERVAL
    assert restraint.allow(ADD, ())


def test_what_was_refused_was_not_removed() -> None:
    """A route that the kernel does not take is tried again and again, and that is no removal."""
    restraint = Restraint(Clock())
    for _ in range(20):
        assert restraint.allow(Operation("add", ROUTE), ())
        restraint.settle([ROUTE], [ROUTE])
    assert restraint.removed() == {}


def test_a_route_whose_device_had_an_event_went_with_it() -> None:
    restraint, _ = settled(ROUTE)
    for _ in range(20):
        assert restraint.allow(Operation("add", ROUTE), {5})
        restraint.settle([ROUTE])
    assert restraint.removed() == {}
    assert restraint.allow(Operation("add", ROUTE), {6})
    assert restraint.removed() == {ROUTE: 1}


def test_what_goes_is_never_held_back() -> None:
    restraint, _ = settled()
    assert all(restraint.allow(Operation("delete", RULE), ()) for _ in range(20))
    assert restraint.removed() == {}


def test_an_endpoint_is_known_whatever_its_id() -> None:
    restraint, _ = settled(Endpoint("10.1.1.2", 5, 2))
    assert restraint.allow(Operation("add", Endpoint("10.1.1.2", 5, 2, 9)), ())
    assert restraint.removed() == {Endpoint("10.1.1.2", 5, 2): 1}


def test_flags_that_are_wanted_anew_are_no_removal() -> None:
    restraint, _ = settled(Endpoint("10.1.1.2", 5, 2))
    assert restraint.allow(Operation("change", Endpoint("10.1.1.2", 5, 6, 9)), ())
    assert restraint.removed() == {}


def test_what_we_take_away_ourselves_is_expected() -> None:
    endpoint = Endpoint("10.1.1.2", 5, 2)
    restraint, _ = settled(endpoint)
    restraint.expect([endpoint])
    assert restraint.allow(Operation("add", endpoint), ())
    assert restraint.removed() == {}


def test_patience_with_an_address_that_is_led_away_has_an_end() -> None:
    clock = Clock()
    patience = Patience(clock)
    assert patience.grant(["10.1.1.2"]) == {"10.1.1.2"}
    clock.now += PATIENCE / 2
    assert patience.grant(["10.1.1.2", "10.2.2.2"]) == {"10.1.1.2", "10.2.2.2"}
    assert patience.due() == PATIENCE / 2
    clock.now += PATIENCE / 2
    assert patience.grant(["10.1.1.2", "10.2.2.2"]) == {"10.2.2.2"}
    assert patience.grant([]) == frozenset()
    assert patience.due() is None
    assert patience.grant(["10.1.1.2"]) == {"10.1.1.2"}, "it was back, so its time begins anew"
