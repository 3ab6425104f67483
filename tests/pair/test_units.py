"""docs/pair.md under systemd: two booted Debian gateways; one stops, reboots or dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import SERVER
from tests.pair.booted import Gateway
from tests.pair.proxy import serve_proxy
from tests.pair.test_pair import soon
from tests.pair.traffic import COLUMNS, Tcp, Traffic
from tests.pair.world import Site

pytestmark = [pytest.mark.timeout(900)]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as built:
        serve_proxy(built.server)
        yield built


@pytest.fixture(params=["12", "13"])
def gateways(
    site: Site, package: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Gateway, Gateway]]:
    """Set up and booted, gateway-a first."""
    with (
        Gateway(site, "gateway-a", request.param, package) as a,
        Gateway(site, "gateway-b", request.param, package) as b,
    ):
        for gateway, state in ((a, "active"), (b, "ready")):
            gateway.set_up()
            gateway.machine.start()
            gateway.wait(state)
        yield a, b


def over(traffic: Traffic, what: str, to: Gateway) -> None:
    """The other gateway has taken over, and everything goes on."""
    to.wait("active")
    silence = traffic.longest()
    print(f"{what:32}", *(f"{name} {s:.2f} s" for name, s in zip(COLUMNS, silence, strict=True)))
    soon(silence)


def back(traffic: Traffic, gateway: Gateway, active: Gateway, states: list[str]) -> None:
    """A gateway is back in standby, and nothing changed for the other one."""
    gateway.wait("ready")
    assert active.states() == states
    assert active.is_active()
    silence = traffic.longest()
    print(f"{'back again':32}", *(f"{seconds:.2f} s" for seconds in silence))
    assert max(silence) < 1
    for machine in (gateway.machine, active.machine):
        assert not machine.run("systemctl --failed --no-legend --plain").strip()


def test_the_other_gateway_takes_over_and_the_first_one_comes_back_in_standby(
    site: Site, gateways: tuple[Gateway, Gateway]
) -> None:
    a, b = gateways
    with Traffic(site.host, site.server) as traffic:
        a.machine.run("systemctl stop mproutd")
        over(traffic, "systemctl stop mproutd", b)
        states = b.states()
        a.machine.run("systemctl start mproutd")
        back(traffic, a, b, states)

        b.machine.stop()
        over(traffic, "reboot", a)
        states = a.states()
        b.machine.start()
        back(traffic, b, a, states)
        assert b.states() == ["BACKUP"]

        site.power("a", on=False)
        a.machine.cut_power()
        over(traffic, "power cut", b)
        states = b.states()
        a.machine.start()
        back(traffic, a, b, states)
        assert a.states() == ["BACKUP"]

        b.machine.run("systemctl reload nftables")
        with Tcp(site.host, site.server, SERVER) as later:
            later.longest()

        b.machine.run("systemctl kill --signal=KILL keepalived")
        over(traffic, "keepalived killed", a)
        back(traffic, b, a, a.states())
