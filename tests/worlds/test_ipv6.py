"""IPv6 as routers hand it out: what is usable, what is not, and what changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import (
    SERVER6,
    Capture,
    Daemon,
    Echo,
    Wan,
    advertise,
    eventually,
    subflows,
)

pytestmark = pytest.mark.kernel

OLD, NEW = "2001:db8:1::/64", "2001:db8:11::/64"
TEMPORARY, PERMANENT = "temporary", "mngtmpaddr"


def slaac(wan: Wan) -> Wan:
    """eth1 takes what its router advertises (wan1); eth2 has its usual addresses (wan2)."""
    wan.gateway.sysctl("net.ipv6.conf.eth1.accept_ra", 2)
    wan.address_up(2)
    wan.default_route(2)
    wan.server.ip(f"route add {NEW} via 2001:db8:901::1 src {SERVER6}")
    wan.routers[1].ip("address add 2001:db8:11::1/64 dev access nodad")
    return wan


def address_in(wan: Wan, prefix: str, kind: str = "") -> str:
    """The gateway's address on eth1 in this /64; AssertionError while there is none."""
    start = prefix.removesuffix(":/64")
    for line in wan.gateway.ip("address show dev eth1").splitlines():
        if f"inet6 {start}" in line and kind in line and "tentative" not in line:
            return line.split()[1].split("/")[0]
    raise AssertionError(f"no address in {prefix}")


def advertised(wan: Wan, daemon: Daemon, prefix: str, kind: str = "", **times: int) -> str:
    """Send an advertisement, and wait for the address and for what follows from it."""
    advertise(wan.routers[1], "access", prefix, **times)
    own = eventually(lambda: address_in(wan, prefix, kind))
    daemon.settle()
    return own


def six(wan: Wan) -> list[str]:
    """Endpoints of IPv6 and what wan1 has in that family."""
    lines = wan.gateway.state().splitlines()
    return [
        line
        for line in lines
        if ("-6" in line and "7001" in line and "oif" not in line and "fwmark" not in line)
        or ("endpoint" in line and ":" in line)
    ]


def path6(daemon: Daemon) -> dict[str, Any]:
    """wan1's IPv6 in the status."""
    family: dict[str, Any] = daemon.uplink("wan1")["families"][1]
    return family


ENDPOINT_2 = "-4 endpoint 2001:db8:2::2 subflow dev eth2"


def wanted(prefix: str, address: str, gateway: str) -> list[str]:
    """wan1's part of the kernel with one usable address."""
    hops = " hoplimit 64" if gateway.startswith("fe80") else ""  # of the advertisement
    return sorted(
        [
            f"-4 endpoint {address} subflow dev eth1",
            ENDPOINT_2,
            f"-6 route {prefix} dev eth1 table 7001 proto 77 metric 1024 pref medium",
            f"-6 route default via {gateway} dev eth1 table 7001 proto 77 metric 1024{hops}"
            " pref medium",
            f"-6 rule 7501 from {address} lookup 7001 proto 77",
        ]
    )


def link_local(wan: Wan) -> str:
    text = wan.routers[1].ip("address show dev access scope link")
    return text.split("inet6 ")[1].split("/")[0]


# -- router advertisements --------------------------------------------------------------------


def test_a_link_local_gateway_and_its_renewal(bare_wan: Wan) -> None:
    wan = slaac(bare_wan)
    with Daemon(wan.gateway, verbose=True) as daemon:
        address = advertised(wan, daemon, OLD)
        assert six(wan) == wanted(OLD, address, link_local(wan))
        with Echo(wan.gateway, wan.server, SERVER6, bind="2001:db8:2::2") as echo:
            both = {address, "2001:db8:2::2"}
            eventually(lambda: {s.local for s in subflows(wan.gateway, echo.port)} == both)
        daemon.writes()
        for valid in (4000, 5000):
            advertised(wan, daemon, OLD, valid=valid)
        assert daemon.writes() == []


def test_a_prefix_that_changes(bare_wan: Wan) -> None:
    """The old one is deprecated: its endpoint goes, its rule stays, connections move."""
    wan = slaac(bare_wan)
    with Daemon(wan.gateway) as daemon:
        old = advertised(wan, daemon, OLD)
        with Echo(wan.gateway, wan.server, SERVER6, bind="2001:db8:2::2") as echo:

            def by() -> set[str]:
                return {s.local for s in subflows(wan.gateway, echo.port)}

            eventually(lambda: by() == {old, "2001:db8:2::2"})
            advertise(wan.routers[1], "access", OLD, preferred=0)
            new = advertised(wan, daemon, NEW)
            eventually(lambda: by() == {new, "2001:db8:2::2"})
            assert not echo.report().error
        daemon.settle()
        assert six(wan) == sorted(
            [
                *wanted(NEW, new, link_local(wan)),
                f"-6 route {OLD} dev eth1 table 7001 proto 77 metric 1024 pref medium",
                f"-6 rule 7501 from {old} lookup 7001 proto 77",
            ]
        )
        wan.gateway.run("ping", "-c1", "-W2", "-I", old, SERVER6)
        wan.gateway.ip(f"address delete {old}/64 dev eth1")
        daemon.settle()
        assert six(wan) == wanted(NEW, new, link_local(wan))


def test_temporary_addresses_are_routed_but_no_endpoints(bare_wan: Wan) -> None:
    """RFC 8981: they go after a while; connections that use them leave by their uplink."""
    wan = slaac(bare_wan)
    wan.gateway.sysctl("net.ipv6.conf.eth1.use_tempaddr", 2)
    with Daemon(wan.gateway) as daemon, Capture(wan.gateway) as capture:
        address = advertised(wan, daemon, OLD, PERMANENT)
        temporary = eventually(lambda: address_in(wan, OLD, TEMPORARY))
        daemon.settle()
        rule = f"-6 rule 7501 from {temporary} lookup 7001 proto 77"
        assert six(wan) == sorted([*wanted(OLD, address, link_local(wan)), rule])
        wan.gateway.ip("route add default via 2001:db8:2::1 dev eth2 metric 1")
        wan.gateway.run("ping", "-c1", "-W2", "-I", temporary, SERVER6)
        assert capture.devices(lambda packet: packet.source == temporary) == {"eth1"}


# -- states of an address ---------------------------------------------------------------------


def test_a_tentative_address_waits(bare_wan: Wan) -> None:
    """Nothing is opened from an address that the kernel does not yet let anybody use."""
    bare_wan.gateway.sysctl("net.ipv6.neigh.eth1.retrans_time_ms", 600)
    bare_wan.gateway.sysctl("net.ipv6.conf.eth1.router_solicitation_delay", 0)
    with Daemon(bare_wan.gateway, verbose=True) as daemon:
        bare_wan.address_up(1, dad=True)
        bare_wan.default_route(1)
        daemon.settle()
        assert path6(daemon)["reason"] == "tentative"
        assert not any("2001:db8:1::2" in line for line in daemon.writes())
        eventually(lambda: path6(daemon)["usable"])
        daemon.settle()
        assert six(bare_wan)[0] == "-4 endpoint 2001:db8:1::2 subflow dev eth1"


def test_an_address_that_another_host_has(wan: Wan) -> None:
    """Duplicate address detection fails, with a real duplicate; IPv4 goes on."""
    gateway, router = wan.gateway, wan.routers[1]
    gateway.ip("address delete 2001:db8:1::2/64 dev eth1")
    router.ip("address add 2001:db8:1::2/64 dev access nodad")
    gateway.sysctl("net.ipv6.neigh.eth1.retrans_time_ms", 100)
    gateway.sysctl("net.ipv6.conf.eth1.router_solicitation_delay", 0)
    with Daemon(gateway) as daemon:
        wan.address_up(1, dad=True)
        eventually(lambda: "dadfailed" in gateway.ip("address show dev eth1"))
        status = daemon.settle()
        four, six_ = status["uplinks"][0]["families"]
        assert (four["usable"], six_["usable"], six_["reason"]) == (True, False, "dad-failed")
        assert six(wan) == [ENDPOINT_2]
        router.ip("address delete 2001:db8:1::2/64 dev access")
        gateway.ip("address delete 2001:db8:1::2/64 dev eth1")
        wan.address_up(1, dad=True)
        eventually(lambda: path6(daemon)["usable"])
        daemon.settle()
        assert six(wan) == wanted(OLD, "2001:db8:1::2", "2001:db8:1::1")


def test_a_deprecated_address_opens_nothing_new(wan: Wan) -> None:
    gateway = wan.gateway
    # With the first lifetime, the kernel takes the subnet's route for one that has expired.
    for _ in range(2):
        gateway.ip("address change 2001:db8:1::2/64 dev eth1 valid_lft 600 preferred_lft 600")
    with Daemon(gateway) as daemon:
        before = daemon.settle() and six(wan)
        gateway.ip("address change 2001:db8:1::2/64 dev eth1 valid_lft 600 preferred_lft 0")
        daemon.settle()
        assert path6(daemon)["reason"] == "deprecated"
        assert six(wan) == [
            line for line in before if not line.startswith("-4 endpoint 2001:db8:1")
        ]
        gateway.run("ping", "-c1", "-W2", "-I", "2001:db8:1::2", SERVER6)
        gateway.ip("address change 2001:db8:1::2/64 dev eth1 valid_lft 600 preferred_lft 600")
        daemon.settle()
        assert six(wan) == before


def test_a_unique_local_address_only_where_configured(wan: Wan) -> None:
    gateway = wan.gateway
    with Daemon(gateway) as daemon:
        before = daemon.settle() and six(wan)
        gateway.ip("address delete 2001:db8:1::2/64 dev eth1")
        gateway.ip("address add fd00:1::2/64 dev eth1 nodad")
        daemon.settle()
        assert six(wan) == [ENDPOINT_2]
        wan.address_up(1)
        wan.default_route(1)
        daemon.settle()
        assert six(wan) == before
        daemon.configure(own="config uplink 'wan1'\n\toption ula '1'\n")
        daemon.reconcile()
        assert set(six(wan)) - set(before) == {
            "-4 endpoint fd00:1::2 subflow dev eth1",
            "-6 route fd00:1::/64 dev eth1 table 7001 proto 77 metric 1024 pref medium",
            "-6 rule 7501 from fd00:1::2 lookup 7001 proto 77",
        }


def test_one_more_address_changes_no_route(wan: Wan) -> None:
    """The kernel lists the newest first; the source of the routes stays the oldest."""
    with Daemon(wan.gateway, verbose=True) as daemon:
        daemon.settle()
        daemon.writes()
        wan.gateway.ip("address add 2001:db8:1::3/64 dev eth1 nodad")
        daemon.settle()
        assert daemon.writes() == [
            "ip -6 rule add from 2001:db8:1::3 lookup 7001 protocol 77 priority 7501",
            "ip mptcp limits set subflows 3 add_addr_accepted 0",
            "ip mptcp endpoint add 2001:db8:1::3 dev eth1 subflow",
        ]


# -- a delegated prefix -----------------------------------------------------------------------


def test_a_delegated_prefix_on_the_lan(bare_wan: Wan) -> None:
    """wan1 has no global address itself, only a prefix for the LAN: it is left to main."""
    wan, gateway = bare_wan, bare_wan.gateway
    gateway.sysctl("net.ipv6.conf.eth1.accept_ra", 2)
    gateway.ip("address add 10.1.1.2/24 dev eth1", "route add default via 10.1.1.1 dev eth1")
    with Daemon(gateway) as daemon:
        advertise(wan.routers[1], "access")
        eventually(lambda: "default via fe80" in gateway.ip("route show", family=6))
        gateway.ip("address add 2001:db8:1:100::1/64 dev br-lan nodad")
        assert wan.lan
        wan.lan.ip(
            "address add 2001:db8:1:100::10/64 dev eth0 nodad",
            "route add default via 2001:db8:1:100::1",
        )
        hop = gateway.ip("address show dev eth1 scope link").split("inet6 ")[1].split("/")[0]
        wan.routers[1].ip(f"route add 2001:db8:1:100::/64 via {hop} dev access")
        wan.server.ip(f"route add 2001:db8:1:100::/64 via 2001:db8:901::1 src {SERVER6}")
        status = daemon.settle()
        four, six_ = status["uplinks"][0]["families"]
        assert (four["usable"], six_["reason"]) == (True, "no-address")
        assert "2001:db8:1:100:" not in "".join(
            line for line in gateway.state().splitlines() if "proto 77" in line or "end" in line
        )
        wan.lan.run("ping", "-c1", "-W2", SERVER6)


@pytest.mark.parametrize("loss", ["deprecated", "carrier"])
def test_the_only_uplink_with_ipv6_keeps_its_connections(wan, loss):
    """wan2 has IPv4 alone.  They move nowhere, so their endpoint stays, as a backup."""
    gateway = wan.gateway
    gateway.ip("address delete 2001:db8:2::2/64 dev eth2")
    change = "address change 2001:db8:1::2/64 dev eth1 valid_lft 600 preferred_lft"
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER6) as echo:
        daemon.settle()
        (before,) = subflows(gateway, echo.port)
        if loss == "deprecated":
            gateway.ip(f"{change} 0")
        else:
            wan.unplug(1)
        eventually(lambda: "subflow backup dev eth1" in gateway.ip("mptcp endpoint show"))
        if loss == "deprecated":
            seen = echo.report().received
            eventually(lambda: echo.report().received > seen + 50)
            gateway.ip(f"{change} 600")
        else:
            wan.plug(1)
        eventually(lambda: "backup" not in gateway.ip("mptcp endpoint show"))
        seen = echo.report().received
        eventually(lambda: echo.report().received > seen + 50, 10)
        assert not echo.report().error
        assert [subflow.local_port for subflow in subflows(gateway, echo.port)] == [
            before.local_port
        ]
