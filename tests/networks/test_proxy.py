"""docs/networks/proxy.md, as it says: real leases, real proxies, a plug pulled and put back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab import Daemon, eventually
from tests.networks.two_sites import TwoSites, lease

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]


@pytest.fixture
def sites() -> Iterator[TwoSites]:
    with TwoSites() as built:
        yield built


def endpoints(sites: TwoSites) -> set[str]:
    """The addresses of router-a's endpoints."""
    return {line.split()[0] for line in sites.router_a.ip("mptcp endpoint show").splitlines()}


@pytest.mark.alone
def test_both_uplinks_carry_the_lan_and_either_may_fail(sites):
    router, both = sites.router_a, {lease(1), lease(2)}
    with Daemon(router, network=sites.network) as daemon:
        for device in ("eth1", "eth2"):
            router.ifup(device)
        eventually(lambda: endpoints(sites) == both)
        sites.guide.shows("main", router.ip("route show"))
        sites.guide.shows("status", daemon.call("status").out)
        hint = router.path("/run/mproutd-hints/eth2:4")
        assert hint.read_text() == "address=10.2.2.50\ngateway=10.2.2.1\nreason=BOUND\n"
        written = hint.stat().st_mtime_ns

        def unplugged() -> None:
            # The renewals of all that time wrote nothing; the lease took its hint along.
            assert endpoints(sites) == {lease(1)}
            assert not hint.exists()
            sites.guide.shows("status-unplugged", daemon.call("status").out)

        def plugged() -> None:
            eventually(lambda: endpoints(sites) == both)
            sites.guide.shows("status", daemon.call("status").out)

        time.sleep(5)  # for a renewal, after four seconds
        acknowledged = sites.wan.routers[2].path("/run/dnsmasq.log").read_text().count("DHCPACK")
        assert acknowledged > 1
        assert hint.stat().st_mtime_ns == written
        run = sites.run(18, unplugged, plugged)
    assert run.measured.completed, sites.router_a.services_said()
    first, one, again = run.rates
    sites.guide.measured("rates", run.table())
    assert 15 < one < 20
    assert first > 1.7 * one
    assert again > 1.7 * one
