"""Addresses and gateways that change, as DHCP and its clients change them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import SERVER, Daemon, Echo, Monitor, Wan, eventually, subflows

pytestmark = pytest.mark.kernel


@pytest.fixture
def daemon(wan: Wan) -> Iterator[Daemon]:
    """wan1 master on eth1, wan2 on on eth2, everything in place."""
    with Daemon(wan.gateway, verbose=True) as daemon:
        daemon.settle()
        daemon.writes()
        yield daemon


def ours(wan: Wan, *words: str) -> list[str]:
    """Routes, rules and endpoints of the gateway that hold one of these words, without wan2's."""
    return [
        line
        for line in wan.gateway.state().splitlines()
        if any(word in line for word in ("table 7001", "lookup 7001", "endpoint"))
        and any(word in line for word in words)
    ]


# -- an address that stays, changes, or gets company -----------------------------------------


def test_a_renewed_lease_writes_nothing(wan: Wan, daemon: Daemon) -> None:
    # With the first lifetime, the kernel takes the subnet's route for one that has expired.
    for _ in range(2):
        wan.gateway.ip("address replace 2001:db8:1::2/64 dev eth1 valid_lft 900 preferred_lft 900")
    daemon.settle()
    daemon.writes()
    before = wan.gateway.state(ids=True)
    with Monitor(wan.gateway) as monitor, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        for seconds in (600, 1200, 300):
            wan.gateway.ip(
                f"address replace 10.1.1.2/24 dev eth1 valid_lft {seconds} preferred_lft {seconds}",
                f"address replace 2001:db8:1::2/64 dev eth1 valid_lft {seconds} preferred_lft 200",
                "route replace default via 10.1.1.1 dev eth1 metric 1",
            )
            daemon.settle()
        assert daemon.writes() == []
        assert monitor.ours() == []
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports
    assert wan.gateway.state(ids=True) == before


NEW = "address replace 10.1.1.3/24 dev eth1"
OLD = "address delete 10.1.1.2/24 dev eth1"
ROUTE = "route replace default via 10.1.1.1 dev eth1 metric 1"


@pytest.mark.parametrize(
    ("promoted", "steps"),
    [(1, (NEW, OLD)), (0, (NEW, OLD, NEW, ROUTE)), (0, (OLD, NEW, ROUTE))],
    ids=["new first", "new taken along with old", "old first"],
)
def test_an_address_changes_within_its_subnet(
    wan: Wan, daemon: Daemon, promoted: int, steps: tuple[str, ...]
) -> None:
    """`promote_secondaries` decides whether the second address outlives the first."""
    wan.gateway.sysctl("net.ipv4.conf.eth1.promote_secondaries", promoted)
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        for step in steps:
            wan.gateway.ip(step)
            daemon.settle()
        assert ours(wan, "10.1.1.") == [
            "-4 endpoint 10.1.1.3 subflow dev eth1",
            "-4 route 10.1.1.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.1.3",
            "-4 route default via 10.1.1.1 dev eth1 table 7001 proto 77",
            "-4 rule 7501 from 10.1.1.3 lookup 7001 proto 77",
        ]
        eventually(
            lambda: (
                {subflow.local for subflow in subflows(wan.gateway, echo.port)}
                == {"10.1.1.3", "10.2.2.2"}
            )
        )
        seen = echo.report().received
        eventually(lambda: echo.report().received > seen + 10)
        assert not echo.report().error


def test_several_addresses_on_one_device(wan: Wan, daemon: Daemon) -> None:
    """The gateway is in the subnet of two of them; nobody says that it serves the third."""
    wan.gateway.ip("address add 10.1.1.3/24 dev eth1", "address add 10.1.8.2/24 dev eth1")
    daemon.settle()
    assert ours(wan, "10.1.") == [
        "-4 endpoint 10.1.1.2 subflow dev eth1",
        "-4 endpoint 10.1.1.3 subflow dev eth1",
        "-4 route 10.1.1.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.1.2",
        "-4 route 10.1.8.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.8.2",
        "-4 route default via 10.1.1.1 dev eth1 table 7001 proto 77",
        "-4 rule 7501 from 10.1.1.2 lookup 7001 proto 77",
        "-4 rule 7501 from 10.1.1.3 lookup 7001 proto 77",
        "-4 rule 7501 from 10.1.8.2 lookup 7001 proto 77",
    ]
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(
            lambda: (
                {subflow.local for subflow in subflows(wan.gateway, echo.port)}
                == {"10.1.1.2", "10.1.1.3", "10.2.2.2"}
            )
        )
        (problem,) = daemon.status()["problems"]
        assert (problem["code"], problem["address"]) == ("address-without-gateway", "10.1.8.2")
        wan.gateway.ip("address delete 10.1.8.2/24 dev eth1")
        eventually(
            lambda: (
                {subflow.local for subflow in subflows(wan.gateway, echo.port)}
                == {"10.1.1.2", "10.1.1.3", "10.2.2.2"}
            )
        )
        assert not echo.report().error
    daemon.settle()
    assert ours(wan, "10.1.8.") == []


# -- a gateway that changes -------------------------------------------------------------------


def other_gateway(wan: Wan) -> None:
    """The router of uplink 1 is also 10.1.1.254 and fe80::254."""
    wan.routers[1].ip(
        "address add 10.1.1.254/24 dev access", "address add fe80::254/64 dev access nodad"
    )


@pytest.mark.alone
def test_a_new_gateway_changes_the_default_routes_alone(wan: Wan, daemon: Daemon) -> None:
    """Those of wan1 and, as wan1 is the master, of other traffic; no subflow is lost."""
    other_gateway(wan)
    with Monitor(wan.gateway) as monitor, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        before = set(wan.gateway.state(ids=True).splitlines())
        ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        wan.gateway.ip("route replace default via 10.1.1.254 dev eth1 metric 1")
        daemon.settle()
        assert sorted(monitor.ours()) == [
            "default via 10.1.1.254 dev eth1 table 7000 proto 77",
            "default via 10.1.1.254 dev eth1 table 7001 proto 77",
        ]
        wan.gateway.ip("route replace default via fe80::254 dev eth1 metric 1")
        daemon.settle()
        assert sorted(monitor.ours()) == [
            "default via fe80::254 dev eth1 table 7000 proto 77 metric 1024 pref medium",
            "default via fe80::254 dev eth1 table 7001 proto 77 metric 1024 pref medium",
        ]
        assert len(daemon.writes()) == 4
        assert set(wan.gateway.state(ids=True).splitlines()) == {
            line.replace("10.1.1.1 ", "10.1.1.254 ").replace("2001:db8:1::1 ", "fe80::254 ")
            for line in before
        }
        assert echo.report().gap < 0.3
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports


def test_a_gateway_that_is_taken_away_before_the_next_one_comes(wan: Wan, daemon: Daemon) -> None:
    """Some clients delete the default route and then add the new one: no flow ends in between."""
    other_gateway(wan)
    with Monitor(wan.gateway) as monitor:
        wan.gateway.ip("route delete default via 10.1.1.1 dev eth1")
        daemon.settle()
        assert monitor.ours() == []
        family = daemon.uplink("wan1")["families"][0]
        assert (family["gateway"], family["gateway_from"]) == ("10.1.1.1", "remembered")
        wan.gateway.ip("route add default via 10.1.1.254 dev eth1 metric 1")
        daemon.settle()
        assert sorted(monitor.ours()) == [
            "default via 10.1.1.254 dev eth1 table 7000 proto 77",
            "default via 10.1.1.254 dev eth1 table 7001 proto 77",
        ]


def test_a_device_with_two_default_routes_uses_the_better_one(wan: Wan, daemon: Daemon) -> None:
    other_gateway(wan)
    with Monitor(wan.gateway) as monitor:
        wan.gateway.ip("route add default via 10.1.1.254 dev eth1 metric 90")
        daemon.settle()
        assert monitor.ours() == []
        wan.gateway.ip("route delete default via 10.1.1.1 dev eth1")
        daemon.settle()
        assert len(monitor.ours()) == 2
        wan.gateway.ip("route add default via 10.1.1.1 dev eth1 metric 1")
        daemon.settle()
        assert len(monitor.ours()) == 2
    assert "default via 10.1.1.1 " in ours(wan, "default")[0]
