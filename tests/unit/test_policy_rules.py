"""Rules as nftables: the table as nft writes it, and as messages; tests/worlds asks nft itself."""

from __future__ import annotations

import pytest

from mproutd.configuration.config import Config, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.firewall.policies import domain_set, user_set
from mproutd.firewall.ruleset import make_table, steers
from mproutd.firewall.script import script
from mproutd.netlink.nft_events import set_name, sets_request
from mproutd.netlink.nft_values import Table
from mproutd.netlink.nftables import transaction
from mproutd.netlink.nlmsg import messages, put
from mproutd.planning.numbering import assign_numbers, assign_policy_numbers
from tests.lab.policies import BY_WAN2, EVERYTHING, NETWORK
from tests.lab.wan import SERVER


def parse(own: str) -> Config:
    return build(parse_sections("network", NETWORK), parse_sections("mproutd", own))


def table(own: str) -> Table:
    config = parse(own)
    numbers = assign_numbers(config, {})
    return make_table(config, config.uplinks, numbers, (), assign_policy_numbers(config, {}))


def chain(text: str, name: str) -> list[str]:
    """The rules of a chain."""
    body = text.split(f"\tchain {name} {{\n", 1)[1].split("\t}\n", 1)[0]
    return [line.strip() for line in body.splitlines()]


def test_a_new_connection_gets_the_mark_of_the_first_rule_and_keeps_it() -> None:
    text = script(table(EVERYTHING))
    assert chain(text, "incoming")[1:] == [
        "ct direction == 0 ct mark & 0x00003f00 vmap { 0x00000100 : jump by_1, "
        "0x00000200 : jump by_2, 0x00000300 : jump by_3, 0x00000400 : jump by_4 }",
        "ct mark & 0x7f000000 vmap { 0x00000000 : goto arriving, 0x01000000 : goto to_wan1, "
        "0x02000000 : goto to_wan2 }",
    ]
    assert chain(text, "arriving") == [
        'iifname vmap { "eth1" : goto note_wan1, "eth2" : goto note_wan2 }',
        "ct state new meta nfproto == 2 goto rules4",
        "ct state new meta nfproto == 10 goto rules6",
    ]
    assert chain(text, "use_both") == [
        "ct mark set ct mark & 0xffffc0ff | 0x00000200",
        "meta mark set meta mark & 0xffffc0ff | 0x00000200",
    ]
    assert chain(text, "by_2") == chain(text, "use_both")[1:]
    assert chain(text, "use_by_wan2")[0].endswith("| 0x00000100")


def test_each_rule_is_one_of_its_families() -> None:
    text = script(table(EVERYTHING))
    macs = "{ 02:00:00:00:00:01, 02:00:00:00:00:02 }"
    assert chain(text, "rules4") == [
        "meta nfproto == 2 ip saddr == 192.168.1.0/24 meta l4proto == 6 th dport { 443, 8000-8010 }"
        " goto use_both",
        "meta nfproto == 2 ip saddr == 10.0.0.0/15 meta l4proto == 6 th dport 80-90 goto use_both",
        "meta nfproto == 2 meta iiftype == 1 ether saddr == 02:00:00:00:00:01 goto use_by_wan2",
        f"meta nfproto == 2 meta iiftype == 1 ether saddr != {macs} meta l4proto == 6 "
        "th dport != 53 goto use_by_wan2",
        f"meta nfproto == 2 meta iiftype == 1 ether saddr != {macs} meta l4proto == 17 "
        "th dport != 53 goto use_by_wan2",
        "meta nfproto == 2 ip dscp == 46 goto use_by_wan2",
        "meta nfproto == 2 ip dscp == 40 goto use_by_wan2",
        'meta nfproto == 2 iifname { "br-lan", "eth7" } ip dscp != 46 ip dscp != 40 '
        "meta l4proto { 1, 50 } return",
        "meta nfproto == 2 ip daddr @domain_site_4 update @domain_site_4 { ip daddr } "
        "goto sticky_site",
        "meta nfproto == 2 ip daddr != { 10.0.0.0-10.255.255.255, 224.0.0.0-239.255.255.255, "
        "240.0.0.0-255.255.255.255 } ip daddr @tv_4 meta l4proto == 17 th sport != 1024-65535 "
        "goto use_wan2",
        "meta nfproto == 2 meta l4proto == 47 goto use_by_wan2",
        "meta nfproto == 2 return",
    ]
    six = chain(text, "rules6")
    assert [line for line in six if "2001:db9::1 ip6 daddr" in line] == [
        "meta nfproto == 10 ip6 saddr == 2001:db9::1 ip6 daddr == 2001:db8::/35 "
        'iifname != "br-lan" goto use_wan2'
    ]
    assert not [line for line in six if "l4proto == 47" in line]


def test_sticky_remembers_a_source_on_one_uplink() -> None:
    text = script(table(EVERYTHING))
    assert chain(text, "note_wan1") == [
        "ct mark set ct mark | 0x01000000",
        "ct mark & 0x00003f00 vmap { 0x00000400 : goto keep_site_wan1 }",
    ]
    assert chain(text, "keep_site_wan1") == [
        "meta nfproto == 2 delete @sticky_site_wan2_4 { ip saddr } "
        "update @sticky_site_wan1_4 { ip saddr timeout 600s }",
        "meta nfproto == 10 delete @sticky_site_wan2_6 { ip6 saddr } "
        "update @sticky_site_wan1_6 { ip6 saddr timeout 600s }",
    ]
    own = "config rule 'x'\n option user '0'\n option use_policy 'wan1'\n"
    own += "config rule 'one'\n option sticky '1'\n option use_policy 'by_wan2'\n"
    one = script(table(BY_WAN2 + own))
    assert chain(one, "note_wan1") == ["ct mark set ct mark | 0x01000000"]
    assert len(chain(one, "note_wan2")) == 2
    assert chain(text, "sticky_site")[2:4] == [
        "meta nfproto == 2 ip saddr @sticky_site_wan1_4 goto to_wan1",
        "meta nfproto == 10 ip6 saddr @sticky_site_wan1_6 goto to_wan1",
    ]


def test_sets_are_declared_before_the_rules() -> None:
    made = table(EVERYTHING)
    text = script(made)
    assert "\tset domain_site_4 {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n" in text
    assert "\tset tv_6 {\n\t\ttype ipv6_addr\n\t\tflags interval,timeout\n\t}\n" in text
    site = next(rule for rule in parse(EVERYTHING).rules if rule.name == "site")
    assert domain_set(site, 10) == "domain_site_6"
    assert user_set(site._replace(set="x"), 2) == "x_4"
    kinds = [next(iter(messages(encode(1)))).type & 0xFF for encode in transaction(made)]
    assert kinds.index(9) < kinds.index(3) < kinds.index(6)
    names = [own.name for own in made.sets]
    assert len(transaction(made, (), names)) == len(transaction(made)) - len(names) - 1
    assert set_name(bytes(4) + put(2, b"tv_4\0")) == "tv_4"
    assert b"mproutd\0" in sets_request("mproutd")(1)


@pytest.mark.parametrize("pin_flows", [True, False])
def test_without_pin_flows_only_policies_are_marked(pin_flows: bool) -> None:
    text = script(table(f"config mproutd 'g'\n\toption pin_flows '{pin_flows:d}'\n" + EVERYTHING))
    assert ("chain outgoing" in text) is pin_flows
    assert "goto rules4" in text
    if not pin_flows:
        assert chain(text, "incoming")[2:] == ["goto arriving"]
        assert chain(text, "arriving")[0] == 'iifname vmap { "eth1" : return, "eth2" : return }'
        assert chain(text, "sticky_site")[2:] == []


def test_own_traffic_needs_no_table() -> None:
    own = BY_WAN2 + "config rule 'own'\n\toption user '0'\n\toption use_policy 'by_wan2'\n"
    config = parse(own)
    assert not steers(config)
    assert "rules4" not in script(table(own))
    forwarded = own.replace("user '0'", f"dest_ip '{SERVER}'")
    assert steers(parse(forwarded))
    assert "mproutd" in script(table(forwarded))
