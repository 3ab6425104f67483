"""What is somebody else's stays, however alike; what is ours goes whole.

The look-alikes are put in before and beside the daemon, and outlast reconcile, a restart,
kill -9 and flush.
"""

from __future__ import annotations

import re

import pytest

from tests.lab import Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

LOOK_ALIKES = [
    # our protocol, but not in a table of ours
    "route add 198.51.100.0/24 via 10.1.1.1 dev eth1 proto 77",
    "route add 198.51.101.0/24 via 10.1.1.1 dev eth1 proto 77 table 300",
    "route add default via 10.1.1.1 dev eth1 proto 77 metric 500",
    # a table of ours, but not our protocol
    "route add 198.51.102.0/24 via 10.1.1.1 dev eth1 table 7001",
    "route add default via 10.1.1.1 dev eth1 table 7001 metric 5 proto static",
    "route add default via 10.2.2.1 dev eth2 table 7099 proto dhcp",
    # our protocol, but not a priority of ours
    "rule add priority 6999 from 10.1.1.2 lookup 7001 protocol 77",
    "rule add priority 8900 from 10.1.1.2 lookup 7001 protocol 77",
    "rule add priority 32763 from all lookup 7000 protocol 77",
    # one of ours to the letter, but for the protocol
    "rule add priority 7501 from 10.1.1.2 lookup 7001",
    "rule add priority 7101 fwmark 0x1000000/0x7f000000 lookup 7001 protocol static",
    "rule add priority 32765 lookup 7000",
    # endpoints of others: on another address, with a port, without a device
    "mptcp endpoint add 192.168.70.1 dev br-lan subflow",
    "mptcp endpoint add 10.1.1.2 port 4433 signal",
    "mptcp endpoint add 10.3.3.3 signal",
]
SIX = [
    "route add 2001:db8:77::/48 via 2001:db8:1::1 dev eth1 proto 77",
    "route add default via 2001:db8:1::1 dev eth1 table 7001 metric 5 proto static",
    "rule add priority 7501 from 2001:db8:1::2 lookup 7001",
]


@pytest.fixture
def world():
    with Wan(shaped=False).usual() as wan:
        yield wan


def test_look_alikes_survive_everything(world):
    world.gateway.ip(*LOOK_ALIKES)
    world.gateway.ip(*SIX, family=6)
    before = world.gateway.state(ids=True)
    daemon = Daemon(world.gateway).start()
    # The port of the foreign endpoint makes it another thing: ours is beside it.
    eventually(lambda: "10.1.1.2 id 4 subflow dev eth1" in world.gateway.ip("mptcp endpoint show"))

    def all_there() -> bool:
        return not set(before.splitlines()) - set(world.gateway.state(ids=True).splitlines())

    limits = next(line for line in before.splitlines() if "limits" in line)
    before = before.replace(limits + "\n", "")
    assert all_there()
    assert daemon.reconcile() == ""
    assert all_there()
    world.admin_down(2)
    daemon.kill9()
    world.admin_up(2)
    daemon.start()
    before = "".join(line + "\n" for line in before.splitlines() if "eth2" not in line)
    assert all_there()
    daemon.stop()
    assert daemon.call("flush").code == 0
    assert all_there()
    assert "proto 77 src" not in world.gateway.state()


def test_flush_leaves_the_kernel_as_before_the_first_start(world):
    world.gateway.ip("mptcp limits set subflows 3 add_addr_accepted 1")
    for device in ("eth1", "eth2"):
        world.gateway.sysctl(f"net.ipv4.conf.{device}.rp_filter", 1)
    before = world.gateway.state(ids=True)
    own = "config mproutd 'globals'\n\toption subflows '8'\n"
    with Daemon(world.gateway, own=own) as daemon:
        assert world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "2"
        assert "limits add_addr_accepted 1 subflows 8" in world.gateway.state()
        while_it_ran = world.gateway.state(ids=True)
        refused = daemon.call("flush")
        assert (refused.code, refused.out) == (1, "")
        assert "/lock: held by another mproutd" in refused.err
        assert world.gateway.state(ids=True) == while_it_ran
    assert world.gateway.state(ids=True) == while_it_ran
    assert world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "2"
    assert daemon.call("flush").code == 0
    assert world.gateway.state(ids=True) == before
    assert world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "1"
    assert world.gateway.sysctl("net.ipv4.conf.eth2.rp_filter") == "1"
    assert not world.gateway.path("/run/mproutd/state.json").exists()
    again = daemon.call("flush")
    assert (again.code, again.out, again.err) == (0, "", "")


def test_an_admin_who_raises_a_limit_or_sets_rp_filter_keeps_it(world):
    world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter", 1)
    with Daemon(world.gateway, own="config mproutd 'globals'\n\toption subflows '4'\n") as daemon:
        assert "limits add_addr_accepted 0 subflows 4" in world.gateway.state()
        world.gateway.ip("mptcp limits set subflows 6 add_addr_accepted 0")
        world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter", 0)
        daemon.reconcile()
        assert "limits add_addr_accepted 0 subflows 6" in world.gateway.state()
        assert world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "0"
    daemon.call("flush")
    assert "limits add_addr_accepted 0 subflows 6" in world.gateway.state()
    assert world.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "0"


def test_a_foreign_endpoint_on_an_address_of_ours_is_left_and_named(world):
    world.gateway.ip("mptcp endpoint add 10.1.1.2 id 77 dev eth1 subflow backup")
    foreign = "10.1.1.2 id 77 subflow backup dev eth1"
    with Daemon(world.gateway) as daemon:
        assert foreign in world.gateway.ip("mptcp endpoint show")
        (endpoint,) = [
            endpoint
            for endpoint in daemon.status()["uplinks"][0]["endpoints"]
            if "." in endpoint["address"]
        ]
        assert endpoint["state"] == "foreign"
        result = daemon.call("status")
        assert result.code == 1
        assert f"for 10.1.1.2: {foreign}" in result.words
        daemon.reconcile()
        world.unplug(1)
        eventually(lambda: "2001:db8:1::2" not in world.gateway.ip("mptcp endpoint show"))
        assert foreign in world.gateway.ip("mptcp endpoint show")
        world.plug(1)
        eventually(lambda: "2001:db8:1::2" in world.gateway.ip("mptcp endpoint show"))
        world.gateway.ip("mptcp endpoint delete id 77")
        daemon.reconcile()
        ours = re.search(
            r"10.1.1.2 id (\d+) subflow dev eth1", world.gateway.ip("mptcp endpoint show")
        )
        assert ours
    world.gateway.ip(
        f"mptcp endpoint delete id {ours[1]}",
        "mptcp endpoint add 10.1.1.2 id 99 subflow",
    )
    daemon.call("flush")
    assert world.gateway.ip("mptcp endpoint show") == "10.1.1.2 id 99 subflow \n"
