"""Where the traffic of hosts behind this one leaves, and what other programs' rules do to it.

The fake kernel evaluates the rules; lan0 has 192.168.7.1/24, and this host is its router.
"""

from __future__ import annotations

from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd import reconciler
from mproutd.model import ANY_DEVICE, Route, Rule, Selectors
from mproutd.planning.routes import main_default_devices
from mproutd.planning.traffic import MAX_LANS, Flow, flows
from mproutd.status.build import build_status
from tests.lab.fake_world import World, interface
from tests.unit.test_plan import WAN1, WAN2, two_lines
from tests.unit.test_status import Site

LAN = "192.168.7.1/24"
GOTO, PROHIBIT = 2, 8
"""linux/fib_rules.h, FR_ACT_GOTO and FR_ACT_PROHIBIT."""
STEERED = "config uplink 'wan2'\n list iif 'lan0'\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    routers = frozenset((f"lan{n}", family) for n in range(80) for family in (AF_INET, AF_INET6))
    monkeypatch.setattr(reconciler, "forwarding_devices", lambda names: routers)
    made = Site(tmp_path)
    made.world.device("lan0", LAN)
    return made


def listed(site: Site) -> dict[str, Any]:
    """LAN or family → (uplink, device), as the status lists other traffic."""
    return {
        other["origin"] or other["family"]: (other["uplink"], other["device"])
        for other in site.status()["other_traffic"]
    }


def add_table(site: Site, table: int, device: str, gateway: str) -> None:
    """Another program's table with a default route."""
    index = site.world.link(device).index
    site.world.foreign(Route(AF_INET, table, "default", index, gateway, protocol=4))


def named(site: Site) -> list[tuple[str, str, str]]:
    """(code, traffic, where it leaves) of each problem."""
    return [
        (problem["code"], problem.get("traffic", ""), problem.get("actual", ""))
        for problem in site.problems()
    ]


# -- what is expected ----------------------------------------------------------------------


def test_a_lan_that_leaves_as_other_traffic_does_is_not_listed(site: Site) -> None:
    site.settle()
    assert listed(site) == {"ipv4": ("wan1", "eth1")}
    assert named(site) == []


def test_a_lan_that_is_steered_is_listed_and_is_no_problem(site: Site) -> None:
    site.write(WAN1 + WAN2, STEERED)
    site.settle()
    assert listed(site) == {"ipv4": ("wan1", "eth1"), "lan0": ("wan2", "eth2")}
    assert named(site) == []


def test_a_lan_with_a_prefix_of_an_uplink_leaves_there(site: Site) -> None:
    site.write(WAN1 + WAN2, "config uplink 'wan2'\n list prefix '192.168.7.0/24'\n")
    site.settle()
    assert listed(site)["lan0"] == ("wan2", "eth2")
    assert named(site) == []


def test_without_a_master_main_decides_and_a_missing_route_is_no_entry(site: Site) -> None:
    site.write(WAN1.replace("master", "on") + WAN2)
    site.settle()
    assert listed(site) == {"ipv4": ("wan1", "eth1")}
    site.world.routes = [route for route in site.world.routes if route.table != 254]
    assert listed(site) == {}


# -- other programs' rules -------------------------------------------------------------------


def test_a_rule_for_one_lan_is_its_administrators_choice(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(Rule(AF_INET, 100, 51, source="192.168.7.0/24", protocol=0))
    assert listed(site)["lan0"] == ("wan2", "eth2")
    assert named(site) == []


def test_a_rule_for_everything_is_named_with_all_that_it_diverts(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(Rule(AF_INET, 100, 51, protocol=0))
    traffic = (
        "other traffic (IPv4); traffic from lan0 (IPv4); the mark of wan1; the addresses of wan1"
    )
    assert named(site) == [("foreign-rule", traffic, "wan2 (eth2)")]


def test_the_same_in_ipv6_is_written_with_a_6(site: Site) -> None:
    world = site.world
    for n in (1, 2):
        world.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
    site.settle()
    index = world.link("eth2").index
    world.foreign(Route(AF_INET6, 51, "default", index, "fe80::2", metric=1024, protocol=4))
    world.foreign(Rule(AF_INET6, 100, 51, protocol=0))
    (found,) = site.problems()
    assert found["rule"] == "-6 100: from all lookup 51"


def test_a_rule_that_prohibits_is_named(site: Site) -> None:
    site.settle()
    rule = Rule(AF_INET, 100, 0, source="192.168.7.0/24", protocol=0)
    site.world.foreign(rule._replace(plain=False, action=PROHIBIT))
    assert named(site) == [("foreign-rule", "traffic from lan0 (IPv4)", "nowhere")]
    assert listed(site)["lan0"] == (None, None)


@pytest.mark.parametrize(
    "selector",
    [
        {"iif": "lan1"},
        {"oif": "eth2"},
        {"fwmark": 5, "fwmask": 5},
        {"source": "172.16.0.0/12"},
        {"destination": "172.16.0.0/12"},
    ],
)
def test_a_rule_that_selects_something_else_is_not_blamed(
    site: Site, selector: dict[str, Any]
) -> None:
    """The route of wan2 in table 7000 is whoever's; the rule with this table does not match."""
    site.settle()
    index = site.world.link("eth2").index
    route = Route(AF_INET, 7000, "default", index, "10.2.2.1", metric=0, protocol=4)
    ours = next(found for found in site.world.routes if found.key == route.key)
    site.world.routes[site.world.routes.index(ours)] = ours._replace(metric=9)
    site.world.foreign(route, Rule(AF_INET, 100, 7000, protocol=0, **selector))
    found = {flow.packet.source: flow for flow in flows_of(site) if flow.kind == "host"}
    assert list(found) == [""]
    problems = [problem for problem in named(site) if problem[0] == "foreign-rule"]
    assert problems == []


def flows_of(site: Site) -> list[Flow]:
    return [flow for flow, _ in site.reconciler.inspect().flows]


def test_before_the_plan_is_in_the_kernel_nothing_is_blamed(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(Rule(AF_INET, 100, 51, protocol=0))
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 7501]
    assert named(site) == []


def test_two_rules_for_one_mark_are_looked_at_once(site: Site) -> None:
    for priority in (5210, 5230):
        site.world.foreign(
            Rule(AF_INET, priority, 254, fwmark=0x80000, fwmask=0xFF0000, protocol=0)
        )
    site.settle()
    assert [flow.packet.mark for flow in flows_of(site) if flow.kind == "rule"] == [0x80000]


def test_a_mark_that_leads_to_an_uplink_that_is_off_is_named(site: Site) -> None:
    site.write(interface("wan1", "eth1", "off") + interface("wan2", "eth2", "master"))
    site.world.foreign(Rule(AF_INET, 5210, 254, fwmark=0x80000, fwmask=0xFF0000, protocol=0))
    site.settle()
    found = {problem["code"]: problem for problem in site.problems()}
    assert found["mark-follows-main"]["command"] == (
        "ip rule add priority 5209 fwmark 0x80000/0xff0000 lookup 7000"
    )


def test_a_mark_that_leads_to_a_device_that_is_no_uplink_is_no_problem(site: Site) -> None:
    site.world.device("tun0", "10.8.0.2/24")
    site.world.default("tun0", "10.8.0.1", 50)
    site.world.foreign(Rule(AF_INET, 5210, 254, fwmark=0x80000, fwmask=0xFF0000, protocol=0))
    site.settle()
    assert named(site) == []


def test_a_mark_that_leads_nowhere_is_named(site: Site) -> None:
    """Main has no default any more; the uplinks' gateways are configured."""
    own = "".join(f"config uplink 'wan{n}'\n option gateway '10.{n}.{n}.1'\n" for n in (1, 2))
    site.write(WAN1 + WAN2, own)
    site.world.foreign(Rule(AF_INET, 5210, 254, fwmark=0x80000, fwmask=0xFF0000, protocol=0))
    site.settle()
    site.world.routes = [route for route in site.world.routes if route.table != 254]
    site.world.rules = [rule for rule in site.world.rules if rule.priority < 32764]
    found = {problem["code"]: problem for problem in site.problems()}
    assert "mark-follows-main" not in found, "the plan is not in the kernel"
    site.settle()
    site.world.packet_routes = lambda packets: [None] * len(packets)  # type: ignore[method-assign]
    found = {problem["code"]: problem for problem in site.problems()}
    assert found["mark-follows-main"]["actual"] == "nowhere"


def test_what_no_rule_explains_is_named_once_for_each_kind_of_traffic(site: Site) -> None:
    """The marks and addresses of wan1 leave by wan2: a foreign route in its table."""
    site.settle()
    world = site.world
    ours = next(
        route
        for route in world.routes
        if (route.table, route.destination, route.protocol) == (7001, "default", 77)
    )
    world.routes[world.routes.index(ours)] = ours._replace(device=world.link("eth2").index)
    inspection = site.reconciler.inspect()._replace(drift=(), misrouted=())
    status = build_status(inspection)
    assert [(problem["code"], problem["text"]) for problem in status["problems"]] == [
        ("traffic-diverted", f"{traffic} leaves via wan2 (eth2) instead of wan1")
        for traffic in ("the mark of wan1", "the addresses of wan1")
    ]


def test_without_a_barred_family_no_uplink_is_named(site: Site) -> None:
    site.settle()
    site.world.packet_routes = lambda packets: [None] * len(packets)  # type: ignore[method-assign]
    (entry,) = site.status()["other_traffic"]
    assert (entry["uplink"], entry["device"], entry["barred"]) == (None, None, [])


def test_of_several_rules_the_one_whose_table_replied_is_named(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(Rule(AF_INET, 90, 50, protocol=0), Rule(AF_INET, 100, 51, protocol=0))
    (found,) = site.problems()
    assert found["rule"] == "100: from all lookup 51"


def skip(priority: int, **more: Any) -> Rule:
    return Rule(AF_INET, priority, 0, protocol=0, plain=False, action=GOTO, **more)


def test_a_rule_that_skips_ours_is_named(site: Site) -> None:
    site.settle()
    site.world.foreign(skip(90, source="172.16.0.0/12"), skip(100), skip(110))
    site.world.packet_routes = lambda packets: [  # type: ignore[method-assign]
        site.world.match(254, "198.51.100.1", 0) for _ in packets
    ]
    found = {problem["code"]: problem for problem in site.problems()}["foreign-rule"]
    assert found["rule"] == "100: from all goto"
    assert found["traffic"] == "the mark of wan2"


def test_one_that_skips_less_is_not_blamed_for_another_rules_table(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(Rule(AF_INET, 100, 51, protocol=0))
    site.world.rules.insert(0, skip(90))
    site.world.packet_routes = lambda packets: [  # type: ignore[method-assign]
        site.world.match(51, "198.51.100.1", 0) for _ in packets
    ]
    found = {problem["code"]: problem for problem in site.problems()}
    assert found["foreign-rule"]["rule"] == "100: from all lookup 51"


@pytest.mark.parametrize("mode", ["on", "master"])
def test_no_rule_that_looks_up_main(site: Site, mode: str) -> None:
    """Without a master, and where a VPN's default in main wins over it."""
    site.world.device("tun0", "10.8.0.2/24")
    site.world.default("tun0", "10.8.0.1", 50)
    site.write(WAN1.replace("master", mode) + WAN2)
    site.settle()
    assert named(site) == []
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 32766]
    (found,) = site.problems()
    assert found["code"] == "main-not-looked-up"
    assert found["advice"] == (
        "restore the rule: ip rule add priority 32766 lookup main protocol kernel"
    )


def test_the_mark_of_a_strict_uplink_that_is_down_leads_nowhere(site: Site) -> None:
    site.write(WAN1 + WAN2, "config uplink 'wan2'\n option strict '1'\n")
    site.settle()
    lookup = site.world.packet_routes
    site.world.packet_routes = lambda packets: [  # type: ignore[method-assign]
        None if packet.mark == 0x2000000 else route
        for packet, route in zip(packets, lookup(packets), strict=True)
    ]
    assert named(site) == [("traffic-diverted", "the mark of wan2", "nowhere")]
    site.world.set("eth2", carrier=False)
    site.settle()
    assert "traffic-diverted" not in {code for code, _, _ in named(site)}


def test_a_lan_whose_packets_are_dropped_is_named_where_main_is_looked_up(site: Site) -> None:
    """rp_filter drops what comes from a subnet that main has on another device."""
    site.write(WAN1.replace("master", "on") + WAN2)
    site.settle()
    lookup = site.world.packet_routes
    lan0 = site.world.link("lan0").index
    site.world.packet_routes = lambda packets: [  # type: ignore[method-assign]
        None if packet.iif == lan0 else route
        for packet, route in zip(packets, lookup(packets), strict=True)
    ]
    (found,) = site.problems()
    assert found["text"] == (
        "traffic from lan0 (IPv4) leaves via nowhere instead of main's default route"
    )


def test_a_mark_that_another_rule_takes_away_from_main_is_no_problem(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    mark: dict[str, Any] = {"fwmark": 0x80000, "fwmask": 0xFF0000, "protocol": 0}
    site.world.foreign(Rule(AF_INET, 90, 51, **mark), Rule(AF_INET, 5210, 254, **mark))
    assert named(site) == []


# -- rules for users, protocols and ports ------------------------------------------------------

HTTPS = Selectors(dports=(443, 443), protocol=6)
USERS = Selectors(uids=(1000, 1999))


def limited(priority: int, table: int, selectors: Selectors, **more: Any) -> Rule:
    rule = Rule(AF_INET, priority, table, protocol=0, plain=False, selectors=selectors)
    return rule._replace(**more)


def test_what_a_rule_leads_elsewhere_by_user_or_port_is_listed_and_no_problem(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(limited(100, 51, HTTPS), limited(101, 0, USERS, action=PROHIBIT))
    assert listed(site) == {
        "ipv4": ("wan1", "eth1"),
        "ipproto tcp dport 443": ("wan2", "eth2"),
        "uidrange 1000-1999": (None, None),
    }
    assert named(site) == []


def test_where_such_a_rule_changes_nothing_it_is_not_listed(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth1", "10.1.1.1")
    site.world.foreign(limited(100, 51, HTTPS), limited(110, 51, HTTPS, source="10.0.0.0/8"))
    assert listed(site) == {"ipv4": ("wan1", "eth1")}


def test_such_a_rule_is_not_blamed_for_other_traffic(site: Site) -> None:
    site.settle()
    add_table(site, 51, "eth2", "10.2.2.1")
    site.world.foreign(limited(100, 51, HTTPS), Rule(AF_INET, 120, 51, protocol=0))
    (found,) = site.problems()
    assert found["rule"] == "120: from all lookup 51"


# -- the hosts behind a device ----------------------------------------------------------------


def lans(world: World) -> list[tuple[str, str]]:
    """(device, the host that stands for its LAN) of what a status looks up."""
    outcome = world.run(WAN1)
    routers = [(link.name, family) for link in world.links.values() for family in (2, 10)]
    found = flows(outcome.snapshot, outcome.plan, outcome.plan.rules, routers)
    return [(flow.name, flow.packet.source) for flow in found if flow.kind == "lan"]


def test_one_host_stands_for_each_lan() -> None:
    world = two_lines()
    world.device("lan1", "192.168.1.1/24", "192.168.2.1/24")
    world.device("lan2", "192.168.3.2/24")
    assert lans(world) == [("eth2", "10.2.2.1"), ("lan1", "192.168.1.2"), ("lan2", "192.168.3.1")]


def test_the_host_that_stands_for_a_lan_is_another_one() -> None:
    """The kernel drops what comes from its own address, such as the virtual one of a pair."""
    world = two_lines()
    world.device("lan1", "192.168.1.2/24", "192.168.1.1/24", "192.168.1.3/24")
    world.device("lan2", "192.168.2.1/30", "192.168.2.2/30")
    assert [lan for lan in lans(world) if "lan" in lan[0]] == [("lan1", "192.168.1.4")]


def test_devices_without_hosts_behind_them_are_left_out() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.create("ppp0", pointopoint=True)
    world.device("ppp0", "10.64.0.2/32")
    world.device("lan1", "192.168.1.1/32")
    world.device("lan2", "192.168.2.0/31")
    world.device("lan3", "192.168.3.1/24")
    world.down("lan3")
    assert lans(world) == []


def test_with_very_many_lans_some_are_looked_at() -> None:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    for n in range(MAX_LANS + 5):
        world.device(f"lan{n}", f"192.168.{n}.1/24")
    assert len(lans(world)) == MAX_LANS


def test_the_devices_of_mains_best_defaults() -> None:
    world = two_lines()
    snapshot = world.run(WAN1).snapshot
    assert main_default_devices(snapshot) == {world.link("eth1").index}
    without = snapshot._replace(defaults={(ANY_DEVICE, AF_INET): snapshot.defaults[0, AF_INET]})
    assert main_default_devices(without) == {world.link("eth1").index}
