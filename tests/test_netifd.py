"""What netifd says, as facts: its own recordings, what it says for other lines, and nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.planning.netifd import Interface, parse, with_netifd
from mproutd.planning.paths import Facts, Gateway

RECORDED = Path(__file__).parent / "fixtures" / "netifd"


def recorded(name: str) -> dict[str, Interface]:
    return parse((RECORDED / f"{name}.json").read_text())


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


def test_the_facts_are_by_device_and_go_before_what_a_hook_said() -> None:
    lease = Gateway("10.2.2.254", "lease")
    facts = Facts({("w2", AF_INET): (lease,), ("eth9", AF_INET): (lease,)})
    told = with_netifd(recorded("interface-dump-up"), facts)
    assert told.gateways == {
        ("w1", AF_INET): (Gateway("10.1.1.1", "netifd"),),
        ("w1", AF_INET6): (Gateway("2001:db8:1::1", "netifd"),),
        ("w2", AF_INET): (Gateway("10.2.2.1", "netifd"), lease),
        ("w3", AF_INET): (Gateway("10.3.3.1", "netifd"),),
        ("eth9", AF_INET): (lease,),
    }
    assert told.tables == {("w3", AF_INET): 103}
    assert told.devices is not None
    assert told.devices["wan1"] == "w1"
    assert told.devices["lte"] == ""


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
                "ipv6-prefix": [{"address": "::", "mask": 0}, {"mask": 8}, "x"],
                "ip4table": "many",
                "inactive": [],
            },
            Interface("wan", "", ((AF_INET, "10.0.0.1"),)),
        ),
        ({"up": False, "l3_device": "eth0", "route": [default("10.0.0.1")]}, Interface("wan")),
    ],
)
def test_one_interface(fields: dict[str, Any], expected: Interface) -> None:
    assert parse(one(**fields)) == {"wan": expected}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON"),
        ("Command failed: Request timed out", "is no JSON"),
        ('{"interface": [', "is no JSON"),
        ("[" * 100000, "is no JSON"),
        ("[]", "is no list of interfaces"),
        ("{}", "is no list of interfaces"),
        ('{"interface": {}}', "is no list of interfaces"),
        ('{"interface": [7]}', "has an interface without a name"),
        ('{"interface": [{"up": true}]}', "has an interface without a name"),
    ],
)
def test_nonsense_is_refused_as_a_whole(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^the answer {why}$"):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["::", "0"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["target", "mask", "nexthop", "address"]), inner)
    ),
    max_leaves=8,
)
KEYS = ["up", "l3_device", "route", "inactive", "ipv6-prefix", "ip4table", "ip6table"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_stands_in_a_field_the_interface_is_read(fields: dict[str, Any]) -> None:
    (wan,) = parse(one(**fields)).values()
    with_netifd({"wan": wan}, Facts())
