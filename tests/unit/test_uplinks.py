"""Whether an uplink can be used, and every reason why not."""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6

import pytest

from mproutd.configuration.config import Config
from mproutd.planning.gateways import Gateway
from mproutd.planning.state import State
from mproutd.planning.uplinks import REASONS, Facts, ObservedUplink, observe
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_world import World, interface, uci

ONE = interface("wan1", "eth1", "on")
TWO = ONE + interface("wan2", "eth2", "on")


def seen(world: World, config: Config | str, facts: Facts | None = None) -> list[ObservedUplink]:
    config = uci(config) if isinstance(config, str) else config
    state = world.store.state
    snapshot = world.snapshot(snapshot_request(config, state, sweep=True, full=True))
    facts = facts or Facts()
    return list(observe(config, snapshot, state, facts, facts.failed or ()))


def usual() -> World:
    world = World()
    world.device("eth1", "10.1.1.2/24", "2001:db8:1::2/64", gateway="10.1.1.1", gateway6="fe80::1")
    return world


def remove(world: World) -> None:
    world.remove("eth1")


def down(world: World) -> None:
    world.down("eth1")


def unplugged(world: World) -> None:
    world.set("eth1", carrier=False)


def in_a_bridge(world: World) -> None:
    world.set("eth1", port=True)


def without_address(world: World) -> None:
    world.delete_address("eth1", "10.1.1.2")


def without_default(world: World) -> None:
    world.forget_default("eth1")


def being_checked(world: World) -> None:
    world.flag_address("2001:db8:1::2", 0xC0)


def twice_on_the_link(world: World) -> None:
    world.flag_address("2001:db8:1::2", 0xC8)


def too_old(world: World) -> None:
    world.flag_address("2001:db8:1::2", 0x20)


def unchanged(world: World) -> None:
    pass


def beside_its_twin(world: World) -> None:
    world.remove("eth1")
    world.device("eth0", "10.1.1.2/24", gateway="10.1.1.1")
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")


CASES: list[tuple[Callable[[World], None], Facts, str, str]] = [
    (unchanged, Facts(), "", ""),
    (remove, Facts(), "no-device", "no-device"),
    (down, Facts(), "link-down", "link-down"),
    (unplugged, Facts(), "no-carrier", "no-carrier"),
    (in_a_bridge, Facts(), "bridge-port", "bridge-port"),
    (without_address, Facts(), "no-address", ""),
    (without_default, Facts(), "no-gateway", "no-gateway"),
    (being_checked, Facts(), "", "tentative"),
    (twice_on_the_link, Facts(), "", "dad-failed"),
    (too_old, Facts(), "", "deprecated"),
    (
        unchanged,
        Facts(failed=(("wan1", AF_INET), ("wan1", AF_INET6))),
        "check-failed",
        "check-failed",
    ),
    (unchanged, Facts(failed=(("wan1", AF_INET6),)), "", "check-failed"),
    (beside_its_twin, Facts(), "address-conflict", "no-address"),
]


@pytest.mark.parametrize(("change", "facts", "v4", "v6"), CASES)
def test_the_reason(change: Callable[[World], None], facts: Facts, v4: str, v6: str) -> None:
    world = usual()
    change(world)
    [uplink] = seen(world, interface("wan0", "eth0", "on") + ONE, facts)[1:]
    assert tuple(path.reason for path in uplink.paths) == (v4, v6)
    assert [path.usable for path in uplink.paths] == [not v4, not v6]
    assert uplink.usable == (not v4 or not v6)


def test_an_interface_whose_device_netifd_has_not_named() -> None:
    [uplink] = seen(usual(), "config interface wan\n option proto pppoe\n option multipath on\n")
    assert [path.reason for path in uplink.paths] == ["awaiting-device", "awaiting-device"]
    assert (uplink.usable, uplink.link) == (False, None)


def test_every_reason_has_a_world() -> None:
    assert {"awaiting-device"} | {reason for _, _, *both in CASES for reason in both} - {""} == set(
        REASONS
    )


def gateway(world: World, own: str = "", **facts: Gateway) -> Gateway | None:
    named = tuple(facts[name] for name in ("netifd", "lease") if name in facts)
    config = uci(ONE, f"config uplink 'wan1'\n {own}\n" if own else "")
    [uplink] = seen(world, config, Facts({("eth1", AF_INET): named}))
    return uplink.paths[0].gateway


def test_the_first_that_knows_the_gateway() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24")
    assert gateway(world) is None
    key = {("eth1", "10.1.1.2"): "10.1.1.9"}
    world.store.state = State(gateways=key)
    assert gateway(world) == Gateway("10.1.1.9", "remembered")
    world.default("eth1", "10.1.1.4", metric=9)
    world.default("eth1", "10.1.1.3", metric=5)
    assert gateway(world) == Gateway("10.1.1.3", "main")
    lease, netifd = Gateway("10.1.1.5", "lease"), Gateway("10.1.1.6", "netifd")
    assert gateway(world, lease=lease) == lease
    assert gateway(world, lease=lease, netifd=netifd) == netifd
    path = gateway(world, "option gateway '10.1.1.7'", lease=lease)
    assert path == Gateway("10.1.1.7", "configuration")


def test_a_lease_older_than_the_address_is_not_believed() -> None:
    world = usual()
    old = Gateway("192.168.8.1", "lease")
    assert gateway(world, lease=old) == Gateway("10.1.1.1", "main")
    world.add_address("eth1", "203.0.113.7/32")
    assert gateway(world, lease=old) == old


def test_a_tunnel_without_arp_needs_no_gateway() -> None:
    world = World()
    world.create("tun0", pointopoint=True)
    world.add_address("tun0", "10.3.3.2/32")
    [uplink] = seen(world, interface("tun", "tun0", "on"))
    assert uplink.paths[0].gateway == Gateway("", "point-to-point")


@pytest.mark.parametrize(
    ("address", "option", "onlink"),
    [
        ("10.1.1.2/24", "option gateway '10.1.1.1'", False),
        ("10.1.1.2/32", "option gateway '10.1.1.1'", True),
        ("10.1.1.2/24", "option gateway '10.1.2.1'", True),
        ("10.1.1.1/31", "option gateway '10.1.1.0'", False),
        ("2001:db8::2/64", "option gateway6 'fe80::1'", False),
        ("2001:db8::2/128", "option gateway6 '2001:db8::1'", True),
        ("2001:db8::2/64", "option gateway6 '2001:db8::1'", False),
    ],
)
def test_a_gateway_outside_the_subnet_is_on_the_link(
    address: str, option: str, onlink: bool
) -> None:
    world = World()
    world.device("eth1", address)
    [uplink] = seen(world, uci(ONE, f"config uplink 'wan1'\n {option}\n"))
    path = uplink.paths[":" in address]
    assert path.usable
    assert path.onlink is onlink


def test_addresses_that_are_none_of_ours() -> None:
    world = World()
    world.device("eth1", "169.254.7.7/16")
    world.add_address("eth1", "10.9.9.9/24", scope=253)
    world.add_address("eth1", "fe80::77/64", scope=253)
    world.add_address("eth1", "fd00::1/64")
    world.default("eth1", "10.9.9.1")
    [uplink] = seen(world, ONE)
    assert [path.covered for path in uplink.paths] == [(), ()]
