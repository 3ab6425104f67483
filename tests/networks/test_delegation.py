"""A prefix that dhclient was delegated by a real server, which nothing but its lease file names."""

from __future__ import annotations

import pytest

from tests.lab import Daemon, Wan, eventually
from tests.networks.machine import Machine

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]

SERVER = """
default-lease-time {valid};
preferred-lifetime {preferred};
authoritative;
subnet6 2001:db8:{n}::/64 {{ prefix6 2001:db8:a00{n}:: 2001:db8:a00{n}:: /56; }}
"""


def delegate(router: Machine, n: int) -> None:
    """The provider's DHCPv6 server."""
    router.write("/run/dhcpd6.conf", SERVER.format(n=n, preferred=300, valid=600))
    router.write("/run/dhcpd6.leases", "")
    router.service(
        "dhcpd -6 -f -cf /run/dhcpd6.conf -lf /run/dhcpd6.leases --no-pid access",
    )


def test_dhclients_prefix_belongs_to_its_uplink() -> None:
    with Wan(ipv6=True, shaped=False, node=Machine).usual() as wan:
        gateway, router = wan.gateway, wan.routers[1]
        assert isinstance(gateway, Machine)
        assert isinstance(router, Machine)
        for n in wan.uplinks:
            gateway.ip(f"address add 2001:db8:a00{n}::1/64 dev br-lan nodad")
        own = "config uplink 'wan2'\n\tlist prefix '2001:db8:a002::/56'\n"
        delegate(router, 1)
        with Daemon(gateway, own=own) as daemon:

            def prefixes(name: str) -> list[str]:
                found: list[str] = daemon.uplink(name)["families"][1]["prefixes"]
                return found

            assert prefixes("wan1") == []
            gateway.service("dhclient -6 -P -d -sf /bin/true eth1")
            lease = gateway.path("/var/lib/dhcp/dhclient6.leases")
            eventually(lambda: "max-life" in lease.read_text(), 60, "a lease")
            daemon.reconcile()
            eventually(lambda: prefixes("wan1") == ["2001:db8:a001::/56"], 60)
            rules = gateway.ip("rule show", family=6)
            assert "from 2001:db8:a001::/56 lookup 7001" in rules
            wan.unplug(1)
            eventually(lambda: daemon.uplink("wan1")["deprecated"], 30)
            daemon.stop()
        assert "deprecated in lan: 2001:db8:a001::1" in daemon.call("status", "wan1").words
        assert "2001:db8:a001::1/64 dev br-lan" in daemon.call("flush").out
