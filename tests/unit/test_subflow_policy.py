"""When failed subflows are retried: backoff, the two methods, and what a retry costs others."""

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

WAN2, WAN3 = "10.2.2.2", "10.3.3.2"


def failed(token: int = 1, source: str = WAN2, **more: int) -> Event:
    return Event("sub-closed", token, source=source, error=111, **more)


def retried(policy: RetryPolicy, *present: str) -> str:
    """The address that is retried now; empty for none."""
    retry = policy.next_retry(present)
    return retry.address if retry else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> RetryPolicy:
    return RetryPolicy(clock)


def test_without_a_failure_nothing_is_retried(policy: RetryPolicy) -> None:
    policy.on_event(Event("sub-established", 1, source=WAN2))
    policy.on_event(Event("sub-closed", 1, source=WAN2))
    assert policy.delay() is None
    assert retried(policy, WAN2) == ""
    assert policy.missing_counts() == {}


def test_the_delays_double_up_to_the_last(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    delays = []
    for _ in range(12):
        delay = policy.delay()
        assert delay is not None
        assert retried(policy, WAN2) == ""
        clock.now += delay
        assert retried(policy, WAN2) == WAN2
        policy.on_event(failed())
        delays.append(delay)
    assert delays[:3] == [INITIAL_BACKOFF, INITIAL_BACKOFF * 2, INITIAL_BACKOFF * 4]
    assert delays[-1] == MAX_BACKOFF


def test_retries_end_when_every_connection_has_its_subflow_or_has_ended(
    policy: RetryPolicy,
) -> None:
    policy.on_event(failed(1))
    policy.on_event(failed(2))
    assert policy.missing_counts() == {WAN2: 2}
    policy.on_event(Event("sub-established", 1, source=WAN2))
    assert policy.delay() == INITIAL_BACKOFF
    policy.on_event(Event("closed", 2))
    assert policy.delay() is None
    assert policy.missing_counts() == {}


def test_a_deleted_endpoint_is_forgotten(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    clock.now += INITIAL_BACKOFF
    assert retried(policy) == ""
    assert policy.delay() is None


def test_one_address_at_a_time(policy: RetryPolicy, clock: Clock) -> None:
    """Both uplinks lost the same peer: a connection with two subflows keeps one."""
    policy.on_event(failed())
    policy.on_event(failed(source=WAN3))
    clock.now += INITIAL_BACKOFF
    assert retried(policy, WAN2, WAN3) == WAN2
    assert retried(policy, WAN2, WAN3) == ""
    policy.on_event(Event("sub-established", 1, source=WAN2))
    assert policy.delay() == MIN_INTERVAL
    clock.now += MIN_INTERVAL
    assert retried(policy, WAN2, WAN3) == WAN3


def test_the_two_methods_alternate(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    methods = []
    for _ in range(4):
        clock.now += policy.delay() or 0.0
        retry = policy.next_retry([WAN2])
        assert retry is not None
        methods.append(retry.method)
    assert methods == ["fullmesh", "replace", "fullmesh", "replace"]


def test_without_mptcp_diag_endpoints_are_deleted_and_added(
    policy: RetryPolicy, clock: Clock
) -> None:
    policy.on_event(failed())
    for _ in range(3):
        clock.now += policy.delay() or 0.0
        assert policy.next_retry([WAN2], toggle_fullmesh=False) == Retry(WAN2, "replace")


def test_a_sole_path_waits(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    delays = []
    for _ in range(4):
        delay = policy.delay()
        assert delay is not None
        delays.append(delay)
        clock.now += delay
        assert policy.next_retry([WAN2], keep_subflows=[WAN2]) is None
    assert delays == [
        INITIAL_BACKOFF,
        2 * INITIAL_BACKOFF,
        4 * INITIAL_BACKOFF,
        8 * INITIAL_BACKOFF,
    ]
    clock.now += policy.delay() or 0.0
    assert policy.next_retry([WAN2]) == Retry(WAN2, "fullmesh")


def test_a_sole_path_does_not_delay_another_endpoint(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    policy.on_event(failed(source=WAN3))
    clock.now += INITIAL_BACKOFF
    retry = policy.next_retry([WAN2, WAN3], keep_subflows=[WAN2])
    assert retry is not None
    assert retry.address == WAN3


def test_discarded_connections_cause_no_retry(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed(1))
    policy.on_event(failed(2))
    policy.discard({1})
    assert policy.missing_tokens() == {2}
    policy.discard({2, 3})
    assert policy.delay() is None


def test_failures_to_an_announced_address_do_not_count(policy: RetryPolicy) -> None:
    policy.on_event(failed(remote_id=3))
    assert policy.delay() is None


def cut(token: int = 7, source: str = WAN2) -> Event:
    return Event("sub-closed", token, source=source)


def test_disruptive_retries_back_off_four_times_as_fast(policy: RetryPolicy, clock: Clock) -> None:
    policy.on_event(failed())
    delays = []
    for _ in range(10):
        delay = policy.delay()
        assert delay is not None
        delays.append(delay)
        clock.now += delay
        assert retried(policy, WAN2) == WAN2
        assert not policy.on_event(cut(7)), "caused by our retry"
        assert not policy.on_event(cut(8))
        policy.on_event(failed())
    assert delays[:4] == [
        INITIAL_BACKOFF,
        INITIAL_DISRUPTIVE_BACKOFF,
        4 * INITIAL_DISRUPTIVE_BACKOFF,
        16 * INITIAL_DISRUPTIVE_BACKOFF,
    ]
    assert delays[-1] == MAX_DISRUPTIVE_BACKOFF


def test_the_delay_outlives_the_connection_and_is_reset_later(
    policy: RetryPolicy, clock: Clock
) -> None:
    policy.on_event(failed(1))
    clock.now += INITIAL_BACKOFF
    policy.next_retry([WAN2])
    policy.on_event(cut())
    policy.on_event(Event("closed", 1))
    assert policy.delay() is None
    clock.now += 1
    policy.on_event(failed(2))
    assert policy.delay() == INITIAL_DISRUPTIVE_BACKOFF - 1
    policy.on_event(Event("closed", 2))
    clock.now += 2 * INITIAL_DISRUPTIVE_BACKOFF
    policy.on_event(failed(3))
    assert policy.delay() == INITIAL_BACKOFF


def test_an_unexplained_close_is_reported(policy: RetryPolicy, clock: Clock) -> None:
    assert policy.on_event(cut())
    policy.on_event(failed())
    clock.now += INITIAL_BACKOFF
    policy.next_retry([WAN2])
    clock.now += 2
    assert policy.on_event(cut()), "no longer caused by the retry"


def test_after_lost_events_each_method_is_tried_once(policy: RetryPolicy, clock: Clock) -> None:
    """The connection may have ended, and its event may be among the lost ones."""
    policy.on_event(failed())
    policy.on_events_lost()
    for _ in range(METHODS):
        clock.now += policy.delay() or 0.0
        assert retried(policy, WAN2) == WAN2
    assert policy.delay() is None


def test_the_number_of_remembered_connections_is_bounded(policy: RetryPolicy) -> None:
    for token in range(1, MAX_MISSING + 11):
        policy.on_event(failed(token))
    assert policy.missing_counts() == {WAN2: MAX_MISSING}


def test_unconfirmed_failures_get_each_method_once(policy: RetryPolicy, clock: Clock) -> None:
    policy.add_missing(WAN2, 1)
    for _ in range(METHODS):
        clock.now += policy.delay() or 0.0
        assert retried(policy, WAN2) == WAN2
    assert policy.delay() is None


def test_a_confirmed_failure_is_retried_on(policy: RetryPolicy, clock: Clock) -> None:
    policy.add_missing(WAN2, 1)
    policy.on_event(failed())
    policy.add_missing(WAN2, 2)
    clock.now += INITIAL_BACKOFF
    assert retried(policy, WAN2) == WAN2
    assert policy.delay() == 2 * INITIAL_BACKOFF
