"""A connection keeps its uplink, with real programs: NAT, routed IPv6, port forwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.lab import SERVER, SERVER6, TWO_UPLINKS, Daemon, Echo, eventually
from tests.lab.forwarding import Forwarding
from tests.lab.wan import address

pytestmark = pytest.mark.kernel

KINDS = ("SOCK_STREAM", "SOCK_DGRAM")
MOVES = "config uplink 'wan2'\n\toption failback 'move'\n"


@pytest.fixture
def world() -> Iterator[Forwarding]:
    with Forwarding() as made:
        yield made


def carries(daemon: Daemon, name: str) -> bool:
    """Whether other traffic of both families goes by this uplink."""
    default = daemon.query_status()["default"]
    return [default.get(family) for family in ("ipv4", "ipv6")] == [name, name]


def pinned(world: Forwarding, daemon: Daemon) -> bool:
    return bool(daemon.query_status()["pins_flows"]) and "chain incoming" in world.table()


def goes_on(*flows: Echo) -> None:
    """Every connection lives, and brings back messages that were sent after this call."""
    for flow in flows:
        before = flow.report()
        assert not before.error
        eventually(lambda flow=flow, sent=before.sent: flow.report().received > sent + 5, 20)


@pytest.mark.parametrize("translate", ["masquerade", "snat"])
def test_connections_outlive_whatever_leaves_their_uplink_usable(translate: str) -> None:
    """Begun on wan2 while the master was out; IPv4 translated, IPv6 routed."""
    with Forwarding(translate, uplinks=3) as world, Daemon(world.gateway) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        world.unplug(1)
        eventually(lambda: carries(daemon, "wan2"), 20)
        with contextlib.ExitStack() as stack:
            flows = [
                stack.enter_context(Echo(world.lan, world.server, to, mptcp=False))
                for to in (SERVER, SERVER6)
            ]
            goes_on(*flows)
            world.plug(1)
            eventually(lambda: carries(daemon, "wan1"), 20)
            goes_on(*flows)
            assert daemon.uplink("wan2")["flows"] >= 2
            world.serve(world.server, 7)
            assert world.leaves_by() == address(1), "new ones take the master"

            if translate == "snat":  # a masqueraded one may send in the very millisecond
                world.nft(f"flush ruleset\n{world.firewall}")
            eventually(lambda: pinned(world, daemon), 20)
            goes_on(*flows)
            daemon.stop()
            daemon.start()
            eventually(lambda: pinned(world, daemon), 20)
            daemon.kill9()
            goes_on(*flows)
            daemon.start()
            third = "config interface 'wan3'\n\toption device 'eth3'\n\toption multipath 'on'\n"
            daemon.configure(f"{third}\n{TWO_UPLINKS}")
            daemon.reconcile()
            eventually(lambda: "note_wan3" in world.table(), 20)
            goes_on(*flows)
            daemon.configure(TWO_UPLINKS.replace("'on'", "'backup'"))
            daemon.reconcile()
            eventually(lambda: "note_wan3" not in world.table(), 20)
            goes_on(*flows)


def test_move_ends_them_and_new_ones_take_the_better_uplink(world: Forwarding) -> None:
    """The router's own connection and one to a port forward on wan2 stay."""
    world.forward_port(8080)
    world.serve(world.server, 7)
    with Daemon(world.gateway, own=MOVES) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        world.unplug(1)
        eventually(lambda: carries(daemon, "wan2"), 20)
        with (
            Echo(world.lan, world.server, SERVER, mptcp=False) as translated,
            Echo(world.gateway, world.server, SERVER, mptcp=False) as own,
            Echo(world.lan, world.server, SERVER6, mptcp=False),
        ):
            goes_on(translated, own)
            assert world.leaves_by() == address(2)
            world.plug(1)
            eventually(lambda: carries(daemon, "wan1"), 20)
            eventually(lambda: translated.report().error, 30)
            eventually(lambda: world.leaves_by() == address(1), 20)
            goes_on(own)
            eventually(lambda: "wan2: removed 1 flow" in daemon.log(), 10)
            assert "(failback)" in daemon.log()


@pytest.mark.parametrize("mode", ["on", "backup", "handover", "off"])
def test_port_forwards_on_every_uplink(world: Forwarding, mode: str) -> None:
    world.forward_port(8080)
    world.serve(world.lan, 8080)
    network = TWO_UPLINKS.replace("'on'", f"'{mode}'")
    with Daemon(world.gateway, network) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        for n in world.uplinks:
            for family in (4, 6):
                for kind in KINDS:
                    reply = world.ask(world.server, address(n, family), 8080, kind)
                    assert reply in (SERVER, SERVER6), (n, family, kind)
        assert daemon.query_status()["problems"] == []


def test_without_the_table_a_port_forward_beside_the_master_fails(world: Forwarding) -> None:
    """What the option is for."""
    world.forward_port(8080)
    world.serve(world.lan, 8080)
    with Daemon(world.gateway, own="config mproutd 'globals'\n\toption pin_flows '0'\n") as daemon:
        daemon.settle()
        assert world.ask(world.server, address(1), 8080) == SERVER
        assert world.ask(world.server, address(2), 8080) == ""
        assert not daemon.query_status().get("pins_flows")
        assert world.table() == ""


def test_services_of_the_gateway_itself(world: Forwarding) -> None:
    """By each uplink; also behind a redirection to its own LAN address."""
    world.serve(world.gateway, 8000)
    world.forward_port(8000, "192.168.70.1", "2001:db8:70::1")
    world.serve(world.gateway, 9000)
    with Daemon(world.gateway) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        for n in world.uplinks:
            for family in (4, 6):
                for port, kind in ((9000, KINDS[0]), (9000, KINDS[1]), (8000, KINDS[0])):
                    reply = world.ask(world.server, address(n, family), port, kind)
                    assert reply in (SERVER, SERVER6), (n, family, port, kind)


def test_a_hairpin_stays_in_the_lan(world: Forwarding) -> None:
    """The LAN host asks an uplink's address, and is led back to itself."""
    world.gateway.sysctl("net.bridge.bridge-nf-call-iptables", 0)  # its bridge has one port
    world.nft(
        f"""table ip hairpin {{
            chain in {{ type nat hook prerouting priority dstnat;
                ip daddr {{ {address(1)}, {address(2)} }} tcp dport 8080 dnat to 192.168.70.10
            }}
            chain out {{ type nat hook postrouting priority srcnat;
                oifname "br-lan" ip saddr 192.168.70.0/24 masquerade
            }}
        }}"""
    )
    world.serve(world.lan, 8080)
    with Daemon(world.gateway) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        for n in world.uplinks:
            assert world.ask(world.lan, address(n), 8080) == "192.168.70.1"


@pytest.mark.parametrize("main_routes", ["1", "0"])
def test_replies_to_a_host_behind_come_back(world: Forwarding, main_routes: str) -> None:
    """A connection of the LAN's own gets its replies, whichever uplink it keeps."""
    own = f"config mproutd 'globals'\n\toption main_routes '{main_routes}'\n"
    world.serve(world.server, 7)
    with Daemon(world.gateway, own=own) as daemon:
        eventually(lambda: pinned(world, daemon), 20)
        assert world.leaves_by() == address(1)
        world.unplug(1)
        eventually(lambda: carries(daemon, "wan2"), 20)
        eventually(lambda: world.leaves_by() == address(2), 20)
