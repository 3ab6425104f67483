"""Worlds in which all regular uplinks carry nothing although usable: a handover uplink steps in."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, Daemon, Echo, address, eventually, subflows
from tests.lab.modes import endpoints, network

pytestmark = pytest.mark.kernel

MODES = network(eth1="master", eth2="handover")
PROHIBIT = "rule {} from 10.1.1.2 priority 500 prohibit"


def lives(echo: Echo) -> bool:
    seen = echo.report()
    assert not seen.error
    return bool(eventually(lambda: echo.report().received > seen.received + 20, 30))


def four(wan) -> set[str]:
    return {endpoint for endpoint in endpoints(wan.gateway) if "." in endpoint}


def test_in_place_of_a_misrouted_uplink(wan):
    gateway = wan.gateway
    with Daemon(gateway, MODES) as daemon, Echo(gateway, wan.server, SERVER) as echo:
        assert four(wan) == {address(1)}
        assert lives(echo)  # no further subflow can join before data was acknowledged
        gateway.ip(PROHIBIT.format("add"))
        eventually(lambda: four(wan) == {address(2)})
        assert lives(echo)
        assert [subflow.local for subflow in subflows(gateway, echo.port)] == [address(2)]
        assert daemon.settle()["problems"][0]["code"] == "misrouted"
        assert daemon.reconcile() == ""
        assert four(wan) == {address(2)}

        daemon.stop()
        assert daemon.reconcile() == "", "without a daemon"
        daemon.start()
        daemon.settle()
        assert four(wan) == {address(2)}
        assert lives(echo)

        gateway.ip(PROHIBIT.format("delete"))
        eventually(lambda: four(wan) == {address(1)})
        assert lives(echo)
        eventually(
            lambda: {subflow.local for subflow in subflows(gateway, echo.port)} == {address(1)}
        )
        assert daemon.settle()["problems"] == []


def test_in_place_of_one_that_is_misrouted_from_the_start(wan):
    wan.gateway.ip(PROHIBIT.format("add"))
    with Daemon(wan.gateway, MODES) as daemon:
        eventually(lambda: four(wan) == {address(2)})
        passes = daemon.settle()["counts"]["passes"]
        assert daemon.settle()["counts"]["passes"] == passes
        daemon.kill9()
        daemon.start()
        daemon.settle()
        assert four(wan) == {address(2)}


@pytest.mark.parametrize("foreign", ["signal", "subflow dev eth2"])
def test_in_place_of_one_whose_endpoint_another_program_made_for_something_else(wan, foreign):
    wan.gateway.ip(f"mptcp endpoint add 10.1.1.2 id 77 {foreign}")
    with Daemon(wan.gateway, MODES) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        assert four(wan) == {address(1), address(2)}
        eventually(
            lambda: address(2) in {subflow.local for subflow in subflows(wan.gateway, echo.port)}
        )
        wan.gateway.ip("mptcp endpoint delete id 77")
        daemon.reconcile()
        eventually(lambda: four(wan) == {address(1)})
        assert lives(echo)


def test_an_endpoint_of_another_program_that_serves_is_enough(wan):
    wan.gateway.ip("mptcp endpoint add 10.1.1.2 id 77 subflow backup")
    with Daemon(wan.gateway, MODES):
        assert four(wan) == {address(1)}
