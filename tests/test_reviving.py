"""Looking for subflows that nobody told of: when, how often, and what it leads to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mproutd import reviving
from mproutd.model import SUBFLOW, Endpoint
from mproutd.reviving import FIRST_LOOK, LOOK, SHARE, Reviving
from tests.test_restraint import Clock

HERE = Endpoint("10.2.2.2", 3, SUBFLOW, 1)


class Kernel:
    """Says who misses what, and takes its time for it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.takes, self.looks = clock, 0.0, 0
        self.missed: set[tuple[int, str]] = set()

    def missing(self, addresses: list[str]) -> set[tuple[int, str]]:
        assert addresses == [HERE.address]
        self.looks += 1
        self.clock.now += self.takes
        return self.missed

    def connections(self, addresses: list[str]) -> list[Any]:
        return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reviving, "time", SimpleNamespace(monotonic=clock))
    return clock


class World:
    def __init__(self, clock: Clock) -> None:
        self.clock, self.kernel, self.closed = clock, Kernel(clock), []
        events = SimpleNamespace(attach=lambda program: None, read=lambda: None)
        memory = SimpleNamespace(endpoints={(HERE.address, HERE.device)})
        keeper: Any = SimpleNamespace(
            kernel=self.kernel,
            last=SimpleNamespace(desired=SimpleNamespace(endpoints={HERE: "wan2"})),
            state=SimpleNamespace(memory=memory),
            restraint=SimpleNamespace(expect=lambda endpoints: None),
        )
        path_manager: Any = SimpleNamespace(
            events=lambda: events, read=lambda full: SimpleNamespace(endpoints=(HERE,))
        )
        self.closer: Any = SimpleNamespace(busy=False, start=self.closed.extend)
        self.reviving = Reviving(keeper, path_manager, lambda *_, **__: None, lambda: None)

    def turn(self, seconds: float) -> int:
        """After so long: how many endpoints are closed now."""
        self.clock.now += seconds
        before = len(self.closed)
        self.reviving.turn(self.closer)
        return len(self.closed) - before


def test_the_first_look_and_one_try_for_each_that_misses_one(clock: Clock) -> None:
    world = World(clock)
    world.kernel.missed = {(7, HERE.address)}
    assert world.reviving.due() == FIRST_LOOK
    assert world.turn(FIRST_LOOK / 2) == world.kernel.looks == 0
    assert world.turn(FIRST_LOOK) == 0
    assert world.turn(1) == 1
    for _ in range(5):  # it is refused again: the kernel tells, or it stays as it is
        assert world.turn(LOOK) + world.turn(1) == 0
    assert world.kernel.looks == 6
    world.kernel.missed = {(7, HERE.address), (8, HERE.address)}
    assert world.turn(LOOK) + world.turn(1) == 1
    world.kernel.missed = set()
    world.turn(LOOK)
    world.kernel.missed = {(7, HERE.address)}
    assert world.turn(LOOK) + world.turn(1) == 1, "it had one in between"


def test_with_many_connections_it_looks_less_often(clock: Clock) -> None:
    world = World(clock)
    world.kernel.takes = 0.25
    world.turn(FIRST_LOOK)
    assert world.reviving.due() is None, "that alone wakes nobody"
    world.turn(0.25 / SHARE - 1)
    assert world.kernel.looks == 1
    world.turn(1)
    assert world.kernel.looks == 2


def test_lost_events_bring_a_look_soon(clock: Clock) -> None:
    world = World(clock)
    world.turn(FIRST_LOOK)
    world.reviving.hear()
    assert world.reviving.due() == FIRST_LOOK


def test_a_closer_that_is_busy_is_waited_for(clock: Clock) -> None:
    world = World(clock)
    world.kernel.missed = {(7, HERE.address)}
    world.closer.busy = True
    assert world.turn(9) == world.kernel.looks == 0
    world.closer.busy = False
    assert world.turn(0) + world.turn(1) == 1
