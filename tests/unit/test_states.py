"""From any state to any other, in any order, with kills and refusals on the way.

A state is a configuration and a world.  Wherever mproutd comes from, it must end where a
clean start in that state ends; nothing of somebody else's is touched; a pass more writes
nothing; and at no moment is there a new endpoint whose way out is not complete.
"""

from __future__ import annotations

import errno
import functools
import random
from socket import AF_INET, AF_INET6
from typing import NamedTuple

import pytest

from mproutd.configuration.config import Config
from mproutd.model import (
    SIGNAL,
    TENTATIVE,
    Endpoint,
    Operation,
    Route,
    Rule,
)
from mproutd.planning.endpoints import active
from mproutd.planning.plan import Outcome
from tests.lab.fake_kernel import Killed
from tests.lab.fake_world import ManualDeleter, Store, World, interface, run_pass, uci

WALKS = 400
STEPS = 6

WAN1, WAN2 = interface("wan1", "eth1", "master"), interface("wan2", "eth2", "on")
TUN, WAN4 = interface("tun", "tun0", "handover"), interface("wan4", "eth4", "backup")

CONFIGURATIONS = {
    "two": uci(WAN1 + WAN2),
    "all modes": uci(WAN1 + WAN2 + TUN + WAN4),
    "swapped modes": uci(
        interface("wan1", "eth1", "backup")
        + interface("wan2", "eth2", "master")
        + interface("tun", "tun0", "on")
        + interface("wan4", "eth4", "off")
    ),
    "no master": uci(interface("wan1", "eth1", "on") + interface("wan2", "eth2", "handover")),
    "off": uci(interface("wan1", "eth1", "off") + interface("wan2", "eth2", "off")),
    "nothing managed": uci(""),
    "not enabled": uci(WAN1 + WAN2, enabled=False),
    "elsewhere": uci(
        WAN1 + WAN2 + TUN,
        "config mproutd 'globals'\n option table_base '9000'\n option rule_priority '12000'\n"
        " option mark_mask '0xff00'\n option main_routes '0'\n",
    ),
    "strict": uci(
        WAN1 + WAN2,
        "config uplink 'wan1'\n option strict '1'\n list iif 'br-lan'\n"
        "config uplink 'wan2'\n option strict '1'\n option table '123'\n option mark '0x3/0xff'\n",
    ),
    "server": uci(WAN1 + WAN2 + TUN, "config mproutd 'globals'\n option role 'server'\n"),
    "mesh": uci(WAN1 + WAN2, "config uplink 'wan1'\n option fullmesh '1'\n option ula '1'\n"),
    "few": uci(WAN1 + WAN2, "config mproutd 'globals'\n option subflows '4'\n"),
}


class Device(NamedTuple):
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    up: bool = True
    carrier: bool = True
    flags: int = 0


ETH1 = Device(("10.1.1.2/24", "2001:db8:1::2/64"), ("10.1.1.1", "fe80::1"))
ETH2 = Device(("10.2.2.2/24",), ("10.2.2.1",))
TUN0 = Device(("10.3.3.2 peer 10.3.3.1/32",))
ETH4 = Device(("10.4.4.2/32", "2001:db8:4::2/64"), ("10.9.0.1", "2001:db8:4::1"))
USUAL = {"eth1": ETH1, "eth2": ETH2, "tun0": TUN0, "eth4": ETH4}

WORLDS: dict[str, dict[str, Device]] = {
    "usual": USUAL,
    "empty": {},
    "eth1 is gone": {"eth2": ETH2, "tun0": TUN0, "eth4": ETH4},
    "eth1 is down": {**USUAL, "eth1": ETH1._replace(up=False)},
    "eth2 has no carrier": {**USUAL, "eth2": ETH2._replace(carrier=False)},
    "all without carrier": {name: link._replace(carrier=False) for name, link in USUAL.items()},
    "only tun0": {"tun0": TUN0},
    "no addresses": {"eth1": Device(), "eth2": Device()},
    "one subnet": {
        **USUAL,
        "eth1": Device(("10.1.1.2/24", "fd00:1::2/64"), ("10.1.1.1",)),
        "eth2": Device(("10.1.1.3/24", "10.1.1.4/24"), ("10.1.1.1",)),
    },
    "one address": {**USUAL, "eth1": ETH2, "eth4": ETH2},
    "tentative": {**USUAL, "eth1": ETH1._replace(flags=TENTATIVE)},
    "many addresses": {
        **USUAL,
        "eth2": Device(tuple(f"10.2.2.{n}/24" for n in range(2, 12)), ("10.2.2.1",)),
    },
}


def become(world: World, devices: dict[str, Device], dice: random.Random) -> None:
    """Make the world this one, as an admin would, device by device in any order."""
    names = sorted({*devices, *(link.name for link in world.links.values())} - {"lan0"})
    dice.shuffle(names)
    for name in names:
        if world.has(name) and (name not in devices or dice.random() < 0.2):
            world.remove(name)
        if name not in devices:
            continue
        wanted = devices[name]
        if not world.has(name):
            world.create(name, pointopoint=name == "tun0")
            world.set(name, rp_filter=1)
        if not world.link(name).up:
            world.up(name)
        world.set(name, carrier=wanted.carrier)
        world.forget_default(name)
        index = world.link(name).index
        present = [address.address for address in world.addresses if address.link == index]
        target = [text.partition(" ")[0].partition("/")[0] for text in wanted.addresses]
        if present[: len(target)] != target[: len(present)]:
            target = []  # their order matters, so make them anew
        for address in present:
            if address not in target:
                world.delete_address(name, address)
                present = [other for other in present if other != address]
        for text in wanted.addresses:
            own = text.partition(" ")[0].partition("/")[0]
            if own not in present:
                world.add_address(name, text)
            world.flag_address(own, wanted.flags if ":" in own else 0)
        if wanted.up:
            for gateway in wanted.gateways:
                world.default(name, gateway)
        else:
            world.down(name)


def neighbours() -> tuple[World, list[object]]:
    """An empty world but for the LAN, and what looks like ours and is not."""
    world = World()
    world.device("lan0", "192.168.70.1/24")
    lan = world.link("lan0").index
    return world, [
        Route(AF_INET, 254, "203.0.113.0/24", lan, scope=253),
        Route(AF_INET, 7001, "198.51.100.0/24", lan, scope=253, protocol=4),
        Route(AF_INET, 7000, "192.0.2.0/24", lan, scope=253, protocol=4),
        Route(AF_INET, 8999, "192.0.2.0/24", lan, scope=253),
        Route(AF_INET6, 7002, "2001:db8:77::/64", lan, metric=1024, protocol=4),
        Rule(AF_INET, 6999, 7001, "10.1.1.2"),
        Rule(AF_INET, 8900, 7001, "10.1.1.2"),
        Rule(AF_INET, 7501, 7001, "10.1.1.2", protocol=0),
        Rule(AF_INET, 7010, 254, suppress_prefixlength=7, protocol=0),
        Rule(AF_INET, 7502, 7002, "10.8.8.8", plain=False),
        Rule(AF_INET6, 7010, 254, suppress_prefixlength=6, protocol=3),
        Rule(AF_INET, 32763, 7000),
        Rule(AF_INET, 32765, 254, protocol=0),
        Endpoint("192.0.2.77", lan, SIGNAL),
        Endpoint("10.1.1.2", 0, SIGNAL, port=5000),
        Endpoint("10.4.4.2", 0, SIGNAL),
    ]


class Run:
    """A daemon's passes, with the store that outlives it."""

    def __init__(self, world: World, dice: random.Random, patient: bool) -> None:
        self.world, self.dice, self.patient = world, dice, patient
        self.deleter = ManualDeleter(world)
        self.wanted: Outcome | None = None
        world.after = self.watch

    def one(self, config: Config) -> Outcome:
        """A pass; a patient daemon's endpoints are closed beside it, and that takes a while."""
        if self.deleter.busy and self.dice.random() < 0.7:
            self.deleter.finish()
        return run_pass(
            self.world,
            config,
            deleter=self.deleter if self.patient else None,
            sweep=self.dice.random() < 0.5,
        )

    def settle(self, config: Config) -> Outcome:
        for _ in range(30):
            saves = self.world.store.saves
            outcome = self.one(config)
            quiet = not outcome.done and not outcome.failures and not outcome.run_again
            if quiet and not self.deleter.busy and saves == self.world.store.saves:
                return outcome
        raise AssertionError(f"it does not settle: {outcome.done} {outcome.failures}")

    def watch(self, operation: Operation) -> None:
        """No endpoint is opened before its way is complete."""
        value = operation.value
        if isinstance(value, Endpoint) and operation.verb == "add" and self.world.done:
            if self.world.done[-1] is not operation:
                return  # it failed
            [route] = self.world.lookups([(value.address, value.device)])
            assert route is not None, operation
            assert route.device == value.device, operation
            assert route.protocol == 77, f"{operation}: by {route}"
            rules = [rule for rule in self.world.rules if rule.protocol == 77]
            name = self.world.links[value.device].name
            assert [rule for rule in rules if rule.source == value.address], operation
            assert [rule for rule in rules if rule.oif == name], operation


def comparable(world: World, outcome: Outcome) -> str:
    """The kernel as text; without what may stay while no uplink at all is usable."""
    lines = world.state().splitlines()
    if outcome.plan.uplinks and not active(outcome.plan.uplinks):
        lines = [line for line in lines if not line.startswith(("endpoint 10", "endpoint 2001"))]
        lines = [line for line in lines if not line.startswith(("eth", "tun"))]
    return "\n".join(lines)


@functools.cache
def clean_start(name: str, site: str, foreign: tuple[int, ...]) -> str:
    world, others = neighbours()
    become(world, WORLDS[site], random.Random(0))
    world.foreign(*(others[n] for n in foreign))
    outcome = Run(world, random.Random(0), patient=False).settle(CONFIGURATIONS[name])
    return comparable(world, outcome)


@pytest.mark.parametrize("seed", range(8))
def test_any_state_to_any_other(seed: int) -> None:
    count = len(neighbours()[1])
    dice = random.Random(seed)
    foreign = tuple(dice.sample(range(count), dice.randrange(count)))
    for walk in range(WALKS // 8):
        walk_through(seed * 1000 + walk, foreign)


def walk_through(seed: int, foreign: tuple[int, ...]) -> None:
    dice = random.Random(seed)
    world, others = neighbours()
    world.foreign(*(others[n] for n in foreign))
    path = []
    for _ in range(STEPS):
        name, site = dice.choice(list(CONFIGURATIONS)), dice.choice(list(WORLDS))
        path.append((name, site))
        note = f"seed {seed}: {path}"
        config, devices = CONFIGURATIONS[name], WORLDS[site]
        become(world, devices, dice)
        run = Run(world, dice, patient=dice.random() < 0.5)
        try:
            if dice.random() < 0.6:
                world.die_after = dice.randrange(30)
            for _ in range(dice.randrange(3)):
                world.refuse(dice.choice((errno.EPERM, errno.EBUSY)), dice.choice(OBJECT_KINDS))
            run.settle(config)
        except Killed:
            world.store = Store(world.store.state)
        world.die_after = None
        world._refusals.clear()
        run = Run(world, dice, run.patient)
        outcome = run.settle(config)
        expected = clean_start(name, site, foreign)
        assert comparable(world, outcome) == expected, note
        for n in foreign:
            assert has(world, others[n]), f"{note}: {others[n]} is gone"
        writes, saves = world.writes, world.store.saves
        run.one(config)
        assert (world.writes, world.store.saves) == (writes, saves), note


OBJECT_KINDS = ("", "route", "rule", "endpoint", "limits", "sysctl")


def has(world: World, value: object) -> bool:
    assert world.mptcp is not None
    if isinstance(value, Endpoint):
        return any(endpoint._replace(id=0) == value for endpoint in world.mptcp.endpoints)
    return value in world.routes or value in world.rules
