"""What a service manager receives, and when: with real sockets and a clock of our own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.services.base import ServiceContext
from mproutd.services.systemd import RESEND_INTERVAL, SystemdNotifier, watchdog_interval
from mproutd.status.changes import MAX_STATUS_LENGTH, status_line
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_uplinks import unplugged, usual

TWO = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")


def line(world: World, text: str = TWO) -> str:
    outcome = world.run(text)
    return status_line(uci(text), outcome.plan.uplinks)


class Manager:
    """A service manager's socket, and one daemon's notifier on a clock that stands still."""

    def __init__(self, name: str, **environment: str) -> None:
        self.now = 100.0
        bound = "\0" + name[1:] if name.startswith("@") else name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(bound)
        self.loop = Loop(lambda: self.now)
        context = ServiceContext(self.loop, lambda: None, lambda *_, **__: None, "/nowhere")
        self.notifier = SystemdNotifier(context, {"NOTIFY_SOCKET": name, **environment})

    def after(self, seconds: float) -> list[list[str]]:
        """The datagrams that the timers of so much time send, by line."""
        self.received()
        self.now += seconds
        self.loop.run_timers()
        return self.received()

    def received(self) -> list[list[str]]:
        """The datagrams since the last call, by line."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return datagrams

    def close(self) -> None:
        self.notifier.close()
        self.socket.close()
        self.loop.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"), WATCHDOG_USEC="30000000")
    yield made
    made.close()


def test_ready_is_sent_once_the_loop_runs_after_the_first_pass(manager):
    notifier, world = manager.notifier, usual()
    outcome = world.run(TWO)
    notifier.on_configuration(uci(TWO))
    assert manager.after(0) == []
    notifier.on_pass(outcome)
    notifier.on_pass(outcome)
    assert manager.received() == [], "the control socket does not answer yet"
    assert manager.after(0) == [
        ["READY=1", "STATUS=1 of 2 uplinks usable: wan1; wan2 no device"],
        ["WATCHDOG=1"],
    ]
    notifier.on_pass(outcome)
    assert manager.after(0) == []


def test_the_watchdog_is_fed_twice_in_its_time(manager):
    manager.notifier.on_pass(usual().run(TWO))
    assert ["WATCHDOG=1"] in manager.after(0)
    for _ in range(3):
        assert manager.loop.next_at() == manager.now + 15.0
        assert manager.after(14.875) == []
        assert manager.after(0.125) == [["WATCHDOG=1"]]


def test_what_the_manager_did_not_take_is_sent_later_in_order_and_once(manager, tmp_path):
    notifier, world = manager.notifier, usual()
    notifier.on_configuration(uci(TWO))
    notifier.on_pass(world.run(TWO))
    manager.after(0)
    os.rename(tmp_path / "notify", tmp_path / "away")
    for _ in range(100):
        notifier.on_reload_start()
        notifier.on_reload_end("line 7\n'x'\x1b is no mode")
        notifier.on_reload_end("")
    assert manager.loop.next_at() == manager.now + RESEND_INTERVAL
    assert manager.after(RESEND_INTERVAL) == []
    os.rename(tmp_path / "away", tmp_path / "notify")
    assert manager.loop.next_at() == manager.now + RESEND_INTERVAL
    ((reloading, monotonic, ready, status),) = manager.after(RESEND_INTERVAL)
    assert (reloading, ready) == ("RELOADING=1", "READY=1")
    assert monotonic.startswith("MONOTONIC_USEC=")
    assert status == "STATUS=1 of 2 uplinks usable: wan1; wan2 no device"
    notifier.on_reload_end("line 7\n'x'\x1b is no mode")
    status = manager.received()[0][1]
    assert status.startswith("STATUS=")
    assert "line 7 'x'  is no mode; 1 of 2 uplinks usable: wan1; wan2 no device" in status
    notifier.on_reload_end("é" * 5000)  # the manager takes no more than 4096 bytes
    assert len(manager.received()[0][1].encode()) < 4096


def test_a_manager_that_does_not_read_does_not_block(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    for number in range(1000):
        manager.notifier.on_reload_end(f"error {number}")
    assert len(manager.notifier._unsent) <= 3
    manager.received()
    assert ["STATUS=configuration" in line for line in manager.after(RESEND_INTERVAL)[0]][-1]
    manager.close()


def test_an_abstract_socket():
    name = f"@mproutd-test-{os.getpid()}"
    manager = Manager(name)
    assert manager.loop.next_at() is None
    manager.close()


def test_whose_watchdog_it_is():
    assert watchdog_interval({"WATCHDOG_USEC": "30000000"}, 7) == 15.0
    assert watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 15.0
    for environment in (
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
    ):
        assert watchdog_interval(environment, 7) == 0.0


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
