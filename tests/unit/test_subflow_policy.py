"""A subflow that failed is tried again, ever more rarely, while a connection misses it."""

from __future__ import annotations

import pytest

from mproutd.netlink.mptcp_pm import Event
from mproutd.subflows.policy import (
    APART,
    COSTLY,
    FIRST,
    KNOWN_MOST,
    LAST,
    LAST_COSTLY,
    WAYS,
    Again,
    RetryPolicy,
)
from tests.unit.test_pacing import Clock

HERE = "10.2.2.2"


def failed(token: int = 1, source: str = HERE, **more: int) -> Event:
    return Event("sub-closed", token, source=source, error=111, **more)


def taken(revival: RetryPolicy, *present: str) -> str:
    """The address that is tried again now; empty for none."""
    again = revival.take(present)
    return again.address if again else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revival(clock: Clock) -> RetryPolicy:
    return RetryPolicy(clock)


def test_nothing_failed(revival: RetryPolicy) -> None:
    revival.hear(Event("sub-established", 1, source=HERE))
    revival.hear(Event("sub-closed", 1, source=HERE))
    assert revival.due() is None
    assert taken(revival, HERE) == ""
    assert revival.waiting() == {}


def test_the_delays_double_up_to_the_last(revival: RetryPolicy, clock: Clock) -> None:
    revival.hear(failed())
    delays = []
    for _ in range(12):
        wait = revival.due()
        assert wait is not None
        assert taken(revival, HERE) == ""
        clock.now += wait
        assert taken(revival, HERE) == HERE
        revival.hear(failed())
        delays.append(wait)
    assert delays[:3] == [FIRST, FIRST * 2, FIRST * 4]
    assert delays[-1] == LAST


def test_it_ends_when_every_connection_has_its_subflow_or_is_gone(revival: RetryPolicy) -> None:
    revival.hear(failed(1))
    revival.hear(failed(2))
    assert revival.waiting() == {HERE: 2}
    revival.hear(Event("sub-established", 1, source=HERE))
    assert revival.due() == FIRST
    revival.hear(Event("closed", 2))
    assert revival.due() is None
    assert revival.waiting() == {}


def test_an_endpoint_that_is_gone_is_forgotten(revival: RetryPolicy, clock: Clock) -> None:
    revival.hear(failed())
    clock.now += FIRST
    assert taken(revival) == ""
    assert revival.due() is None


def test_one_address_at_a_time(revival: RetryPolicy, clock: Clock) -> None:
    """Both lines lost the same peer: whoever has two subflows keeps one."""
    there = "10.3.3.2"
    revival.hear(failed())
    revival.hear(failed(source=there))
    clock.now += FIRST
    assert taken(revival, HERE, there) == HERE
    assert taken(revival, HERE, there) == ""
    revival.hear(Event("sub-established", 1, source=HERE))
    assert revival.due() == APART
    clock.now += APART
    assert taken(revival, HERE, there) == there


def test_the_two_ways_take_turns(revival: RetryPolicy, clock: Clock) -> None:
    revival.hear(failed())
    ways = []
    for _ in range(4):
        clock.now += revival.due() or 0.0
        again = revival.take([HERE])
        assert again is not None
        ways.append(again.gently)
    assert ways == [True, False, True, False]


def test_where_nobody_says_who_is_plain_tcp_it_is_deleted_and_added(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.hear(failed())
    for _ in range(3):
        clock.now += revival.due() or 0.0
        assert revival.take([HERE], gently=False) == Again(HERE, gently=False)


def test_what_another_connection_needs_waits(revival: RetryPolicy, clock: Clock) -> None:
    revival.hear(failed())
    waits = []
    for _ in range(4):
        wait = revival.due()
        assert wait is not None
        waits.append(wait)
        clock.now += wait
        assert revival.take([HERE], needed=[HERE]) is None
    assert waits == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    clock.now += revival.due() or 0.0
    assert revival.take([HERE]) == Again(HERE, gently=True)


def test_what_is_needed_does_not_hold_up_another(revival: RetryPolicy, clock: Clock) -> None:
    there = "10.3.3.2"
    revival.hear(failed())
    revival.hear(failed(source=there))
    clock.now += FIRST
    again = revival.take([HERE, there], needed=[HERE])
    assert again is not None
    assert again.address == there


def test_who_has_no_use_for_it_is_dropped(revival: RetryPolicy, clock: Clock) -> None:
    revival.hear(failed(1))
    revival.hear(failed(2))
    revival.drop({1})
    assert revival.missing() == {2}
    revival.drop({2, 3})
    assert revival.due() is None


def test_an_address_that_the_peer_announced_does_not_count(revival: RetryPolicy) -> None:
    revival.hear(failed(remote_id=3))
    assert revival.due() is None


def cut(token: int = 7, source: str = HERE) -> Event:
    return Event("sub-closed", token, source=source)


def test_what_costs_others_their_subflows_is_done_four_times_as_late(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.hear(failed())
    waits = []
    for _ in range(10):
        wait = revival.due()
        assert wait is not None
        waits.append(wait)
        clock.now += wait
        assert taken(revival, HERE) == HERE
        assert not revival.hear(cut(7)), "we know why"
        assert not revival.hear(cut(8))
        revival.hear(failed())
    assert waits[:4] == [FIRST, COSTLY, 4 * COSTLY, 16 * COSTLY]
    assert waits[-1] == LAST_COSTLY


def test_the_delay_outlives_the_connection_and_ends_with_peace(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.hear(failed(1))
    clock.now += FIRST
    revival.take([HERE])
    revival.hear(cut())
    revival.hear(Event("closed", 1))
    assert revival.due() is None
    clock.now += 1
    revival.hear(failed(2))
    assert revival.due() == COSTLY - 1
    revival.hear(Event("closed", 2))
    clock.now += 2 * COSTLY
    revival.hear(failed(3))
    assert revival.due() == FIRST


def test_a_subflow_that_closes_without_a_reason_is_told(revival: RetryPolicy, clock: Clock) -> None:
    assert revival.hear(cut())
    revival.hear(failed())
    clock.now += FIRST
    revival.take([HERE])
    clock.now += 2
    assert revival.hear(cut()), "not ours any more"


def test_after_lost_events_each_way_is_tried_once(revival: RetryPolicy, clock: Clock) -> None:
    """Who was missed may be gone, and nobody would ever say so."""
    revival.hear(failed())
    revival.lost()
    for _ in range(WAYS):
        clock.now += revival.due() or 0.0
        assert taken(revival, HERE) == HERE
    assert revival.due() is None


def test_no_more_connections_are_known_than_there_is_room_for(revival: RetryPolicy) -> None:
    for token in range(1, KNOWN_MOST + 11):
        revival.hear(failed(token))
    assert revival.waiting() == {HERE: KNOWN_MOST}


def test_for_what_was_only_seen_each_way_is_tried_once(revival: RetryPolicy, clock: Clock) -> None:
    revival.seen(HERE, 1)
    for _ in range(WAYS):
        clock.now += revival.due() or 0.0
        assert taken(revival, HERE) == HERE
    assert revival.due() is None


def test_what_was_seen_and_then_fails_is_tried_again(revival: RetryPolicy, clock: Clock) -> None:
    revival.seen(HERE, 1)
    revival.hear(failed())
    revival.seen(HERE, 2)
    clock.now += FIRST
    assert taken(revival, HERE) == HERE
    assert revival.due() == 2 * FIRST
