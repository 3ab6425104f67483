"""kill -9 at any moment, then a start: the same state as from a clean boot."""

from __future__ import annotations

import random
import time

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows

pytestmark = pytest.mark.kernel

SWAPPED = TWO_UPLINKS.replace("'on'", "'x'").replace("'master'", "'on'").replace("'x'", "'master'")
OFF = TWO_UPLINKS.replace("'enable'", "'disable'")


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def begin(daemon: Daemon, verb: str = "run"):
    """The daemon or a command, without waiting for anything."""
    return daemon.node.popen(*daemon.command(verb))


@pytest.mark.parametrize("verb", ["run", "reconcile", "flush"])
def test_killed_at_any_moment_it_ends_as_from_a_clean_start(world, verb):
    """Eight moments, from before the first import to after the first pass."""
    before_start = world.gateway.state()
    daemon = Daemon(world.gateway).start()
    daemon.settle()
    clean = world.gateway.state()
    daemon.stop()
    assert daemon.call("flush").code == 0
    before = time.monotonic()
    daemon.start()
    coming_up = time.monotonic() - before
    daemon.kill9()
    rng = random.Random(verb)
    for _ in range(8):
        if verb != "flush":
            assert daemon.call("flush").code == 0
            assert world.gateway.state() == before_start
        process = begin(daemon, verb)
        time.sleep(rng.uniform(0.3, 1.2) * coming_up)
        process.kill()
        process.wait()
        daemon.start()
        daemon.settle()
        assert world.gateway.state() == clean
        daemon.kill9()
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before_start


def test_killed_amid_changes_of_the_configuration_and_the_world(world):
    """Any state to any other, killed in between: the end is what a clean start makes."""
    rng = random.Random(77)
    daemon = Daemon(world.gateway)
    expected = {}
    for name, text in (("two", TWO_UPLINKS), ("swapped", SWAPPED), ("off", OFF)):
        daemon.configure(text)
        daemon.start()
        daemon.settle()
        daemon.stop()
        expected[name] = world.gateway.state()
        assert daemon.call("flush").code == 0
    for _ in range(8):
        name, text = rng.choice([("two", TWO_UPLINKS), ("swapped", SWAPPED), ("off", OFF)])
        daemon.configure(text)
        daemon.start()
        command = begin(daemon, "reconcile")
        upset = rng.choice(
            [
                ["rule delete priority 7010"],
                ["route flush table 7001"],
                ["mptcp endpoint flush"],
                ["address add 10.1.1.9/24 dev eth1", "address delete 10.1.1.9/24 dev eth1"],
                [],
            ]
        )
        world.gateway.run("sh", input="".join(f"ip {line}\n" for line in upset), check=False)
        time.sleep(rng.uniform(0, 0.03))
        daemon.kill9()
        command.kill()
        command.wait()
        daemon.start()
        daemon.settle()
        assert world.gateway.state() == expected[name], name
        daemon.kill9()


def test_the_endpoints_of_a_daemon_that_died_are_still_its_own(world):
    """Between the death and the next start an uplink lost its address."""
    daemon = Daemon(world.gateway).start()
    daemon.kill9()
    world.address_down(2)
    assert "endpoint 10.2.2.2" in world.gateway.state()
    with daemon:
        daemon.settle()
        assert "endpoint 10.2.2.2" not in world.gateway.state()
        assert "7002" not in world.gateway.state()


def test_a_connection_lives_through_kill_9_and_a_change_of_mode(world):
    with Daemon(world.gateway) as daemon, Echo(world.gateway, world.server, SERVER) as echo:
        eventually(lambda: len(subflows(world.gateway, echo.port)) == 2)
        ports = {subflow.local_port for subflow in subflows(world.gateway, echo.port)}
        daemon.kill9()
        daemon.configure(TWO_UPLINKS.replace("'on'", "'backup'"))
        daemon.start()
        eventually(lambda: any(subflow.backup for subflow in subflows(world.gateway, echo.port)))
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        eventually(
            lambda: not any(subflow.backup for subflow in subflows(world.gateway, echo.port))
        )
        assert {subflow.local_port for subflow in subflows(world.gateway, echo.port)} == ports
        assert not echo.report().error
