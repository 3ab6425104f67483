"""The five modes on the real kernel, with connections that have to live through it all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    Daemon,
    Echo,
    Iperf,
    Wan,
    address,
    eventually,
    join_attempts,
    mptcp_counters,
    subflows,
)
from tests.lab.modes import Carried, Visitors, endpoints, network

pytestmark = pytest.mark.kernel

SOME = 100_000
"""Bytes that only payload makes."""
NOISE = 10_000
"""Bytes that keeping a path makes at most: handshakes, options, neighbour discovery."""


@pytest.fixture
def four() -> Iterator[Wan]:
    """Four uplinks; main prefers eth1, then eth2, eth3, eth4."""
    with Wan(uplinks=4) as world:
        yield world.usual()


def by(world: Wan, port: int) -> set[str]:
    """The devices of a connection's subflows; the initial one is known by its address."""
    names = {address(n): f"eth{n}" for n in world.uplinks}
    return {names[subflow.local] for subflow in subflows(world.gateway, port)}


@pytest.mark.alone
@pytest.mark.parametrize("reverse", [False, True], ids=["upload", "download"])
def test_backup_carries_nothing_while_another_can_then_all_and_gives_back(wan, reverse):
    with Daemon(wan.gateway, network(eth1="master", eth2="backup")):
        assert endpoints(wan.gateway)[address(2)] == "subflow backup dev eth2"
        carried = Carried(wan.gateway)
        Iperf(wan.gateway, wan.server, SERVER, 60, reverse=reverse)
        eventually(lambda: by(wan, 5201) == {"eth1", "eth2"})
        assert {flow.local: flow.backup for flow in subflows(wan.gateway, 5201)} == {
            address(1): False,
            address(2): True,
        }
        eventually(lambda: carried.by("eth1") > 10 * SOME)
        assert carried.by("eth2") < NOISE

        wan.unplug(1)
        eventually(lambda: by(wan, 5201) == {"eth2"})
        carried.reset()
        eventually(lambda: carried.by("eth2") > 5 * SOME)

        wan.plug(1)
        eventually(lambda: by(wan, 5201) == {"eth1", "eth2"})
        eventually(lambda: carried.by("eth1") > SOME)
        # What was on its way by eth2 arrives first.
        eventually(lambda: quiet(carried, "eth2", while_other="eth1"))


def quiet(carried: Carried, device: str, while_other: str) -> bool:
    """Whether a device carries nothing while another one carries payload."""
    carried.reset()
    eventually(lambda: carried.by(while_other) > 3 * SOME)
    return carried.by(device) < NOISE


@pytest.mark.alone
def test_handover_opens_when_the_last_other_goes_and_closes_when_one_is_back(wan):
    with (
        Daemon(wan.gateway, network(eth1="master", eth2="handover")),
        Echo(wan.gateway, wan.server, SERVER) as echo,
    ):
        assert set(endpoints(wan.gateway)) == {address(1), address(1, 6)}
        assert [flow.local for flow in subflows(wan.gateway, echo.port)] == [address(1)]
        before = mptcp_counters(wan.server)
        assert join_attempts(wan.gateway) == 0

        wan.unplug(1)
        eventually(lambda: by(wan, echo.port) == {"eth2"}, timeout=2)
        assert set(endpoints(wan.gateway)) == {address(2), address(2, 6)}
        eventually(lambda: echo.report().gap < 0.1)  # it flows again
        now = mptcp_counters(wan.gateway)
        assert (now["MPJoinSynAckRx"], now["RmSubflow"]) == (1, 1)

        wan.plug(1)
        eventually(lambda: by(wan, echo.port) == {"eth1", "eth2"})  # beside it for a moment
        echo.report()
        eventually(lambda: by(wan, echo.port) == {"eth1"})
        assert set(endpoints(wan.gateway)) == {address(1), address(1, 6)}
        end = mptcp_counters(wan.gateway)
        assert (end["MPJoinSynAckRx"], end["RmSubflow"]) == (2, 2)
        assert mptcp_counters(wan.server)["RmAddr"] > before["RmAddr"]
        seen = echo.report()
        assert seen.error == ""
        assert seen.mptcp
        assert seen.gap < 0.15  # nothing stood still on the way back


def test_of_several_handover_uplinks_the_first_usable_one_in_the_file(four):
    modes = network(eth1="on", eth4="handover", eth3="handover", eth2="off")
    with Daemon(four.gateway, modes), Echo(four.gateway, four.server, SERVER) as echo:
        assert by(four, echo.port) == {"eth1"}
        for cut, heir in ((1, "eth4"), (4, "eth3")):
            four.unplug(cut)
            eventually(lambda heir=heir: by(four, echo.port) == {heir})
        four.plug(4)
        eventually(lambda: by(four, echo.port) == {"eth4"})
        four.plug(1)
        eventually(lambda: by(four, echo.port) == {"eth1"})
        seen = echo.report()
        assert (seen.error, seen.mptcp) == ("", True)


def test_other_traffic_follows_master_on_backup_handover(four):
    """Main would have it by eth1; the LAN host comes by the uplink's address (masquerade)."""
    four.masquerade()
    four.gateway.sysctl("net.netfilter.nf_conntrack_tcp_loose", 1)
    main = "route show table main"
    before = four.gateway.ip(main), four.gateway.ip(main, family=6)
    modes = network(eth1="handover", eth2="backup", eth3="on", eth4="master")
    with (
        Visitors(four.server) as visitors,
        Visitors(four.server, SERVER6) as visitors6,
        Daemon(four.gateway, modes),
    ):
        assert "32765:\tfrom all lookup 7000 proto 77" in four.gateway.ip("rule show")

        def leaves_by(n: int) -> bool:
            return visitors.source(four.gateway) == visitors.source(four.lan) == address(
                n
            ) and visitors6.source(four.gateway) == address(n, 6)

        assert leaves_by(4)
        for n in (4, 3, 2):
            four.unplug(n)
            eventually(lambda n=n: leaves_by(n - 1), what=f"wan{n - 1} takes over")
        for n in (2, 3, 4):
            four.plug(n)
            eventually(lambda n=n: leaves_by(n), what=f"wan{n} is back")
    assert (four.gateway.ip(main), four.gateway.ip(main, family=6)) == before


def test_two_masters_none_and_one_without_multipath_tcp(four):
    """By `mproutd reconcile` alone, without a daemon."""
    gateway = four.gateway
    daemon = Daemon(gateway, network(eth1="off", eth2="master", eth3="master"))
    with Visitors(four.server) as visitors:
        daemon.reconcile()
        assert visitors.source(gateway) == address(2)
        (warning,) = daemon.status()["warnings"]
        assert "treated as on" in warning

        daemon.configure(network(eth1="off", eth2="on", eth3="on"))
        daemon.reconcile()
        assert visitors.source(gateway) == address(1)  # as main says
        for family in (4, 6):
            rules = gateway.ip("rule show", family=family)
            assert "7501:" in rules
            assert "32764:" not in rules
            assert "32765:" not in rules
        assert gateway.ip("route show table 7000") == ""

        gateway.sysctl("net.mptcp.enabled", 0)
        daemon.configure(network(eth1="off", eth3="master", eth2="on"))
        daemon.reconcile()
        assert visitors.source(gateway) == address(3)
        assert "mptcp-disabled" in {problem["code"] for problem in daemon.status()["problems"]}
    daemon.close()


def test_on_and_backup_by_turns_on_a_living_connection(wan):
    modes = {mode: network(eth1="master", eth2=mode) for mode in ("on", "backup")}
    with (
        Daemon(wan.gateway, modes["on"]) as daemon,
        Echo(wan.gateway, wan.server, SERVER) as echo,
    ):
        eventually(lambda: by(wan, echo.port) == {"eth1", "eth2"})
        shown = wan.gateway.ip("mptcp endpoint show")
        ports = [flow.local_port for flow in subflows(wan.gateway, echo.port)]
        client_counters, server_counters = mptcp_counters(wan.gateway), mptcp_counters(wan.server)
        joined = join_attempts(wan.gateway)
        for turn in range(1, 9):  # more often than somebody else may undo what we do
            mode = ("on", "backup")[turn % 2]
            daemon.configure(modes[mode])
            word = {"on": "nobackup", "backup": "backup"}[mode]
            assert f"{word} nofullmesh" in daemon.reconcile()
            flags = {"on": "subflow", "backup": "subflow backup"}[mode]
            assert wan.gateway.ip("mptcp endpoint show") == shown.replace(
                "subflow dev eth2", f"{flags} dev eth2"
            )
            sent = mptcp_counters(wan.gateway)["MPPrioTx"] - client_counters["MPPrioTx"]
            assert sent == turn
            eventually(
                lambda turn=turn: (
                    mptcp_counters(wan.server)["MPPrioRx"] - server_counters["MPPrioRx"] == turn
                )
            )
            flows = subflows(wan.gateway, echo.port)
            assert [flow.local_port for flow in flows] == ports
            assert [flow.backup for flow in flows if flow.local == address(2)] == [mode == "backup"]
        now = mptcp_counters(wan.gateway)
        assert (join_attempts(wan.gateway), now["RmSubflow"]) == (
            joined,
            client_counters["RmSubflow"],
        )
        seen = echo.report()
        assert (seen.error, seen.mptcp) == ("", True)
        assert daemon.status()["problems"] == []


def test_modes_that_change_and_sections_that_come_and_go(wan):
    """One connection lives through: on to off, off to master, removed, added."""
    with (
        Daemon(wan.gateway, network(eth1="master", eth2="on")) as daemon,
        Echo(wan.gateway, wan.server, SERVER) as echo,
        Visitors(wan.server) as visitors,
    ):
        eventually(lambda: by(wan, echo.port) == {"eth1", "eth2"})

        def becomes(network: str, *devices: str) -> None:
            daemon.configure(network)
            daemon.reconcile()
            eventually(lambda: by(wan, echo.port) == set(devices))

        becomes(network(eth1="master", eth2="off"), "eth1")
        assert "lookup 7002" in wan.gateway.ip("rule show")  # its table and rules stay
        becomes(network(eth1="on", eth2="master"), "eth1", "eth2")
        assert visitors.source(wan.gateway) == address(2)
        becomes(network(eth2="master"), "eth2")
        assert "lookup 7001" not in wan.gateway.ip("rule show")
        becomes(network(eth2="backup", eth1="on"), "eth1", "eth2")
        assert endpoints(wan.gateway)[address(2)] == "subflow backup dev eth2"
        seen = echo.report()
        assert (seen.error, seen.mptcp) == ("", True)
