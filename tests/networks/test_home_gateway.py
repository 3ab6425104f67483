"""docs/networks/home-gateway.md, as documented: tunnels come and go, DSL drops, LTE takes over."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.lab import SERVER, Daemon, Echo, eventually, subflows
from tests.networks.home import ADSL, LTE, TUNNELS, Home, tunnel

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]
ALL = {ADSL, *map(tunnel, TUNNELS)}


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as built:
        yield built


class Watch:
    """An echo by the proxy, and how long it stood still at worst since the last look."""

    def __init__(self, echo: Echo) -> None:
        self._echo, self._worst = echo, 0.0
        self.table = ""

    def received(self) -> int:
        report = self._echo.report()
        assert not report.error, report
        self._worst = max(self._worst, report.gap)
        return report.received

    def note(self, what: str) -> None:
        """Wait until it flows again; one more line of the table."""
        before = self.received()
        eventually(lambda: self.received() > before + 50, 30, what)
        self.table += f"{what:45s} {self._worst * 1000:6.0f} ms\n"
        self._worst = 0.0


def test_tunnels_come_and_go_and_lte_steps_in(home):
    gateway = home.gateway

    def endpoints() -> set[str]:
        return {line.split()[0] for line in gateway.ip("mptcp endpoint show").splitlines()}

    def paths() -> set[str]:
        """Where the proxy's connection has subflows."""
        return {subflow.local for subflow in subflows(gateway, 1080)}

    def at_work(*addresses: str) -> None:
        """These, and no others, have an endpoint and a subflow."""

        def settled() -> bool:
            assert endpoints() == set(addresses)
            assert paths() == set(addresses)
            return True

        eventually(settled, 30)

    with Daemon(gateway, *home.configuration) as daemon:
        home.line_up()
        for n in TUNNELS:
            home.start_tunnel(n)
            eventually(lambda n=n: tunnel(n) in endpoints(), 20)
        eventually(lambda: endpoints() == ALL)
        home.guide.shows("status", daemon.call("status").out)
        home.guide.shows("rules", gateway.ip("rule show"))
        assert [home.seen_as(n) for n in (10, 20, 21, 22)] == [ADSL, tunnel(2), tunnel(3), LTE]

        # A host that speaks MPTCP itself is let past the proxy.
        with Echo(home.host, home.proxy, SERVER) as own:
            eventually(lambda: own.report().received > 10)
            assert paths() == set()
            assert own.report().mptcp

        with Echo(home.host, home.proxy, SERVER, mptcp=False) as echo:
            watch = Watch(echo)
            at_work(*ALL)
            watch.note("no event")

            home.clients[1].send_signal(signal.SIGUSR1)
            eventually(lambda: tunnel(1) not in endpoints(), 20)
            at_work(*ALL)
            watch.note("a tunnel restarts")

            home.give_address(3, tunnel(3, 9))
            home.clients[3].send_signal(signal.SIGUSR1)
            at_work(ADSL, tunnel(1), tunnel(2), tunnel(3, 9))
            watch.note("a tunnel's address changes")
            assert home.seen_as(21) == tunnel(3, 9)

            home.clients[2].terminate()
            at_work(ADSL, tunnel(1), tunnel(3, 9))
            watch.note("a tunnel ends")
            assert home.seen_as(20) == ADSL
            home.guide.shows("status-tunnels", daemon.call("status").out)

            home.line_down()
            at_work(LTE)
            watch.note("ADSL drops, the mobile uplink takes over")
            assert [home.seen_as(n) for n in (10, 20, 21, 22)] == [LTE] * 4
            eventually(lambda: "tun" not in gateway.ip("link show"))
            home.guide.shows("status-lte", daemon.call("status").out)

            home.line_up()
            home.start_tunnel(2)
            at_work(ADSL, tunnel(1), tunnel(2), tunnel(3, 9))
            watch.note("ADSL is back")
            assert [home.seen_as(n) for n in (20, 22)] == [tunnel(2), LTE]
    home.guide.measured("stalls", watch.table)
