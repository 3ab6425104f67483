"""What becomes of which kind of connection: the table of docs/forwarding.md."""

from __future__ import annotations

import time

import pytest

from tests.lab import SERVER, SERVER6, TWO_UPLINKS, Daemon, Echo, eventually
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


def test_a_strict_uplink_keeps_them() -> None:
    strict = "config uplink 'wan1'\n\toption strict '1'\n"
    with Forwarding() as world, Daemon(world.gateway, own=strict) as daemon:
        begin(world, daemon)
        datagrams = Datagrams(world)
        assert datagrams.comes_from(address(1))
        world.unplug(1)
        eventually(lambda: carrier(daemon) == "wan2", 20)
        assert datagrams.falls_silent()
        assert world.leaves_by() == address(2), "new connections are not the strict uplink's"
        world.plug(1)
        assert datagrams.comes_from(address(1))


def stalls_and_continues(world: Forwarding, n: int, flow: Echo) -> None:
    """A connection stalls while an uplink is unplugged, and loses nothing."""
    goes_on(flow)
    world.unplug(n)
    time.sleep(1)
    before = flow.report()
    time.sleep(1)
    report = flow.report()
    assert (report.received, report.error) == (before.received, "")
    world.plug(n)
    goes_on(flow)


def goes_on(flow: Echo) -> None:
    sent = flow.report().sent
    eventually(lambda: flow.report().received > sent, 60)
    assert not flow.report().error


def test_a_routed_prefix_waits_for_its_provider() -> None:
    """IPv6, accepted by the second provider only."""
    swapped = TWO_UPLINKS.replace("wan1", "second").replace("wan2", "wan1")
    network = swapped.replace("eth1", "eth0").replace("eth2", "eth1").replace("eth0", "eth2")
    with Forwarding() as world, Daemon(world.gateway, network) as daemon:
        eventually(lambda: daemon.query_status().get("pins_flows"), 20)
        with Echo(world.lan, world.server, SERVER6, mptcp=False) as flow:
            stalls_and_continues(world, 2, flow)


def test_a_port_forward_waits_for_its_uplink() -> None:
    with Forwarding() as world, Daemon(world.gateway) as daemon:
        begin(world, daemon)
        forward = "tcp dport 1024-65535 dnat ip to 192.168.70.10"
        chain = f"type nat hook prerouting priority dstnat; iifname eth1 {forward}"
        world.nft(f"table inet forwards {{ chain in {{\n{chain}\n}}\n}}")
        with Echo(world.server, world.lan, address(1), listen="0.0.0.0", mptcp=False) as flow:
            stalls_and_continues(world, 1, flow)
