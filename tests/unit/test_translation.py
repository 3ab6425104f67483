"""nat6: what is translated to what, and the chains for it."""

from __future__ import annotations

from ipaddress import IPv6Network
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.firewall.ruleset import make_table
from mproutd.firewall.script import script
from mproutd.firewall.table import (
    is_router,
    table_problems,
    translation_problems,
    wanted_table,
)
from mproutd.firewall.translation import (
    Translation,
    translated,
    translations,
    wants_translation,
    without_prefix,
)
from mproutd.model import TEMPORARY, Address, Link, Snapshot
from mproutd.netlink.nftables import transaction
from mproutd.planning.numbering import assign_numbers
from mproutd.planning.plan import make_plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts, ObservedUplink, Path

P1 = "2001:db8:a001::/56"
LAN = [
    Address(10, "fd00:70::1", 64),
    Address(10, "192.168.1.1", 24),
    Address(10, "fe80::1", 64, scope=253),
    Address(10, "fd00:70:0:5::1", 64, flags=TEMPORARY),
    Address(11, "2001:db8:a002:7::1", 64),
    Address(1, "2001:db8:1::2", 64),
    Address(12, "fd00::9", 128),
]


def uplink(n: int, nat6: str | None, *prefixes: str, **more: Any) -> ObservedUplink:
    config = UplinkConfig(f"wan{n}", f"eth{n}", "on", nat6=nat6)._replace(**more)
    paths = Path(AF_INET, True, ""), Path(AF_INET6, True, "", prefixes=prefixes)
    return ObservedUplink(config, Link(n, f"eth{n}"), paths)


def test_networks_of_the_lan_get_one_of_the_uplink() -> None:
    uplinks = [
        uplink(1, "prefix", P1),
        uplink(2, "masquerade", "2001:db8:a002::/56"),
        uplink(3, None),
        uplink(4, "prefix"),
        uplink(5, "masquerade", device=""),
    ]
    assert translations(uplinks, LAN) == [
        Translation(
            "wan1",
            "eth1",
            (P1,),
            (
                ("2001:db8:a002:7::/64", "2001:db8:a001:7::/64"),
                ("fd00:70::/64", "2001:db8:a001::/64"),
            ),
        ),
        Translation("wan2", "eth2", ("2001:db8:a002::/56",), masquerade=True),
    ]
    assert without_prefix(uplinks) == ["wan4"]
    (found,) = translation_problems(uplinks)
    assert found["code"] == "nat6-without-prefix"
    assert "wan4" in found["text"]


def test_what_has_the_uplinks_own_prefix_stays_and_longer_prefixes_do_not_fit() -> None:
    own = [Address(10, "2001:db8:a001:5::1", 64), Address(10, "fd00::1", 48)]
    assert translations([uplink(1, "prefix", P1)], own) == []
    assert translations([uplink(1, None, P1)], LAN) == []


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), st.data())
def test_the_number_of_the_subnet_stays(lan: int, given_: int, data: Any) -> None:
    shorter = data.draw(st.integers(16, 64))
    length = data.draw(st.integers(shorter, 64))
    network = IPv6Network((lan >> 128 - length << 128 - length, length))
    delegated = IPv6Network((given_ >> 128 - shorter << 128 - shorter, shorter))
    made = IPv6Network(translated(str(network), str(delegated)))
    assert made.prefixlen == length
    assert made.subnet_of(delegated)
    host_bits = length - shorter
    number = int(network.network_address) >> 128 - length & (1 << host_bits) - 1
    assert int(made.network_address) >> 128 - length & (1 << host_bits) - 1 == number


CHAINS = """\
	chain translate {
		type nat hook postrouting priority 99; policy accept;
		oifname vmap { "eth1" : goto nat6_wan1, "eth2" : goto nat6_wan2 }
	}
	chain nat6_wan1 {
		ip6 saddr fd00:70::/64 snat ip6 prefix to 2001:db8:a001::/64
	}
	chain nat6_wan2 {
		iif != 0 ip6 saddr != 2001:db8:a002::/56 masquerade
	}
"""


def test_the_chains() -> None:
    uplinks = [uplink(1, "prefix", P1), uplink(2, "masquerade", "2001:db8:a002::/56")]
    config = Config(pin_flows=False, uplinks=tuple(item.config for item in uplinks))
    listed = translations(uplinks, LAN[:1])
    table = make_table(config, config.uplinks, assign_numbers(config, {}), listed)
    assert script(table).partition("{\n")[2] == CHAINS + "}\n"
    with_pins = config._replace(pin_flows=True)
    both = make_table(with_pins, config.uplinks, assign_numbers(config, {}), listed)
    assert script(both).endswith(CHAINS + "}\n")
    assert "chain incoming" in script(both)
    assert b"masq" in b"".join(encode(1) for encode in transaction(both))
    plain = [listed[1]._replace(prefixes=())]
    table = make_table(config, config.uplinks, assign_numbers(config, {}), plain)
    assert "iif != 0 meta nfproto == 10 masquerade" in script(table)


@pytest.mark.parametrize("network", ["fd00:70::/61", "fd00:70::/64"])
def test_a_message_has_the_whole_of_a_prefix(network: str) -> None:
    item = Translation("wan1", "eth1", (P1,), ((network, translated(network, P1)),))
    config = Config(uplinks=(UplinkConfig("wan1", "eth1", "on"),), pin_flows=False)
    table = make_table(config, config.uplinks, assign_numbers(config, {}), [item])
    sent = b"".join(encode(1) for encode in transaction(table))
    delegated = IPv6Network(translated(network, P1))
    assert delegated.network_address.packed in sent
    assert delegated.broadcast_address.packed in sent
    mask = IPv6Network(network).netmask.packed
    assert (mask in sent) == bool(IPv6Network(network).prefixlen % 8)


def test_what_is_written_follows_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(uplinks=(UplinkConfig("wan1", "eth1", "on", nat6="masquerade"),))
    snapshot = Snapshot({})
    plan = make_plan(config, snapshot, State(), Facts())
    assert not is_router(snapshot)
    assert wants_translation(config)
    assert not wants_translation(config._replace(enabled=False))
    no_pins = config._replace(pin_flows=False)
    names = [chain.name for chain in wanted_table(no_pins, plan, snapshot, True).chains]
    assert names == ["translate", "nat6_wan1"]
    assert not wanted_table(config, plan, snapshot, False).chains
    without = no_pins._replace(uplinks=(UplinkConfig("wan1", "eth1", "on"),))
    assert not wanted_table(without, plan, snapshot, True).chains
    assert [p["code"] for p in table_problems(no_pins, "no", ())] == ["nat6-failed"]
    assert [p["code"] for p in table_problems(without, "no", ())] == []
    assert [p["code"] for p in table_problems(config, "no", ())] == [
        "flows-not-pinned",
        "nat6-failed",
    ]
