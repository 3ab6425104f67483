"""Looking for subflows that nobody told of: when, how often, and what it leads to."""

from __future__ import annotations

from collections.abc import Iterable
from errno import ECONNREFUSED
from types import SimpleNamespace
from typing import Any

import pytest

from mproutd import reviving
from mproutd.model import SUBFLOW, Endpoint
from mproutd.netlink.eventfilter import subflow_losses
from mproutd.netlink.wire import U32, put
from mproutd.planning.revival import FIRST
from mproutd.reviving import ASK_SHARE, FIRST_LOOK, LOOK, SHARE, Reviving
from tests.test_restraint import Clock

HERE = Endpoint("10.2.2.2", 3, SUBFLOW, 1)


class Kernel:
    """Says who misses what, and takes its time for it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.takes, self.looks = clock, 0.0, 0
        self.missed: set[tuple[int, str]] = set()
        self.asked = 0
        self.here: dict[int, bool] = {}
        """Token → whether this end began the connection."""

    def began_here(self, addresses: Iterable[str]) -> dict[int, bool]:
        assert list(addresses) == [HERE.address]
        self.asked += 1
        self.clock.now += self.takes
        return self.here

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
        self.heard: list[bytes] | None = None
        """What events there are; None for some lost."""
        self.filters: list[Any] = []
        events = SimpleNamespace(
            attach=self.filters.append,
            read=lambda: self.heard and [SimpleNamespace(body=each) for each in self.heard],
        )
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


FAILED, JOINED = (subflow_losses(everything=everything) for everything in (False, True))


def failed(token: int) -> bytes:
    """MPTCP_EVENT_SUB_CLOSED as the kernel writes it: refused from 10.2.2.2."""
    ends = put(5, bytes([10, 2, 2, 2])) + put(7, bytes([10, 9, 9, 9]))
    return bytes([11, 1, 0, 0]) + put(1, U32.pack(token)) + ends + put(12, bytes([ECONNREFUSED]))


def test_what_the_peer_began_is_dropped_and_the_filter_follows(clock: Clock) -> None:
    world = World(clock)
    world.heard = [failed(7)]
    world.kernel.here = {7: False}
    world.reviving.hear()
    assert world.filters == [FAILED, JOINED]
    assert world.turn(1) == 0
    assert world.kernel.asked == 1
    assert world.filters == [FAILED, JOINED, FAILED]
    world.heard = [failed(7), failed(8)]
    world.kernel.here = {7: False, 8: True}
    world.reviving.hear()
    assert world.turn(1) == 1, "for 8"
    world.heard = [failed(9)]
    world.reviving.hear()
    assert world.turn(1) == 1, "of 9 there is no subflow left: it may be ours"


def test_asking_who_began_it_takes_little_of_the_time(clock: Clock) -> None:
    """A busy server: each connection that comes in brings a failure."""
    world = World(clock)
    world.turn(FIRST_LOOK)
    world.kernel.takes = 0.05
    began = clock.now
    for token in range(1000):
        world.heard = [failed(token)]
        world.kernel.here[token] = False
        world.reviving.hear()
        world.turn(0.05)
    took = world.kernel.asked * world.kernel.takes
    assert world.kernel.asked >= 3
    assert took <= 1.2 * ASK_SHARE * (clock.now - began)
    world.heard = [failed(7)]
    world.reviving.hear()
    wait = world.reviving.due()
    assert wait is not None
    assert FIRST < wait <= world.kernel.takes / ASK_SHARE
