"""Configuration and world in, kernel state in `ip` syntax out: the manual in examples."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import pytest

from mproutd.model import (
    BACKUP,
    IMPLICIT,
    SCOPE_LINK,
    SIGNAL,
    SUBFLOW,
    UNREACHABLE,
    Endpoint,
    Limits,
    Mptcp,
    Route,
    Rule,
)
from mproutd.planning.gateways import Gateway
from mproutd.planning.numbering import Numbers
from mproutd.planning.plan import Plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci

WAN1, WAN2 = interface("wan1", "eth1", "master"), interface("wan2", "eth2", "on")


def two_lines(max_endpoints: int = 8) -> World:
    """eth1 10.1.1.2/24 and eth2 10.2.2.2/24, each with its router as main's default."""
    world = World(max_endpoints)
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    return world


def part(text: str, *words: str) -> list[str]:
    """The lines that hold all these words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]


def endpoints(world: World) -> list[str]:
    return world.show(world.mptcp.endpoints) if world.mptcp else []


def test_two_uplinks() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    assert world.ours() == (
        "default via 10.1.1.1 dev eth1 table 7000\n"
        "10.1.1.0/24 dev eth1 table 7001 scope link src 10.1.1.2\n"
        "default via 10.1.1.1 dev eth1 table 7001\n"
        "10.2.2.0/24 dev eth2 table 7002 scope link src 10.2.2.2\n"
        "default via 10.2.2.1 dev eth2 table 7002\n"
        "7000: from all fwmark 0x7f000000/0x7f000000 lookup main\n"
        "7010: from all lookup main suppress_prefixlength 7\n"
        "7101: from all fwmark 0x1000000/0x7f000000 lookup 7001\n"
        "7102: from all fwmark 0x2000000/0x7f000000 lookup 7002\n"
        "7301: from all oif eth1 lookup 7001\n"
        "7302: from all oif eth2 lookup 7002\n"
        "7501: from 10.1.1.2 lookup 7001\n"
        "7502: from 10.2.2.2 lookup 7002\n"
        "32764: from all lookup main suppress_prefixlength 0\n"
        "32765: from all lookup 7000\n"
        "10.1.1.2 subflow dev eth1\n"
        "10.2.2.2 subflow dev eth2\n"
    )
    assert world.mptcp is not None
    assert world.mptcp.limits == Limits(2, 0)


def test_ipv6_beside_ipv4() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.run(interface("wan1", "eth1", "on"))
    assert world.ours() == (
        "-6 2001:db8:1::/64 dev eth1 table 7001 metric 1024\n"
        "-6 default via fe80::1 dev eth1 table 7001 metric 1024\n"
        "-6 7000: from all fwmark 0x7f000000/0x7f000000 lookup main\n"
        "-6 7010: from all lookup main suppress_prefixlength 6\n"
        "-6 7101: from all fwmark 0x1000000/0x7f000000 lookup 7001\n"
        "-6 7301: from all oif eth1 lookup 7001\n"
        "-6 7501: from 2001:db8:1::2 lookup 7001\n"
        "2001:db8:1::2 subflow dev eth1\n"
    )


# -- modes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "endpoint"),
    [
        ("on", ["10.2.2.2 subflow dev eth2"]),
        ("master", ["10.2.2.2 subflow dev eth2"]),
        ("backup", ["10.2.2.2 subflow backup dev eth2"]),
        ("handover", []),
        ("off", []),
    ],
)
def test_each_mode_beside_a_master(mode: str, endpoint: list[str]) -> None:
    world = two_lines()
    world.run(WAN1 + interface("wan2", "eth2", mode))
    assert part(world.ours(), "eth2") == [
        "10.2.2.0/24 dev eth2 table 7002 scope link src 10.2.2.2",
        "default via 10.2.2.1 dev eth2 table 7002",
        "7302: from all oif eth2 lookup 7002",
        *endpoint,
    ]
    behind = ["unreachable default table 7000 metric 4278198272"] if mode == "off" else []
    assert part(world.ours(), "table 7000") == [
        "default via 10.1.1.1 dev eth1 table 7000",
        *behind,
    ]


def test_without_a_master_other_traffic_stays_with_main() -> None:
    world = two_lines()
    world.run(interface("wan1", "eth1", "on") + WAN2)
    assert not part(world.ours(), "7000")[1:]  # the question to main alone
    assert not part(world.ours(), "3276")
    assert len(endpoints(world)) == 2


def test_a_second_master_counts_as_on() -> None:
    world = two_lines()
    config = uci(WAN1 + interface("wan2", "eth2", "master"))
    assert world.run(config).plan.default == {AF_INET: "wan1"}
    assert len(config.warnings) == 1


def test_other_traffic_goes_master_on_backup_handover_and_never_off() -> None:
    world = World()
    modes = ("off", "handover", "backup", "on", "master")
    text = ""
    for n, mode in enumerate(modes, 1):
        world.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        text += interface(f"wan{n}", f"eth{n}", mode)
    carries = []
    for n in (5, 4, 3, 2, 1):
        carries.append(world.run(text).plan.default.get(AF_INET, "main"))
        world.set(f"eth{n}", carrier=False)
    assert carries == ["wan5", "wan4", "wan3", "wan2", "main"]
    world.set("eth5", carrier=True)
    assert world.run(text).plan.default == {AF_INET: "wan5"}


def test_handover_opens_when_the_others_are_lost_and_closes_when_they_return() -> None:
    world = two_lines()
    world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    text = WAN1 + interface("wan2", "eth2", "handover") + interface("wan3", "eth3", "handover")
    world.run(text)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    world.set("eth1", carrier=False)
    world.run(text)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    world.set("eth2", carrier=False)
    world.run(text)
    assert endpoints(world) == ["10.3.3.2 subflow dev eth3"]
    world.set("eth1", carrier=True)
    world.run(text)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_handover_stands_by_in_a_family_that_no_other_uplink_has() -> None:
    """A connection of that family has nowhere else to go."""
    world = two_lines()
    world.device("eth2", "2001:db8:2::2/64", gateway6="2001:db8:2::1")
    world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    world.device("eth3", "2001:db8:3::2/64", gateway6="2001:db8:3::1")
    text = WAN1 + interface("wan2", "eth2", "handover") + interface("wan3", "eth3", "handover")
    world.run(text)
    by_eth1 = ["10.1.1.2 subflow dev eth1", "2001:db8:2::2 subflow backup dev eth2"]
    assert endpoints(world) == by_eth1
    world.set("eth1", carrier=False)
    world.run(text)
    assert sorted(endpoints(world)) == [
        "10.2.2.2 subflow dev eth2",
        "2001:db8:2::2 subflow dev eth2",
    ]
    world.set("eth1", carrier=True)
    world.run(text)
    assert sorted(endpoints(world)) == by_eth1
    world.device("eth1", "2001:db8:1::2/64", gateway6="2001:db8:1::1")
    world.run(text)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "2001:db8:1::2 subflow dev eth1"]


def test_on_and_backup_change_the_flag_of_the_same_endpoint() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    assert world.mptcp is not None
    before = world.mptcp.endpoints
    world.done.clear()
    world.run(WAN1 + interface("wan2", "eth2", "backup"))
    assert [operation.verb for operation in world.done] == ["change"]
    assert endpoints(world)[1] == "10.2.2.2 subflow backup dev eth2"
    world.run(WAN1 + WAN2)
    assert world.mptcp.endpoints == before


@pytest.mark.parametrize("text", [("", True), (WAN1 + WAN2, False)], ids=["no uplink", "disabled"])
def test_nothing_of_ours_stays(text: tuple[str, bool]) -> None:
    world = two_lines()
    clean = world.state()
    world.set("eth1", rp_filter=1)
    world.run(WAN1 + WAN2)
    world.run(uci(text[0], enabled=text[1]))
    world.set("eth1", rp_filter=world.link("eth1").rp_filter - 1)  # it was put back to 1
    assert world.state() == clean


@pytest.mark.parametrize(
    ("role", "extra", "flags"),
    [
        ("client", "", "subflow"),
        ("server", "", "signal"),
        ("both", "", "signal subflow"),
        ("client", "option fullmesh '1'", "subflow fullmesh"),
        ("server", "option fullmesh '1'", "signal"),
        ("client", "option laminar '1'", "subflow laminar"),
    ],
)
def test_roles_and_flags(role: str, extra: str, flags: str) -> None:
    world = two_lines()
    own = f"config mproutd 'globals'\n option role '{role}'\nconfig uplink 'wan1'\n {extra}\n"
    world.run(uci(WAN1, own))
    assert endpoints(world) == [f"10.1.1.2 {flags} dev eth1"]


# -- worlds ---------------------------------------------------------------------------------


def test_a_point_to_point_device_needs_no_gateway() -> None:
    world = World()
    world.create("tun0", pointopoint=True)
    world.add_address("tun0", "10.3.3.2 peer 10.3.3.1/32")
    world.run(interface("tun", "tun0", "on"))
    assert part(world.ours(), "table 7001") == [
        "10.3.3.1 dev tun0 table 7001 scope link src 10.3.3.2",
        "default dev tun0 table 7001 scope link src 10.3.3.2",
    ]
    assert endpoints(world) == ["10.3.3.2 subflow dev tun0"]


def test_a_host_address_reaches_its_gateway_on_the_link() -> None:
    world = World()
    world.device("eth1", "203.0.113.7/32")
    world.run(
        uci(interface("wan1", "eth1", "on"), "config uplink 'wan1'\n option gateway '10.255.0.1'\n")
    )
    assert part(world.ours(), "table 7001") == [
        "default via 10.255.0.1 dev eth1 table 7001 src 203.0.113.7 onlink"
    ]


def test_a_net_of_two() -> None:
    world = World()
    world.device("eth1", "10.1.1.1/31", gateway="10.1.1.0")
    world.run(interface("wan1", "eth1", "on"))
    assert part(world.ours(), "table 7001") == [
        "10.1.1.0/31 dev eth1 table 7001 scope link src 10.1.1.1",
        "default via 10.1.1.0 dev eth1 table 7001",
    ]


def test_two_uplinks_in_one_subnet_each_leave_by_their_own_device() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.device("eth2", "10.1.1.3/24", gateway="10.1.1.1")
    world.run(WAN1 + WAN2)
    assert part(world.ours(), "7005:") == [
        "7005: from 10.1.1.2 to 10.1.1.0/24 lookup 7001",
        "7005: from 10.1.1.3 to 10.1.1.0/24 lookup 7002",
    ]
    for device, address in (("eth1", "10.1.1.2"), ("eth2", "10.1.1.3")):
        route = world.walk("10.1.1.77", source=address)
        assert route is not None
        assert world.links[route.device].name == device
        assert world.link(device).arp_ignore == 1
        assert world.link(device).arp_announce == 2
    world.delete_address("eth2", "10.1.1.3")
    world.run(WAN1 + WAN2)
    assert not part(world.ours(), "7005:")
    assert world.link("eth1").arp_ignore == world.link("eth1").arp_announce == 0


def test_a_subnet_inside_the_others() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/16", gateway="10.1.0.1")
    world.device("eth2", "10.1.2.2/24", gateway="10.1.2.1")
    world.run(WAN1 + WAN2)
    assert part(world.ours(), "7005:") == [
        "7005: from 10.1.1.2 to 10.1.0.0/16 lookup 7001",
        "7005: from 10.1.2.2 to 10.1.2.0/24 lookup 7002",
    ]


def test_one_address_on_two_uplinks_has_one_owner_and_is_handed_on() -> None:
    world = World()
    world.device("eth1", "192.168.8.100/24", gateway="192.168.8.1")
    world.device("eth2", "192.168.8.100/24", gateway="192.168.8.1")
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["192.168.8.100 subflow dev eth1"]
    assert not part(world.ours(), "table 7002")
    world.set("eth1", carrier=False)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["192.168.8.100 subflow dev eth2"]
    assert not part(world.ours(), "table 7001")
    world.set("eth1", carrier=True)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["192.168.8.100 subflow dev eth1"]


def test_an_address_is_left_to_who_can_use_it_in_its_own_family() -> None:
    """eth1 is usable, but only by IPv6: no reason to keep eth2 from the IPv4 address."""
    world = World()
    world.device("eth1", "192.168.8.100/24", "2001:db8:1::2/64", gateway6="fe80::1")
    world.device("eth2", "192.168.8.100/24", gateway="192.168.8.1")
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "192.168.8.100 subflow dev eth2",
        "2001:db8:1::2 subflow dev eth1",
    ]


def test_temporary_and_deprecated_addresses_keep_a_rule_but_get_no_endpoint() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.add_address("eth1", "2001:db8:1::77/64", flags=0x01)
    world.add_address("eth1", "2001:db8:1::88/64", flags=0x20)
    world.add_address("eth1", "2001:db8:1::99/64", flags=0x40)
    world.run(interface("wan1", "eth1", "on"))
    assert sorted(part(world.ours(), "7501:")) == [
        "-6 7501: from 2001:db8:1::2 lookup 7001",
        "-6 7501: from 2001:db8:1::77 lookup 7001",
        "-6 7501: from 2001:db8:1::88 lookup 7001",
    ]
    assert endpoints(world) == ["2001:db8:1::2 subflow dev eth1"]


@pytest.mark.parametrize(("ula", "expected"), [("0", []), ("1", ["fd00:1::2 subflow dev eth1"])])
def test_unique_local_addresses_only_where_configured(ula: str, expected: list[str]) -> None:
    world = World()
    world.device("eth1", "fd00:1::2/64", gateway6="fe80::1")
    own = f"config uplink 'wan1'\n option ula '{ula}'\n"
    world.run(uci(interface("wan1", "eth1", "on"), own))
    assert endpoints(world) == expected


def test_a_vpn_that_splits_the_default_does_not_swallow_the_uplinks() -> None:
    world = two_lines()
    world.device("tun9", "10.8.0.2/24")
    world.run(WAN1 + WAN2)
    main = world.match(254, "10.8.0.1", 0)
    assert main is not None
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        world.foreign(main._replace(destination=half, gateway="10.8.0.1", scope=0))
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]
    ours = world.walk("198.51.100.1", source="10.1.1.2")
    other = world.walk("198.51.100.1")
    assert ours is not None
    assert other is not None
    assert (world.links[ours.device].name, world.links[other.device].name) == ("eth1", "tun9")


# -- what the admin asks for ----------------------------------------------------------------


def test_strict_is_unreachable_instead_of_another_uplink() -> None:
    world = two_lines()
    config = uci(WAN1 + WAN2, "config uplink 'wan1'\n option strict '1'\n list iif 'br-lan'\n")
    world.run(config)
    assert part(world.ours(), "unreachable") == ["unreachable default table 7001 metric 4278198272"]
    assert part(world.ours(), "7701:") == ["7701: from all iif br-lan lookup 7001"]
    assert world.walk("198.51.100.1", source="10.1.1.2", iif="br-lan") is not None
    world.down("eth1")
    world.run(config)
    assert world.walk("198.51.100.1", mark=0x1000000) is None
    assert world.walk("198.51.100.1", iif="br-lan") is None
    assert world.walk("198.51.100.1", source="10.1.1.2") is None
    assert world.walk("198.51.100.1") is not None


def test_steering_falls_through_while_the_uplink_is_not_usable() -> None:
    world = two_lines()
    config = uci(WAN1 + WAN2, "config uplink 'wan1'\n list iif 'br-lan'\n")
    world.run(config)
    assert len(part(world.ours(), "iif")) == 1
    world.set("eth1", carrier=False)
    world.run(config)
    assert not part(world.ours(), "iif")
    assert not part(world.ours(), "7101:")
    assert part(world.ours(), "7501:")  # what is bound there stays there


def test_a_mark_with_a_mask_of_its_own_and_a_table_of_its_own() -> None:
    world = two_lines()
    own = "config uplink 'wan1'\n option mark '3/0xff'\n option table '123'\n"
    world.run(uci(WAN1 + WAN2, own))
    assert part(world.ours(), "fwmark", "lookup 123") == [
        "7101: from all fwmark 0x3/0xff lookup 123"
    ]
    assert part(world.ours(), "7102:") == ["7102: from all fwmark 0x2000000/0x7f000000 lookup 7002"]
    assert len(part(world.ours(), "table 123")) == 2


def test_the_old_tables_and_priorities_are_left_clean() -> None:
    world = two_lines()
    world.run(uci(WAN1 + WAN2, "config uplink 'wan2'\n option table '123'\n"))
    own = "config mproutd 'globals'\n option table_base '9000'\n option rule_priority '12000'\n"
    world.run(uci(WAN1 + WAN2, own))
    after = world.ours()
    assert not part(after, "table 700")
    assert not part(after, "table 123")
    assert not [line for line in after.splitlines() if line.startswith("7")]
    assert part(after, "12501:") == ["12501: from 10.1.1.2 lookup 9001"]
    fresh = two_lines()
    fresh.run(uci(WAN1 + WAN2, own))
    assert after == fresh.ours()
    assert world.store.state.tables == fresh.store.state.tables
    assert world.store.state.priorities == fresh.store.state.priorities


def test_main_routes_can_be_switched_off() -> None:
    world = two_lines()
    world.run(uci(WAN1, "config mproutd 'globals'\n option main_routes '0'\n"))
    assert not part(world.ours(), "7010:")


# -- endpoints, limits, settings ------------------------------------------------------------


def test_every_uplink_gets_an_endpoint_before_any_gets_two() -> None:
    world = World(max_endpoints=4)
    world.device("eth1", *(f"10.1.1.{n}/24" for n in (2, 3, 4)), gateway="10.1.1.1")
    world.device("eth2", *(f"10.2.2.{n}/24" for n in (2, 3)), gateway="10.2.2.1")
    world.device("eth3", "10.3.3.2/24", "2001:db8:3::2/64", gateway="10.3.3.1", gateway6="fe80::1")
    text = interface("wan1", "eth1", "backup") + WAN2 + interface("wan3", "eth3", "master")
    outcome = world.run(text)
    assert endpoints(world) == [
        "10.3.3.2 subflow dev eth3",
        "10.2.2.2 subflow dev eth2",
        "10.1.1.2 subflow backup dev eth1",
        "2001:db8:3::2 subflow dev eth3",
    ]
    assert outcome.plan.over_cap == {
        "10.2.2.3": "wan2",
        "10.1.1.3": "wan1",
        "10.1.1.4": "wan1",
    }
    world.set("eth3", carrier=False)
    world.run(text)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow backup dev eth1",
        "10.1.1.3 subflow backup dev eth1",
        "10.2.2.2 subflow dev eth2",
        "10.2.2.3 subflow dev eth2",
    ]


@pytest.mark.parametrize(("max_endpoints", "max_limit"), [(255, 64), (3, 64), (20, 4)])
def test_the_room_for_endpoints_and_the_highest_limit_are_two_numbers(
    max_endpoints: int, max_limit: int
) -> None:
    world = World(max_endpoints, max_limit)
    many = [f"10.0.{n // 200}.{n % 200 + 2}/16" for n in range(300)]
    world.device("eth1", *many, gateway="10.0.0.1")
    outcome = world.run(WAN1)
    assert len(endpoints(world)) == max_endpoints
    assert len(outcome.plan.over_cap) == 300 - max_endpoints
    assert world.mptcp
    assert world.mptcp.limits == Limits(max_limit, 0)
    assert not outcome.failures


def test_others_endpoints_take_room_and_are_left() -> None:
    world = two_lines(max_endpoints=2)
    world.foreign(Endpoint("192.0.2.9", 0, SIGNAL))
    outcome = world.run(WAN1 + WAN2)
    assert endpoints(world) == ["192.0.2.9 signal", "10.1.1.2 subflow dev eth1"]
    assert outcome.plan.over_cap == {"10.2.2.2": "wan2"}


def test_a_foreign_endpoint_on_our_address_counts_as_existing() -> None:
    world = two_lines()
    world.foreign(Endpoint("10.1.1.2", 0, SIGNAL))
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 signal", "10.2.2.2 subflow dev eth2"]
    world.run(uci(WAN1 + WAN2, enabled=False))
    assert endpoints(world) == ["10.1.1.2 signal"]


def test_an_endpoint_with_a_port_beside_ours_is_foreign() -> None:
    world = two_lines(max_endpoints=3)
    world.run(WAN1 + WAN2)
    world.foreign(Endpoint("10.1.1.2", world.link("eth1").index, SIGNAL, port=5000))
    world.run(WAN1 + interface("wan2", "eth2", "off"))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.1.1.2 signal dev eth1 port 5000"]
    world.run(uci(WAN1, enabled=False))
    assert endpoints(world) == ["10.1.1.2 signal dev eth1 port 5000"]


def test_a_remembered_gateway_without_a_route_to_its_subnet_is_on_link() -> None:
    """As after a flap under dhcpcd, whose address has no route of the kernel's own."""
    world = two_lines()
    world.forget_default("eth1")
    world.change_route(
        "add",
        Route(
            AF_INET,
            254,
            "default",
            world.link("eth1").index,
            "10.1.1.1",
            "10.1.1.2",
            1002,
            protocol=16,
        ),
    )
    world.run(WAN1 + WAN2)
    assert "via 10.1.1.1 dev eth1 table 7001 src 10.1.1.2\n" in world.ours()
    index = world.link("eth1").index
    world.routes = [route for route in world.routes if (route.table, route.device) != (254, index)]
    world.run(WAN1 + WAN2)
    assert "via 10.1.1.1 dev eth1 table 7001 src 10.1.1.2 onlink\n" in world.ours()


def test_an_implicit_endpoint_gives_way() -> None:
    world = two_lines(max_endpoints=2)
    world.foreign(Endpoint("10.2.2.2", 0, IMPLICIT))
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]


def test_an_implicit_endpoint_at_an_address_without_a_place_gives_way_to_better_ones() -> None:
    world = two_lines(max_endpoints=3)
    world.device("eth2", "10.2.2.77/24", "10.2.2.78/24")
    world.foreign(Endpoint("10.2.2.78", 0, IMPLICIT))
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 subflow dev eth2",
        "10.2.2.77 subflow dev eth2",
    ]


def test_implicit_endpoints_without_a_subflow_give_way_where_there_is_no_room() -> None:
    """As a server leaves them behind that announces many addresses."""
    world = two_lines(max_endpoints=4)
    implicit = [f"192.0.2.{n}" for n in (1, 2, 3)]
    world.foreign(*(Endpoint(address, 0, IMPLICIT) for address in implicit))
    world.idle_implicit = frozenset(implicit[:2])
    world.run(WAN1)
    assert len(endpoints(world)) == 4, "there was room"
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 subflow dev eth2",
        "192.0.2.3 implicit",
    ]
    world = two_lines(max_endpoints=4)
    world.foreign(*(Endpoint(address, 0, IMPLICIT) for address in implicit))
    world.run(WAN1 + WAN2)
    assert len(endpoints(world)) == 4, "all are in use"
    assert "10.2.2.2 subflow dev eth2" not in endpoints(world)


def test_a_device_made_anew_gets_its_endpoint_anew() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    world.remove("eth2")
    world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    assert "10.2.2.2 subflow dev if3" in endpoints(world)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]


def lose_carrier(world: World) -> None:
    world.set("eth1", carrier=False)


def set_down(world: World) -> None:
    world.down("eth1")


def deprecate(world: World) -> None:
    world.flag_address("10.1.1.2", 0x20)


@pytest.mark.parametrize("lose", [lose_carrier, set_down, deprecate])
def test_the_last_path_is_not_closed(lose: object) -> None:
    world = two_lines()
    world.set("eth2", carrier=False)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    lose(world)  # type: ignore[operator]
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    world.set("eth2", carrier=True)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]


def test_a_connection_that_can_have_no_other_path_keeps_its_endpoint_as_a_backup() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    world.set("eth1", carrier=False)
    world.sole_path = frozenset({"10.1.1.2"})
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow backup dev eth1", "10.2.2.2 subflow dev eth2"]
    world.sole_path = frozenset()
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]


def test_the_last_path_of_a_family_stays_as_a_backup() -> None:
    """wan1 alone has IPv6, and its prefix is deprecated: connections that use it go on."""
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.run(WAN1 + WAN2)
    world.flag_address("2001:db8:1::2", 0x20)
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 subflow dev eth2",
        "2001:db8:1::2 subflow backup dev eth1",
    ]
    world.device("eth2", "2001:db8:2::2/64", gateway6="fe80::2")
    world.run(WAN1 + WAN2)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 subflow dev eth2",
        "2001:db8:2::2 subflow dev eth2",
    ]


def test_the_last_path_of_a_family_makes_room_for_what_carries() -> None:
    world = two_lines(max_endpoints=3)
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.run(WAN1 + WAN2)
    world.flag_address("2001:db8:1::2", 0x20)
    world.device("eth2", "10.2.2.3/24")
    world.run(WAN1 + WAN2)
    assert "10.2.2.3 subflow dev eth2" in endpoints(world)
    assert len(endpoints(world)) == 3


def test_the_last_path_goes_with_its_address() -> None:
    world = two_lines()
    world.set("eth2", carrier=False)
    world.run(WAN1 + WAN2)
    world.delete_address("eth1", "10.1.1.2")
    world.run(WAN1 + WAN2)
    assert endpoints(world) == []


@pytest.mark.parametrize(
    ("current", "setting", "wanted"),
    [
        (Limits(2, 0), "", Limits(2, 0)),
        (Limits(0, 0), "", Limits(1, 0)),
        (Limits(2, 0), "option subflows '4'", Limits(4, 0)),
        (Limits(6, 0), "option subflows '4'", Limits(6, 0)),
        (Limits(2, 0), "option subflows '100'", Limits(8, 0)),
        (Limits(2, 0), "option add_addr_accepted '3'", Limits(4, 3)),
        (Limits(2, 0), "option add_addr_accepted '0'", Limits(2, 0)),
        (Limits(2, 5), "option add_addr_accepted '3'", Limits(6, 5)),
        (Limits(2, 0), "option role 'server'", Limits(8, 0)),
        (Limits(2, 0), "option role 'both'", Limits(8, 0)),
        (Limits(8, 8), "option subflows '1'", Limits(8, 8)),
    ],
)
def test_limits_are_raised_never_lowered_and_put_back(
    current: Limits, setting: str, wanted: Limits
) -> None:
    world = two_lines()
    assert world.mptcp is not None
    world.mptcp = world.mptcp._replace(limits=current)
    config = uci(WAN1, f"config mproutd 'globals'\n {setting}\n")
    world.run(config)
    assert world.mptcp.limits == wanted
    world.run(config._replace(enabled=False))
    assert world.mptcp.limits == current


@pytest.mark.parametrize(
    ("modes", "own", "wanted"),
    [
        (("on", "on", "on", "on"), "", Limits(4, 0)),
        (("on", "on", "backup", "handover"), "", Limits(4, 0)),
        (("off", "on", "on", "on"), "", Limits(3, 0)),
        (("on", "on"), "config uplink 'wan2'\n option fullmesh '1'\n", Limits(8, 8)),
        (("on", "on"), "config uplink 'wan2'\n option laminar '1'\n", Limits(8, 8)),
        (("on", "off"), "config uplink 'wan2'\n option fullmesh '1'\n", Limits(2, 0)),
    ],
)
def test_limits_follow_what_the_endpoints_need(
    modes: tuple[str, ...], own: str, wanted: Limits
) -> None:
    world, text = World(), ""
    for n, mode in enumerate(modes, 1):
        world.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        text += interface(f"wan{n}", f"eth{n}", mode)
    world.run(uci(text, own))
    assert world.mptcp
    assert world.mptcp.limits == wanted
    writes = len(world.done)
    world.set("eth2", carrier=False)
    world.run(uci(text, own))
    world.set("eth2", carrier=True)
    world.run(uci(text, own))
    assert world.mptcp.limits == wanted
    changes = [operation.value for operation in world.done[writes:]]
    assert not any(isinstance(value, Limits) for value in changes), "the same without a carrier"


def test_an_address_more_and_an_endpoint_of_another_program_need_one_more_subflow() -> None:
    world = two_lines()
    world.add_address("eth2", "10.2.2.3/24")
    world.foreign(Endpoint("192.0.2.7", 0, SUBFLOW), Endpoint("192.0.2.8", 0, SIGNAL))
    world.run(WAN1 + WAN2)
    assert world.mptcp
    assert world.mptcp.limits == Limits(4, 0)


ACCEPT = "config mproutd 'globals'\n option add_addr_accepted '4'\n"
FULLMESH_2 = "config uplink 'wan2'\n option fullmesh '1'\n"


@pytest.mark.parametrize(
    ("modes", "own", "accepted"),
    [
        (("on", "on"), ACCEPT, 4),
        (("off", "on"), ACCEPT, 0),
        (("handover", "on"), ACCEPT, 0),
        (("handover", "handover"), ACCEPT, 4),  # the first one is in use
        (("on", "off"), ACCEPT, 4),
        (("off", "master"), ACCEPT, 4),  # other traffic leaves via the master
        (("off", "on"), ACCEPT + FULLMESH_2, 4),
        (("off", "on"), FULLMESH_2, 8),
    ],
)
def test_no_announced_address_is_joined_by_an_uplink_that_must_not_carry(
    modes: tuple[str, str], own: str, accepted: int
) -> None:
    """Main's default with the lowest metric leaves via eth1."""
    world = two_lines()
    text = interface("wan1", "eth1", modes[0]) + interface("wan2", "eth2", modes[1])
    world.run(uci(text, own))
    assert world.mptcp
    assert world.mptcp.limits.add_addr_accepted == accepted


def test_announced_addresses_are_accepted_while_the_handover_uplink_is_in_use() -> None:
    world = two_lines()
    text = interface("wan1", "eth1", "handover") + interface("wan2", "eth2", "on")
    for carrier, accepted in ((True, 0), (False, 4), (True, 0)):
        world.set("eth2", carrier=carrier)
        world.run(uci(text, ACCEPT))
        assert world.mptcp
        assert world.mptcp.limits.add_addr_accepted == accepted


def test_a_limit_that_was_reset_is_restored_and_the_admins_is_kept_at_the_end() -> None:
    world = two_lines()
    config = uci(WAN1, "config mproutd 'globals'\n option subflows '4'\n")
    world.run(config)
    assert world.mptcp is not None
    world.mptcp = world.mptcp._replace(limits=Limits(0, 0))
    world.run(config)
    assert world.mptcp.limits == Limits(4, 0)
    world.mptcp = world.mptcp._replace(limits=Limits(7, 0))
    world.run(config)
    assert world.mptcp.limits == Limits(7, 0)
    world.run(config._replace(enabled=False))
    assert world.mptcp.limits == Limits(7, 0)


@pytest.mark.parametrize("mode", ["master", "on", "backup", "handover", "off"])
@pytest.mark.parametrize(("current", "during"), [(0, 0), (1, 2), (2, 2)])
def test_the_reverse_path_filter_is_loosened_and_put_back(
    current: int, during: int, mode: str
) -> None:
    """Marked packets get replies on an uplink without an endpoint as well."""
    world = two_lines()
    world.set("eth1", rp_filter=current)
    world.run(interface("wan1", "eth1", mode) + WAN2)
    assert world.link("eth1").rp_filter == during
    world.run(WAN2)
    assert world.link("eth1").rp_filter == current


def test_the_reverse_path_filter_stays_where_nothing_is_steered() -> None:
    """No endpoint, and no mark either: mark_mask has room for one uplink only."""
    world = two_lines()
    world.set("eth1", rp_filter=1)
    world.set("eth2", rp_filter=1)
    config = interface("wan1", "eth1", "off") + interface("wan2", "eth2", "off")
    own = "config mproutd 'globals'\n option mark_mask '0x3'\n"
    own += "config uplink 'wan2'\n option table '7003'\n"
    world.run(uci(config, own))
    assert world.link("eth1").rp_filter == 2
    assert world.link("eth2").rp_filter == 1
    own += " list iif 'lan0'\n"
    world.run(uci(config, own))
    assert world.link("eth2").rp_filter == 2


def test_a_reverse_path_filter_changed_by_another_program_is_kept() -> None:
    world = two_lines()
    world.set("eth1", rp_filter=1)
    world.run(WAN1)
    world.set("eth1", rp_filter=0)
    world.run(WAN1)
    world.run(WAN2)
    assert world.link("eth1").rp_filter == 0


def test_the_strict_filter_of_all_counts_for_each() -> None:
    world = two_lines()
    world.rp_filter_all = 1
    world.run(WAN1)
    assert world.link("eth1").rp_filter == 2
    world.run(WAN2)
    assert world.link("eth1").rp_filter == 0


def test_without_mptcp_tables_and_rules_are_kept() -> None:
    world = two_lines()
    world.mptcp = None
    world.run(WAN1 + WAN2)
    assert len(world.ours().splitlines()) == 15
    world.mptcp = Mptcp()
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]


def test_an_address_that_was_left_without_an_endpoint_is_closed_by_id_0() -> None:
    world = two_lines()
    config = WAN1 + interface("wan2", "eth2", "off")
    world.run(config)
    world.delete_address("eth2", "10.2.2.2")
    world.run(config)
    world.run(config)
    assert world.closed_initial == ["10.2.2.2"]


def test_an_address_without_an_endpoint_is_closed_while_the_others_move() -> None:
    world = two_lines()
    config = WAN1 + interface("wan2", "eth2", "off")
    world.run(config)
    world.delete_address("eth2", "10.2.2.2")
    world.delete_address("eth1", "10.1.1.2")
    world.add_address("eth1", "10.1.1.9/24")
    world.default("eth1", "10.1.1.1")
    world.run(config)
    assert world.closed_initial == ["10.2.2.2"]
    assert endpoints(world) == ["10.1.1.9 subflow dev eth1"]


def test_an_ipv6_address_that_goes_takes_no_route_with_it() -> None:
    world = World()
    world.device("eth1", "2001:db8:1::2/64", "2001:db8:1::3/64", gateway6="fe80::1")
    world.run(interface("wan1", "eth1", "on"))
    world.delete_address("eth1", "2001:db8:1::2")
    world.run(interface("wan1", "eth1", "on"))
    assert part(world.ours(), "table 7001") == [
        "-6 2001:db8:1::/64 dev eth1 table 7001 metric 1024",
        "-6 default via fe80::1 dev eth1 table 7001 metric 1024",
    ]


def test_a_gateway_that_main_no_longer_names_is_remembered_for_its_address() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    before = world.ours()
    world.forget_default("eth2")
    world.run(WAN1 + WAN2)
    assert world.ours() == before
    world.delete_address("eth2", "10.2.2.2")
    world.add_address("eth2", "10.2.2.9/24")
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_a_new_gateway_changes_the_default_routes_alone() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    world.forget_default("eth1")
    world.default("eth1", "10.1.1.254")
    world.done.clear()
    world.run(WAN1 + WAN2)
    assert [(operation.verb, *world.show([operation.value])) for operation in world.done] == [
        ("replace", "default via 10.1.1.254 dev eth1 table 7001 proto 77"),
        ("replace", "default via 10.1.1.254 dev eth1 table 7000 proto 77"),
    ]


def test_an_endpoint_changed_by_another_program_is_restored() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    assert world.mptcp is not None
    first, second = world.mptcp.endpoints
    changed = (first._replace(flags=SUBFLOW | 4), second._replace(flags=SIGNAL))
    world.mptcp = world.mptcp._replace(endpoints=changed)
    world.run(WAN1 + WAN2)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]


# -- every value ----------------------------------------------------------------------------


def rules_by_uplink(world: World, wanted: dict[Rule, str]) -> list[str]:
    """Each rule behind its uplink, in `ip` syntax."""
    lines = zip(wanted.values(), world.show(wanted), strict=True)
    return [
        f"{'*' if uplink == '' else uplink} {line.replace(' protocol 77', '')}"
        for uplink, line in lines
    ]


def test_what_is_wanted_value_by_value_and_whose_it_is() -> None:
    """As the kernel shows it: what differed would be written again in each pass."""
    world = two_lines()
    world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    world.create("tun3", pointopoint=True)
    world.add_address("tun3", "10.3.3.2 peer 10.3.3.1/32")
    own = "config uplink 'wan2'\n option strict '1'\n list iif 'br-lan'\n"
    wanted = world.run(uci(WAN1 + WAN2 + interface("tun", "tun3", "backup"), own)).plan
    eth1, eth2, tun3 = (world.link(name).index for name in ("eth1", "eth2", "tun3"))
    v6 = Route(AF_INET6, 7001, "default", eth1, "fe80::1", metric=1024)
    lost = Route(AF_INET, 7002, "default", metric=4278198272, type=UNREACHABLE)
    tunnel = Route(AF_INET, 7003, "default", tun3, "", "10.3.3.2", 0, SCOPE_LINK)
    assert wanted.routes == {
        Route(AF_INET, 7001, "10.1.1.0/24", eth1, "", "10.1.1.2", 0, SCOPE_LINK): "wan1",
        Route(AF_INET, 7001, "default", eth1, "10.1.1.1"): "wan1",
        v6._replace(destination="2001:db8:1::/64", gateway=""): "wan1",
        v6: "wan1",
        Route(AF_INET, 7002, "10.2.2.0/24", eth2, "", "10.2.2.2", 0, SCOPE_LINK): "wan2",
        Route(AF_INET, 7002, "default", eth2, "10.2.2.1"): "wan2",
        lost: "wan2",
        lost._replace(family=AF_INET6): "wan2",
        tunnel._replace(destination="10.3.3.1"): "tun",
        tunnel: "tun",
        Route(AF_INET, 7000, "default", eth1, "10.1.1.1"): "wan1",
        v6._replace(table=7000): "wan1",
    }
    assert rules_by_uplink(world, wanted.rules) == [
        "wan1 7101: from all fwmark 0x1000000/0x7f000000 lookup 7001",
        "wan1 7301: from all oif eth1 lookup 7001",
        "wan1 7501: from 10.1.1.2 lookup 7001",
        "wan1 -6 7101: from all fwmark 0x1000000/0x7f000000 lookup 7001",
        "wan1 -6 7301: from all oif eth1 lookup 7001",
        "wan1 -6 7501: from 2001:db8:1::2 lookup 7001",
        "wan2 7102: from all fwmark 0x2000000/0x7f000000 lookup 7002",
        "wan2 7302: from all oif eth2 lookup 7002",
        "wan2 7502: from 10.2.2.2 lookup 7002",
        "wan2 7702: from all iif br-lan lookup 7002",
        "wan2 -6 7102: from all fwmark 0x2000000/0x7f000000 lookup 7002",
        "wan2 -6 7302: from all oif eth2 lookup 7002",
        "wan2 -6 7702: from all iif br-lan lookup 7002",
        "tun 7103: from all fwmark 0x3000000/0x7f000000 lookup 7003",
        "tun 7303: from all oif tun3 lookup 7003",
        "tun 7503: from 10.3.3.2 lookup 7003",
        "* 7000: from all fwmark 0x7f000000/0x7f000000 lookup main",
        "* 7010: from all lookup main suppress_prefixlength 7",
        "* 32764: from all lookup main suppress_prefixlength 0",
        "* 32765: from all lookup 7000",
        "* -6 7000: from all fwmark 0x7f000000/0x7f000000 lookup main",
        "* -6 7010: from all lookup main suppress_prefixlength 6",
        "* -6 32764: from all lookup main suppress_prefixlength 0",
        "* -6 32765: from all lookup 7000",
    ]
    assert all(None not in value for value in (*wanted.routes, *wanted.rules))
    assert wanted.endpoints == {
        Endpoint("10.1.1.2", eth1, SUBFLOW): "wan1",
        Endpoint("10.2.2.2", eth2, SUBFLOW): "wan2",
        Endpoint("10.3.3.2", tun3, SUBFLOW | BACKUP): "tun",
        Endpoint("2001:db8:1::2", eth1, SUBFLOW): "wan1",
    }
    assert wanted.default == {AF_INET: "wan1", AF_INET6: "wan1"}
    assert wanted.numbers == {
        "wan1": Numbers(1, 7001, 0x1000000, 0x7F000000),
        "wan2": Numbers(2, 7002, 0x2000000, 0x7F000000),
        "tun": Numbers(3, 7003, 0x3000000, 0x7F000000),
    }
    assert (wanted.limits, wanted.sysctls, wanted.over_cap) == (Limits(3, 0), {}, {})


def test_disabled_wants_nothing_and_remembers_slots_and_gateways() -> None:
    world = two_lines()
    world.run(WAN1 + WAN2)
    wanted = world.run(uci(WAN1 + WAN2, enabled=False)).plan
    known = State(
        slots={"wan1": 1, "wan2": 2},
        gateways={("eth1", "10.1.1.2"): "10.1.1.1", ("eth2", "10.2.2.2"): "10.2.2.1"},
    )
    assert wanted == Plan({}, {}, {}, Limits(2, 0), {}, (), {}, {}, {}, frozenset(), {}, known)


@pytest.mark.parametrize(
    ("lan", "families"), [((), ["7302:"]), (("fd00:7::1/64",), ["7302:", "-6 7302:"])]
)
def test_strict_holds_back_ipv6_where_the_host_has_any(
    lan: tuple[str, ...], families: list[str]
) -> None:
    """Without IPv6 on a strict uplink, no host of the LAN may leave via another uplink."""
    world = two_lines()
    world.device("lan0", *lan)
    world.run(uci(WAN1 + WAN2, "config uplink 'wan2'\n option strict '1'\n"))
    rules = part(world.ours(), "oif eth2")
    assert [line.partition(" from")[0] for line in rules] == families
    assert len(part(world.ours(), "unreachable default table 7002")) == len(families)


def test_strict_without_a_device_yet_has_no_rule_that_takes_everything() -> None:
    world = two_lines()
    text = WAN2 + "config interface 'vpn'\n option proto 'pppoe'\n option multipath 'on'\n"
    config = uci(text, "config uplink 'vpn'\n option strict '1'\n")
    world.run(config, Facts(devices={"vpn": ""}))
    assert part(world.ours(), "7002") == [
        "unreachable default table 7002 metric 4278198272",
        "7102: from all fwmark 0x2000000/0x7f000000 lookup 7002",
    ]


def test_each_subnet_of_a_device_has_its_route_from_its_first_address() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", "10.1.1.3/24", "10.9.9.2/24", gateway="10.1.1.1")
    world.run(interface("wan1", "eth1", "on"))
    assert part(world.ours(), "table 7001") == [
        "10.1.1.0/24 dev eth1 table 7001 scope link src 10.1.1.2",
        "10.9.9.0/24 dev eth1 table 7001 scope link src 10.9.9.2",
        "default via 10.1.1.1 dev eth1 table 7001",
    ]


def test_a_device_that_is_down_is_not_looked_up() -> None:
    """The kernel would refuse its routes (ENETDOWN)."""
    world = two_lines()
    world.down("eth2")
    outcome = world.run(WAN1 + WAN2)
    assert outcome.failures == ()
    assert not part(world.ours(), "7002")


def test_a_delegated_prefix_on_an_uplink_without_an_address() -> None:
    """The hosts behind us leave by it; the router itself has no address to prefer."""
    world = World()
    world.device("eth1")
    key = ("eth1", AF_INET6)
    facts = Facts({key: (Gateway("fe80::1", "netifd"),)}, prefixes={"eth1": ("2001:db8:9::/56",)})
    world.run(interface("wan1", "eth1", "on"), facts)
    assert part(world.ours(), "7001") == [
        "-6 default via fe80::1 dev eth1 table 7001 metric 1024",
        "-6 7301: from all oif eth1 lookup 7001",
        "-6 7501: from 2001:db8:9::/56 lookup 7001",
    ]


def test_where_netifd_keeps_the_table_only_the_ways_into_it_are_ours() -> None:
    world = two_lines()
    facts = Facts(tables={("eth2", AF_INET): 300})
    gateway = world.match(254, "198.51.100.1", world.link("eth2").index)
    assert gateway is not None
    world.foreign(gateway._replace(table=300), Rule(AF_INET, 5000, 300, "10.2.2.2", protocol=4))
    world.run(WAN1 + WAN2, facts)
    assert not part(world.ours(), "7002")
    assert part(world.ours(), "300") == [
        "7102: from all fwmark 0x2000000/0x7f000000 lookup 300",
        "7302: from all oif eth2 lookup 300",
    ]


def test_a_handover_uplink_stays_until_a_regular_one_is_stable() -> None:
    world = two_lines()
    text = WAN1 + interface("wan2", "eth2", "handover")
    world.set("eth1", carrier=False)
    world.run(text)
    world.set("eth1", carrier=True)
    world.run(text, Facts(settled=frozenset()))
    assert sorted(endpoints(world)) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]
    world.run(text, Facts(settled=frozenset({"wan1"})))
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]


def test_other_traffic_is_planned_for_each_family() -> None:
    world = two_lines()
    world.device("eth2", "2001:db8:2::2/64", gateway6="fe80::2")
    assert world.run(WAN1 + WAN2).plan.default == {AF_INET: "wan1", AF_INET6: "wan2"}
    assert part(world.ours(), "table 7000") == [
        "default via 10.1.1.1 dev eth1 table 7000",
        "-6 default via fe80::2 dev eth2 table 7000 metric 1024",
    ]
