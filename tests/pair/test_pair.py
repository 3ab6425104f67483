"""docs/pair.md as documented: the active gateway fails in every way, the other one takes over."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import SERVER, Echo, eventually, subflows
from tests.networks.guide import Guide
from tests.pair.world import GATEWAY, OUTSIDE, Gateway, Pair

pytestmark = [pytest.mark.timeout(240)]

ECHO = Path(__file__).parents[1] / "lab/echo.py"
CUT = """
add table inet cut
add chain inet cut input { type filter hook input priority -300; }
add rule inet cut input iifname eth0 ip protocol vrrp drop
"""
"""No VRRP gets to a gateway."""


class Client:
    """client.py on the host, by the proxy."""

    def __init__(self, pair: Pair) -> None:
        self.opened = 0
        self._process = pair.host.popen(
            sys.executable,
            str(Path(__file__).with_name("client.py")),
            SERVER,
            "80",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask()

    def _ask(self) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._process.stdout.readline())
        return report

    def received(self) -> int:
        self.gap = max(getattr(self, "gap", 0.0), (report := self._ask())["gap"])
        self.opened = report["opened"]
        return int(report["received"])

    def longest(self) -> float:
        """The longest time without a reply since the last call, once replies arrive again."""
        before = self.received()
        eventually(lambda: self.received() > before + 20, 30, "the proxy's client is back")
        longest, self.gap = self.gap, 0.0
        return longest


def longest(echo: Echo) -> float:
    """The same of a plain TCP connection, which must be the same one."""
    reports = [echo.report()]

    def goes_on() -> bool:
        reports.append(echo.report())
        return reports[-1].received > reports[0].received + 20

    try:
        eventually(goes_on, 30)
    finally:
        assert not reports[-1].error, reports[-1]
    return max(report.gap for report in reports)


@pytest.fixture
def change() -> dict[str, str]:
    return {}


@pytest.fixture
def pair(change: dict[str, str]) -> Iterator[Pair]:
    with Pair(change) as built:
        built.server.service(f"{sys.executable} {ECHO} serve 0.0.0.0 80 {socket.IPPROTO_TCP}")
        proxy = Guide("proxy")
        for path, text in proxy.files("router-b").items():
            built.server.write(path, text)
        for command in proxy.commands("router-b"):
            built.server.service(command)
        eventually(lambda: ":8388" in built.server.run("ss", "-Hltn"), 20)
        built.start()
        yield built


def proxied(gateway: Gateway) -> set[str]:
    """Where the proxy's connections have subflows."""
    return {subflow.local for subflow in subflows(gateway, 8388)}


def carries(gateway: Gateway, own: int) -> None:
    """Both uplinks carry the proxy's connections."""
    expected = {f"10.1.1.{own}", f"10.2.2.{own}"}
    eventually(lambda: proxied(gateway) == expected, 20, f"subflows of {gateway.name}")
    assert gateway.endpoints() == expected


def waits(gateway: Gateway) -> None:
    """It is in standby: no address, no endpoint, tables for the day that it is active."""

    def in_standby() -> bool:
        assert gateway.standby() == "standby"
        assert not gateway.has(GATEWAY)
        assert not gateway.has(OUTSIDE)
        assert gateway.endpoints() == set()
        return True

    eventually(in_standby, 30)
    assert gateway.ip("route show table 7000") == ""
    assert "default" in gateway.ip("route show table 7001")
    status = gateway.status()
    assert status["standby"] is True
    assert status["problems"] == []
    assert gateway.run("mproutd", "status", "--usable") == "usable: wan1, wan2\n"


def routes_ipv6(pair: Pair, gateway: Gateway) -> None:
    """The hosts' default route leads to it."""
    link = re.search("link/ether (\\S+)", gateway.ip("link show eth0"))
    assert link

    def is_router() -> bool:
        assert "default via fe80::70:1 dev eth0" in pair.host.ip("route show", family=6)
        pair.host.run("ping", "-q", "-c1", "-W1", "fe80::70:1%eth0", check=False)
        return f"fe80::70:1 dev eth0 lladdr {link[1]}" in pair.host.ip("neigh show", family=6)

    eventually(is_router, 30)


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
    with Echo(pair.host, pair.server, SERVER, mptcp=False) as echo:
        client = Client(pair)
        carries(pair.a, 2)
        waits(pair.b)
        routes_ipv6(pair, pair.a)
        flow = pair.a.run("conntrack", "-L", "-p", "tcp", "-q", OUTSIDE)
        assert "mark=16777216" in flow
        longest(echo), client.longest()

        fail(pair, how)
        pair.active(pair.b)
        tcp, proxy = longest(echo), client.longest()
        assert client.opened == 2
        carries(pair.b, 3)
        routes_ipv6(pair, pair.b)
        assert "mark=16777216" in pair.b.run("conntrack", "-L", "-p", "tcp", "-q", OUTSIDE)
        assert tcp < 3
        assert proxy < 5
        assert pair.b.status()["problems"] == []

        writes = pair.b.status()["counts"]["writes"]
        recover(pair, how)
        pair.ready(pair.a)
        waits(pair.a)
        time.sleep(2)
        assert pair.b.standby() == "active"
        assert pair.b.status()["counts"]["writes"] == writes
        back = longest(echo), client.longest()
        assert client.opened == 2
        assert max(back) < 1
        record(pair, f"{how}", tcp, proxy)
        record(pair, f"{how}, back again", *back)


@pytest.mark.parametrize("change", [{"nopreempt": "preempt_delay 3"}])
def test_with_preempt_delay_the_first_gateway_takes_over_again(pair: Pair) -> None:
    with Echo(pair.host, pair.server, SERVER, mptcp=False) as echo:
        client = Client(pair)
        carries(pair.a, 2)
        fail(pair, "unplugged")
        pair.active(pair.b)
        carries(pair.b, 3)
        longest(echo), client.longest()
        recover(pair, "unplugged")
        pair.active(pair.a)
        tcp, proxy = longest(echo), client.longest()
        waits(pair.b)
        carries(pair.a, 2)
        assert pair.a.vrrp_states() == ["BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER"]
        assert tcp < 3
        assert proxy < 5
        record(pair, "preempt_delay, back again", tcp, proxy)


def test_both_are_active_while_no_vrrp_gets_through(pair: Pair) -> None:
    with Echo(pair.host, pair.server, SERVER, mptcp=False) as echo:
        client = Client(pair)
        carries(pair.a, 2)
        longest(echo), client.longest()
        for gateway in (pair.a, pair.b):
            gateway.run("nft", "-f", "-", input=CUT)
        pair.active(pair.b)
        split = longest(echo), client.longest()
        assert pair.a.standby() == pair.b.standby() == "active"
        assert pair.a.has(GATEWAY)
        for gateway in (pair.a, pair.b):
            assert gateway.status()["problems"] == []
        with Echo(pair.host, pair.server, SERVER, mptcp=False) as meanwhile:
            time.sleep(3)
            during = longest(echo), client.longest()
            longest(meanwhile)
            for gateway in (pair.a, pair.b):
                gateway.run("nft", "delete", "table", "inet", "cut")
            waits(pair.b)
            healed = longest(echo), client.longest()
            eventually(lambda: "reset" in meanwhile.report().error, 30)
        assert pair.a.standby() == "active"
        record(pair, "both active: at the beginning", *split)
        record(pair, "both active: 3 s long", *during)
        record(pair, "both active: at the end", *healed)


def test_without_the_cable_between_them_later_connections_do_not_move(pair: Pair) -> None:
    with Echo(pair.host, pair.server, SERVER, mptcp=False) as first:
        longest(first)
        pair.a.ip("link set eth3 down")
        with Echo(pair.host, pair.server, SERVER, mptcp=False) as second:
            longest(second)
            fail(pair, "stopped")
            pair.active(pair.b)
            assert longest(first) < 3
            eventually(lambda: "reset" in second.report().error, 30)


def record(pair: Pair, what: str, tcp: float, proxy: float) -> None:
    """A row of the guide's table of figures, in the place of the last run's."""
    row = f"{what:45s} {tcp:4.2f} s    {proxy:4.2f} s"
    print(row)
    rows = {line[:45].strip(): line for line in pair.guide.sampled("figures").splitlines()}
    pair.guide.sample("figures", "\n".join({**rows, what: row}.values()) + "\n")
