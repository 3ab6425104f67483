"""Events of the kernel drive the daemon: a change of an uplink is handled at once.

Each test is a case: the world changes, no command is given, and the kernel holds what a
clean start would make of it.
"""

from __future__ import annotations

import pytest

from tests.lab import TWO_UPLINKS, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

ENDPOINTS = {
    1: ["-4 endpoint 10.1.1.2 subflow dev eth1", "-4 endpoint 2001:db8:1::2 subflow dev eth1"],
    2: ["-4 endpoint 10.2.2.2 subflow dev eth2", "-4 endpoint 2001:db8:2::2 subflow dev eth2"],
}
TABLES = {
    n: [
        f"-4 route 10.{n}.{n}.0/24 dev eth{n} table 700{n} proto 77 scope link src 10.{n}.{n}.2",
        f"-4 route default via 10.{n}.{n}.1 dev eth{n} table 700{n} proto 77",
        f"-6 route 2001:db8:{n}::/64 dev eth{n} table 700{n} proto 77 metric 1024 pref medium",
        f"-6 route default via 2001:db8:{n}::1 dev eth{n} table 700{n} proto 77"
        " metric 1024 pref medium",
    ]
    for n in (1, 2)
}
RULES = {
    n: [
        f"{family} rule 710{n} from all fwmark 0x{n}000000/0x7f000000 lookup 700{n} proto 77",
        f"{family} rule 730{n} from all oif eth{n} lookup 700{n} proto 77",
        f"{family} rule 750{n} from {own} lookup 700{n} proto 77",
    ]
    for n in (1, 2)
    for family, own in (("-4", f"10.{n}.{n}.2"),)
}


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False) as wan:
        yield wan


def ours(wan: Wan) -> str:
    """The kernel's state without main, where a clean start would find something else."""
    return "\n".join(line for line in wan.gateway.state().splitlines() if "proto 77" in line)


def has(wan: Wan, *lines: str) -> None:
    """Wait until all these lines are in the state."""
    wanted = set(lines)
    eventually(lambda: not (wanted - set(wan.gateway.state().splitlines())), what=str(wanted))


def lacks(wan: Wan, text: str) -> None:
    """Wait until no line of the state has this text."""
    eventually(lambda: text not in wan.gateway.state(), what=f"{text} gone")


def as_from_a_clean_start(wan: Wan, daemon: Daemon) -> None:
    """What is there now is what flush and a new start make."""
    assert daemon.status()["drift"] == []
    before = wan.gateway.state()
    daemon.stop()
    assert daemon.call("flush").code == 0
    daemon.start()
    assert wan.gateway.state() == before


def test_an_uplink_comes_and_goes_with_its_address(world):
    with Daemon(world.gateway) as daemon:
        assert "endpoint" not in world.gateway.state()
        world.address_up(1)
        has(world, TABLES[1][0], RULES[1][1], RULES[1][2])
        assert "endpoint" not in world.gateway.state()
        world.default_route(1)
        has(world, *ENDPOINTS[1], *TABLES[1], *RULES[1])
        world.usual()
        has(world, *ENDPOINTS[2], *TABLES[2], *RULES[2])
        as_from_a_clean_start(world, daemon)
        world.address_down(1)
        for text in ("7001", "7101", "endpoint 10.1.1.2", "endpoint 2001:db8:1::2"):
            lacks(world, text)
        has(world, *ENDPOINTS[2], *TABLES[2], *RULES[2])
        world.address_down(2)
        lacks(world, "proto 77")
        lacks(world, "endpoint")


def test_the_default_route_comes_3_s_after_the_address(world):
    world.address_up(2)
    with Daemon(world.gateway) as daemon:
        script = "sleep 3; ip route add default via 10.2.2.1 dev eth2; echo done"
        assert "no-gateway" in str(daemon.status()["uplinks"][1]["families"][0]["reason"])
        assert world.gateway.run("sh", "-c", script) == "done\n"
        has(world, ENDPOINTS[2][0], *TABLES[2][:2], *RULES[2])


def test_admin_down_and_up_restore_what_vanished_without_an_event(world):
    world.usual()
    with Daemon(world.gateway) as daemon:
        before = ours(world)
        world.admin_down(1)
        lacks(world, "endpoint 10.1.1.2")
        lacks(world, "lookup 7001")
        assert "default via 10.2.2.1 dev eth2 table 7000" in world.gateway.state()
        world.admin_up(1)
        world.address_up(1)
        world.default_route(1)
        has(world, *ENDPOINTS[1], *TABLES[1], *RULES[1])
        eventually(lambda: ours(world) == before)
        as_from_a_clean_start(world, daemon)


def test_a_gateway_that_was_known_outlasts_an_admin_flap(world):
    """`ip link set down; up` of an address by hand: nobody adds main's default again."""
    world.usual()
    with Daemon(world.gateway):
        world.admin_down(2)
        lacks(world, "endpoint 10.2.2.2")
        world.admin_up(2)
        has(world, ENDPOINTS[2][0], *TABLES[2][:2], *RULES[2])


def test_the_endpoint_goes_with_the_carrier_and_the_routes_stay(world):
    world.usual()
    with Daemon(world.gateway) as daemon:
        world.unplug(1)
        lacks(world, "endpoint 10.1.1.2")
        lacks(world, "endpoint 2001:db8:1::2")
        lacks(world, "fwmark 0x1000000")
        has(world, "-4 route default via 10.2.2.1 dev eth2 table 7000 proto 77")
        assert "from 10.1.1.2 lookup 7001" in world.gateway.state()
        assert daemon.call("status").code == 1
        world.plug(1)
        has(world, *ENDPOINTS[1], *RULES[1])
        has(world, "-4 route default via 10.1.1.1 dev eth1 table 7000 proto 77")
        assert daemon.call("status").code == 0


def test_a_device_made_again_gets_endpoints_on_its_new_index(world):
    world.usual()
    with Daemon(world.gateway) as daemon:
        index = daemon.status()["uplinks"][0]["ifindex"]
        world.remove_device(1)
        lacks(world, "endpoint 10.1.1.2")
        world.create_device(1)
        world.address_up(1)
        world.default_route(1)
        has(world, *ENDPOINTS[1], *TABLES[1], *RULES[1])
        assert daemon.status()["uplinks"][0]["ifindex"] != index
        as_from_a_clean_start(world, daemon)


def test_a_device_recreated_between_two_reads(world):
    """The endpoint on the old index is replaced, since it is bound to a device that is gone."""
    world.usual()
    daemon = Daemon(world.gateway).start()
    daemon.kill9()
    world.remove_device(1)
    world.create_device(1)
    world.address_up(1)
    world.default_route(1)
    assert "endpoint 10.1.1.2 subflow dev if" in world.gateway.state()
    with daemon:
        has(world, *ENDPOINTS[1], *TABLES[1], *RULES[1])
        as_from_a_clean_start(world, daemon)


def test_a_tentative_address_waits_for_its_check(world):
    with Daemon(world.gateway) as daemon:
        world.address_up(1, dad=True)
        world.default_route(1)
        has(world, ENDPOINTS[1][0])
        assert "tentative" in world.gateway.ip("address show dev eth1")
        assert "2001:db8:1::2" not in world.gateway.ip("mptcp endpoint show")
        assert daemon.status()["uplinks"][0]["families"][1]["reason"] == "tentative"
        has(world, *ENDPOINTS[1], *TABLES[1])
        assert "tentative" not in world.gateway.ip("address show dev eth1")


def test_two_addresses_of_one_uplink(world):
    world.usual()
    with Daemon(world.gateway) as daemon:
        world.gateway.ip("address add 10.1.1.3/24 dev eth1")
        has(
            world,
            *ENDPOINTS[1],
            "-4 endpoint 10.1.1.3 subflow dev eth1",
            "-4 rule 7501 from 10.1.1.3 lookup 7001 proto 77",
        )
        world.gateway.ip("address delete 10.1.1.3/24 dev eth1")
        lacks(world, "10.1.1.3")
        as_from_a_clean_start(world, daemon)


def test_a_new_gateway_replaces_the_default_route_alone(world):
    world.usual()
    world.routers[1].ip("address add 10.1.1.254/24 dev access")
    with Daemon(world.gateway):
        rest = ours(world).replace("via 10.1.1.1 ", "via 10.1.1.254 ")
        ids = world.gateway.ip("mptcp endpoint show")
        world.gateway.ip("route replace default via 10.1.1.254 dev eth1 metric 1")
        has(
            world,
            "-4 route default via 10.1.1.254 dev eth1 table 7001 proto 77",
            "-4 route default via 10.1.1.254 dev eth1 table 7000 proto 77",
        )
        eventually(lambda: sorted(ours(world).splitlines()) == sorted(rest.splitlines()))
        assert world.gateway.ip("mptcp endpoint show") == ids


def test_a_mode_changed_in_the_file_takes_effect_at_reconcile(world):
    world.usual()
    with Daemon(world.gateway) as daemon:
        ids = world.gateway.state(ids=True)
        daemon.configure(TWO_UPLINKS.replace("'on'", "'backup'"))
        assert daemon.reconcile() == (
            "ip mptcp endpoint change id 2 backup nofullmesh\n"
            "ip mptcp endpoint change id 4 backup nofullmesh\n"
        )
        daemon.configure(TWO_UPLINKS.replace("'on'", "'off'"))
        daemon.reconcile()
        lacks(world, "endpoint 10.2.2.2")
        has(world, *TABLES[2], *RULES[2], *ENDPOINTS[1])
        daemon.configure(TWO_UPLINKS.replace("'enable'", "'disable'"))
        daemon.reconcile()
        assert ours(world) == ""
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        assert world.gateway.state(ids=True).count("endpoint") == ids.count("endpoint")
        as_from_a_clean_start(world, daemon)
