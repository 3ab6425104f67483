"""Which device other traffic leaves through beside a master: an uplink, a VPN, or none."""

from __future__ import annotations

from socket import AF_INET

import pytest

from mproutd.model import DEPRECATED, TABLE_LOCAL, Rule
from tests.lab.fake_world import World, interface
from tests.unit.test_plan import WAN1, WAN2, part, two_lines

WAN1_OFF = interface("wan1", "eth1", "off")
WAN2_MASTER = interface("wan2", "eth2", "master")
SERVER = "198.51.100.1"


def out_device(world: World, destination: str = SERVER) -> str:
    """The device of a packet that no rule selects; "" for unreachable."""
    route = world.walk(destination)
    return world.links[route.device].name if route else ""


def with_tunnel(metric: int) -> World:
    world = two_lines()
    world.device("tun0", "10.8.0.2/24")
    world.default("tun0", "10.8.0.1", metric)
    return world


# -- a VPN --------------------------------------------------------------------------------


def test_a_better_default_of_a_device_that_is_no_uplink_wins() -> None:
    world = with_tunnel(50)
    assert out_device(world) == "tun0"
    outcome = world.run(WAN1 + WAN2)
    assert out_device(world) == "tun0"
    assert outcome.plan.default == {}
    assert outcome.plan.main_default == {2: world.link("tun0").index}
    assert part(world.ours(), "table 7000") == []


def test_a_worse_one_does_not() -> None:
    world = with_tunnel(500)
    world.run(WAN1 + WAN2)
    assert out_device(world) == "eth1"


def test_nor_one_as_good_as_an_uplinks() -> None:
    """IPv6 has several defaults of one metric, and no order among them."""
    world = World()
    world.device("eth1", "2001:db8:1::2/64")
    world.device("lan0", "2001:db8:7::2/64")
    world.default("lan0", "fe80::7", 1024)
    world.default("eth1", "fe80::1", 1024)
    world.run(WAN1)
    assert out_device(world, "2001:db8:9::9") == "eth1"


def test_traffic_follows_the_tunnel_as_it_comes_and_goes() -> None:
    world = two_lines()
    world.device("tun0", "10.8.0.2/24")
    world.run(WAN1 + WAN2)
    assert out_device(world) == "eth1"
    world.default("tun0", "10.8.0.1", 50)
    world.run(WAN1 + WAN2)
    assert out_device(world) == "tun0"
    world.forget_default("tun0")
    world.run(WAN1 + WAN2)
    assert out_device(world) == "eth1"


def test_the_uplinks_own_traffic_stays_out_of_the_tunnel() -> None:
    world = with_tunnel(50)
    world.run(WAN1 + WAN2)
    for n in (1, 2):
        route = world.walk(SERVER, source=f"10.{n}.{n}.2")
        assert route
        assert world.links[route.device].name == f"eth{n}"


# -- off ----------------------------------------------------------------------------------


def test_nothing_leaves_via_off_when_the_master_is_out() -> None:
    world = two_lines()  # main's best default leaves through eth1
    world.run(WAN1_OFF + WAN2_MASTER)
    assert out_device(world) == "eth2"
    world.set("eth2", carrier=False)
    world.run(WAN1_OFF + WAN2_MASTER)
    assert out_device(world) == ""
    world.set("eth2", carrier=True)
    world.run(WAN1_OFF + WAN2_MASTER)
    assert out_device(world) == "eth2"


def test_nothing_leaves_via_off_before_the_pass_either() -> None:
    """`link set down` takes the default of table 7000 and main's with it, at once."""
    world = two_lines()
    world.run(interface("wan1", "eth1", "master") + interface("wan2", "eth2", "off"))
    world.down("eth1")
    assert out_device(world) == ""


def test_nor_in_the_family_that_the_master_lacks() -> None:
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.run(WAN1_OFF + WAN2_MASTER)
    assert out_device(world, "2001:db8:9::9") == ""
    route = world.walk("2001:db8:9::9", source="2001:db8:1::2")
    assert route
    assert world.links[route.device].name == "eth1", "what is bound to it leaves there"


def test_a_tunnel_carries_it_even_so() -> None:
    world = with_tunnel(50)
    world.run(WAN1_OFF + WAN2_MASTER)
    world.set("eth2", carrier=False)
    world.run(WAN1_OFF + WAN2_MASTER)
    assert out_device(world) == "tun0"


@pytest.mark.parametrize("flags", [0, DEPRECATED])
def test_an_uplink_that_main_prefers_to_off_keeps_what_works(flags: int) -> None:
    """wan1 has no usable address, as with a ULA behind NAT66, and is main's choice."""
    world = World()
    world.device("eth1", gateway6="fe80::1")
    world.add_address("eth1", "2001:db8:1::2/64", flags=flags)
    world.device("eth2", "2001:db8:2::2/64", gateway6="fe80::2")
    world.run(WAN1 + interface("wan2", "eth2", "off"))
    assert out_device(world, "2001:db8:9::9") == "eth1"


def test_without_a_master_main_decides() -> None:
    world = two_lines()
    world.run(WAN1_OFF + interface("wan2", "eth2", "on"))
    assert out_device(world) == "eth1"


def test_all_of_it_is_removed() -> None:
    world = two_lines()
    clean = world.state()
    world.run(WAN1_OFF + WAN2_MASTER)
    world.run("config globals 'globals'\n option multipath 'disable'\n")
    assert world.state() == clean


# -- the rule for table local --------------------------------------------------------------


def local_rules(world: World) -> list[str]:
    """What is ours of the rules that look up table local."""
    world.run(WAN1 + WAN2)
    return [line for line in world.ours().splitlines() if "lookup local" in line]


def test_table_local_is_looked_up_before_our_rules() -> None:
    """Systems with VRFs move the rule at 0 behind the one for VRFs (docs/beside.md)."""
    world = two_lines()
    assert local_rules(world) == []
    world.foreign(Rule(AF_INET, 32765, TABLE_LOCAL, protocol=0))
    assert local_rules(world) == []
    world.rules = [rule for rule in world.rules if rule.priority != 0]
    assert local_rules(world) == ["7001: from all lookup local"]
    world.foreign(Rule(AF_INET, 900, TABLE_LOCAL, protocol=0, fwmark=1, fwmask=1))
    assert local_rules(world) == ["7001: from all lookup local"]
    world.foreign(Rule(AF_INET, 1001, TABLE_LOCAL, protocol=0))
    assert local_rules(world) == []
