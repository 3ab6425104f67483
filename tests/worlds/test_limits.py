"""Worlds where a limit of the kernel decides which subflows are opened: ours, and the peer's."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows
from tests.lab.modes import network

pytestmark = pytest.mark.kernel

ANNOUNCED = "10.9.9.10"
ACCEPT = "config mproutd 'globals'\n\toption add_addr_accepted '4'\n"
FULLMESH = "config uplink 'wan2'\n\toption fullmesh '1'\n"


def by(wan: Wan, echo: Echo) -> set[tuple[str, str]]:
    """(our address, the server's) of the connection's subflows."""
    return {(subflow.local, subflow.remote) for subflow in subflows(wan.gateway, echo.port)}


@pytest.fixture
def announcing(wan: Wan) -> Wan:
    """The server announces a second address.  Main's best default route leaves via eth1."""
    wan.server.ip(f"address add {ANNOUNCED}/32 dev lo", f"mptcp endpoint add {ANNOUNCED} signal")
    for n, router in wan.routers.items():
        router.ip(f"route add {ANNOUNCED} via 10.9.{n}.2")
    return wan


@pytest.mark.parametrize("mode", ["off", "handover"])
@pytest.mark.parametrize("own", ["", ACCEPT])
def test_an_uplink_that_must_not_carry_gets_no_subflow_to_an_announced_address(
    announcing: Wan, mode: str, own: str
) -> None:
    wan = announcing
    text = TWO_UPLINKS.replace("'master'", f"'{mode}'")
    with (
        Daemon(wan.gateway, text, own) as daemon,
        Echo(wan.gateway, wan.server, SERVER, bind="10.2.2.2", listen="0.0.0.0") as echo,
    ):
        time.sleep(1)
        assert by(wan, echo) == {("10.2.2.2", SERVER)}
        assert "add_addr_accepted 0" in wan.gateway.ip("mptcp limits show")
        reported = {problem["code"]: problem for problem in daemon.status()["problems"]}
        assert set(reported) == ({"announced-addresses"} if own else set())
        if own:
            assert reported["announced-addresses"]["uplink"] == "wan1"


def test_with_fullmesh_the_announced_address_is_joined_from_there(announcing: Wan) -> None:
    wan = announcing
    text = TWO_UPLINKS.replace("'master'", "'off'")
    with (
        Daemon(wan.gateway, text, FULLMESH),
        Echo(wan.gateway, wan.server, SERVER, bind="10.2.2.2", listen="0.0.0.0") as echo,
    ):
        eventually(lambda: by(wan, echo) == {("10.2.2.2", SERVER), ("10.2.2.2", ANNOUNCED)})
        time.sleep(0.5)
        assert not [local for local, _ in by(wan, echo) if local == "10.1.1.2"]


@pytest.fixture
def three() -> Iterator[Wan]:
    """Three uplinks, and a server that accepts one subflow beside the initial one."""
    with Wan(uplinks=3, lan=False, shaped=False).usual() as wan:
        wan.server.ip("mptcp limits set subflows 1 add_addr_accepted 0")
        yield wan


def test_a_subflow_that_the_peer_refused_joins_once_another_one_ended(three: Wan) -> None:
    wan = three
    with (
        Daemon(wan.gateway, network(eth1="on", eth2="on", eth3="on")),
        Echo(wan.gateway, wan.server, SERVER, bind="10.1.1.2") as echo,
    ):
        eventually(lambda: len(by(wan, echo)) == 2)
        time.sleep(8)  # both attempts have been refused
        assert len(by(wan, echo)) == 2
        used = next(n for n in (2, 3) if (f"10.{n}.{n}.2", SERVER) in by(wan, echo))
        idle = 5 - used
        wan.unplug(used)
        eventually(lambda: (f"10.{idle}.{idle}.2", SERVER) in by(wan, echo), timeout=15)
        assert not echo.report().error
