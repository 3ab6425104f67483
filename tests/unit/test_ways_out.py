"""Gateways and main's routes: what main says is what the uplinks' tables say."""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6

import pytest

from mproutd.configuration.config import ConfigError
from mproutd.model import TABLE_MAIN, UNREACHABLE, Nexthop, Route
from mproutd.netlink.probe_address import address_within
from mproutd.planning.bookkeeping import remembered_gateways
from mproutd.planning.gateways import Gateway
from mproutd.planning.pacing import WITHDRAWAL_DELAY, GatewayMemory
from mproutd.planning.plan import Outcome
from mproutd.planning.traffic import Flow, flows
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci
from tests.unit.test_pacing import Clock
from tests.unit.test_plan import WAN1, WAN2, endpoints, part, two_lines

RA, STATIC = 9, 4
MTU = ((2, 1400),)
EVERYTHING = ((1, 4), (2, 1400), (8, 1360), (10, 65), (11, 20), (12, 1), (14, 30), (15, 1))
"""mtu lock 1400 advmss 1360 hoplimit 65 initcwnd 20 features ecn initrwnd 30 quickack 1."""


def main_route(world: World, device: str, gateway: str, **fields: object) -> Route:
    """A route of main by this device."""
    family = AF_INET6 if ":" in gateway else AF_INET
    index = world.link(device).index
    route = Route(family, TABLE_MAIN, "default", index, gateway, metric=9, protocol=STATIC)
    route = route._replace(**fields)  # type: ignore[arg-type]
    world.foreign(route)
    return route


def beyond(world: World, table: int) -> list[Route]:
    return [route for route in world.routes if route.table == table]


def traffic(world: World, outcome: Outcome) -> list[Flow]:
    """What a status looks up."""
    return flows(outcome.snapshot, outcome.plan, outcome.plan.rules, ())


# -- copied from main -----------------------------------------------------------------------


def test_every_attribute_of_mains_default_is_in_both_tables() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", "2001:db8:1::2/64")
    copied = [
        main_route(world, "eth1", "10.1.1.1", source="10.1.1.2", metrics=EVERYTHING),
        main_route(world, "eth1", "fe80::1", source="2001:db8:1::2", metrics=EVERYTHING),
    ]
    world.run(WAN1)
    for table in (7000, 7001):
        defaults = [route for route in beyond(world, table) if route.destination == "default"]
        assert [
            route._replace(table=TABLE_MAIN, metric=9, protocol=STATIC) for route in defaults
        ] == copied


def test_a_change_of_the_metrics_alone_is_followed() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24")
    first = main_route(world, "eth1", "10.1.1.1", metrics=MTU)
    world.run(WAN1)
    assert part(world.ours(), "default", "7001") == [
        "default via 10.1.1.1 dev eth1 table 7001 mtu 1400"
    ]
    world.routes[world.routes.index(first)] = first._replace(metrics=((2, 1300),))
    world.run(WAN1)
    assert part(world.ours(), "default", "7001") == [
        "default via 10.1.1.1 dev eth1 table 7001 mtu 1300"
    ]


def test_several_ways_of_mains_default_are_copied() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24")
    hops = (Nexthop("10.1.1.1", 3), Nexthop("10.1.1.254"))
    main_route(world, "eth1", "10.1.1.1", nexthops=hops)
    world.run(WAN1)
    assert part(world.ours(), "default", "7001") == [
        "default table 7001 nexthop via 10.1.1.1 dev eth1 weight 3"
        " nexthop via 10.1.1.254 dev eth1 weight 1"
    ]
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_a_source_on_another_device_belongs_to_the_uplink() -> None:
    """A routed address on lo; the one on the link is a transit address."""
    world = World()
    world.create("lo")
    world.device("lo", "203.0.113.9/32")
    world.device("eth1", "100.64.1.2/30")
    main_route(world, "eth1", "100.64.1.1", source="203.0.113.9")
    path = world.run(WAN1).plan.uplinks[0].paths[0]
    assert path.probe_source == "203.0.113.9"
    assert part(world.ours(), "default", "7000") == [
        "default via 100.64.1.1 dev eth1 table 7000 src 203.0.113.9"
    ]
    assert part(world.ours(), "from 203.0.113.9") == ["7501: from 203.0.113.9 lookup 7001"]
    assert endpoints(world) == [
        "100.64.1.2 subflow dev eth1",
        "203.0.113.9 subflow dev eth1",
    ]


def test_a_source_that_this_machine_does_not_have_is_left_out() -> None:
    world = two_lines()
    world.routes = [
        route._replace(source="192.0.2.7") if route.gateway == "10.1.1.1" else route
        for route in world.routes
    ]
    assert not world.run(WAN1).failures
    assert part(world.ours(), "default", "7001") == ["default via 10.1.1.1 dev eth1 table 7001"]


def test_one_router_that_takes_one_prefix_gets_what_has_no_source_as_well() -> None:
    """odhcp6c on OpenWrt: marked packets, and sockets that have not chosen an address yet."""
    world = World()
    world.device("eth1", "2001:db8:1::2/64", "2001:db8:3::2/64")
    main_route(world, "eth1", "fe80::1", from_prefix="2001:db8:1::/48", metrics=MTU)
    outcome = world.run(WAN1)
    for table in ("7000", "7001"):
        assert part(world.ours(), "default", table) == [
            f"-6 default from 2001:db8:1::/48 via fe80::1 dev eth1 table {table} metric 1024"
            " mtu 1400",
            f"-6 default via fe80::1 dev eth1 table {table} metric 1024 mtu 1400",
        ]
    assert endpoints(world) == ["2001:db8:1::2 subflow dev eth1"]
    (host,) = (flow for flow in traffic(world, outcome) if flow.kind == "host")
    assert host.packet.source == ""


def test_with_two_routers_a_packet_without_a_source_gets_one() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64", "2001:db8:2::2/64")
    main_route(world, "eth1", "fe80::1", from_prefix="2001:db8:1::/48")
    main_route(world, "eth1", "fe80::2", from_prefix="2001:db8:2::/48")
    (host,) = (flow for flow in traffic(world, world.run(WAN1)) if flow.kind == "host")
    assert host.packet.source == "2001:db8:1::2"


def test_ipv6_defaults_for_some_sources_are_copied_and_no_other_is_made() -> None:
    """Two providers' routers on one link: each takes packets from its own prefix."""
    world = World()
    world.device("eth1", "2001:db8:1::2/64", "2001:db8:2::2/64", "2001:db8:3::2/64")
    main_route(world, "eth1", "fe80::1", from_prefix="2001:db8:1::/48", metrics=MTU)
    main_route(world, "eth1", "fe80::2", from_prefix="2001:db8:2::/64")
    path = world.run(WAN1).plan.uplinks[0].paths[1]
    assert part(world.ours(), "default", "7001") == [
        "-6 default from 2001:db8:1::/48 via fe80::1 dev eth1 table 7001 metric 1024 mtu 1400",
        "-6 default from 2001:db8:2::/64 via fe80::2 dev eth1 table 7001 metric 1024",
    ]
    assert path.gateways("2001:db8:1::2") == ("fe80::1",)
    assert path.gateways("2001:db8:2::2") == ("fe80::2",)
    assert endpoints(world) == [
        "2001:db8:1::2 subflow dev eth1",
        "2001:db8:2::2 subflow dev eth1",
    ]
    assert [address.address for address in path.without_gateway] == ["2001:db8:3::2"]


def test_without_a_connected_route_in_main_there_is_none_of_ours() -> None:
    """noprefixroute: the neighbours are behind the router only."""
    world = two_lines()
    world.routes = [route for route in world.routes if route.destination != "10.1.1.0/24"]
    host = main_route(world, "eth1", "", destination="10.1.1.1", scope=253)
    world.run(WAN1 + WAN2)
    assert part(world.ours(), "table 7001") == ["default via 10.1.1.1 dev eth1 table 7001 onlink"]
    world.routes.remove(host)
    main_route(world, "eth1", "", destination="10.1.1.0/24", scope=253, metrics=MTU)
    world.run(WAN1 + WAN2)
    assert part(world.ours(), "table 7001") == [
        "10.1.1.0/24 dev eth1 table 7001 scope link mtu 1400",
        "default via 10.1.1.1 dev eth1 table 7001",
    ]


@pytest.mark.parametrize(
    ("network", "taken", "expected"),
    [
        ("10.1.1.0/24", (), "10.1.1.128"),
        ("10.1.1.0/24", ("10.1.1.128",), "10.1.1.129"),
        ("10.1.1.0/30", ("10.1.1.2",), "10.1.1.1"),
        ("10.1.1.0/31", ("10.1.1.1",), "10.1.1.0"),
        ("10.1.1.7", (), "10.1.1.7"),
        ("10.1.1.0/31", ("10.1.1.0", "10.1.1.1"), "10.1.1.0"),
        ("2001:db8::/64", (), "2001:db8:0:0:8000::"),
    ],
)
def test_an_address_to_look_a_subnet_up_by(
    network: str, taken: tuple[str, ...], expected: str
) -> None:
    assert address_within(network, taken) == expected


# -- remembered ------------------------------------------------------------------------------


def deleted(world: World) -> frozenset[tuple[str, int]]:
    outcome = world.run(WAN1 + WAN2)
    return remembered_gateways(outcome.snapshot, outcome.plan.uplinks)[1]


def test_a_router_that_resigned_is_not_remembered() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64")
    route = main_route(world, "eth1", "fe80::1", protocol=RA)
    world.run(WAN1)
    assert not world.store.state.gateways
    world.routes.remove(route)
    path = world.run(WAN1).plan.uplinks[0].paths[1]
    assert (path.reason, part(world.ours(), "default")) == ("no-gateway", [])


def test_a_deleted_route_is_remembered_for_a_moment_with_its_attributes() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24")
    route = main_route(world, "eth1", "10.1.1.1", metrics=MTU, source="10.1.1.2")
    world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    world.run(WAN1 + WAN2)
    before = world.ours()
    world.routes.remove(route)
    assert deleted(world) == {("eth1", AF_INET)}
    assert world.ours() == before
    world.run(WAN1 + WAN2, Facts(withdrawn=frozenset({("eth1", AF_INET)})))
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]


def test_what_the_kernel_drops_with_the_link_is_remembered() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    before = world.ours()
    world.down("eth1")
    world.up("eth1")
    assert deleted(world) == frozenset()
    assert world.ours() == before
    assert deleted(world) == frozenset()


def test_what_a_vpn_replaces_is_remembered() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    before = part(world.ours(), "table 7001") + endpoints(world)
    for device in ("eth1", "eth2"):
        world.forget_default(device)
    world.create("tun0", pointopoint=True)
    world.add_address("tun0", "10.8.0.2/24")
    main_route(world, "tun0", "", scope=253)
    assert deleted(world) == frozenset()
    assert part(world.ours(), "table 7001") + endpoints(world) == before
    world.forget_default("tun0")
    assert deleted(world) == {("eth1", AF_INET), ("eth2", AF_INET)}


def test_how_long_a_gateway_is_remembered() -> None:
    clock = Clock()
    memory = GatewayMemory(clock)
    one, two = ("eth1", AF_INET), ("eth2", AF_INET)
    memory.record_pass({one, two}, {one})
    assert (memory.withdrawn(), memory.next_at()) == (frozenset(), clock.now + WITHDRAWAL_DELAY)
    clock.now += WITHDRAWAL_DELAY
    assert memory.withdrawn() == {one}
    assert memory.ages() == {one: WITHDRAWAL_DELAY, two: WITHDRAWAL_DELAY}
    memory.record_pass({two}, frozenset())
    assert (memory.withdrawn(), memory.next_at()) == (frozenset(), None)


# -- an address of another subnet ------------------------------------------------------------


def test_an_address_in_a_subnet_without_a_gateway_gets_no_endpoint() -> None:
    """The modem's own network, or a second modem behind the same port."""
    world = two_lines()
    world.add_address("eth1", "192.168.8.100/24")
    world.add_address("eth1", "203.0.113.9/32")
    path = world.run(WAN1 + WAN2).plan.uplinks[0].paths[0]
    assert [address.address for address in path.without_gateway] == ["192.168.8.100"]
    assert [address.address for address in path.eligible] == ["10.1.1.2", "203.0.113.9"]
    own = "config uplink 'wan1'\n option gateway '10.1.1.1'\n"
    path = world.run(uci(WAN1 + WAN2, own)).plan.uplinks[0].paths[0]
    assert path.without_gateway == ()
    assert len(path.eligible) == 3


@pytest.mark.parametrize(
    ("others", "left"),
    [
        (("192.168.8.1",), ()),
        (("192.168.8.1", "10.1.1.254"), ("10.1.1.1", "10.1.1.254")),
        (("172.31.1.1",), ("10.1.1.1", "172.31.1.1")),
    ],
)
def test_of_several_nexthops_those_of_the_other_subnet_are_left_out(
    others: tuple[str, ...], left: tuple[str, ...]
) -> None:
    """Half of the packets from 10.1.1.2 would reach the other subnet's modem, which drops them."""
    world = World()
    world.device("eth1", "10.1.1.2/24", "192.168.8.100/24")
    hops = tuple(Nexthop(gateway) for gateway in ("10.1.1.1", *others))
    main_route(world, "eth1", "10.1.1.1", nexthops=hops)
    path = world.run(WAN1).plan.uplinks[0].paths[0]
    assert [address.address for address in path.without_gateway] == ["192.168.8.100"]
    (route,) = [route for route in beyond(world, 7001) if route.destination == "default"]
    assert (route.gateway, tuple(hop.gateway for hop in route.nexthops)) == ("10.1.1.1", left)


def test_two_modes_on_one_port_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="macvlan"):
        uci(interface("wan1", "eth1", "master") + interface("wan2", "eth1", "off"))


# -- prefixes --------------------------------------------------------------------------------


def test_a_prefix_of_the_configuration_has_a_rule() -> None:
    world = two_lines()
    own = (
        "config uplink 'wan2'\n list prefix '203.0.113.0/28'\n list prefix '2001:db8:2:100::/56'\n"
    )
    world.device("eth2", "2001:db8:2::2/64", gateway6="fe80::2")
    world.run(uci(WAN1 + WAN2, own))
    assert part(world.ours(), "from 203.0.113.0/28") == ["7502: from 203.0.113.0/28 lookup 7002"]
    assert part(world.ours(), "from 2001:db8:2:100::/56") == [
        "-6 7502: from 2001:db8:2:100::/56 lookup 7002"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.1.1.0/33", "from 1 to 32"),
        ("10.1.1.1/24", "write 10.1.1.0/24"),
        ("2001:db8::/0", "from 1 to 128"),
        ("lan", "not a prefix"),
        ("10.1.1.0/x", "not a prefix"),
    ],
)
def test_what_is_no_prefix(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        uci(WAN1, f"config uplink 'wan1'\n list prefix '{text}'\n")


def delegated(world: World, prefix: str, lan: str) -> list[str]:
    """The rules for a prefix that a DHCPv6 client has put on the LAN."""
    world.create("lan0")
    world.add_address("lan0", lan)
    world.foreign(
        Route(AF_INET6, TABLE_MAIN, prefix, metric=0x7FFFFFFF, type=UNREACHABLE, protocol=16)
    )
    world.run(WAN1 + WAN2)
    return part(world.ours(), f"from {prefix}")


def both(first: str, second: str) -> World:
    world = World()
    world.device("eth1", f"{first}/64", gateway6="fe80::1")
    world.device("eth2", f"{second}/64", gateway6="fe80::2")
    return world


PREFIX, LAN = "2001:db8:2:100::/56", "2001:db8:2:100::1/64"
RULE = [f"-6 7502: from {PREFIX} lookup 7002"]


def test_a_delegated_prefix_of_the_same_site_or_provider_has_a_rule() -> None:
    assert delegated(both("2001:db8:1::2", "2001:db8:2::2"), PREFIX, LAN) == RULE
    assert delegated(both("2001:470:1::2", "2001:db8:7::2"), PREFIX, LAN) == RULE


def test_a_prefix_that_may_be_of_two_uplinks_is_left_alone() -> None:
    assert delegated(both("2001:db8:2:7::2", "2001:db8:2::2"), PREFIX, LAN) == []
    assert delegated(both("2001:db8:1::2", "2001:db8:7::2"), PREFIX, LAN) == []
    alone = World()  # eth1 may be of the same provider: it has no address that would tell
    alone.device("eth1", "10.1.1.2/24", gateway6="fe80::1")
    alone.device("eth2", "2001:db8:7::2/64", gateway6="fe80::2")
    assert delegated(alone, PREFIX, LAN) == []


def test_a_discarded_prefix_that_nobody_uses_is_none() -> None:
    world = both("2001:db8:1::2", "2001:db8:2::2")
    assert delegated(world, PREFIX, "2001:db8:9::1/64") == []


# -- tables that others keep -----------------------------------------------------------------

PINNED = "config uplink 'wan2'\n option table '101'\n"


def kept_by_networkd() -> World:
    """RouteTable=101: main has no default through eth2."""
    world = two_lines()
    world.forget_default("eth2")
    main_route(world, "eth2", "", destination="10.2.2.0/24", scope=253, table=101, metric=0)
    main_route(world, "eth2", "10.2.2.1", table=101, metric=1024, protocol=16, metrics=MTU)
    return world


def test_a_pinned_table_with_another_programs_default_gives_the_gateway() -> None:
    world = kept_by_networkd()
    theirs = beyond(world, 101)
    outcome = world.run(uci(WAN1 + WAN2, PINNED))
    assert outcome.failures == ()
    assert outcome.plan.uplinks[1].paths[0].gateway == ("10.2.2.1", "table")
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]
    assert part(world.ours(), "table 101") == ["default via 10.2.2.1 dev eth2 table 101 mtu 1400"]
    assert set(theirs) <= set(world.routes)


def test_another_programs_route_that_leads_elsewhere_is_left_and_reported() -> None:
    world = two_lines()
    main_route(world, "eth2", "10.2.2.254", table=101, metric=0)
    own = PINNED + " option gateway '10.2.2.1'\n"
    outcome = world.run(uci(WAN1 + WAN2, own))
    assert [failure.errno for failure in outcome.failures] == [errno.EEXIST]


def test_a_table_pinned_for_a_device_that_is_not_there_yet_has_no_default() -> None:
    own = "config uplink 'wan1'\n option table '101'\n"
    assert World().run(uci(WAN1, own)).plan.uplinks[0].paths[0].gateway is None


def test_a_default_for_other_sources_gives_no_gateway() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64")
    main_route(world, "eth1", "fe80::1", from_prefix="2001:db8:7::/48")
    path = world.run(WAN1).plan.uplinks[0].paths[1]
    assert (path.usable, path.reason) == (False, "no-gateway")


def test_the_gateway_is_that_of_an_address_in_use() -> None:
    """Not of a unique local address, nor the one remembered for an address that is gone."""
    world = World()
    world.device("eth1", "fd00:1::2/64", "2001:db8:1::2/64")
    main_route(world, "eth1", "fe80::7", from_prefix="fd00:1::/48")
    main_route(world, "eth1", "fe80::1", from_prefix="2001:db8:1::/48")
    gateway = world.run(WAN1).plan.uplinks[0].paths[1].gateway
    assert gateway is not None
    assert gateway.address == "fe80::1"


def test_each_address_has_the_gateway_last_known_for_it() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.run(WAN1)
    world.down("eth1")
    world.up("eth1")
    world.add_address("eth1", "10.1.1.9/24")
    world.addresses.reverse()
    path = world.run(WAN1).plan.uplinks[0].paths[0]
    assert path.gateway == Gateway("10.1.1.1", "remembered")
