"""Resolvers by uplink: which get a rule, and the file for dnsmasq."""

from __future__ import annotations

import json
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.configuration.config import ConfigError
from mproutd.hints import Hints, hints_directory
from mproutd.planning.netifd import add_netifd_facts, parse_dump
from mproutd.planning.plan import Plan
from mproutd.planning.resolver_sources import (
    MAX_RESOLVERS,
    Resolver,
    is_link_local,
    merge_resolvers,
    parse_networkd_link,
    parse_resolvers,
)
from mproutd.planning.resolvers import in_use, resolv_conf
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import World, interface, uci

WAN1, WAN2 = interface("wan1", "eth1", "master"), interface("wan2", "eth2", "on")


def lease(*addresses: str) -> tuple[Resolver, ...]:
    return tuple(Resolver(address, "lease") for address in addresses)


def two_uplinks() -> World:
    world = World()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    world.device("br-lan", "192.168.70.1/24")
    return world


def rules(world: World) -> list[str]:
    return [line for line in world.ours().splitlines() if "7899:" in line]


def planned(
    world: World, facts: Facts, network: str = WAN1 + WAN2, own: str = ""
) -> tuple[Plan, dict[str, str]]:
    """The plan, and the reason of each resolver without a rule."""
    plan = world.run(uci(network, own), facts).plan
    return plan, {item.address: item.reason for item in plan.resolvers}


def listed(plan: Plan) -> list[str]:
    text = resolv_conf(in_use(plan.resolvers, plan.uplinks))
    return text.splitlines()[1:]


def test_each_has_a_rule_to_the_table_of_its_uplink() -> None:
    world = two_uplinks()
    facts = Facts(
        resolvers={"eth1": lease("198.51.100.53", "198.51.100.54"), "eth2": lease("203.0.113.53")}
    )
    plan, reasons = planned(world, facts)
    assert rules(world) == [
        "7899: from all to 198.51.100.53 lookup 7001",
        "7899: from all to 198.51.100.54 lookup 7001",
        "7899: from all to 203.0.113.53 lookup 7002",
    ]
    assert set(reasons.values()) == {""}
    assert listed(plan) == [
        "# wan1",
        "nameserver 198.51.100.53",
        "nameserver 198.51.100.54",
        "# wan2",
        "nameserver 203.0.113.53",
    ]


def test_both_families() -> None:
    world = two_uplinks()
    world.device("eth3", "2001:db8:3::2/64", gateway6="fe80::1")
    facts = Facts(resolvers={"eth3": lease("2001:db8:53::1", "203.0.113.53")})
    planned(world, facts, WAN1 + WAN2 + interface("wan3", "eth3", "on"))
    assert rules(world) == ["-6 7899: from all to 2001:db8:53::1 lookup 7003"]


def test_no_rule_without_any_resolver() -> None:
    world = two_uplinks()
    plan, reasons = planned(world, Facts())
    assert plan.resolvers == ()
    assert reasons == {}
    assert rules(world) == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.168.70.53", "local"),  # a server in the LAN
        ("192.168.70.1", "local"),  # this host
        ("10.1.1.2", "local"),  # this host as well
        ("10.1.1.1", ""),  # the modem
        ("fe80::53", "link-local"),
    ],
)
def test_who_is_reached_without_a_provider_has_no_rule(address: str, reason: str) -> None:
    world = two_uplinks()
    _, reasons = planned(world, Facts(resolvers={"eth1": lease(address)}))
    assert reasons == {address: reason}
    assert bool(rules(world)) == (not reason)


def test_a_default_route_on_an_interface_is_no_local_network() -> None:
    world = two_uplinks()
    world.device("ppp9", "192.0.2.9/0")
    _, reasons = planned(world, Facts(resolvers={"eth1": lease("198.51.100.53")}))
    assert reasons == {"198.51.100.53": ""}


def test_a_resolver_that_two_uplinks_name_has_no_rule_and_is_listed_once() -> None:
    world = two_uplinks()
    facts = Facts(resolvers={"eth1": lease("9.9.9.9"), "eth2": lease("9.9.9.9", "203.0.113.53")})
    plan, _ = planned(world, facts)
    assert rules(world) == ["7899: from all to 203.0.113.53 lookup 7002"]
    assert [item.sharers for item in plan.resolvers] == [("wan1", "wan2"), ("wan1", "wan2"), ()]
    assert listed(plan) == ["# wan1", "nameserver 9.9.9.9", "# wan2", "nameserver 203.0.113.53"]


def test_one_that_the_same_uplink_names_twice_is_not_shared() -> None:
    world = two_uplinks()
    hinted = lease("198.51.100.53") + (Resolver("198.51.100.53", "networkd"),)
    plan, _ = planned(world, Facts(resolvers={"eth1": hinted}))
    assert [item.origin for item in plan.resolvers] == ["lease"]
    assert rules(world) == ["7899: from all to 198.51.100.53 lookup 7001"]


def test_an_uplink_that_is_lost_loses_its_rule_and_its_place() -> None:
    world = two_uplinks()
    facts = Facts(resolvers={"eth1": lease("198.51.100.53"), "eth2": lease("203.0.113.53")})
    planned(world, facts)
    world.set("eth1", carrier=False)
    plan, reasons = planned(world, facts)
    assert reasons["198.51.100.53"] == "unusable"
    assert rules(world) == ["7899: from all to 203.0.113.53 lookup 7002"]
    assert listed(plan) == ["# wan2", "nameserver 203.0.113.53"]
    world.set("eth1", carrier=True)
    planned(world, facts)
    assert len(rules(world)) == 2


def test_with_strict_the_rule_stays() -> None:
    world = two_uplinks()
    own = "config uplink 'wan1'\n option strict '1'\n"
    facts = Facts(resolvers={"eth1": lease("198.51.100.53", "2001:db8::53")})
    world.set("eth1", carrier=False)
    plan, _ = planned(world, facts, own=own)
    assert rules(world) == ["7899: from all to 198.51.100.53 lookup 7001"]
    assert listed(plan) == []


def test_the_order_is_that_of_other_traffic() -> None:
    facts = Facts(resolvers={"eth1": lease("198.51.100.53"), "eth2": lease("203.0.113.53")})
    second_first = ["# wan2", "nameserver 203.0.113.53", "# wan1", "nameserver 198.51.100.53"]
    network = interface("wan1", "eth1", "backup") + interface("wan2", "eth2", "on")
    assert listed(planned(two_uplinks(), facts, network)[0]) == second_first
    network = interface("wan1", "eth1", "on") + interface("wan2", "eth2", "on")
    own = "config uplink 'wan1'\n option metric '9'\nconfig uplink 'wan2'\n option metric '3'\n"
    assert listed(planned(two_uplinks(), facts, network, own)[0]) == second_first


def test_off_has_a_rule_and_is_not_listed() -> None:
    world = two_uplinks()
    facts = Facts(resolvers={"eth1": lease("198.51.100.53"), "eth2": lease("203.0.113.53")})
    plan, _ = planned(world, facts, WAN1 + interface("wan2", "eth2", "off"))
    assert len(rules(world)) == 2
    assert listed(plan) == ["# wan1", "nameserver 198.51.100.53"]


def test_an_uplink_that_leads_only_to_its_own_subnets_has_none() -> None:
    world = two_uplinks()
    own = "config uplink 'wan2'\n option default_route '0'\n list dns '203.0.113.53'\n"
    assert planned(world, Facts(), own=own)[1] == {}


def test_the_configuration_replaces_what_leases_name() -> None:
    world = two_uplinks()
    own = "config uplink 'wan1'\n list dns '198.51.100.99'\n list dns 'fe80::0053'\n"
    plan, reasons = planned(world, Facts(resolvers={"eth1": lease("198.51.100.53")}), own=own)
    assert reasons == {"198.51.100.99": "", "fe80::53": "link-local"}
    assert [item.origin for item in plan.resolvers] == ["configuration"] * 2
    assert [item.scope for item in plan.resolvers] == ["", "eth1"]
    assert "-6" not in world.ours()
    assert listed(plan) == ["# wan1", "nameserver 198.51.100.99"]


def test_a_link_local_resolver_is_listed_with_its_device() -> None:
    world = two_uplinks()
    world.device("eth3", "2001:db8:3::2/64", gateway6="fe80::1")
    facts = Facts(resolvers={"eth3": lease("fe80::53")})
    plan, _ = planned(world, facts, interface("wan3", "eth3", "master"))
    assert listed(plan) == ["# wan3", "nameserver fe80::53%eth3"]


def test_where_netifd_keeps_the_table_the_rule_leads_there() -> None:
    world = two_uplinks()
    facts = Facts(
        resolvers={"eth1": lease("198.51.100.53")}, tables={("eth1", AF_INET): 103}, devices={}
    )
    planned(world, facts)
    assert rules(world) == ["7899: from all to 198.51.100.53 lookup 103"]


# -- sources ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "addresses"),
    [
        ("10.1.1.53", ["10.1.1.53"]),
        ("2001:DB8::0053", ["2001:db8::53"]),
        ("fe80::1%eth1", ["fe80::1"]),
        ("127.0.0.53", []),
        ("::1", []),
        ("::", []),
        ("ff02::fb", []),
        ("224.0.0.251", []),
        ("0.0.0.0", []),
        ("10.1.1.53:5353", []),
        ("10.1.1.53#dns.example", []),
        ("dns.example", []),
        ("", []),
    ],
)
def test_what_can_be_a_resolver(word: str, addresses: list[str]) -> None:
    assert [item.address for item in parse_resolvers([word], "lease")] == addresses


def test_a_source_names_eight_at_most_and_each_once() -> None:
    words = [f"10.1.1.{host}" for host in range(1, 30)]
    assert len(parse_resolvers(words * 2, "lease")) == MAX_RESOLVERS


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("fe80::1", True),
        ("febf::1", True),
        ("fec0::1", False),
        ("fe::1", False),
        ("10.1.1.1", False),
    ],
)
def test_link_local(address: str, expected: bool) -> None:
    assert is_link_local(address) == expected


def test_a_file_of_networkd() -> None:
    text = "# This is private data. Do not parse.\nADMIN_STATE=configured\nDNS=10.1.1.53 fe80::1\n"
    assert [item.address for item in parse_networkd_link(text + "NTP=10.1.1.99\nDOMAINS\n")] == [
        "10.1.1.53",
        "fe80::1",
    ]


def test_two_sources() -> None:
    one, two = (
        {"eth1": lease("10.1.1.53")},
        {"eth1": lease("10.1.1.54"), "eth2": lease("10.2.2.53")},
    )
    assert merge_resolvers(one, two) == {
        "eth1": lease("10.1.1.53", "10.1.1.54"),
        "eth2": lease("10.2.2.53"),
    }
    assert merge_resolvers({}, two) is two
    assert merge_resolvers(one, {}) is one


def netifd(**attributes: Any) -> Facts:
    item = {"interface": "wan", "up": True, "l3_device": "eth1", **attributes}
    hinted = Facts(resolvers={"eth1": lease("198.51.100.99")})
    return add_netifd_facts(parse_dump(json.dumps({"interface": [item]})), hinted)


def test_netifd_names_those_in_use() -> None:
    facts = netifd(**{"dns-server": ["10.1.1.53", 7], "inactive": {"dns-server": ["10.1.1.54"]}})
    assert facts.resolvers == {
        "eth1": (Resolver("10.1.1.53", "netifd"), Resolver("198.51.100.99", "lease"))
    }
    assert netifd(**{"dns-server": "10.1.1.53"}).resolvers == {"eth1": lease("198.51.100.99")}


def test_hints_name_them_for_both_families(tmp_path: Path) -> None:
    folder = Path(hints_directory(str(tmp_path / "run")))
    folder.mkdir(mode=0o755)
    (folder / "eth1").write_text("dns=10.1.1.53\nreason=post-up\n")
    (folder / "eth1:4").write_text("gateway=10.1.1.1\ndns=10.1.1.54 10.1.1.55\nreason=BOUND\n")
    (folder / "eth1:6").write_text("dns=2001:db8::53\n")
    (folder / "eth2:4").write_text("gateway=10.2.2.1\n")
    hints = Hints(str(tmp_path / "run"))
    assert ("eth1", AF_INET6) not in hints.read(["eth1", "eth2"])
    assert hints.resolvers == {
        "eth1": (
            Resolver("10.1.1.53", "ifupdown"),
            *lease("10.1.1.54", "10.1.1.55", "2001:db8::53"),
        )
    }


# -- the configuration --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("dns.example", "'dns.example' is not an address of a DNS server"),
        ("fe80::1%eth1", "'fe80::1%eth1' names a device: write fe80::1, for the uplink's own"),
        ("127.0.0.1", "'127.0.0.1' is this host: name a server of the provider"),
        ("::1", "'::1' is this host: name a server of the provider"),
        ("224.0.0.1", "'224.0.0.1' is a multicast or reserved address"),
        ("ff02::1", "'ff02::1' is a multicast or reserved address"),
    ],
)
def test_what_dns_does_not_take(value: str, error: str) -> None:
    with pytest.raises(ConfigError, match="option 'dns'") as caught:
        uci(WAN1, f"config uplink 'wan1'\n list dns '{value}'\n")
    assert error in str(caught.value)
