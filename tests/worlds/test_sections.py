"""Worlds of configuration: sections come, go and move, and live uplinks keep their places."""

from __future__ import annotations

import re

import pytest

from tests.lab import SERVER, Daemon, Echo, Monitor, Wan, eventually, subflows

pytestmark = pytest.mark.kernel

GLOBALS = "config globals 'globals'\n\toption multipath 'enable'\n\n"


def section(name: str, device: str, mode: str = "on") -> str:
    return f"config interface '{name}'\n\toption device '{device}'\n\toption multipath '{mode}'\n\n"


WAN1, WAN2 = section("wan1", "eth1"), section("wan2", "eth2")
NEW = section("lte", "eth3")


@pytest.fixture
def daemon(wan):
    with Daemon(wan.gateway, GLOBALS + WAN1 + WAN2) as daemon:
        yield daemon


def places(daemon: Daemon) -> dict[str, tuple[int, str]]:
    """Uplink → table and mark, from the status."""
    return {
        uplink["name"]: (uplink["table"], uplink["mark"])
        for uplink in daemon.query_status()["uplinks"]
    }


def ours(wan: Wan, *devices: str) -> list[str]:
    words = "|".join(devices)
    lines = wan.gateway.state(ids=True).splitlines()
    return [
        line
        for line in lines
        if ("proto 77" in line or "endpoint" in line) and re.search(rf"\b({words})\b", line)
    ]


def without_limits(wan: Wan) -> list[str]:
    lines = wan.gateway.state(ids=True).splitlines()
    return [line for line in lines if " limits " not in line]


@pytest.mark.parametrize(
    "after",
    [NEW + WAN1 + WAN2, WAN2 + WAN1, WAN2 + NEW + WAN1, WAN1 + NEW + WAN2],
    ids=["added before", "reordered", "both", "added between"],
)
def test_live_uplinks_keep_table_mark_and_connections(wan, daemon, after):
    before, state = places(daemon), without_limits(wan)
    assert before == {
        "wan1": (7001, "0x1000000/0x7f000000"),
        "wan2": (7002, "0x2000000/0x7f000000"),
    }
    with Echo(wan.gateway, wan.server, SERVER) as echo, Monitor(wan.gateway) as monitor:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        connected = [subflow[:5] for subflow in subflows(wan.gateway, echo.port)]
        daemon.configure(GLOBALS + after)
        # One more uplink may need a higher limit, and nothing else.
        changes = daemon.reconcile().splitlines()
        assert [line for line in changes if " limits " not in line] == []
        assert {
            name: numbers for name, numbers in places(daemon).items() if name != "lte"
        } == before
        assert places(daemon).get("lte") in (None, (7003, "0x3000000/0x7f000000"))
        assert monitor.ours() == []
        assert without_limits(wan) == state
        assert [subflow[:5] for subflow in subflows(wan.gateway, echo.port)] == connected
        assert not echo.report().error


def test_a_section_removed_and_put_back(wan, daemon):
    eth1 = ours(wan, "eth1", "10.1.1.2", "7001")
    with Echo(wan.gateway, wan.server, SERVER, bind="10.1.1.2") as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        (port,) = [s.local_port for s in subflows(wan.gateway, echo.port) if s.initial]
        daemon.configure(GLOBALS + WAN1)
        daemon.reconcile()
        assert ours(wan, "eth2", "10.2.2.2", "7002") == []
        assert ours(wan, "eth1", "10.1.1.2", "7001") == eth1
        eventually(lambda: [s.local_port for s in subflows(wan.gateway, echo.port)] == [port])
        daemon.configure(GLOBALS + WAN2 + NEW + WAN1)
        daemon.reconcile()
        assert places(daemon)["wan1"][0] == 7001
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        assert port in [s.local_port for s in subflows(wan.gateway, echo.port)]
        assert ours(wan, "eth1", "10.1.1.2", "7001") == eth1
        assert not echo.report().error


def test_the_places_outlast_kill_9_and_a_file_that_changed_meanwhile(wan, daemon):
    before, state = places(daemon), wan.gateway.state(ids=True)
    daemon.kill9()
    daemon.configure(GLOBALS + WAN2 + WAN1)
    daemon.start()
    assert places(daemon) == before
    assert wan.gateway.state(ids=True) == state


@pytest.mark.alone
def test_a_section_that_gets_another_name_keeps_its_connections(wan, daemon):
    """A new name is a new uplink, with a place of its own; the endpoint is the address's."""
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        connected = [subflow[:5] for subflow in subflows(wan.gateway, echo.port)]
        daemon.configure(GLOBALS + section("fibre", "eth1") + WAN2)
        changes = daemon.reconcile()
        assert "endpoint" not in changes
        assert places(daemon)["wan2"][0] == 7002
        assert [subflow[:5] for subflow in subflows(wan.gateway, echo.port)] == connected
        assert not echo.report().error
        assert echo.report().gap < 0.15


def test_a_pinned_table_takes_its_place_and_the_other_moves_without_a_loss(wan, daemon):
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        connected = [subflow[:5] for subflow in subflows(wan.gateway, echo.port)]
        daemon.configure(own="config uplink 'wan2'\n\toption table '7001'\n")
        assert "endpoint" not in daemon.reconcile()
        assert places(daemon)["wan2"][0] == 7001
        assert places(daemon)["wan1"][0] == 7002
        assert "-4 route default via 10.2.2.1 dev eth2 table 7001 proto 77" in ours(wan, "eth2")
        assert [subflow[:5] for subflow in subflows(wan.gateway, echo.port)] == connected
        assert not echo.report().error
