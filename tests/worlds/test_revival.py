"""Worlds where a subflow fails and nothing of ours changes: it joins again all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, join_attempts, subflows
from tests.lab.wan import LAN_HOST

pytestmark = pytest.mark.kernel


@contextmanager
def refused(wan: Wan, which: str = "meta l4proto tcp", n: int = 2) -> Iterator[None]:
    """Router `n` answers what comes from the gateway with a reset."""
    wan.routers[n].run(
        "nft",
        "-f",
        "-",
        input="table ip refuse { chain way { type filter hook forward priority 0;"
        f" iifname access {which} reject with tcp reset; }}; }}\n",
    )
    try:
        yield
    finally:
        wan.routers[n].run("nft", "delete", "table", "ip", "refuse")


def by_second(wan: Wan, echo: Echo) -> list[int]:
    """The local ports of the connection's subflows over eth2."""
    return [
        subflow.local_port
        for subflow in subflows(wan.gateway, echo.port)
        if subflow.local == "10.2.2.2"
    ]


@contextmanager
def refused_then_retried(
    wan: Wan, daemon: Daemon, which: str = "meta l4proto tcp"
) -> Iterator[Echo]:
    """A connection whose subflow over eth2 was refused, and has joined since."""
    with refused(wan, which):
        echo = Echo(wan.gateway, wan.server, SERVER)
        eventually(lambda: "retrying its endpoint" in daemon.log())
        assert by_second(wan, echo) == []
    with echo:
        eventually(lambda: by_second(wan, echo))
        assert not echo.report().error
        yield echo


def tries(wan: Wan) -> int:
    return join_attempts(wan.gateway)


def test_a_subflow_that_was_refused_joins_again(wan):
    with Daemon(wan.gateway):
        with refused(wan):
            echo = Echo(wan.gateway, wan.server, SERVER)
            eventually(lambda: tries(wan) >= 3)
            assert by_second(wan, echo) == []
        with echo:
            eventually(lambda: by_second(wan, echo))
            assert not echo.report().error


def test_a_gateway_that_was_silent_for_a_while(wan):
    """No carrier event, no address, no route: only ARP has no answer."""
    gateway, router = wan.gateway, wan.routers[2]
    gateway.sysctl("net.ipv4.neigh.eth2.retrans_time_ms", 50)
    router.sysctl("net.ipv4.conf.access.arp_ignore", 8)
    gateway.ip("neigh flush dev eth2")
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER) as echo:
        eventually(lambda: "retrying its endpoint" in daemon.log())
        assert by_second(wan, echo) == []
        router.sysctl("net.ipv4.conf.access.arp_ignore", 0)
        eventually(lambda: by_second(wan, echo))
        assert not echo.report().error


def test_a_subflow_that_was_cut_comes_back(wan):
    """As when a NAT on the way forgets it: a reset in the middle of the connection."""
    with Daemon(wan.gateway), Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        busy = max(subflows(wan.gateway, echo.port), key=lambda subflow: subflow.bytes_sent)
        with refused(wan, n=int(busy.local.split(".")[1])):
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 1)
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        assert busy.local_port not in {s.local_port for s in subflows(wan.gateway, echo.port)}
        assert not echo.report().error


def test_connections_that_were_there_before_the_daemon(wan):
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        with refused(wan):
            daemon = Daemon(wan.gateway)
            daemon.start()
            eventually(lambda: tries(wan) >= 2)
        try:
            eventually(lambda: by_second(wan, echo))
        finally:
            daemon.close()


@pytest.mark.alone
def test_the_tries_become_rare(wan):
    with Daemon(wan.gateway) as daemon, refused(wan), Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: by_second(wan, echo) == [] and tries(wan) >= 1)
        time.sleep(2)
        assert 2 <= daemon.log().count("retrying its endpoint") <= 4  # at 0.25, 0.75, 1.75, 3.75 s
        assert tries(wan) <= 8, "the kernel's own, and two for each of ours"
        assert echo.report().gap < 0.15


@pytest.mark.alone
def test_others_do_not_suffer_for_one_that_is_refused(wan):
    """Each opening cuts the subflows of the others there: so after the first, it is rare."""
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as healthy:
        seen = set(eventually(lambda: by_second(wan, healthy)))
        with refused(wan, f"tcp dport != {healthy.port}"):
            with Echo(wan.gateway, wan.server, SERVER) as other:
                eventually(lambda: "retrying its endpoint" in daemon.log())
                end = time.monotonic() + 2.5
                while time.monotonic() < end:
                    seen.update(by_second(wan, healthy))
                    time.sleep(0.05)
                assert by_second(wan, other) == []
            with Echo(wan.gateway, wan.server, SERVER):  # a new one has no new patience
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    seen.update(by_second(wan, healthy))
                    time.sleep(0.05)
        # One retry may open it twice: it sets the endpoint to fullmesh and back.
        assert len(seen) in (2, 3), "cut more than once"
        assert daemon.log().count("retrying its endpoint") == 1
        report = healthy.report()
        assert not report.error
        assert report.gap < 0.3


def test_beside_a_connection_that_the_peer_began(wan):
    """Its only subflow would not come back, so it is not closed for the sake of another one."""
    gateway = wan.gateway
    with Daemon(gateway) as daemon, Echo(wan.server, gateway, "10.2.2.2") as accepted:
        before = [subflow.local_port for subflow in subflows(wan.server, accepted.port)]
        with refused_then_retried(wan, daemon, f"tcp sport != {accepted.port}"):
            pass
        after = [subflow.local_port for subflow in subflows(wan.server, accepted.port)]
        assert after == before
        report = accepted.report()
        assert not report.error
        assert report.mptcp
        assert "0.0.0.0" not in gateway.ip("mptcp endpoint show")


@pytest.mark.parametrize("device", ["", "dev eth2"])
def test_at_the_endpoint_of_another_program(wan, device):
    gateway = wan.gateway
    foreign = f"10.2.2.2 id 77 subflow {device}".strip()
    gateway.ip(f"mptcp endpoint add 10.2.2.2 id 77 {device} subflow")
    with Daemon(gateway) as daemon:
        with refused_then_retried(wan, daemon):
            pass
        assert foreign in gateway.ip("mptcp endpoint show")
        assert "0.0.0.0" not in gateway.ip("mptcp endpoint show")


def test_the_last_uplink_loses_the_last_subflow(wan):
    """Its address is that of the connection's beginning, and was closed once before: to delete the
    endpoint would tell the peer by the very subflow that comes back (RM_ADDR)."""
    gateway = wan.gateway
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER, bind="10.1.1.2") as echo:
        eventually(lambda: by_second(wan, echo))
        wan.unplug(1)
        eventually(lambda: len(subflows(gateway, echo.port)) == 1)
        wan.plug(1)
        eventually(lambda: len(subflows(gateway, echo.port)) == 2)
        wan.unplug(2)
        eventually(lambda: len(subflows(gateway, echo.port)) == 1)
        with refused(wan, n=1):
            eventually(lambda: subflows(gateway, echo.port) == [])
        done = echo.report().received
        eventually(lambda: echo.report().received > done + 50)
        assert "subflows from 10.1.1.2 failed; retrying its endpoint" in daemon.log()
        assert len(subflows(gateway, echo.port)) == 1
        assert not echo.report().error
        assert "fullmesh" not in gateway.ip("mptcp endpoint show")


@pytest.mark.alone
def test_two_uplinks_lose_the_same_peer(wan):
    """As when a server reboots: all others keep a subflow."""
    gateway = wan.gateway
    with (
        Daemon(gateway) as daemon,
        Echo(gateway, wan.server, SERVER) as healthy,
        Echo(gateway, wan.server, SERVER) as other,
    ):
        eventually(lambda: len(subflows(gateway, healthy.port)) == 2)
        eventually(lambda: len(subflows(gateway, other.port)) == 2)
        healthy.report()
        least = 2
        with refused(wan, f"tcp dport {other.port}"), refused(wan, f"tcp dport {other.port}", n=1):
            end = time.monotonic() + 4
            while time.monotonic() < end:
                least = min(least, len(subflows(gateway, healthy.port)))
        assert "subflows from 10.1.1.2 failed" in daemon.log()
        assert "subflows from 10.2.2.2 failed" in daemon.log()
        assert least >= 1
        report = healthy.report()
        assert not report.error
        assert report.gap < 0.5


@pytest.mark.alone
def test_who_may_not_get_its_only_subflow_back_keeps_it(wan):
    """The server takes no subflows: another connection's reset costs nobody the only one."""
    gateway = wan.gateway
    wan.server.ip("mptcp limits set subflows 0 add_addr_accepted 0")
    with (
        Daemon(gateway) as daemon,
        Echo(gateway, wan.server, SERVER, bind="10.1.1.2") as healthy,
        Echo(gateway, wan.server, SERVER, bind="10.1.1.2") as other,
    ):
        (before,) = subflows(gateway, healthy.port)
        with refused(wan, f"tcp dport {other.port}", n=1):
            eventually(lambda: subflows(gateway, other.port) == [])
            # A slow look at the connections puts off the next by a hundred times its duration.
            eventually(lambda: "subflows from 10.1.1.2 failed" in daemon.log(), 30)
            time.sleep(1)
        assert [subflow.local_port for subflow in subflows(gateway, healthy.port)] == [
            before.local_port
        ]
        assert healthy.report().gap < 0.5


def test_an_incoming_connection_over_two_uplinks_keeps_both(wan):
    """A client's subflows, both to one address of ours: this end could make neither again."""
    gateway = wan.gateway
    wan.server.ip("mptcp endpoint add 10.9.1.2 dev eth1 subflow")
    with (
        Daemon(gateway) as daemon,
        Echo(wan.server, gateway, "10.1.1.2") as incoming,
        Echo(gateway, wan.server, SERVER, bind="10.1.1.2") as ours,
    ):
        eventually(lambda: len(subflows(wan.server, incoming.port)) == 2)
        eventually(lambda: by_second(wan, ours))
        before = subflows(wan.server, incoming.port)
        with refused(wan, f"tcp dport {ours.port}", n=1):
            eventually(lambda: len(subflows(gateway, ours.port)) == 1)
            eventually(lambda: "subflows from 10.1.1.2 failed" in daemon.log())
        eventually(lambda: len(subflows(gateway, ours.port)) == 2)
        assert [s.local_port for s in subflows(wan.server, incoming.port)] == [
            s.local_port for s in before
        ]
        assert not incoming.report().error


def test_a_connection_to_the_lan_costs_the_others_nothing(wan):
    """The kernel tries the uplinks' endpoints for it too, and these lead to nobody."""
    gateway = wan.gateway
    for router in wan.routers.values():
        router.ip("route add unreachable 192.168.0.0/16")
    with Daemon(gateway) as daemon, Echo(gateway, wan.server, SERVER) as healthy:
        eventually(lambda: by_second(wan, healthy))
        seen, before = {s.local_port for s in subflows(gateway, healthy.port)}, tries(wan)
        with Echo(gateway, wan.lan, LAN_HOST):
            eventually(lambda: tries(wan) > before, 5, "the kernel's tries")
            end = time.monotonic() + 3
            while time.monotonic() < end:
                seen.update(s.local_port for s in subflows(gateway, healthy.port))
                time.sleep(0.05)
        assert len(seen) == 2
        assert "retrying its endpoint" not in daemon.log()


# -- what nobody heard of -----------------------------------------------------------------


def test_a_subflow_that_failed_while_the_daemon_was_dead(wan):
    """The endpoint is there and used up; the new daemon finds the connection without it."""
    daemon = Daemon(wan.gateway).start()
    daemon.kill9()
    before = tries(wan)
    with refused(wan):
        echo = Echo(wan.gateway, wan.server, SERVER)
        eventually(lambda: tries(wan) > before)
        time.sleep(0.2)
    assert by_second(wan, echo) == []
    daemon.start()
    with echo:
        eventually(lambda: by_second(wan, echo), 5)
        assert "subflows from 10.2.2.2 failed; retrying its endpoint" in daemon.log()
        assert not echo.report().error
    daemon.stop()


def test_a_connection_that_lost_all_its_subflows_while_the_daemon_was_dead(wan):
    """Nothing is left of it but what the program holds: every endpoint gets a try."""
    daemon = Daemon(wan.gateway).start()
    echo = Echo(wan.gateway, wan.server, SERVER)
    eventually(lambda: by_second(wan, echo))
    daemon.kill9()
    with refused(wan), refused(wan, n=1):
        eventually(lambda: subflows(wan.gateway, echo.port) == [], 5)
    daemon.start()
    with echo:
        eventually(lambda: by_second(wan, echo), 5)
        done = echo.report().received
        eventually(lambda: echo.report().received > done, 5)
    daemon.stop()


def test_what_the_other_end_began_is_left_alone(wan):
    """The kernel tries our endpoints for a server's connections too, and is always refused:
    nobody listens where a client connected from."""
    gateway = wan.gateway
    with Echo(wan.server, gateway, "10.1.1.2"), Daemon(gateway) as daemon:
        eventually(lambda: tries(wan) == 1, 5, "the kernel's try from eth2")
        with Echo(gateway, wan.server, SERVER) as ours:
            seen = set(eventually(lambda: by_second(wan, ours)))
            end = time.monotonic() + 3
            while time.monotonic() < end:
                seen.update(by_second(wan, ours))
                time.sleep(0.05)
        assert "retrying its endpoint" not in daemon.log()
        assert len(seen) == 1, "cut for somebody else"
