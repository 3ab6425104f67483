"""A subflow that failed is tried again, ever more rarely, while a connection misses it."""

from __future__ import annotations

import pytest

from mproutd.netlink.mptcp_pm import Event
from mproutd.subflows.policy import (
    INITIAL_BACKOFF,
    INITIAL_DISRUPTIVE_BACKOFF,
    MAX_BACKOFF,
    MAX_DISRUPTIVE_BACKOFF,
    MAX_MISSING,
    METHODS,
    MIN_INTERVAL,
    Retry,
    RetryPolicy,
)
from tests.unit.test_pacing import Clock

HERE = "10.2.2.2"


def failed(token: int = 1, source: str = HERE, **more: int) -> Event:
    return Event("sub-closed", token, source=source, error=111, **more)


def taken(revival: RetryPolicy, *present: str) -> str:
    """The address that is tried again now; empty for none."""
    again = revival.next_retry(present)
    return again.address if again else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revival(clock: Clock) -> RetryPolicy:
    return RetryPolicy(clock)


def test_nothing_failed(revival: RetryPolicy) -> None:
    revival.on_event(Event("sub-established", 1, source=HERE))
    revival.on_event(Event("sub-closed", 1, source=HERE))
    assert revival.delay() is None
    assert taken(revival, HERE) == ""
    assert revival.missing_counts() == {}


def test_the_delays_double_up_to_the_last(revival: RetryPolicy, clock: Clock) -> None:
    revival.on_event(failed())
    delays = []
    for _ in range(12):
        wait = revival.delay()
        assert wait is not None
        assert taken(revival, HERE) == ""
        clock.now += wait
        assert taken(revival, HERE) == HERE
        revival.on_event(failed())
        delays.append(wait)
    assert delays[:3] == [INITIAL_BACKOFF, INITIAL_BACKOFF * 2, INITIAL_BACKOFF * 4]
    assert delays[-1] == MAX_BACKOFF


def test_it_ends_when_every_connection_has_its_subflow_or_is_gone(revival: RetryPolicy) -> None:
    revival.on_event(failed(1))
    revival.on_event(failed(2))
    assert revival.missing_counts() == {HERE: 2}
    revival.on_event(Event("sub-established", 1, source=HERE))
    assert revival.delay() == INITIAL_BACKOFF
    revival.on_event(Event("closed", 2))
    assert revival.delay() is None
    assert revival.missing_counts() == {}


def test_an_endpoint_that_is_gone_is_forgotten(revival: RetryPolicy, clock: Clock) -> None:
    revival.on_event(failed())
    clock.now += INITIAL_BACKOFF
    assert taken(revival) == ""
    assert revival.delay() is None


def test_one_address_at_a_time(revival: RetryPolicy, clock: Clock) -> None:
    """Both lines lost the same peer: whoever has two subflows keeps one."""
    there = "10.3.3.2"
    revival.on_event(failed())
    revival.on_event(failed(source=there))
    clock.now += INITIAL_BACKOFF
    assert taken(revival, HERE, there) == HERE
    assert taken(revival, HERE, there) == ""
    revival.on_event(Event("sub-established", 1, source=HERE))
    assert revival.delay() == MIN_INTERVAL
    clock.now += MIN_INTERVAL
    assert taken(revival, HERE, there) == there


def test_the_two_ways_take_turns(revival: RetryPolicy, clock: Clock) -> None:
    revival.on_event(failed())
    ways = []
    for _ in range(4):
        clock.now += revival.delay() or 0.0
        again = revival.next_retry([HERE])
        assert again is not None
        ways.append(again.toggle_fullmesh)
    assert ways == [True, False, True, False]


def test_where_nobody_says_who_is_plain_tcp_it_is_deleted_and_added(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.on_event(failed())
    for _ in range(3):
        clock.now += revival.delay() or 0.0
        assert revival.next_retry([HERE], toggle_fullmesh=False) == Retry(
            HERE, toggle_fullmesh=False
        )


def test_what_another_connection_needs_waits(revival: RetryPolicy, clock: Clock) -> None:
    revival.on_event(failed())
    waits = []
    for _ in range(4):
        wait = revival.delay()
        assert wait is not None
        waits.append(wait)
        clock.now += wait
        assert revival.next_retry([HERE], needed=[HERE]) is None
    assert waits == [INITIAL_BACKOFF, 2 * INITIAL_BACKOFF, 4 * INITIAL_BACKOFF, 8 * INITIAL_BACKOFF]
    clock.now += revival.delay() or 0.0
    assert revival.next_retry([HERE]) == Retry(HERE, toggle_fullmesh=True)


def test_what_is_needed_does_not_hold_up_another(revival: RetryPolicy, clock: Clock) -> None:
    there = "10.3.3.2"
    revival.on_event(failed())
    revival.on_event(failed(source=there))
    clock.now += INITIAL_BACKOFF
    again = revival.next_retry([HERE, there], needed=[HERE])
    assert again is not None
    assert again.address == there


def test_who_has_no_use_for_it_is_dropped(revival: RetryPolicy, clock: Clock) -> None:
    revival.on_event(failed(1))
    revival.on_event(failed(2))
    revival.discard({1})
    assert revival.missing_tokens() == {2}
    revival.discard({2, 3})
    assert revival.delay() is None


def test_an_address_that_the_peer_announced_does_not_count(revival: RetryPolicy) -> None:
    revival.on_event(failed(remote_id=3))
    assert revival.delay() is None


def cut(token: int = 7, source: str = HERE) -> Event:
    return Event("sub-closed", token, source=source)


def test_what_costs_others_their_subflows_is_done_four_times_as_late(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.on_event(failed())
    waits = []
    for _ in range(10):
        wait = revival.delay()
        assert wait is not None
        waits.append(wait)
        clock.now += wait
        assert taken(revival, HERE) == HERE
        assert not revival.on_event(cut(7)), "we know why"
        assert not revival.on_event(cut(8))
        revival.on_event(failed())
    assert waits[:4] == [
        INITIAL_BACKOFF,
        INITIAL_DISRUPTIVE_BACKOFF,
        4 * INITIAL_DISRUPTIVE_BACKOFF,
        16 * INITIAL_DISRUPTIVE_BACKOFF,
    ]
    assert waits[-1] == MAX_DISRUPTIVE_BACKOFF


def test_the_delay_outlives_the_connection_and_ends_with_peace(
    revival: RetryPolicy, clock: Clock
) -> None:
    revival.on_event(failed(1))
    clock.now += INITIAL_BACKOFF
    revival.next_retry([HERE])
    revival.on_event(cut())
    revival.on_event(Event("closed", 1))
    assert revival.delay() is None
    clock.now += 1
    revival.on_event(failed(2))
    assert revival.delay() == INITIAL_DISRUPTIVE_BACKOFF - 1
    revival.on_event(Event("closed", 2))
    clock.now += 2 * INITIAL_DISRUPTIVE_BACKOFF
    revival.on_event(failed(3))
    assert revival.delay() == INITIAL_BACKOFF


def test_a_subflow_that_closes_without_a_reason_is_told(revival: RetryPolicy, clock: Clock) -> None:
    assert revival.on_event(cut())
    revival.on_event(failed())
    clock.now += INITIAL_BACKOFF
    revival.next_retry([HERE])
    clock.now += 2
    assert revival.on_event(cut()), "not ours any more"


def test_after_lost_events_each_way_is_tried_once(revival: RetryPolicy, clock: Clock) -> None:
    """Who was missed may be gone, and nobody would ever say so."""
    revival.on_event(failed())
    revival.on_events_lost()
    for _ in range(METHODS):
        clock.now += revival.delay() or 0.0
        assert taken(revival, HERE) == HERE
    assert revival.delay() is None


def test_no_more_connections_are_known_than_there_is_room_for(revival: RetryPolicy) -> None:
    for token in range(1, MAX_MISSING + 11):
        revival.on_event(failed(token))
    assert revival.missing_counts() == {HERE: MAX_MISSING}


def test_for_what_was_only_seen_each_way_is_tried_once(revival: RetryPolicy, clock: Clock) -> None:
    revival.add_missing(HERE, 1)
    for _ in range(METHODS):
        clock.now += revival.delay() or 0.0
        assert taken(revival, HERE) == HERE
    assert revival.delay() is None


def test_what_was_seen_and_then_fails_is_tried_again(revival: RetryPolicy, clock: Clock) -> None:
    revival.add_missing(HERE, 1)
    revival.on_event(failed())
    revival.add_missing(HERE, 2)
    clock.now += INITIAL_BACKOFF
    assert taken(revival, HERE) == HERE
    assert revival.delay() == 2 * INITIAL_BACKOFF
