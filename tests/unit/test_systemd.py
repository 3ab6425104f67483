"""What is said to a service manager, and when: by real sockets, and a clock of our own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.services.base import ServiceContext
from mproutd.services.systemd import SystemdNotifier, interval
from mproutd.status.changes import MAX_STATUS_LENGTH, status_line
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_uplinks import unplugged, usual

TWO = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")


def line(world: World, text: str = TWO) -> str:
    outcome = world.run(text)
    return status_line(uci(text), outcome.plan.uplinks)


class Manager:
    """A service manager's socket, and one daemon's Notify with a clock that stands still."""

    def __init__(self, name: str, **environment: str) -> None:
        self.now = 100.0
        bound = "\0" + name[1:] if name.startswith("@") else name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(bound)
        context = ServiceContext(
            Loop(), lambda: None, lambda *_, **__: None, lambda: self.now, "/nowhere"
        )
        self.notify = SystemdNotifier(context, {"NOTIFY_SOCKET": name, **environment})

    def heard(self) -> list[list[str]]:
        """The datagrams since the last call, by line."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.notify.close()
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"), WATCHDOG_USEC="30000000")
    yield made
    made.close()


def test_ready_is_said_by_the_turn_after_the_first_pass(manager):
    notify, world = manager.notify, usual()
    outcome = world.run(TWO)
    notify.on_configuration(uci(TWO))
    assert notify.due() == 0.0  # the watchdog's first
    notify.turn()
    assert manager.heard() == [["WATCHDOG=1"]]
    notify.on_pass(outcome)
    assert manager.heard() == [], "the control socket does not answer yet"
    assert notify.due() == 0.0
    notify.turn()
    assert manager.heard() == [["READY=1", "STATUS=1 of 2 uplinks usable: wan1; wan2 no device"]]
    notify.on_pass(outcome)
    notify.turn()
    assert manager.heard() == []


def test_the_watchdog_is_fed_twice_in_its_time(manager):
    notify = manager.notify
    notify.turn()
    manager.heard()
    for _ in range(3):
        assert notify.due() == 15.0
        manager.now += 14.9
        notify.turn()
        assert manager.heard() == []
        manager.now += 0.1
        assert notify.due() == pytest.approx(0.0)
        notify.turn()
        assert manager.heard() == [["WATCHDOG=1"]]


def test_a_manager_that_is_away_is_told_later_in_order_and_not_everything(manager, tmp_path):
    notify, world = manager.notify, usual()
    notify.on_configuration(uci(TWO))
    notify.on_pass(world.run(TWO))
    notify.turn()
    manager.heard()
    os.rename(tmp_path / "notify", tmp_path / "away")
    for _ in range(100):
        notify.on_reload_start()
        notify.on_reload_end("line 7\n'x'\x1b is no mode")
        notify.on_reload_end("")
    assert notify.due() == 1.0
    manager.now += 1.0
    notify.turn()
    os.rename(tmp_path / "away", tmp_path / "notify")
    manager.now += 1.0
    assert notify.due() == 0.0
    notify.turn()
    ((on_reload_start, monotonic, ready, status),) = manager.heard()
    assert (on_reload_start, ready) == ("RELOADING=1", "READY=1")
    assert monotonic.startswith("MONOTONIC_USEC=")
    assert status == "STATUS=1 of 2 uplinks usable: wan1; wan2 no device"
    notify.on_reload_end("line 7\n'x'\x1b is no mode")
    assert manager.heard()[0][1] == (
        "STATUS=configuration refused, the last good one is in use: line 7 'x'  is no mode; "
        "1 of 2 uplinks usable: wan1; wan2 no device"
    )
    notify.on_reload_end("é" * 5000)  # the manager takes no more than 4096 bytes
    assert len(manager.heard()[0][1].encode()) < 4096


def test_an_abstract_socket():
    name = f"@mproutd-test-{os.getpid()}"
    manager = Manager(name)
    assert manager.notify.due() is None
    manager.close()


def test_whose_watchdog_it_is():
    assert interval({"WATCHDOG_USEC": "30000000"}, 7) == 15.0
    assert interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 15.0
    for environment in (
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
    ):
        assert interval(environment, 7) == 0.0


def test_the_line_of_all_uplinks():
    world = usual()
    assert line(world, interface("wan1", "eth1", "on")) == "1 of 1 uplinks usable: wan1"
    unplugged(world)
    assert line(world) == "0 of 2 uplinks usable; wan1 no carrier; wan2 no device"
    world.set("eth1", carrier=True, up=False)
    world.device("eth2")
    assert line(world) == "0 of 2 uplinks usable; wan1 link down; wan2 no address"
    assert line(world, "") == "no uplink is configured"
    assert status_line(Config(enabled=False), []) == "multipath is not enabled in the configuration"
    many = "".join(
        interface(f"some-long-line{n:04}".replace("-", "_"), f"ppp{n}", "on") for n in range(120)
    )
    assert len(line(world, many)) == MAX_STATUS_LENGTH
