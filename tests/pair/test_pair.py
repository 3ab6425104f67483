"""docs/pair.md as documented: the active gateway fails in every way, the other one takes over."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab import SERVER, SERVER6, eventually, subflows
from tests.pair.proxy import serve_proxy
from tests.pair.traffic import COLUMNS, Tcp, Traffic, Udp
from tests.pair.world import GATEWAY, HOSTS6, OUTSIDE, OUTSIDE6, Gateway, Pair

pytestmark = [pytest.mark.timeout(240)]

CUT = """
add table inet cut
add chain inet cut input { type filter hook input priority -300; }
add rule inet cut input iifname eth0 ip protocol vrrp drop
"""
"""No VRRP gets to a gateway."""
PREFIX = "fd00:70::/64"
ROUTED = {
    f'oifname "eth1" ip6 saddr {PREFIX} snat ip6 to {OUTSIDE6}\n': "\n",
    f"{OUTSIDE6}'\n": f"{OUTSIDE6}'\n\nconfig uplink 'wan1'\n\tlist prefix '{PREFIX}'\n",
}
"""Provider 1 routes the hosts' prefix to the virtual address."""


@pytest.fixture
def change() -> dict[str, str]:
    return {}


@pytest.fixture
def pair(change: dict[str, str]) -> Iterator[Pair]:
    with Pair(change) as built:
        serve_proxy(built.server)
        built.start()
        routes_ipv6(built, built.a)
        yield built


def proxied(gateway: Gateway) -> set[str]:
    """Where the proxy's connections have subflows."""
    return {subflow.local for subflow in subflows(gateway, 8388)}


def carries(gateway: Gateway, own: int) -> None:
    """Both uplinks carry the proxy's connections."""
    expected = {f"10.1.1.{own}", f"10.2.2.{own}"}
    eventually(lambda: proxied(gateway) == expected, 20, f"subflows of {gateway.name}")
    expected |= {f"2001:db8:1::{own}", f"2001:db8:2::{own}"}
    assert gateway.endpoints() == expected


def waits(gateway: Gateway) -> None:
    """It is in standby: no address, no endpoint, tables for the day that it is active."""

    def in_standby() -> bool:
        assert gateway.standby() == "standby"
        assert not gateway.has(GATEWAY)
        assert not gateway.has(OUTSIDE)
        assert not gateway.has(OUTSIDE6)
        assert gateway.endpoints() == set()
        assert gateway.ip("route show table 7000") == ""  # the last thing that a pass deletes
        return True

    eventually(in_standby, 30)
    assert "default" in gateway.ip("route show table 7001")
    status = gateway.status()
    assert status["standby"] is True
    assert status["problems"] == []
    assert gateway.run("mproutd", "status", "--usable") == "usable: wan1, wan2\n"


def routes_ipv6(pair: Pair, gateway: Gateway) -> None:
    """The hosts' default route leads to it."""
    eventually(lambda: pair.site.routes_ipv6(gateway), 60, f"IPv6 by {gateway.name}")


def marked(gateway: Gateway) -> None:
    """It has the connections via provider 1, with the mark of that uplink."""
    for family, outside in (("ipv4", OUTSIDE), ("ipv6", OUTSIDE6)):
        for protocol in ("tcp", "udp"):
            listed = gateway.run("conntrack", "-L", "-f", family, "-p", protocol, "-q", outside)
            assert "mark=16777216" in listed, (gateway.name, family, protocol, listed)


def fail(pair: Pair, how: str) -> None:
    if how == "killed":
        pair.power(pair.a, on=False)
        pair.a.kill()
    elif how == "unplugged":
        pair.power(pair.a, on=False)
    else:
        pair.a.program("keepalived").terminate()


def recover(pair: Pair, how: str) -> None:
    if how == "killed":
        pair.a.reboot()
    elif how == "stopped":
        pair.a.restart("keepalived")
    if how != "stopped":
        pair.power(pair.a, on=True)


@pytest.mark.parametrize("how", ["killed", "unplugged", "stopped"])
def test_the_active_gateway_fails_and_comes_back(pair: Pair, how: str) -> None:
    with Traffic(pair.host, pair.server) as traffic:
        carries(pair.a, 2)
        waits(pair.b)
        marked(pair.a)
        traffic.longest()

        fail(pair, how)
        pair.active(pair.b)
        over = traffic.longest()
        assert traffic.browser.opened() == 2
        carries(pair.b, 3)
        routes_ipv6(pair, pair.b)
        marked(pair.b)
        soon(over)
        assert pair.b.status()["problems"] == []

        writes = pair.b.status()["counts"]["writes"]
        recover(pair, how)
        pair.ready(pair.a)
        waits(pair.a)
        time.sleep(2)
        assert pair.b.standby() == "active"
        assert pair.b.status()["counts"]["writes"] == writes
        back = traffic.longest()
        assert traffic.browser.opened() == 2
        assert max(back) < 1
        record(pair, f"{how}", over)
        record(pair, f"{how}, back again", back)


@pytest.mark.parametrize("change", [{"nopreempt": "preempt_delay 3"}])
def test_with_preempt_delay_the_first_gateway_takes_over_again(pair: Pair) -> None:
    with Traffic(pair.host, pair.server) as traffic:
        carries(pair.a, 2)
        fail(pair, "unplugged")
        pair.active(pair.b)
        carries(pair.b, 3)
        traffic.longest()
        recover(pair, "unplugged")
        pair.active(pair.a)
        again = traffic.longest()
        waits(pair.b)
        carries(pair.a, 2)
        assert pair.a.vrrp_states() == ["BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER"]
        soon(again)
        record(pair, "preempt_delay, back again", again)


@pytest.mark.parametrize("change", [{"\t\tconntrackd -c\n": "\t\tsleep 1\n\t\tconntrackd -c\n"}])
def test_a_late_copy_of_the_connections_costs_time_only(pair: Pair) -> None:
    """Replies of the server arrive before it."""
    with Traffic(pair.host, pair.server) as traffic:
        fail(pair, "unplugged")
        pair.active(pair.b)
        assert max(traffic.longest()[:-1]) < 10


@pytest.mark.parametrize("change", [ROUTED])
def test_connections_from_a_routed_prefix_move_without_translation(pair: Pair) -> None:
    pair.site.providers[1].ip(f"route add {PREFIX} via {OUTSIDE6}")
    pair.server.ip(f"route add {PREFIX} via 2001:db8:901::1 src {SERVER6}")
    udp = Udp(pair.host, pair.server, SERVER6, HOSTS6)
    with udp, Tcp(pair.host, pair.server, SERVER6) as tcp:
        assert udp.sources == [[f"{host} {Udp.PORT}"] for host in HOSTS6]
        fail(pair, "unplugged")
        pair.active(pair.b)
        assert tcp.longest() < 3
        assert udp.longest() < 3


def test_both_are_active_while_no_vrrp_gets_through(pair: Pair) -> None:
    with Traffic(pair.host, pair.server) as traffic:
        carries(pair.a, 2)
        traffic.longest()
        for gateway in (pair.a, pair.b):
            gateway.run("nft", "-f", "-", input=CUT)
        pair.active(pair.b)
        split = traffic.longest()
        assert pair.a.standby() == pair.b.standby() == "active"
        assert pair.a.has(GATEWAY)
        for gateway in (pair.a, pair.b):
            assert gateway.status()["problems"] == []
        with Tcp(pair.host, pair.server, SERVER) as meanwhile:
            time.sleep(3)
            during = traffic.longest()
            meanwhile.longest()
            for gateway in (pair.a, pair.b):
                gateway.run("nft", "delete", "table", "inet", "cut")
            waits(pair.b)
            healed = traffic.longest()
            eventually(meanwhile.is_reset, 30, "a connection from meanwhile is reset")
        with Tcp(pair.host, pair.server, SERVER) as later:
            later.longest()
        assert pair.a.standby() == "active"
        record(pair, "both active: at the beginning", split)
        record(pair, "both active: 3 s long", during)
        record(pair, "both active: at the end", healed)


def test_without_the_cable_between_them_later_connections_do_not_move(pair: Pair) -> None:
    with Tcp(pair.host, pair.server, SERVER) as first:
        first.longest()
        pair.a.ip("link set eth3 down")
        with Tcp(pair.host, pair.server, SERVER) as second:
            second.longest()
            fail(pair, "stopped")
            pair.active(pair.b)
            assert first.longest() < 3
            eventually(second.is_reset, 30, "a connection that was not copied is reset")


def soon(silence: list[float]) -> None:
    """Connections go on within 3 s, and clients of the proxy have another one within 5 s."""
    assert max(silence[:-1]) < 3
    assert silence[-1] < 5


def record(pair: Pair, what: str, silence: list[float]) -> None:
    """A row of the guide's table of figures, in the place of the last run's."""
    width = 32
    row = f"{what:{width}}" + "".join(f"{seconds:8.2f} s " for seconds in silence)
    print(row)
    heading = " " * width + "".join(f"{column:>10} " for column in COLUMNS)
    rows = {line[:width].strip(): line for line in pair.guide.sampled("figures").splitlines()}
    rows = {**rows, "": heading, what: row}
    pair.guide.sample("figures", "\n".join(rows.values()) + "\n")
