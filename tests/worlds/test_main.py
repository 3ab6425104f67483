"""What the admin has in main: static routes, and a LAN that overlaps an uplink's subnet."""

from __future__ import annotations

import time

import pytest

from mproutd.planning.pacing import MISROUTED_GRACE
from tests.lab import (
    LAN_HOST,
    SERVER,
    SERVER6,
    Capture,
    Daemon,
    Echo,
    Packet,
    Wan,
    address,
    bridge,
    eventually,
    router_address,
    subflows,
)

pytestmark = pytest.mark.kernel

OFFICE, OFFICE6 = "10.77.0.1", "2001:db8:77::1"
"""Behind the LAN host, by a static route."""


def office(wan: Wan) -> None:
    """The LAN host is the router to another network, and the admin has said so in main."""
    assert wan.lan
    wan.lan.ip(
        f"address add {OFFICE}/32 dev lo",
        f"address add {OFFICE6}/128 dev lo nodad",
        "address add 2001:db8:70::10/64 dev eth0 nodad",
        "route add default via 2001:db8:70::1",
    )
    wan.gateway.ip(
        "address add 2001:db8:70::1/64 dev br-lan nodad",
        f"route add 10.77.0.0/16 via {LAN_HOST}",
        "route add 2001:db8:77::/48 via 2001:db8:70::10",
    )


def test_a_static_route_of_the_admin_wins(wan: Wan) -> None:
    """From every uplink's address, for everybody; and it is left as it is, flush included."""
    gateway = wan.gateway
    with Daemon(gateway, verbose=True) as daemon, Capture(gateway) as capture:
        daemon.settle()
        daemon.writes()
        office(wan)
        daemon.settle()
        assert daemon.writes() == []
        static = {line for line in gateway.state().splitlines() if " via 192.168.70.10 " in line}
        static |= {line for line in gateway.state().splitlines() if "route 2001:db8:77:" in line}
        assert len(static) == 2
        for n in wan.uplinks:
            gateway.run("ping", "-c1", "-W2", "-I", address(n), OFFICE)
            gateway.run("ping", "-c1", "-W2", "-I", address(n, 6), OFFICE6)
        gateway.run("ping", "-c1", "-W2", OFFICE)

        def to_the_office(packet: Packet) -> bool:
            return packet.destination in (OFFICE, OFFICE6)

        assert capture.devices(to_the_office) == {"br-lan", "lan0"}
        daemon.reconcile()
        daemon.stop()
        assert daemon.call("flush").code == 0
        assert static <= set(gateway.state().splitlines())


def test_without_main_routes_the_uplinks_do_not_look_there(wan: Wan) -> None:
    """option main_routes '0': what comes from an uplink's address leaves by that uplink."""
    office(wan)
    own = "config mproutd 'globals'\n\toption main_routes '0'\n"
    with Daemon(wan.gateway, own=own) as daemon:
        daemon.settle()
        assert "dev eth2" in wan.gateway.ip(f"route get {OFFICE} from {address(2)}")
        wan.gateway.run("ping", "-c1", "-W2", OFFICE)


BOGONS = ("0.0.0.0/8", "100.64.0.0/10", "192.0.2.0/24", "198.18.0.0/15", "240.0.0.0/4")
BOGONS6 = ("2000::/16", "2001:db8:ffff::/48", "3fff::/20")


def bogons(wan: Wan, kind: str) -> None:
    """What no packet may go to, as many routers have it in main."""
    for family, prefixes in ((4, BOGONS), (6, BOGONS6)):
        wan.gateway.ip(*(f"route add {kind} {prefix}" for prefix in prefixes), family=family)


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
def test_a_list_of_bogons_in_main_hides_no_default(bare_wan: Wan, kind: str) -> None:
    """It has the address by which the kernel is asked for the way to the world."""
    wan, gateway = bare_wan, bare_wan.gateway
    bogons(wan, kind)
    wan.usual()
    with Daemon(gateway) as daemon:
        state = daemon.settle()
        assert state["problems"] == []
        assert all(
            (family["gateway_from"], [lookup["matches"] for lookup in family["lookups"]])
            == ("main", [True])
            and f"dev {uplink['device']} " in gateway.run(*family["lookups"][0]["command"].split())
            for uplink in state["uplinks"]
            for family in uplink["families"]
        )
        endpoints = [line for line in gateway.state().splitlines() if " endpoint " in line]
        assert len(endpoints) == 4
        # A new gateway is seen, also once our own rules are there.
        wan.routers[1].ip("address add 10.1.1.254/24 dev access")
        gateway.ip("route replace default via 10.1.1.254 dev eth1 metric 1")
        eventually(lambda: "default via 10.1.1.254 dev eth1 table 7001" in gateway.state())


def test_a_default_for_a_link_local_source_is_no_way_out(bare_wan: Wan) -> None:
    """As dhcpcd adds it with an IPv4LL address, and leaves it while a lease arrives."""
    gateway = bare_wan.gateway
    gateway.ip(
        "address add 169.254.7.7/16 dev eth2 scope link",
        "route add default dev eth2 scope link src 169.254.7.7 metric 1002005",
        "address add 10.2.2.2/24 dev eth2",
    )
    with Daemon(gateway) as daemon:
        path = daemon.settle()["uplinks"][1]["families"][0]
        assert (path["addresses"], path["gateway_from"], path["reason"]) == (
            ["10.2.2.2"],
            None,
            "no-gateway",
        )
        gateway.ip("route add default via 10.2.2.1 dev eth2 metric 2005")
        eventually(lambda: "default via 10.2.2.1 dev eth2 table 7002" in gateway.state())
        eventually(lambda: "endpoint 10.2.2.2" in gateway.state())


def test_bogons_that_come_to_main_close_nothing(wan: Wan) -> None:
    gateway = wan.gateway
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(gateway, echo.port)) == 2)
        before, ports = gateway.state(ids=True), subflows(gateway, echo.port)
        bogons(wan, "blackhole")
        for _ in range(2):
            assert daemon.reconcile() == ""
            time.sleep(MISROUTED_GRACE)
        assert set(before.splitlines()) <= set(gateway.state(ids=True).splitlines())
        assert {subflow.local_port for subflow in subflows(gateway, echo.port)} == {
            port.local_port for port in ports
        }


def test_a_rule_that_leads_everything_away_is_still_seen(wan: Wan) -> None:
    """Whatever is asked for: nothing leaves from there."""
    bogons(wan, "unreachable")
    wan.gateway.ip(
        "route add unreachable default table 300",
        *(f"rule add priority 10 from {address(n)} table 300" for n in wan.uplinks),
    )
    with Daemon(wan.gateway) as daemon:
        problems = daemon.query_status()["problems"]
        assert [problem["code"] for problem in problems] == ["misrouted", "misrouted"]
        assert "endpoint 10." not in wan.gateway.state()


def test_a_default_in_main_that_throws_away(wan: Wan) -> None:
    """FRR's Null0: whoever has no better default in main gets nothing out, and status says so."""
    gateway = wan.gateway
    gateway.ip("route delete default via 10.2.2.1 dev eth2 metric 2")
    discard = "blackhole default metric 254"
    gateway.ip(f"route add {discard}")
    with Daemon(gateway, own="config uplink 'wan2'\n\toption gateway '10.2.2.1'\n") as daemon:
        (problem,) = daemon.query_status()["problems"]
        assert (problem["code"], problem["uplink"], problem["address"]) == (
            "blackhole-default",
            "wan2",
            "10.2.2.2",
        )
        assert problem["route"].startswith("blackhole default ")
        assert daemon.query_status()["default"]["ipv4"] == "wan1"
        wan.admin_down(1)
        eventually(lambda: "ipv4" not in daemon.query_status()["default"])
        assert gateway.run("ping", "-c1", "-W1", SERVER, check=False).count("1 received") == 0
        # As the advice has it.
        gateway.ip(f"route delete {discard}", f"route add {discard} table default")
        eventually(lambda: daemon.query_status()["default"].get("ipv4") == "wan2")
        eventually(lambda: "endpoint 10.2.2.2 " in gateway.state())
        gateway.run("ping", "-c1", "-W2", SERVER)
        assert "blackhole-default" not in {
            problem["code"] for problem in daemon.query_status()["problems"]
        }


def test_a_static_route_to_the_server_by_one_uplink(wan: Wan) -> None:
    """It decides where a connection begins, not where its other subflows go."""
    gateway = wan.gateway
    gateway.ip(f"route add {SERVER} via {router_address(2)} dev eth2")
    with Daemon(gateway) as daemon, Capture(gateway) as capture:
        daemon.settle()
        with Echo(gateway, wan.server, SERVER) as echo:
            both = {address(1), address(2)}
            eventually(lambda: {s.local for s in subflows(gateway, echo.port)} == both)
            port = echo.port
        for n in wan.uplinks:
            assert capture.devices(
                lambda packet, n=n: packet.dport == port and packet.source == address(n)
            ) == {f"eth{n}"}


# -- a LAN that overlaps ----------------------------------------------------------------------


def both_paths(wan: Wan) -> None:
    """One connection uses both uplinks."""
    with Echo(wan.gateway, wan.server, SERVER, bind=address(2)) as echo:
        both = {address(1), address(2)}
        eventually(lambda: {s.local for s in subflows(wan.gateway, echo.port)} == both)
        assert not echo.report().error


def test_a_lan_inside_an_uplinks_subnet(bare_wan: Wan) -> None:
    """The carrier says 10.1.0.0/16, the LAN is 10.1.70.0/24: the LAN stays reachable."""
    wan, gateway, lan = bare_wan, bare_wan.gateway, bare_wan.lan
    assert lan
    gateway.ip("address add 10.1.70.1/24 dev br-lan")
    lan.ip("address replace 10.1.70.10/24 dev eth0", "route replace default via 10.1.70.1")
    wan.usual()
    gateway.ip("address delete 10.1.1.2/24 dev eth1", "address add 10.1.1.2/16 dev eth1")
    wan.default_route(1)
    with Daemon(gateway) as daemon:
        daemon.settle()
        gateway.run("ping", "-c1", "-W2", "10.1.70.10")
        gateway.run("ping", "-c1", "-W2", "-I", "10.1.1.2", "10.1.70.10")
        gateway.run("ping", "-c1", "-W2", "-I", "10.1.1.2", "10.1.1.1")
        lan.run("ping", "-c1", "-W2", "10.1.1.2")
        both_paths(wan)


def test_a_lan_with_an_uplinks_subnet(bare_wan: Wan) -> None:
    """The modem's 10.1.1.0/24 is the LAN's as well, and the LAN was there first."""
    wan, gateway = bare_wan, bare_wan.gateway
    gateway.ip(
        "address add 10.1.1.70/24 dev br-lan", "address add 2001:db8:1::70/64 dev br-lan nodad"
    )
    wan.usual()
    with Daemon(gateway) as daemon, Capture(gateway) as capture:
        daemon.settle()
        for family, server in ((4, SERVER), (6, SERVER6)):
            gateway.run("ping", "-c1", "-W2", "-I", address(1, family), router_address(1, family))
            gateway.run("ping", "-c1", "-W2", "-I", address(1, family), server)
        both_paths(wan)
        own = {address(1), address(1, 6)}
        assert capture.devices(lambda packet: packet.source in own) == {"eth1"}
        # No host on the uplink learns the LAN's address there.
        wan.routers[1].run("ping", "-c1", "-W1", "10.1.1.70", check=False)
        assert not [
            packet
            for packet in capture.seen()
            if packet.device == "eth1" and packet.outgoing and packet.source == "10.1.1.70"
        ]
        gateway.ip("address delete 10.1.1.70/24 dev br-lan")
        gateway.ip("address delete 2001:db8:1::70/64 dev br-lan")
        daemon.settle()
        assert "7005" not in gateway.state()


def test_a_lan_that_had_the_subnet_before_the_uplink(bare_wan: Wan) -> None:
    """The daemon runs when the LAN gets the address: nobody else has that subnet yet."""
    wan, gateway = bare_wan, bare_wan.gateway

    def shared() -> str:
        return "".join(line + "\n" for line in gateway.state().splitlines() if "7005" in line)

    with Daemon(gateway):
        gateway.ip("address add 10.1.1.70/24 dev br-lan")
        gateway.ip("address add 2001:db8:1::70/64 dev br-lan nodad")
        wan.address_up(1)
        wan.default_route(1)
        eventually(
            lambda: (
                shared() == "-4 rule 7005 from 10.1.1.2 to 10.1.1.0/24 lookup 7001 proto 77\n"
                "-6 rule 7005 from 2001:db8:1::2 to 2001:db8:1::/64 lookup 7001 proto 77\n"
            )
        )
        wan.address_down(1)
        eventually(lambda: not shared())
        gateway.ip("address delete 10.1.1.70/24 dev br-lan")
        gateway.ip("address delete 2001:db8:1::70/64 dev br-lan")
        wan.address_up(1)
        wan.default_route(1)
        eventually(lambda: "endpoint 10.1.1.2 " in gateway.state())
        assert not shared()


def test_a_lan_that_has_the_gateways_address(bare_wan: Wan) -> None:
    """Modem and LAN are both 10.1.1.1: the modem is still the way out."""
    wan, gateway = bare_wan, bare_wan.gateway
    bridge(gateway, "br-home", address="10.1.1.1/24")
    wan.usual()
    with Daemon(gateway) as daemon, Capture(gateway) as capture:
        daemon.settle()
        gateway.run("ping", "-c1", "-W2", "-I", address(1), SERVER)
        both_paths(wan)
        assert capture.devices(lambda packet: packet.source == address(1)) == {"eth1"}
