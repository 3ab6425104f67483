"""The nftables table itself: as nft would make it, restored, previewed, removed, and quiet."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from mproutd.configuration.config import Config, UplinkConfig, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.firewall.ruleset import make_table
from mproutd.firewall.script import script
from mproutd.firewall.translation import Translation
from mproutd.netlink import nft_values, nftables
from mproutd.netlink.sockets import Requests
from mproutd.planning.numbering import assign_numbers, assign_policy_numbers
from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Namespace, eventually
from tests.lab.forwarding import Forwarding
from tests.lab.policies import EVERYTHING, NETWORK
from tests.lab.wan import address

pytestmark = pytest.mark.kernel


@pytest.fixture
def world() -> Iterator[Forwarding]:
    with Forwarding() as made:
        yield made


def in_place(daemon: Daemon) -> bool:
    return bool(daemon.query_status().get("pins_flows"))


def uplinks(count: int) -> tuple[UplinkConfig, ...]:
    return tuple(UplinkConfig(f"wan{n}", f"eth{n}", "on") for n in range(1, count + 1))


@pytest.mark.parametrize(
    "config",
    [
        Config(uplinks=uplinks(2)),
        Config(uplinks=uplinks(2), main_routes=False),
        Config(uplinks=uplinks(50)),
        Config(uplinks=(UplinkConfig("a" * 40, "ppp*", "on", mark=3, mask=0xFF),)),
        build(parse_sections("network", NETWORK), parse_sections("mproutd", EVERYTHING)),
    ],
    ids=["two", "without-main", "fifty", "odd", "policies"],
)
def test_it_is_what_nft_makes_of_the_same_text(node: Namespace, config: Config) -> None:
    """nft is the reference of our messages."""
    policies = assign_policy_numbers(config, {})
    table = make_table(config, config.uplinks, assign_numbers(config, {}), (), policies)
    node.run("nft", "-f", "-", input=script(table))
    expected = node.run("nft", "list", "table", "inet", "mproutd")
    with node.enter():
        channel = Requests(nftables.NETLINK_NETFILTER)
    for stale in (None, None, []):
        assert channel.transaction(nftables.transaction(table, stale)) == {}
        assert node.run("nft", "list", "table", "inet", "mproutd") == expected
    assert channel.transaction(nftables.transaction(nft_values.Table("mproutd"))) == {}
    channel.close()
    assert node.run("nft", "list", "tables") == ""


@pytest.mark.parametrize(
    "listed",
    [
        [
            Translation("wan1", "eth1", ("2001:db8:1::/48",), (("fd00::/64", "2001:db8:1::/64"),)),
            Translation("wan2", "eth2", (), masquerade=True),
        ],
        [
            Translation("wan1", "eth1", ("2001:db8::/45",), (("fd00::/61", "2001:db8::/61"),)),
            Translation("wan2", "eth2", ("2001:db8:2::/56", "fc00::/7"), masquerade=True),
        ],
    ],
    ids=["plain", "odd"],
)
@pytest.mark.parametrize("pinning", [True, False])
def test_translations_are_what_nft_makes_of_the_same_text(
    node: Namespace, listed: list[Translation], pinning: bool
) -> None:
    config = Config(uplinks=uplinks(2), pin_flows=pinning)
    table = make_table(config, config.uplinks, assign_numbers(config, {}), listed)
    node.run("nft", "-f", "-", input=script(table))
    expected = node.run("nft", "list", "table", "inet", "mproutd")
    assert "snat ip6 prefix to 2001:db8:" in expected
    assert "masquerade" in expected
    with node.enter():
        channel = Requests(nftables.NETLINK_NETFILTER)
    for stale in (None, []):
        assert channel.transaction(nftables.transaction(table, stale)) == {}
        assert node.run("nft", "list", "table", "inet", "mproutd") == expected
    channel.close()


def test_sets_keep_their_elements_and_an_error_changes_nothing(node: Namespace) -> None:
    config = Config(uplinks=uplinks(2))
    table = make_table(config, config.uplinks, assign_numbers(config, {}))
    with node.enter():
        channel = Requests(nftables.NETLINK_NETFILTER)
    channel.transaction(nftables.transaction(table))
    node.run("nft", "add set inet mproutd names { type ipv4_addr; elements = { 9.9.9.9 }; }")
    one = make_table(config, config.uplinks[:1], assign_numbers(config, {}))
    stale = ["note_wan2", "to_wan2"]
    assert channel.transaction(nftables.transaction(one, stale)) == {}
    listing = node.run("nft", "list", "table", "inet", "mproutd")
    assert "9.9.9.9" in listing
    assert "wan2" not in listing
    assert channel.transaction(nftables.transaction(table, ["nobody"]))
    assert node.run("nft", "list", "table", "inet", "mproutd") == listing
    channel.close()


def test_without_a_daemon(world: Forwarding) -> None:
    daemon = Daemon(world.gateway)
    planned = daemon.reconcile("--dry-run")
    assert "nft -f - <<'END'" in planned
    assert "chain note_wan2 {" in planned
    assert world.table() == ""
    assert daemon.reconcile() == planned
    written = world.table()
    assert "goto to_wan2" in written
    assert daemon.reconcile() == ""
    assert daemon.status()["pins_flows"] is True
    world.gateway.run("nft", "delete", "chain", "inet", "mproutd", "replies")
    assert daemon.status()["pins_flows"] is False
    assert "nft -f -" in daemon.reconcile()
    assert world.table() == written
    assert "nft delete table inet mproutd" in daemon.call("flush").out
    assert world.table() == ""
    daemon.close()


def test_with_a_daemon(world: Forwarding) -> None:
    off = "config mproutd 'globals'\n\toption pin_flows '0'\n"
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        assert daemon.reconcile("--dry-run") == ""
        daemon.configure(own=off)
        assert "nft delete table inet mproutd" in daemon.reconcile("--dry-run")
        daemon.reconcile()
        eventually(lambda: not world.table(), 20)
        daemon.configure(own="")
        assert "chain incoming {" in daemon.reconcile("--dry-run")
        daemon.reconcile()
        eventually(lambda: in_place(daemon), 20)
        daemon.stop()
        daemon.configure(own=off)
        daemon.start()
        eventually(lambda: not world.table(), 20, "what an earlier run left")


def test_a_host_that_does_not_forward_has_none(world: Forwarding) -> None:
    for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        world.gateway.sysctl(sysctl, 0)
    with Daemon(world.gateway) as daemon:
        daemon.settle()
        assert daemon.query_status()["pins_flows"] is None
        world.gateway.sysctl("net.ipv4.ip_forward", 1)
        daemon.reconcile()
        eventually(lambda: in_place(daemon), 20)


def test_what_others_remove_comes_back_and_is_named(world: Forwarding) -> None:
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        listing = world.table()
        for command in (
            "delete table inet mproutd",
            "flush chain inet mproutd incoming",
            "insert rule inet mproutd outgoing accept",
        ):
            world.gateway.run("nft", command)
            eventually(lambda: world.table() == listing and in_place(daemon), 20, command)
        (problem,) = daemon.query_status()["problems"]
        assert (problem["code"], problem["count"]) == ("removed-externally", 3)
        assert "nftables table inet mproutd" in problem["text"]
        for _ in range(6):
            eventually(lambda: bool(world.table()), 30)
            world.gateway.run("nft", "delete", "table", "inet", "mproutd")
        codes = eventually(
            lambda: {problem["code"] for problem in daemon.query_status()["problems"]}, 10
        )
        assert codes <= {"removed-externally", "rate-limited"}
        eventually(lambda: world.table() == listing, 60)


def test_flaps_and_restarts_write_nothing(world: Forwarding) -> None:
    """`nft monitor` sees no change while an uplink comes and goes, nor across a restart."""
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        monitor = world.gateway.popen("nft", "monitor", stdout=subprocess.PIPE, text=True)
        world.started.append(monitor)
        eventually(lambda: _listens(world), 10)
        flaps = [f"link set eth2 {state}" for _ in range(1000) for state in ("down", "up")]
        for start in range(0, len(flaps), 100):
            world.gateway.ip(*flaps[start : start + 100])
        daemon.settle(30)
        daemon.kill9()
        daemon.start()
        eventually(lambda: in_place(daemon), 20)
        passes = daemon.query_status()["counts"]["passes"]
        assert passes > 0
        world.gateway.run("nft", "add", "table", "ip", "sentinel")
        assert monitor.stdout
        assert "sentinel" in monitor.stdout.readline()


def test_a_restart_writes_nothing_after_another_programs_change(world: Forwarding) -> None:
    """The kernel counts the transactions of all programs, and names the number with each object."""
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        before = world.gateway.run("nft", "-a", "list", "table", "inet", "mproutd")
        daemon.stop()
        world.gateway.run("nft", "add", "table", "ip", "sentinel")
        daemon.start()
        eventually(lambda: in_place(daemon), 20)
        assert world.gateway.run("nft", "-a", "list", "table", "inet", "mproutd") == before


def _listens(world: Forwarding) -> bool:
    """Whether nft monitor has subscribed: its group is in the table of sockets."""
    table = world.gateway.run("cat", "/proc/net/netlink").splitlines()
    rows = [line.split() for line in table[1:]]
    return sum(row[1] == "12" and int(row[3], 16) & 1 << 6 != 0 for row in rows) >= 2


def test_a_flowtable(world: Forwarding) -> None:
    """Offloaded connections stay on a worse uplink, and leave one that is lost."""
    offloads = "add table ip f; add flowtable ip f f { hook ingress priority 0; }"
    if subprocess.run(world.gateway.command("nft", "-c", offloads), capture_output=True).returncode:
        pytest.skip("this kernel has no flowtables; tests/qemu has those that do")
    world.nft(
        """table inet shortcut {
            flowtable fast { hook ingress priority filter; devices = { eth1, eth2, br-lan }; }
            chain forward {
                type filter hook forward priority filter;
                meta l4proto { tcp, udp } flow add @fast
            }
        }"""
    )
    world.forward_port(8080)
    world.serve(world.lan, 8080)
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
            assert world.ask(world.server, address(2), 8080, kind) == SERVER
        world.unplug(1)
        eventually(lambda: daemon.query_status()["default"].get("ipv4") == "wan2", 20)
        with Echo(world.lan, world.server, SERVER, mptcp=False) as flow:
            eventually(lambda: _offloaded(world) > 0, 20)
            world.plug(1)
            eventually(lambda: daemon.query_status()["default"].get("ipv4") == "wan1", 20)
            before = flow.report()
            eventually(lambda: flow.report().received > before.sent + 10, 20)
            assert not flow.report().error
            eventually(lambda: _offloaded(world) > 0, 20)
            world.unplug(2)
            eventually(lambda: "(flowtable)" in daemon.log(), 20)
            eventually(lambda: _offloaded(world) == 0, 20)
            eventually(lambda: flow.report().error, 60, "its translation has ended")


def _offloaded(world: Forwarding) -> int:
    return world.gateway.run("cat", "/proc/net/nf_conntrack").count("[OFFLOAD]")


BESIDE = """
table ip mangle {
    chain mwan3 { type filter hook prerouting priority mangle;
        meta mark & 0x00003f00 == 0 meta mark set ct mark & 0x00003f00
        ct mark & 0x00003f00 == 0 ct mark set ct mark | 0x00000200
    }
}
table inet fw4 {
    chain pbr { type filter hook prerouting priority mangle;
        iifname "br-lan" udp dport 4000 meta mark set meta mark & 0xff00ffff | 0x00010000
    }
}
table ip docker {
    chain DOCKER {
    }
    chain PREROUTING { type nat hook prerouting priority dstnat;
        fib daddr type local counter jump DOCKER
    }
}
"""
"""Rules like those of mwan3, pbr and Docker."""


def test_beside_other_tables_their_bits_stay(world: Forwarding) -> None:
    world.nft(BESIDE)
    world.nft("add rule ip docker DOCKER tcp dport 8080 dnat to 192.168.70.10")
    world.serve(world.lan, 8080)
    world.serve(world.server, 7)
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        others = world.gateway.run("nft", "-s", "list", "ruleset")
        for n in world.uplinks:
            assert world.ask(world.server, address(n), 8080) == SERVER
        assert world.leaves_by() == address(1)
        entries = world.gateway.run("cat", "/proc/net/nf_conntrack").splitlines()
        marks = [
            int(word[5:])
            for line in entries
            if "dport=8080" in line
            for word in line.split()
            if word.startswith("mark=")
        ]
        assert {mark >> 24 for mark in marks} == {1, 2}
        assert {mark & 0xFFFFFF for mark in marks} == {0x200}
        time.sleep(3)  # the search for conflicts has been made
        assert daemon.query_status()["problems"] == []
        assert world.gateway.run("nft", "-s", "list", "ruleset") == others


def test_a_table_that_overwrites_our_bits_is_named(world: Forwarding) -> None:
    with Daemon(world.gateway) as daemon:
        eventually(lambda: in_place(daemon), 20)
        world.nft(
            "table ip fw { chain a { type filter hook forward priority 0; ct mark set 0x1\n}\n}"
        )
        daemon.configure(TWO_UPLINKS.replace("wan2", "lte"))
        daemon.reconcile()
        problems = eventually(lambda: daemon.query_status()["problems"], 30)
        assert [problem["code"] for problem in problems] == ["mark-overwritten"]
        assert problems[0]["rule"] == "ct mark set 0x00000001"
