"""When rates are sampled, and what the watcher of overflow asks for: with a clock of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services import overflow
from mproutd.services.base import ServiceContext, StateDirectory
from mproutd.services.overflow import CONNECTIONS_INTERVAL, OverflowWatcher
from mproutd.status.rates import Counters
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, two_lines

LTE = interface("wan2", "eth2", "backup")
KNOWN = "config uplink wan1\n option download 20000\n option upload 20000\n"
OVERFLOW = "config uplink wan2\n option overflow 80\n"


class Events:
    """The path manager's events of established connections: a pipe with a byte for each."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.closed = False

    def fileno(self) -> int:
        return self.read_end

    def attach(self, program: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        os.close(self.read_end)
        os.close(self.write_end)


class Site:
    """wan1 is regular, wan2 overflows; a byte counter, a clock and connections of our own."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.connections = 1000.0, 0
        self.down = {"eth1": 0.0, "eth2": 0.0}
        monkeypatch.setattr(overflow, "connections", lambda: self.connections)
        monkeypatch.setattr(overflow, "read_counters", self._counters)
        self.loop = Loop(lambda: self.clock)
        self.requests = 0
        self.log: list[str] = []
        self.subscriptions: list[Events] = []
        self.world: World = two_lines()
        self.config: Config = uci(WAN1 + LTE, KNOWN + OVERFLOW)
        self.context = ServiceContext(
            self.loop,
            self._request_pass,
            lambda kind, priority, text, *_, **__: self.log.append(text),
            str(path),
            StateDirectory(str(path)),
            self,  # type: ignore[arg-type]
        )
        self.watcher = OverflowWatcher(self.context)
        self.watcher.on_configuration(self.config)

    def _counters(self) -> dict[str, Counters]:
        return {name: Counters(int(count), 0) for name, count in self.down.items()}

    def events(self) -> Events:
        self.subscriptions.append(Events())
        return self.subscriptions[-1]

    def _request_pass(self) -> None:
        self.requests += 1

    def make_pass(self) -> Outcome:
        outcome = self.world.run(self.config, self.watcher.add_facts(Facts()))
        self.watcher.on_pass(outcome)
        return outcome

    def configure(self, own: str) -> None:
        self.config = uci(WAN1 + LTE, own)
        self.watcher.on_configuration(self.config)
        self.make_pass()

    def run(self, seconds: float, mbit: float = 0.0) -> None:
        """wan1 receives at this rate; a pass whenever one is requested."""
        end = self.clock + seconds
        while self.clock < end:
            self.clock += 0.5
            self.down["eth1"] += mbit * 1e6 / 8 * 0.5
            requests = self.requests
            self.loop.run_timers()
            if self.requests != requests:
                self.make_pass()

    @property
    def carrying(self) -> bool:
        return self.watcher.add_facts(Facts()).overflowing == {"wan2"}

    @property
    def sampling(self) -> bool:
        return self.loop.next_at() is not None

    def status(self) -> dict[str, Any]:
        names = (("wan1", "master"), ("wan2", "backup"))
        uplinks = [{"name": name, "mode": mode} for name, mode in names]
        status: dict[str, Any] = {"uplinks": uplinks, "problems": [], "degraded": False}
        self.watcher.add_to_status(status)  # type: ignore[arg-type]
        return status


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_without_connections_nothing_is_sampled(site: Site) -> None:
    site.make_pass()
    assert not site.sampling
    assert len(site.subscriptions) == 1
    site.make_pass()
    assert len(site.subscriptions) == 1
    assert site.status()["uplinks"][1]["overflow"]["measuring"] is False


def test_an_event_begins_it_and_no_more_events_are_read(site: Site) -> None:
    site.make_pass()
    (events,) = site.subscriptions
    os.write(events.write_end, b".")
    site.connections = 1
    site.loop.run_once(0)
    assert events.closed
    assert site.sampling
    site.run(60)
    assert site.sampling
    site.connections = 0
    site.run(2 * CONNECTIONS_INTERVAL)
    assert not site.sampling
    assert len(site.subscriptions) == 2


def test_connections_that_are_there_at_the_start_are_seen(site: Site) -> None:
    site.connections = 1
    site.make_pass()
    assert site.sampling
    assert site.subscriptions[0].closed


def test_it_carries_and_stops(site: Site) -> None:
    site.connections = 1
    site.make_pass()
    site.run(10, mbit=10)
    assert not site.carrying
    load = site.status()["uplinks"][0]["load"]
    assert load["download"] == {
        "capacity": 20_000_000,
        "learned": False,
        "rate": 10_000_000,
        "percent": 50.0,
    }
    site.run(3, mbit=20)
    assert site.carrying
    assert site.log == ["wan2 carries, because wan1 is at 100 % (download)"]
    shown = site.status()["uplinks"][1]["overflow"]
    assert (shown["carrying"], shown["threshold"], shown["measuring"]) == (True, 80, True)
    site.run(15, mbit=5)
    assert not site.carrying
    assert site.log[1:] == ["wan2 stops carrying: the other uplinks have room"]


def carrying(site: Site) -> Site:
    site.connections = 1
    site.make_pass()
    site.run(5, mbit=20)
    assert site.carrying
    return site


def test_it_stops_with_the_last_connection(site: Site) -> None:
    carrying(site).connections = 0
    site.run(2 * CONNECTIONS_INTERVAL, mbit=20)
    assert not site.carrying


@pytest.mark.parametrize("device", ["eth1", "eth2"])
def test_it_stops_without_a_regular_uplink_and_without_itself(site: Site, device: str) -> None:
    carrying(site).world.set(device, carrier=False)
    site.make_pass()
    site.make_pass()
    assert not site.carrying
    site.run(10, mbit=20)
    assert not site.carrying
    assert len(site.log) == 2  # it began, and stopped


def test_a_reload_keeps_what_it_decided_and_takes_other_options(site: Site) -> None:
    carrying(site).configure(KNOWN + OVERFLOW.replace("80", "90"))
    assert site.carrying
    assert site.status()["uplinks"][1]["overflow"]["threshold"] == 90
    site.configure(KNOWN)
    assert site.status()["uplinks"][1]["overflow"] is None
    assert site.watcher.add_facts(Facts()).overflowing == frozenset()


def test_a_restart_goes_on_with_the_state_file(site: Site) -> None:
    carrying(site).watcher.close()
    assert not site.sampling
    site.watcher = OverflowWatcher(site.context)
    site.watcher.on_configuration(site.config)
    assert site.watcher.add_facts(Facts()).overflowing is None
    site.make_pass()
    assert site.carrying
    site.run(1, mbit=20)
    assert site.carrying


def test_an_unknown_capacity_is_a_problem_until_it_is_learned(site: Site) -> None:
    site.connections = 1
    site.configure(OVERFLOW)
    (problem,) = site.status()["problems"]
    assert problem["code"] == "capacity-unknown"
    assert problem["regular"] == "wan1"
    site.run(15, mbit=8)
    assert site.status()["problems"] == []
    download = site.status()["uplinks"][0]["load"]["download"]
    assert (download["capacity"], download["learned"]) == (8_000_000, True)


def test_without_a_path_manager_nothing_happens(site: Site) -> None:
    site.context = site.context._replace(path_manager=None)
    site.watcher = OverflowWatcher(site.context)
    site.watcher.on_configuration(site.config)
    site.make_pass()
    assert not site.sampling
    site.watcher.close()


def test_a_kernel_without_events_is_reported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Events:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(site, "events", refuse)
    site.make_pass()
    assert not site.sampling
    assert "cannot await MPTCP connections" in site.log[0]
