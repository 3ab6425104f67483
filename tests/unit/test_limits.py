"""Budgets of processor time, and limits of the log."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest

from mproutd import log
from mproutd.control import server as control
from mproutd.control.server import SAVED_SECONDS, USER_SHARE, Server
from mproutd.eventloop import Loop
from mproutd.limits import (
    EVENT_BURST,
    EVENT_SHARE,
    MAX_SOURCES,
    Budget,
    LineLimiter,
    PassLimiter,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_saved_up_overdrawn_once_and_paid_back() -> None:
    clock = Clock()
    budget = Budget(clock, share=0.1, burst=2.0)
    budget.spend(1.9)
    assert budget.delay() == 0
    budget.spend(1.1)
    assert budget.delay() == pytest.approx(10, abs=0.1)
    clock.now += 5
    assert budget.delay() == pytest.approx(5, abs=0.1)
    clock.now += 5.1
    assert budget.delay() == 0
    clock.now += 1e6
    budget.spend(3)
    assert budget.delay() == pytest.approx(10, abs=0.1), "no more is saved than the burst"


class Passes:
    """Passes of 10 ms of the processor each."""

    def __init__(self) -> None:
        self.clock, self.used, self.made = Clock(), 0.0, 0
        self.limiter = PassLimiter(self.clock, lambda: self.used)

    def events(self, *sources: str) -> float:
        """Events arrive; the pass is made where it is due at once."""
        self.limiter.add(sources)
        delay = self.limiter.delay()
        if not delay:
            self.make_pass()
        return delay

    def make_pass(self, again: bool = False) -> None:
        self.limiter.begin()
        self.used += 0.01
        self.made += 1
        self.limiter.end(again)


def test_a_source_that_is_quiet_has_its_pass_at_once() -> None:
    passes = Passes()
    for _ in range(1000):
        assert passes.events("eth1") == 0
        passes.clock.now += 0.01 / EVENT_SHARE
    assert passes.made == 1000


def test_a_flood_takes_its_share_and_delays_no_other_client() -> None:
    passes = Passes()
    begun = passes.clock.now
    while passes.clock.now < begun + 60:
        delay = passes.events("eth1")
        if delay:
            assert delay <= 0.011 / EVENT_SHARE
            assert passes.limiter.delay() == delay
            passes.clock.now += delay
            passes.make_pass()
        passes.clock.now += 0.001
    assert passes.used <= EVENT_BURST + 60 * EVENT_SHARE + 0.02
    passes.limiter.add(["eth1"])
    assert passes.limiter.delay() > 0
    assert passes.events("eth2") == 0, "with the events of eth1, as one pass"
    assert passes.limiter.delay() == 0, "nothing is left to do"


def test_what_a_pass_has_to_do_again_counts_too() -> None:
    passes = Passes()
    for _ in range(2 + int(EVENT_BURST / 0.02)):
        passes.limiter.add(["eth1"])
        passes.make_pass(again=True)
        passes.make_pass()
    assert passes.events("eth1") > 0


def test_devices_that_come_and_go_are_forgotten() -> None:
    passes = Passes()
    for n in range(1000):
        passes.events(f"tun{n}")
        passes.clock.now += 1
    assert len(passes.limiter._budgets) <= MAX_SOURCES


class Lines:
    def __init__(self, burst: int, period: float) -> None:
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.summaries: list[tuple[Hashable, int]] = []
        self.limiter = LineLimiter(
            self.loop, burst, period, lambda key, count: self.summaries.append((key, count))
        )

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.loop.run_timers()


def test_a_burst_passes_then_one_in_a_period_and_the_rest_is_counted() -> None:
    lines = Lines(burst=3, period=10)
    assert [lines.limiter.admit("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert lines.limiter.admit("b")
    assert lines.summaries == []
    lines.wait(10)
    assert lines.summaries == [("a", 2)]
    assert [lines.limiter.admit("a") for _ in range(3)] == [True, False, False]
    lines.wait(9)
    assert len(lines.summaries) == 1
    lines.wait(1)
    assert lines.summaries[1:] == [("a", 2)]
    lines.wait(100)
    assert lines.loop.next_at() is None, "no timer without need"
    assert [lines.limiter.admit("a") for _ in range(4)] == [True] * 3 + [False]


def test_what_is_quiet_again_is_forgotten() -> None:
    lines = Lines(burst=1, period=10)
    for key in range(1000):
        lines.limiter.admit(key)
    lines.wait(15)
    assert [lines.limiter.admit("a") for _ in range(2)] == [True, False]
    lines.wait(10)
    assert len(lines.limiter._used) <= 1


class Requests:
    """A server with a clock of its own, for which each request takes 10 ms of the processor."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
        self.clock, self.used, self.handled = Clock(), 0.0, 0
        self.loop = Loop(self.clock)
        self.path = str(path / "control.sock")
        monkeypatch.setattr(time, "thread_time", lambda: self.used)
        monkeypatch.setattr(control, "unpack", lambda *_: (4711, user, user))
        self.server = Server(self.path, self.loop, self._handle)

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        self.handled += 1
        self.used += 0.01
        return {}

    def flood(self, seconds: float) -> None:
        """As many requests as are answered."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.path)
            connection.sendall(json.dumps({"command": "reconcile"}).encode() + b"\n")
            connection.setblocking(False)
            while self.clock.now < end:
                self.loop.run_once(0)
                try:
                    connection.recv(100)
                    break
                except BlockingIOError:
                    self.clock.now += 0.01
            connection.close()
            self.clock.now += 0.001


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "event", lambda priority, text, **fields: lines.append(text))
    return lines


def test_requests_of_one_user_take_their_share_of_the_processor_and_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    requests = Requests(tmp_path, monkeypatch, user=1001)
    requests.flood(60)
    assert requests.used <= SAVED_SECONDS + 60 * USER_SHARE + 0.02
    assert requests.handled > 100
    assert len(logged) <= 5 + 6 + 7
    counted = sum(int(line.split()[2]) for line in logged if "more times" in line)
    assert counted > 100
    assert all("of user" in line or "by user" in line for line in logged)
    requests.server.close()
