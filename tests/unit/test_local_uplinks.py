"""default_route 0 and role: networks that lead to their own hosts only, and who announces."""

from __future__ import annotations

import pytest

from mproutd.configuration.config import ConfigError
from mproutd.planning.endpoints import active
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_plan import WAN1, endpoints, part, two_lines

STORAGE = interface("storage", "eth9", "on")
LOCAL = "config uplink 'storage'\n option default_route '0'\n"


def with_storage(*addresses: str) -> World:
    """One uplink, and a cable to another host."""
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.device("eth9", *(addresses or ("10.50.0.2/24",)))
    return world


def test_a_network_without_a_gateway_has_endpoints_and_no_default_route() -> None:
    world = with_storage()
    world.run(uci(WAN1 + STORAGE, LOCAL))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.50.0.2 subflow"]
    assert part(world.ours(), "table 7002") == [
        "10.50.0.0/24 dev eth9 table 7002 scope link src 10.50.0.2",
        "unreachable default table 7002 metric 4278198272",
    ]
    assert part(world.ours(), "default", "table 7000") == [
        "default via 10.1.1.1 dev eth1 table 7000"
    ]


def test_without_the_option_it_is_not_usable() -> None:
    world = with_storage()
    outcome = world.run(WAN1 + STORAGE)
    assert outcome.plan.uplinks[1].paths[0].reason == "no-gateway"
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_a_default_route_of_its_device_is_not_copied() -> None:
    world = with_storage()
    world.default("eth9", "10.50.0.1")
    world.run(uci(WAN1 + STORAGE, LOCAL))
    assert part(world.ours(), "10.50.0.1") == []


def test_its_unique_local_addresses_are_eligible() -> None:
    world = with_storage("fd00:50::2/64")
    world.run(uci(WAN1 + STORAGE, LOCAL))
    assert "fd00:50::2 subflow" in endpoints(world)


def test_it_replaces_no_way_to_the_internet() -> None:
    """A handover uplink takes over although the storage network works."""
    world = with_storage()
    world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    wan2 = interface("wan2", "eth2", "handover")
    world.run(uci(WAN1 + STORAGE + wan2, LOCAL))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.50.0.2 subflow"]
    world.set("eth1", carrier=False)
    outcome = world.run(uci(WAN1 + STORAGE + wan2, LOCAL))
    assert [uplink.config.name for uplink in active(outcome.plan.uplinks)] == ["wan2"]
    assert sorted(endpoints(world)) == ["10.2.2.2 subflow dev eth2", "10.50.0.2 subflow"]
    assert outcome.plan.default == {2: "wan2"}


def test_the_last_endpoint_stays_on_each_side() -> None:
    """Of the ways to the internet as of the local networks: there is nothing to move to."""
    world = with_storage()
    world.run(uci(WAN1 + STORAGE, LOCAL))
    world.set("eth1", carrier=False)
    world.run(uci(WAN1 + STORAGE, LOCAL))
    both = ["10.1.1.2 subflow dev eth1", "10.50.0.2 subflow"]
    assert sorted(endpoints(world)) == both
    world.set("eth1", carrier=True)
    world.set("eth9", carrier=False)
    world.run(uci(WAN1 + STORAGE, LOCAL))
    assert sorted(endpoints(world)) == both
    world.device("eth8", "10.51.0.2/24")
    second = interface("second", "eth8", "on")
    own = LOCAL + LOCAL.replace("storage", "second")
    world.run(uci(WAN1 + STORAGE + second, own))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.51.0.2 subflow"]


def test_a_failed_check_of_it_is_followed_though_no_other_is_left() -> None:
    world = with_storage()
    own = LOCAL + " list track_ip '10.50.0.1'\n"
    facts = Facts(failed=(("storage", 2),))
    outcome = world.run(uci(STORAGE, own), facts)
    assert outcome.plan.uplinks[0].paths[0].reason == "check-failed"


@pytest.mark.parametrize("option", ["gateway '10.50.0.1'", "gateway6 'fe80::1'"])
def test_a_gateway_contradicts_it(option: str) -> None:
    with pytest.raises(ConfigError, match="contradicts default_route '0' at mproutd:2: remove one"):
        uci(STORAGE, LOCAL + f" option {option}\n")


@pytest.mark.parametrize("mode", ["master", "handover"])
def test_a_mode_for_the_internet_contradicts_it(mode: str) -> None:
    with pytest.raises(ConfigError, match=f"default_route': contradicts multipath {mode} at"):
        uci(STORAGE.replace("'on'", f"'{mode}'"), LOCAL)


# -- role -----------------------------------------------------------------------------------


def test_a_lan_announces_and_the_uplinks_open_subflows() -> None:
    world = two_lines()
    own = "config uplink 'wan2'\n option role 'server'\n"
    world.run(uci(WAN1 + interface("wan2", "eth2", "on"), own))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 signal dev eth2"]
    assert world.mptcp
    assert world.mptcp.limits.subflows == world.mptcp.max_limit, "peers choose how many they open"


def test_the_role_of_an_uplink_overrides_the_common_one() -> None:
    world = two_lines()
    own = (
        "config mproutd 'globals'\n option role 'server'\n"
        "config uplink 'wan1'\n option role 'client'\n"
        "config uplink 'wan2'\n option role 'both'\n"
    )
    world.run(uci(WAN1 + interface("wan2", "eth2", "on"), own))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 signal subflow dev eth2"]
