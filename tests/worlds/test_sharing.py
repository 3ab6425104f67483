"""Worlds of other traffic shared by weight: shares, losses, changes, and other programs."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from socket import AF_INET, AF_INET6

import pytest

from tests.lab import TWO_UPLINKS, Daemon, Wan, address, eventually
from tests.lab.datagrams import Datagrams
from tests.lab.forwarding import Forwarding
from tests.lab.streams import Streams

pytestmark = pytest.mark.kernel

NO_MASTER = TWO_UPLINKS.replace("'master'", "'on'")
FLOWS = 400


def weights(*values: int, pinned: bool = True, more: str = "") -> str:
    """The file mproutd with the weights of wan1, wan2 …"""
    lines = [f"config mproutd 'globals'\n option pin_flows '{int(pinned)}'"]
    for n, weight in enumerate(values, 1):
        lines.append(f"config uplink 'wan{n}'\n option weight '{weight}'\n{more}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def flows(wan: Wan) -> Iterator[Datagrams]:
    assert wan.lan
    with Datagrams(wan, wan.lan) as made:
        yield made


def assert_shares(uplinks: dict[str, int], first: int, second: int) -> None:
    """Within four standard deviations of the binomial distribution: one run in 16,000 fails."""
    part = first / (first + second)
    expected, deviation = len(uplinks) * part, sqrt(len(uplinks) * part * (1 - part))
    counted = sum(uplink == 1 for uplink in uplinks.values())
    assert abs(counted - expected) <= 4 * deviation, (counted, expected, deviation)


def moved(before: dict[str, int], after: dict[str, int]) -> set[int]:
    """The uplinks that flows have left."""
    return {before[flow] for flow in before if after[flow] != before[flow]}


def objects(wan: Wan) -> str:
    return wan.gateway.run("ip", "nexthop", "show", "proto", "77")


def shares(daemon: Daemon) -> list[str]:
    """ "IPv4 wan1 3, wan2 1" """
    return [
        f"{each['family']} "
        + ", ".join(f"{share['uplink']} {share['weight']}" for share in each["shares"])
        for each in daemon.query_status()["other_traffic"]
    ]


# -- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [True, False])
def test_only_the_flows_of_a_lost_uplink_move(wan, flows, pinned):
    with Daemon(wan.gateway, NO_MASTER, weights(3, 1, pinned=pinned)) as daemon:
        begun = flows.begin(FLOWS)
        assert_shares(begun, 3, 1)
        assert shares(daemon) == ["ipv4 wan1 3, wan2 1", "ipv6 wan1 3, wan2 1"]
        wan.unplug(1)
        eventually(lambda: "dev eth1" not in objects(wan), timeout=20)
        lost = flows.uplinks()
        assert set(lost.values()) == {2}
        assert shares(daemon) == ["ipv4 wan2 1", "ipv6 wan2 1"]
        wan.plug(1)
        eventually(lambda: "group 1770000001,3/1770000002" in objects(wan), timeout=20)
        back = flows.uplinks()
        assert moved(begun, back) <= {1}, "no flow of wan2 has moved"
        if pinned:
            assert back == begun, "each returns to its own uplink"
            assert_shares(flows.begin(FLOWS), 3, 1)
        assert daemon.query_status()["problems"] == []


def test_tcp_is_shared_and_only_what_was_on_a_lost_uplink_ends():
    """Masqueraded: 300 of 400 connections by wan1, give or take 34.6, and none of wan2's ends."""
    with (
        Forwarding() as world,
        Streams(world) as streams,
        Daemon(world.gateway, NO_MASTER, weights(3, 1)) as daemon,
    ):
        eventually(lambda: daemon.query_status().get("pins_flows"), timeout=20)
        begun = streams.begin(FLOWS)
        assert_shares(begun, 3, 1)
        assert streams.alive() == set(begun)
        world.unplug(1)
        eventually(lambda: shares(daemon)[0] == "ipv4 wan2 1", timeout=20)
        assert streams.alive() == {to for to, uplink in begun.items() if uplink == 2}
        assert set(streams.begin(50).values()) == {2}
        world.plug(1)
        eventually(lambda: shares(daemon)[0] == "ipv4 wan1 3, wan2 1", timeout=20)
        assert streams.alive() >= {to for to, uplink in begun.items() if uplink == 2}
        assert_shares(streams.begin(FLOWS), 3, 1)


def test_all_lost_and_back_and_a_daemon_that_is_killed(wan, flows):
    with Daemon(wan.gateway, NO_MASTER, weights(3, 1)) as daemon:
        before = wan.gateway.state() + objects(wan)
        begun = flows.begin(100)
        daemon.kill9()
        assert flows.uplinks() == begun
        for n in (1, 2):
            wan.unplug(n)
        eventually(lambda: objects(wan) == "", timeout=20)
        daemon.start()
        for n in (1, 2):
            wan.plug(n)
        eventually(lambda: wan.gateway.state() + objects(wan) == before, timeout=20)
        assert_shares(flows.begin(FLOWS), 3, 1)
        daemon.kill9()
        daemon.start()
        assert wan.gateway.state() + objects(wan) == before
        daemon.stop()
        daemon.call("flush")
        assert objects(wan) == ""
        assert " nhid " not in wan.gateway.run("ip", "route", "show", "table", "all")


def test_a_member_that_is_dead_by_its_check_is_taken_out(wan, flows):
    checked = " list track_ip '10.9.9.9'\n option interval '0.5'\n option timeout '1'\n"
    checked += " option failure_interval '0.3'\n option down '2'\n"
    with Daemon(wan.gateway, NO_MASTER, weights(3, 1, more=checked)) as daemon:
        begun = flows.begin(FLOWS)
        wan.blackhole(1)
        eventually(lambda: shares(daemon)[0] == "ipv4 wan2 1", timeout=30)
        after = flows.uplinks()
        assert set(after.values()) == {2}
        assert moved(begun, after) == {1}


# -- changes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [True, False])
def test_a_changed_weight_moves_nothing_that_lives(wan, flows, pinned):
    with Daemon(wan.gateway, NO_MASTER, weights(1, 1, pinned=pinned)) as daemon:
        begun = flows.begin(FLOWS)
        assert_shares(begun, 1, 1)
        daemon.configure(own=weights(3, 1, pinned=pinned))
        changes = daemon.reconcile().splitlines()
        assert [line.split(" table ")[0].split(",")[0] for line in changes] == [
            "ip nexthop replace id 1770000000 group 1770000001",
            "ip -6 route replace default",
        ]
        assert flows.uplinks() == begun
        if pinned:
            eventually(lambda: shares(daemon)[0] == "ipv4 wan1 3, wan2 1")
            assert_shares(flows.begin(FLOWS), 3, 1)


def test_weights_come_and_go_live(wan, flows):
    with Daemon(wan.gateway, TWO_UPLINKS) as daemon:
        eventually(lambda: "mproutd" in wan.gateway.run("nft", "list", "tables"), timeout=20)
        begun = flows.begin(50)
        assert set(begun.values()) == {1}
        assert objects(wan) == ""
        daemon.configure(own=weights(1, 1))
        daemon.reconcile()
        assert flows.uplinks() == begun
        assert_shares(flows.begin(FLOWS), 1, 1)
        daemon.configure(own="")
        daemon.reconcile()
        assert objects(wan) == ""
        assert set(flows.begin(50).values()) == {1}
        assert set(flows.uplinks().values()) == {1, 2}


def test_metrics_are_a_failover(wan, flows):
    own = "config uplink 'wan1'\n option metric '2'\nconfig uplink 'wan2'\n option metric '1'\n"
    with Daemon(wan.gateway, TWO_UPLINKS, own) as daemon:
        assert set(flows.begin(50).values()) == {2}
        wan.unplug(2)
        eventually(lambda: shares(daemon)[0] == "ipv4 wan1 1", timeout=20)
        assert set(flows.begin(50).values()) == {1}


# -- this host's own sockets ------------------------------------------------------------------


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_socket_has_the_address_of_the_uplink_that_it_uses(wan, family):
    """In IPv6 too, where a group of nexthop objects would give all the first one's."""
    with Datagrams(wan, wan.gateway, family) as own, Daemon(wan.gateway, NO_MASTER, weights(3, 1)):
        begun = own.begin(FLOWS)
        assert_shares(begun, 3, 1)
        version = 4 if family == AF_INET else 6
        for flow, uplink in begun.items():
            assert own.source(flow) == address(uplink, version)


# -- other programs ---------------------------------------------------------------------------


def test_what_another_program_deletes_is_put_back_and_named(wan, flows):
    """As systemd-networkd does with ManageForeignNextHops=."""
    with Daemon(wan.gateway, NO_MASTER, weights(3, 1)) as daemon:
        before = objects(wan)
        assert before.count("id 177000000") == 3
        for deletion in ("delete id 1770000002", "flush protocol 77"):
            wan.gateway.run("ip", "nexthop", *deletion.split())
            eventually(lambda: objects(wan) == before, timeout=20)
            assert flows.begin(5)
        found = eventually(lambda: daemon.query_status()["problems"], timeout=20)
        assert {each["code"] for each in found} == {"removed-externally"}
        assert any("nexthop id 1770000002" in str(each) for each in found)
        assert "ManageForeignNextHops" in daemon.call("status").out


def test_beside_objects_and_routes_of_others(wan, flows):
    wan.gateway.ip(
        "nexthop add id 1770000000 via 10.2.2.1 dev eth2 protocol static",
        "nexthop add id 7 via 10.2.2.1 dev eth2 protocol 77",
        "route add 203.0.113.0/24 nhid 1770000000",
        "route replace default nhid 7 metric 2",
    )
    before = wan.gateway.run("ip", "route", "show")
    wan.gateway.sysctl("net.ipv4.nexthop_compat_mode", 0)
    with Daemon(wan.gateway, NO_MASTER, weights(3, 1)) as daemon:
        assert_shares(flows.begin(FLOWS), 3, 1)
        assert "id 1770010000 group" in objects(wan)
        assert shares(daemon) == ["ipv4 wan1 3, wan2 1", "ipv6 wan1 3, wan2 1"]
        status = daemon.query_status()
        assert (status["drift"], status["problems"]) == ([], [])
        daemon.stop()
        daemon.call("flush")
    wan.gateway.sysctl("net.ipv4.nexthop_compat_mode", 1)
    assert wan.gateway.run("ip", "route", "show") == before
    assert objects(wan).split()[:2] == ["id", "7"]


def test_a_multipath_default_in_main_is_told_with_all_its_nexthops(wan):
    wan.gateway.ip(
        "route flush exact default",
        "route add default nexthop via 10.1.1.1 dev eth1 weight 2 "
        "nexthop via 10.2.2.1 dev eth2 weight 1",
    )
    with Daemon(wan.gateway, NO_MASTER) as daemon:
        assert shares(daemon)[0] == "ipv4 wan1 2, wan2 1"
        assert "IPv4 via wan1 (2) and wan2 (1) (main)" in daemon.call("status").words
