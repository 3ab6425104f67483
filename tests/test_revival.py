"""A subflow that failed is tried again, ever more rarely, while a connection misses it."""

from __future__ import annotations

import pytest

from mproutd.pm import Event
from mproutd.revival import FIRST, LAST, Revival
from tests.test_restraint import Clock

HERE = "10.2.2.2"


def failed(token: int = 1, source: str = HERE, **more: int) -> Event:
    return Event("sub-closed", token, source=source, error=111, **more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revival(clock: Clock) -> Revival:
    return Revival(clock)


def test_nothing_failed(revival: Revival) -> None:
    revival.hear(Event("sub-established", 1, source=HERE))
    revival.hear(Event("sub-closed", 1, source=HERE))
    assert revival.due() is None
    assert revival.take([HERE]) == []
    assert revival.waiting() == {}


def test_the_delays_double_up_to_the_last(revival: Revival, clock: Clock) -> None:
    revival.hear(failed())
    delays = []
    for _ in range(12):
        wait = revival.due()
        assert wait is not None
        assert revival.take([HERE]) == []
        clock.now += wait
        assert revival.take([HERE]) == [HERE]
        revival.hear(failed())
        delays.append(wait)
    assert delays[:3] == [FIRST, FIRST * 2, FIRST * 4]
    assert delays[-1] == LAST


def test_it_ends_when_every_connection_has_its_subflow_or_is_gone(revival: Revival) -> None:
    revival.hear(failed(1))
    revival.hear(failed(2))
    assert revival.waiting() == {HERE: 2}
    revival.hear(Event("sub-established", 1, source=HERE))
    assert revival.due() == FIRST
    revival.hear(Event("closed", 2))
    assert revival.due() is None
    assert revival.waiting() == {}


def test_an_endpoint_that_is_gone_is_forgotten(revival: Revival, clock: Clock) -> None:
    revival.hear(failed())
    clock.now += FIRST
    assert revival.take([]) == []
    assert revival.due() is None


def test_each_address_has_its_own_time(revival: Revival, clock: Clock) -> None:
    revival.hear(failed())
    clock.now += FIRST / 2
    revival.hear(failed(source="10.3.3.2"))
    clock.now += FIRST / 2
    assert revival.take([HERE, "10.3.3.2"]) == [HERE]
    clock.now += FIRST / 2
    assert revival.take([HERE, "10.3.3.2"]) == ["10.3.3.2"]


def test_an_address_that_the_peer_announced_does_not_count(revival: Revival) -> None:
    revival.hear(failed(remote_id=3))
    assert revival.due() is None
