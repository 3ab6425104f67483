"""Worlds in which every endpoint goes while connections use them: they live on."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    TWO_UPLINKS,
    Daemon,
    Echo,
    Wan,
    eventually,
    subflows,
)
from tests.lab.modes import endpoints

pytestmark = pytest.mark.kernel

DISABLED = TWO_UPLINKS.replace("'enable'", "'disable'")
ALL_OFF = TWO_UPLINKS.replace("'master'", "'off'").replace("'on'", "'off'")
SERVER_ROLE = "config mproutd 'globals'\n\toption role '{}'\n"


@pytest.fixture
def world():
    with Wan(3, shaped=False, lan=False).usual() as wan:
        yield wan


def by_command(daemon: Daemon) -> None:
    daemon.stop()
    result = daemon.call("flush")
    assert (result.code, result.err) == (0, "")


def disabled(daemon: Daemon) -> None:
    daemon.configure(network=DISABLED)
    daemon.reconcile()


def disabled_without_a_daemon(daemon: Daemon) -> None:
    daemon.stop()
    disabled(daemon)


def all_off(daemon: Daemon) -> None:
    daemon.configure(network=ALL_OFF)
    daemon.reconcile()


def serving(daemon: Daemon) -> None:
    daemon.configure(own=SERVER_ROLE.format("server"))
    daemon.reconcile()


def both(daemon: Daemon) -> None:
    daemon.configure(own=SERVER_ROLE.format("both"))
    daemon.reconcile()


REMOVALS = (by_command, disabled, disabled_without_a_daemon, all_off, serving, both)


def lives(echo: Echo) -> bool:
    """Whether messages come back from now on."""
    seen = echo.report()
    assert not seen.error
    return bool(eventually(lambda: echo.report().received > seen.received + 30, 20))


@pytest.mark.parametrize("remove", REMOVALS)
def test_connections_live_on(world, remove: Callable[[Daemon], None]):
    gateway, server = world.gateway, world.server
    with (
        Daemon(gateway) as daemon,
        Echo(gateway, server, SERVER) as echo,
        Echo(gateway, server, SERVER6) as echo6,
    ):
        connections = (echo, echo6)
        eventually(
            lambda: all(len(subflows(gateway, connection.port)) == 2 for connection in connections)
        )
        remove(daemon)
        assert all(map(lives, connections))
        assert echo.report().mptcp
        shown = gateway.ip("mptcp endpoint show")
        assert ("signal" in shown) == (remove in (serving, both))
        assert "0.0.0.0" not in shown
        assert ":: " not in shown
        if remove is serving:
            daemon.configure(own=SERVER_ROLE.format("client"))
            daemon.reconcile()
            assert all(map(lives, connections))
            eventually(lambda: len(subflows(gateway, echo.port)) == 2, 20)


def test_one_uplink_is_enough(world):
    network = TWO_UPLINKS.replace("'on'", "'off'")
    with Daemon(world.gateway, network) as daemon:
        with (
            Echo(world.gateway, world.server, SERVER) as without_a_second,
            Echo(world.gateway, world.server, SERVER, bind="10.2.2.2") as joined,
        ):
            eventually(lambda: len(subflows(world.gateway, joined.port)) == 2)
            assert daemon.call("flush").code == 1, "the daemon runs"
            daemon.stop()
            for _ in range(2):
                result = daemon.call("flush")
                assert result.code == 1
                assert result.err == (
                    "mproutd: 10.1.1.2: its endpoint stays, since 1 connection ends with it;"
                    " repeat later, or use --force\n"
                )
                assert set(endpoints(world.gateway)) == {"10.1.1.2"}
                assert lives(without_a_second)
                assert lives(joined)
        result = daemon.call("flush")
        assert (result.code, result.err) == (0, "")
        assert endpoints(world.gateway) == {}
        assert not world.gateway.path("/run/mproutd/state.json").exists()


def test_what_the_peer_began_keeps_its_endpoint_until_it_has_ended(world):
    """With its routing: main would lead it out by another uplink, where it would be dropped."""
    world.default_route(3, metric=1)
    with Daemon(world.gateway) as daemon:
        with Echo(world.server, world.gateway, "10.2.2.2") as accepted:
            disabled(daemon)
            assert set(endpoints(world.gateway)) == {"10.2.2.2"}
            ours = [line for line in world.gateway.state().splitlines() if "proto 77" in line]
            assert "-4 rule 7502 from 10.2.2.2 lookup 7002 proto 77" in ours
            assert not [line for line in ours if "7001" in line or "7000" in line]
            status = daemon.call("status")
            assert "10.2.2.2: its endpoint is to be deleted or changed" in status.words
            assert status.code == 1
            assert lives(accepted)
        daemon.reconcile()
        eventually(lambda: endpoints(world.gateway) == {})
        assert daemon.call("status").code == 0


def test_by_force_the_endpoints_go_at_once(world):
    with Daemon(world.gateway) as daemon, Echo(world.server, world.gateway, "10.1.1.2") as accepted:
        daemon.stop()
        assert daemon.call("flush", "--force").code == 0
        assert endpoints(world.gateway) == {}
        eventually(lambda: subflows(world.server, accepted.port) == [])


def test_plain_tcp_is_not_waited_for(world):
    """Deleting an endpoint does not close it."""
    with (
        Daemon(world.gateway) as daemon,
        Echo(world.gateway, world.server, SERVER, answers_mptcp=False) as plain,
    ):
        by_command(daemon)
        assert endpoints(world.gateway) == {}
        assert lives(plain)


def test_many_uplinks_and_a_peer_with_the_usual_limit(world):
    """It accepts two subflows beside the initial one, and has as many."""
    world.server.ip("mptcp limits set subflows 2 add_addr_accepted 0")
    network = TWO_UPLINKS + "config interface 'wan3'\n\toption device 'eth3'\n"
    network += "\toption multipath 'on'\n"
    with (
        Daemon(world.gateway, network) as daemon,
        Echo(world.gateway, world.server, SERVER) as echo,
    ):
        eventually(lambda: len(subflows(world.gateway, echo.port)) == 3)
        by_command(daemon)
        assert lives(echo)
        time.sleep(0.5)
        assert [subflow.local for subflow in subflows(world.gateway, echo.port)] == ["10.1.1.2"]
