"""The resolvers of real leases: dnsmasq at the providers, dhclient and our hook on the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Daemon, Wan, eventually
from tests.lab.names import resolver
from tests.networks.machine import Machine
from tests.networks.two_sites import dnsmasq, lease

pytestmark = pytest.mark.kernel


@pytest.fixture
def gateway() -> Iterator[Machine]:
    with Wan(ipv6=False, shaped=False, lan=False, node=Machine) as wan:
        for n, router in wan.routers.items():
            dnsmasq(router, n, f"--dhcp-option=option:dns-server,{resolver(n)}")
        assert isinstance(wan.gateway, Machine)
        wan.gateway.install_hooks()
        yield wan.gateway


def dhclient(gateway: Machine, n: int, *options: str) -> None:
    files = ("-pf", f"/run/dhclient{n}.pid", "-lf", f"/var/lib/dhcp/dhclient{n}.leases")
    gateway.run("unshare", "--uts", "dhclient", *options, *files, f"eth{n}", timeout=60)


def resolvers(daemon: Daemon, n: int) -> list[tuple[str, str]]:
    return [(item["address"], item["origin"]) for item in daemon.uplink(f"wan{n}")["resolvers"]]


def test_a_lease_brings_its_resolver_and_takes_it_away(gateway: Machine) -> None:
    with Daemon(gateway) as daemon:
        for n in (1, 2):
            dhclient(gateway, n, "-1")
            assert f"inet {lease(n)}/24" in gateway.ip(f"address show dev eth{n}")
            eventually(lambda n=n: resolvers(daemon, n) == [(resolver(n), "lease")], 20)
        eventually(lambda: gateway.ip("rule show").count("7899:") == 2, 20)
        dhclient(gateway, 2, "-r")
        eventually(lambda: resolvers(daemon, 2) == [], 20)
        assert resolver(2) not in gateway.ip("rule show")
