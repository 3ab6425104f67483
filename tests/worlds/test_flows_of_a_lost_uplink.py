"""What becomes of which kind of connection: the table of docs/forwarding.md."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, Daemon, Echo, eventually
from tests.lab.forwarding import Datagrams, Forwarding
from tests.lab.wan import address

pytestmark = pytest.mark.kernel

FLUSHES = "config uplink 'wan1'\n\toption flush_conntrack '1'\n"


def carrier(daemon: Daemon) -> str:
    return str(daemon.query_status()["default"].get("ipv4"))


def begin(world: Forwarding, daemon: Daemon) -> None:
    world.serve(world.server, 7)
    eventually(lambda: daemon.query_status().get("pins_flows"), 20)
    eventually(lambda: carrier(daemon) == "wan1", 20)


@pytest.mark.parametrize(("translate", "own"), [("masquerade", ""), ("snat", FLUSHES)])
def test_they_begin_anew_by_another_uplink(translate: str, own: str) -> None:
    """TCP ends, UDP goes on from another address and stays there."""
    with Forwarding(translate) as world, Daemon(world.gateway, own=own) as daemon:
        begin(world, daemon)
        datagrams = Datagrams(world)
        assert datagrams.comes_from(address(1))
        with Echo(world.lan, world.server, SERVER, mptcp=False) as stream:
            world.unplug(1)
            assert datagrams.comes_from(address(2))
            eventually(lambda: stream.report().error, 60)
            world.plug(1)
            eventually(lambda: carrier(daemon) == "wan1", 20)
            assert world.leaves_by() == address(1)
            assert datagrams.comes_from(address(2)), "it keeps the uplink that it moved to"


def test_they_wait_for_their_uplink() -> None:
    """With snat alone, and without flush_conntrack."""
    with Forwarding("snat") as world, Daemon(world.gateway) as daemon:
        begin(world, daemon)
        datagrams = Datagrams(world)
        assert datagrams.comes_from(address(1))
        with Echo(world.lan, world.server, SERVER, mptcp=False) as stream:
            world.unplug(1)
            eventually(lambda: carrier(daemon) == "wan2", 20)
            assert datagrams.falls_silent()
            world.plug(1)
            assert datagrams.comes_from(address(1))
            sent = stream.report().sent
            eventually(lambda: stream.report().received > sent, 60)
            assert not stream.report().error
