"""Connections that chaos once ended, though a path of theirs worked: each case by itself."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, SERVER6, Daemon, Echo, Wan, address, eventually, subflows
from tests.lab.modes import endpoints, network

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def test_ipv6_stays_on_handover_when_an_uplink_without_ipv6_recovers(world):
    """It began at the handover line, and the other one cannot take it over."""
    world.gateway.ip(f"address delete {address(1, 6)}/64 dev eth1")
    world.unplug(1)
    modes = network(eth1="master", eth2="handover")
    with Daemon(world.gateway, modes) as daemon:
        assert set(endpoints(world.gateway)) == {address(2), address(2, 6)}
        with Echo(world.gateway, world.server, SERVER6) as echo:
            world.plug(1)
            eventually(lambda: set(endpoints(world.gateway)) == {address(1), address(2, 6)})
            eventually(lambda: endpoints(world.gateway)[address(2, 6)] == "subflow backup dev eth2")
            passes = daemon.settle()["counts"]["passes"]
            assert [subflow.local for subflow in subflows(world.gateway, echo.port)] == [
                address(2, 6)
            ]
            seen = echo.report()
            assert not seen.error
            eventually(lambda: echo.report().received > seen.received + 20)
            assert daemon.settle()["counts"]["passes"] - passes < 5  # and nothing else is done


def test_a_subnet_is_no_longer_shared_when_a_device_that_is_no_uplink_leaves_it(world):
    """And is again when one comes: nobody waits a minute for it."""
    world.gateway.ip("link add lan9 type bridge", "link set lan9 up")
    rule = f"7005 from {address(1)} to 10.1.1.0/24 lookup 7001"
    with Daemon(world.gateway):
        for _ in range(2):
            assert rule not in world.gateway.state()
            world.gateway.ip("address add 10.1.1.200/24 dev lan9")
            eventually(lambda: rule in world.gateway.state())
            assert world.gateway.sysctl("net.ipv4.conf.eth1.arp_ignore") == "1"
            world.gateway.ip("address delete 10.1.1.200/24 dev lan9")
            eventually(lambda: rule not in world.gateway.state())
            assert world.gateway.sysctl("net.ipv4.conf.eth1.arp_ignore") == "0"


def test_a_setting_that_others_chose_a_while_ago_is_not_written_over(world):
    """No event tells of it, and the device was read before."""
    filters = "net.ipv4.conf.eth2.rp_filter"
    world.gateway.sysctl(filters, 1)
    world.address_down(2)
    with Daemon(world.gateway) as daemon:
        world.gateway.sysctl(filters, 0)
        world.address_up(2)
        world.default_route(2)
        eventually(lambda: address(2) in endpoints(world.gateway))
        eventually(lambda: daemon.call("status").code == 0)
        assert world.gateway.sysctl(filters) == "0"
    assert daemon.call("flush").code == 0
    assert world.gateway.sysctl(filters) == "0"


def test_a_subflow_from_an_address_that_was_gone_before_the_start_is_closed(world):
    """No daemon saw it go, and the peer would go on sending there."""
    gateway = world.gateway
    gateway.ip("address add 10.1.1.77/24 dev eth1", "mptcp endpoint add 10.2.2.2 dev eth2 subflow")
    with Echo(gateway, world.server, SERVER, bind="10.1.1.77") as echo:
        eventually(lambda: len(subflows(gateway, echo.port)) == 2, 10)
        gateway.ip("address delete 10.1.1.77/24 dev eth1")
        with Daemon(gateway):
            eventually(
                lambda: "10.1.1.77" not in {each.local for each in subflows(gateway, echo.port)},
                30,
            )
            seen = echo.report()
            assert not seen.error
            eventually(lambda: echo.report().received > seen.received + 20, 30)
