"""docs/networks/vpn.md, as documented: one tunnel over two uplinks, either of which may fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Daemon, Namespace, eventually, subflows
from tests.networks.run import interrupted
from tests.networks.vpn import FAR_HOST, Vpn

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]
TUNNEL = 1194


@pytest.fixture
def vpn() -> Iterator[Vpn]:
    with Vpn() as built:
        yield built


def answers(host: Namespace, address: str = FAR_HOST) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@pytest.mark.alone
def test_the_tunnel_uses_both_uplinks_and_survives_either_failing(vpn):
    router, files = vpn.router, vpn.guide.files("router")
    configuration = files["/etc/mproutd/network"], files["/etc/mproutd/mproutd"]
    with Daemon(router, *configuration) as daemon:
        assert not answers(vpn.host)
        vpn.connect()
        eventually(lambda: answers(vpn.host), 20, vpn.router.services_said())
        two = eventually(lambda: len(s := subflows(router, TUNNEL)) == 2 and s)
        vpn.guide.shows("status", daemon.call("status").out)
        vpn.guide.shows("rules", router.ip("rule show"))

        def unplug() -> None:
            vpn.wan.unplug(1)
            eventually(lambda: [s.device for s in subflows(router, TUNNEL)] == ["eth2"])
            eventually(lambda: answers(vpn.host))  # it waits for what the tunnel sends again
            vpn.guide.shows("status-unplugged", daemon.call("status").out)

        def plug() -> None:
            vpn.wan.plug(1)
            eventually(lambda: len(subflows(router, TUNNEL)) == 2)

        run = interrupted(vpn.host, vpn.far, FAR_HOST, 18, unplug, plug)
        vpn.wan.unplug(2)
        eventually(lambda: len(subflows(router, TUNNEL)) == 1)
        eventually(lambda: answers(vpn.host))
        assert {s.token for s in subflows(router, TUNNEL)} == {s.token for s in two}
        vpn.wan.plug(2)
        eventually(lambda: len(subflows(router, TUNNEL)) == 2)
    status = router.services_said()
    assert vpn.connections() == 1, status
    assert run.measured.completed
    vpn.guide.measured("rates", run.table())
    both, one, again = run.rates
    assert 12 < one < 20
    assert both > 1.6 * one
    assert again > 1.6 * one


def test_a_tunnel_that_ends_leaves_the_lan_on_the_master(vpn):
    """And takes its table and rules along; a new one brings them back."""
    router, files = vpn.router, vpn.guide.files("router")
    vpn.wan.masquerade()
    with Daemon(router, files["/etc/mproutd/network"], files["/etc/mproutd/mproutd"]):
        vpn.connect()
        eventually(lambda: answers(vpn.host), 20, vpn.router.services_said())
        assert "dev tap0" in router.ip("route get 10.99.0.1 from 192.168.70.10 iif br-lan")
        before = router.state()
        client = router._children[-1]
        client.terminate()
        assert client.wait(10) == 0
        lookup = "route get 10.99.0.1 from 192.168.70.10 iif br-lan"
        eventually(lambda: "dev eth1" in router.ip(lookup))
        assert not [line for line in router.state().splitlines() if "7003" in line]
        vpn.connect()
        eventually(lambda: answers(vpn.host), 20, vpn.router.services_said())
        eventually(lambda: router.state() == before)
