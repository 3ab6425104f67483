"""The reply of netifd as facts: recordings, replies for other kinds of uplink, and nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mproutd.configuration.config import Config
from mproutd.configuration.netifd import resolve_devices
from mproutd.model import Route, Rule
from mproutd.planning.gateways import Gateway
from mproutd.planning.netifd import Interface, add_netifd_facts, parse_dump
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import STATIC, World, interface, uci

RECORDED = Path(__file__).parents[1] / "fixtures" / "netifd"


def recorded(name: str) -> dict[str, Interface]:
    return parse_dump((RECORDED / f"{name}.json").read_text())


def test_a_recorded_dump() -> None:
    assert recorded("interface-dump-up") == {
        "lan": Interface("lan", "l0"),
        "loopback": Interface("loopback", "lo"),
        "lte": Interface("lte"),
        "wan1": Interface("wan1", "w1", ((AF_INET, "10.1.1.1"), (AF_INET6, "2001:db8:1::1"))),
        # defaultroute 0: the gateway is only in inactive.route
        "wan2": Interface("wan2", "w2", ((AF_INET, "10.2.2.1"),)),
        # ip4table 103
        "wan3": Interface("wan3", "w3", ((AF_INET, "10.3.3.1"),), (), ((AF_INET, 103),)),
    }


def test_an_interface_that_is_down_has_nothing() -> None:
    before, after = recorded("interface-dump-up"), recorded("interface-dump-wan2-down")
    assert after == before | {"wan2": Interface("wan2")}


def test_the_facts_are_by_device_and_precede_hints() -> None:
    lease = Gateway("10.2.2.254", "lease")
    facts = Facts({("w2", AF_INET): (lease,), ("eth9", AF_INET): (lease,)})
    merged = add_netifd_facts(recorded("interface-dump-up"), facts)
    assert merged.gateways == {
        ("w1", AF_INET): (Gateway("10.1.1.1", "netifd"),),
        ("w1", AF_INET6): (Gateway("2001:db8:1::1", "netifd"),),
        ("w2", AF_INET): (Gateway("10.2.2.1", "netifd"), lease),
        ("w3", AF_INET): (Gateway("10.3.3.1", "netifd"),),
        ("eth9", AF_INET): (lease,),
    }
    assert merged.tables == {("w3", AF_INET): 103}
    assert merged.devices is not None
    assert merged.devices["wan1"] == "w1"
    assert merged.devices["lte"] == ""


def one(**fields: Any) -> str:
    """A dump with one interface that is up."""
    return json.dumps({"interface": [{"interface": "wan", "up": True, **fields}]})


def default(hop: str, target: str = "0.0.0.0", **more: Any) -> dict[str, Any]:
    return {"target": target, "mask": 0, "nexthop": hop, **more}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"l3_device": "pppoe-wan"}, Interface("wan", "pppoe-wan")),
        # straight to the device, as wwan, WireGuard and 6in4 have it
        (
            {"route": [default("0.0.0.0"), default("::", "::")]},
            Interface("wan", "", ((AF_INET, ""), (AF_INET6, ""))),
        ),
        # an active route before an inactive one
        (
            {"route": [default("10.0.0.1")], "inactive": {"route": [default("10.0.0.2")]}},
            Interface("wan", "", ((AF_INET, "10.0.0.1"),)),
        ),
        # not a default route
        ({"route": [{"target": "10.0.0.0", "mask": 8, "nexthop": "10.0.0.1"}]}, Interface("wan")),
        # IPv6: one for every source before one for some
        (
            {
                "route": [
                    default("fe80::2", "::", source="2001:db8::/56"),
                    default("fe80::1", "::", source="::/0"),
                ]
            },
            Interface("wan", "", ((AF_INET6, "fe80::1"),)),
        ),
        (
            {"route": [default("FE80:0::1", "::", source="2001:db8::/56")]},
            Interface("wan", "", ((AF_INET6, "fe80::1"),)),
        ),
        # delegated prefixes, host bits cleared, each once
        (
            {
                "ipv6-prefix": [
                    {"address": "2001:db8:7::", "mask": 56, "assigned": {}},
                    {"address": "2001:db8:7::1", "mask": 56},
                    {"address": "2001:db8:8::", "mask": 64},
                ]
            },
            Interface("wan", "", (), ("2001:db8:7::/56", "2001:db8:8::/64")),
        ),
        (
            {"ip4table": 103, "ip6table": 106},
            Interface("wan", "", (), (), ((AF_INET, 103), (AF_INET6, 106))),
        ),
        # main is no table of an uplink's
        ({"ip4table": 254, "ip6table": 0}, Interface("wan")),
        # what makes no sense is left out, and the rest counts
        (
            {
                "l3_device": "../../etc",
                "route": [default("gateway"), default("224.0.0.1"), 7, default("10.0.0.1")],
                "ipv6-prefix": [
                    {"address": "::", "mask": 0},
                    {"address": "2001:db8::x", "mask": 64},
                    {"mask": 8},
                    "x",
                ],
                "ip4table": "many",
                "inactive": [],
            },
            Interface("wan", "", ((AF_INET, "10.0.0.1"),)),
        ),
        ({"up": False, "l3_device": "eth0", "route": [default("10.0.0.1")]}, Interface("wan")),
    ],
)
def test_one_interface(fields: dict[str, Any], expected: Interface) -> None:
    assert parse_dump(one(**fields)) == {"wan": expected}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSON"),
        ("Command failed: Request timed out", "JSON"),
        ('{"interface": [', "JSON"),
        ("[" * 100000, "JSON"),
        ("[]", "list of interfaces"),
        ("{}", "list of interfaces"),
        ('{"interface": {}}', "list of interfaces"),
        ('{"interface": [7]}', "without a name"),
        ('{"interface": [{"up": true}]}', "without a name"),
    ],
)
def test_nonsense_is_refused_as_a_whole(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_dump(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["::", "0"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["target", "mask", "nexthop", "address"]), inner)
    ),
    max_leaves=8,
)
KEYS = ["up", "l3_device", "route", "inactive", "ipv6-prefix", "ip4table", "ip6table"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_stands_in_a_field_the_interface_is_read(fields: dict[str, Any]) -> None:
    (wan,) = parse_dump(one(**fields)).values()
    add_netifd_facts({"wan": wan}, Facts())


# -- configuration, kernel and netifd in; the kernel's state in `ip` syntax out ----------------


def world() -> World:
    """eth1 and eth2 with their addresses; main has no default route."""
    made = World()
    made.device("eth1", "10.1.1.2/24", "2001:db8:1::2/64")
    made.device("eth2", "10.2.2.2/24")
    return made


def section(name: str, mode: str, *options: str) -> str:
    lines = [f"config interface '{name}'", f" option multipath '{mode}'"]
    return "\n".join([*lines, *(f" option {option}" for option in options)]) + "\n"


def dump(*interfaces: dict[str, Any]) -> Facts:
    dump = [{"up": True, **interface} for interface in interfaces]
    return add_netifd_facts(parse_dump(json.dumps({"interface": dump})), Facts())


def run(made: World, config: Config, facts: Facts) -> list[str]:
    made.run(resolve_devices(config, facts.devices), facts=facts)
    return made.ours().splitlines()


WAN2 = {"interface": "wan2", "l3_device": "eth2", "route": [default("10.2.2.1")]}


def test_the_prefix_has_a_rule_and_the_default_no_source() -> None:
    made = world()
    prefix = {"address": "2001:db8:a200::", "mask": 56}
    child = {"interface": "wan2_6", "l3_device": "eth2", "ipv6-prefix": [prefix]}
    child["route"] = [default("fe80::2", "::", source="2001:db8:a200::/56")]
    lines = run(made, uci(interface("wan2", "eth2", "on")), dump(WAN2, child))
    assert [line for line in lines if "-6" in line] == [
        "-6 default via fe80::2 dev eth2 table 7001 metric 1024",
        "-6 7000: from all fwmark 0x7f000000/0x7f000000 lookup main",
        "-6 7010: from all lookup main suppress_prefixlength 6",
        "-6 7301: from all oif eth2 lookup 7001",
        "-6 7501: from 2001:db8:a200::/56 lookup 7001",
    ]
    # The uplink has lost the prefix: the rule goes, and IPv4 is as it was.
    lines = run(made, uci(interface("wan2", "eth2", "on")), dump(WAN2))
    assert not [line for line in lines if "-6" in line]
    assert "default via 10.2.2.1 dev eth2 table 7001 src 10.2.2.2" in lines


def test_netifds_table_has_neither_routes_nor_source_rules_of_ours() -> None:
    made = world()
    config = uci(interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on"))
    wan1 = {"interface": "wan1", "l3_device": "eth1", "route": [default("10.1.1.1")]}
    index = made.link("eth2").index
    for route in (
        Route(AF_INET, 103, "10.2.2.0/24", index, "", "10.2.2.2", 0, 253, protocol=STATIC),
        Route(AF_INET, 103, "default", index, "10.2.2.1", "10.2.2.2", protocol=STATIC),
    ):
        made.foreign(route)
    for rule in (
        Rule(AF_INET, 10000, 103, "10.2.2.2", protocol=0),
        Rule(AF_INET, 20000, 103, destination="10.2.2.0/24", protocol=0),
        Rule(AF_INET, 90004, 103, iif="lo", protocol=0),
    ):
        made.foreign(rule)
    lines = run(made, config, dump(wan1, {**WAN2, "ip4table": 103}))
    assert [line for line in lines if "eth2" in line or "103" in line or "10.2.2" in line] == [
        "7102: from all fwmark 0x2000000/0x7f000000 lookup 103",
        "7302: from all oif eth2 lookup 103",
        "10.2.2.2 subflow dev eth2",
    ]
    assert made.walk("192.0.2.1", source="10.2.2.2") == made.match(103, "192.0.2.1", 0)
    # It ends: all of it is ours again, and the other way round.
    whole = run(made, config, dump(wan1, WAN2))
    assert "7502: from 10.2.2.2 lookup 7002" in whole
    assert run(made, config, dump(wan1, {**WAN2, "ip4table": 103})) == lines


def test_a_strict_uplink_without_a_device_takes_nothing() -> None:
    made = world()
    config = uci(section("wan", "on", "proto pppoe"), "config uplink wan\n option strict 1\n")
    lines = run(made, config, dump())
    assert not [line for line in lines if "7301" in line]
    assert made.walk("192.0.2.1", source="10.1.1.2") is None  # main has no default


PPPOE = section("wan", "master", "proto pppoe", "device eth1")

DEVICES: dict[str, tuple[str, dict[str, str] | None, list[str]]] = {
    # what is written; what netifd says; the uplinks as "name device mode interfaces"
    "netifd has said nothing": (PPPOE, None, ["wan - master wan"]),
    "it has given none": (PPPOE, {"wan": ""}, ["wan - master wan"]),
    "it has given one": (PPPOE, {"wan": "pppoe-wan"}, ["wan pppoe-wan master wan"]),
    "two sessions over one card": (
        PPPOE + section("dsl", "on", "proto pppoe", "device eth1"),
        {"wan": "pppoe-wan", "dsl": "pppoe-dsl"},
        ["wan pppoe-wan master wan", "dsl pppoe-dsl on dsl"],
    ),
    "the card below is another one's": (
        PPPOE + section("modem", "off", "proto static", "device eth1"),
        {"wan": "pppoe-wan", "modem": "eth1"},
        ["wan pppoe-wan master wan", "modem eth1 off modem"],
    ),
    "an alias is one with it from the start": (
        PPPOE + section("wan6", "master", "proto dhcpv6", "device @wan"),
        {"wan": ""},
        ["wan - master wan wan6"],
    ),
    "a section that names the device is one with it later": (
        PPPOE + section("wan6", "master", "proto dhcpv6", "device pppoe-wan"),
        {"wan": "pppoe-wan", "wan6": "pppoe-wan"},
        ["wan pppoe-wan master wan wan6"],
    ),
    "until then it is by itself": (
        PPPOE + section("wan6", "master", "proto dhcpv6", "device pppoe-wan"),
        {"wan": "", "wan6": ""},
        ["wan - master wan", "wan6 pppoe-wan on wan6"],
    ),
    "a modem's port is no device": (
        section("lte", "backup", "proto qmi", "device /dev/cdc-wdm0"),
        {"lte": "wwan0"},
        ["lte wwan0 backup lte"],
    ),
    "a tunnel names none": (
        section("tun6", "on", "proto 6in4"),
        {"tun6": "6in4-tun6"},
        ["tun6 6in4-tun6 on tun6"],
    ),
    "netifd knows better than the file": (
        section("wan", "on", "device eth1", "proto dhcp"),
        {"wan": "br-wan"},
        ["wan br-wan on wan"],
    ),
    "an interface that is down keeps the file's": (
        section("wan", "on", "device eth1", "proto dhcp"),
        {"wan": ""},
        ["wan eth1 on wan"],
    ),
}


def uplinks_of(config: Config) -> list[str]:
    return [" ".join((u.name, u.device or "-", u.mode, *u.interfaces)) for u in config.uplinks]


@pytest.mark.parametrize(("written", "devices", "expected"), DEVICES.values(), ids=DEVICES)
def test_devices(written: str, devices: dict[str, str] | None, expected: list[str]) -> None:
    assert uplinks_of(resolve_devices(uci(written), devices)) == expected


def test_a_device_of_mproutds_own_file_stands() -> None:
    config = uci(PPPOE, "config uplink wan\n option device ppp9\n")
    assert uplinks_of(resolve_devices(config, {"wan": "pppoe-wan"})) == ["wan ppp9 master wan"]


def test_of_two_on_one_device_the_first_counts_and_a_warning_says_so() -> None:
    config = uci(
        PPPOE + section("wan6", "backup", "proto dhcpv6", "device pppoe-wan"),
        "config uplink wan6\n option gateway6 fe80::1\n option table 9\n",
    )
    assert config.warnings == ()
    one = resolve_devices(config, {"wan": "pppoe-wan"})
    assert uplinks_of(one) == ["wan pppoe-wan master wan wan6"]
    assert (one.uplinks[0].gateway6, one.uplinks[0].table) == ("fe80::1", None)
    (warning,) = one.warnings
    assert warning.startswith("network: uplink 'wan6': ")
    assert [fact for fact in ("pppoe-wan", "'wan'", "backup") if fact not in warning] == []
    assert resolve_devices(config, {"wan": ""}) == config


def test_a_second_one_that_is_off_joins_silently() -> None:
    config = uci(PPPOE + section("wan6", "off", "proto dhcpv6", "device pppoe-wan"))
    one = resolve_devices(config, {"wan": "pppoe-wan"})
    assert (uplinks_of(one), one.warnings) == (["wan pppoe-wan master wan wan6"], ())


def test_an_uplink_keeps_its_place_whatever_device_it_has() -> None:
    made = world()
    config = uci(PPPOE + interface("wan2", "eth2", "on"))
    wan = {"interface": "wan", "l3_device": "eth1", "route": [default("10.1.1.1")]}
    before = run(made, config, dump(wan, WAN2))
    assert "default via 10.1.1.1 dev eth1 table 7001 src 10.1.1.2" in before
    without = run(made, config, dump({"interface": "wan", "up": False}, WAN2))
    assert not [line for line in without if "eth1" in line or "10.1.1" in line]
    assert "default via 10.2.2.1 dev eth2 table 7002 src 10.2.2.2" in without
    assert sorted(run(made, config, dump(wan, WAN2))) == sorted(before)


WAN = {"interface": "wan", "l3_device": "eth1", "route": [default("10.1.1.1")]}
PREFIX = {"address": "2001:db8:a100::", "mask": 56}
CHILD = {
    "interface": "wan_6",
    "l3_device": "eth1",
    "ipv6-prefix": [PREFIX],
    "route": [default("fe80::1", "::", source="2001:db8:a100::/56")],
}
STATES = [
    Facts(),
    dump(),
    dump(WAN, WAN2),
    dump({"interface": "wan", "up": False}, WAN2),
    dump(WAN, CHILD),
    dump(WAN, CHILD, {**WAN2, "ip4table": 103}),
    dump({**WAN, "ip4table": 7002, "ip6table": 106}, CHILD, WAN2),
    dump({**WAN, "l3_device": "eth2"}, WAN2),
]
"""What netifd may say next; the last has two interfaces on one device."""


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(STATES), max_size=4), st.sampled_from(STATES[2:]))
def test_the_last_state_equals_that_of_a_clean_start(history: list[Facts], last: Facts) -> None:
    """But for the gateways that are remembered, which are the same in both."""
    config = uci(PPPOE + interface("wan2", "eth2", "on"))
    made, clean = world(), world()
    for facts in [*history, last]:
        lines = run(made, config, facts)
    clean.store.state = State(gateways=made.store.state.gateways)
    assert sorted(lines) == sorted(run(clean, config, last))


def test_a_device_by_another_name_gets_its_own() -> None:
    config = uci(
        "config interface 'wan'\n option device 'enp9s0'\n option multipath 'on'\n",
        "config uplink 'wan'\n list iif 'enp8s0'\n list iif 'lan'\n",
    )
    (uplink,) = resolve_devices(config, None, {"enp9s0": "eth1", "enp8s0": "eth0"}).uplinks
    assert (uplink.device, uplink.iif) == ("eth1", ("eth0", "lan"))
