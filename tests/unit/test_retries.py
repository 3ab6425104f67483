"""When what the kernel refused is tried again."""

from __future__ import annotations

import pytest

from mproutd.model import Endpoint, Operation, Rule
from mproutd.planning.pacing import INITIAL_BACKOFF, MAX_BACKOFF, Retries

RULE = Operation("add", Rule(2, 7501, 7001, "10.1.1.2"), "wan1")
OTHER = Operation("add", Rule(2, 7502, 7002, "10.2.2.2"), "wan2")
CLOSING = Operation("delete", Endpoint("10.1.1.2", 2, 2, 7))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_failed_nothing_is_due() -> None:
    retries = Retries(Clock())
    retries.record_pass([])
    assert retries.next_at() is None
    assert not retries.failed()


def test_each_failure_doubles_the_wait_up_to_the_longest() -> None:
    clock = Clock()
    retries = Retries(clock)
    waits = []
    for _ in range(12):
        retries.record_pass([(RULE, "Operation not permitted")])
        waits.append((retries.next_at() or 0.0) - clock.now)
    assert [round(wait, 6) for wait in waits[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert round(waits[-1], 6) == MAX_BACKOFF
    (failed,) = retries.failed()
    assert (failed.operation, failed.error, failed.attempts) == (
        RULE,
        "Operation not permitted",
        12,
    )


def test_an_operation_of_a_pass_may_be_tried_at_every_event() -> None:
    retries = Retries(Clock())
    retries.record_pass([(RULE, "Operation not permitted")])
    assert retries.ready(RULE)


def test_what_no_longer_fails_is_forgotten() -> None:
    retries = Retries(Clock())
    retries.record_pass([(RULE, "Operation not permitted")])
    retries.record_pass([])
    assert retries.next_at() is None
    retries.record_pass([(RULE, "Operation not permitted")])
    assert [failed.attempts for failed in retries.failed()] == [1]


def test_a_closing_that_was_refused_waits_its_time_out_whatever_happens() -> None:
    clock = Clock()
    retries = Retries(clock)
    retries.deletion_failed(CLOSING, "Invalid argument")
    retries.record_pass([])  # the pass that the closing's end woke
    assert not retries.ready(CLOSING)
    assert [failed.error for failed in retries.failed()] == ["Invalid argument"]
    clock.now += INITIAL_BACKOFF + 0.001
    assert retries.ready(CLOSING)
    retries.deletion_failed(CLOSING, "Invalid argument")
    assert retries.next_at() == clock.now + 2 * INITIAL_BACKOFF


def test_a_closing_is_the_same_whatever_id_and_flags_it_has_by_then() -> None:
    retries = Retries(Clock())
    retries.deletion_failed(CLOSING, "Invalid argument")
    assert not retries.ready(CLOSING._replace(value=Endpoint("10.1.1.2", 2, 6, 9)))
    assert retries.ready(CLOSING._replace(value=Endpoint("10.2.2.2", 3, 2, 7)))


@pytest.mark.parametrize(("later", "tries"), [(-0.1, 2), (0.1, 1)])
def test_a_deletion_no_longer_requested_is_forgotten(later: float, tries: int) -> None:
    clock = Clock()
    retries = Retries(clock)
    retries.deletion_failed(CLOSING, "Invalid argument")
    clock.now += INITIAL_BACKOFF + 2 * MAX_BACKOFF + later
    retries.record_pass([])
    retries.deletion_failed(CLOSING, "Invalid argument")
    assert [failed.attempts for failed in retries.failed()] == [tries]


def test_what_is_not_to_be_added_any_more_does_not_stand() -> None:
    retries = Retries(Clock())
    retries.record_pass([(RULE, "File exists"), (OTHER, "File exists")])
    retries.deletion_failed(CLOSING, "Input/output error")
    assert {failed.operation for failed in retries.still_wanted([RULE])} == {RULE, CLOSING}
    assert len(retries.failed()) == 3
