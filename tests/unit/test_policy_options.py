"""Members, policies and rules in the file: what they mean, and what is wrong with them."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest

from mproutd.configuration.config import Config, ConfigError, build
from mproutd.configuration.matches import (
    ANY_USER,
    Selection,
    domain,
    dscp,
    mac_address,
    name_of,
    network_prefix,
    port_range,
    protocol,
    user,
)
from mproutd.configuration.policies import (
    MemberConfig,
    Policies,
    PolicyConfig,
    RuleConfig,
    own_rules_of,
)
from mproutd.configuration.policy_checks import covered_rules
from mproutd.configuration.uci import load
from mproutd.configuration.uci_parser import parse_sections

NETWORK = """
config globals 'globals'
 option multipath 'enable'
config interface 'wan1'
 option device 'eth1'
 option multipath 'master'
config interface 'wan2'
 option device 'eth2'
 option multipath 'on'
config interface 'lan'
 option device 'br-lan'
config interface 'dial'
 option proto 'pppoe'
"""
MEMBERS = """
config member 'm1'
 option interface 'wan1'
config member 'm2'
 option interface 'wan2'
 option metric '2'
 option weight '3'
config policy 'both'
 list use_member 'm1'
 list use_member 'm2'
"""


def parse(mproutd: str, network: str = NETWORK) -> Config:
    return build(parse_sections("/c/network", network), parse_sections("/c/mproutd", mproutd))


def rule_text(*options: str, name: str = "r", policy: str = "both") -> str:
    lines = [f"config rule '{name}'", f" option use_policy '{policy}'"]
    lines += [f" {one}" if one.startswith("list ") else f" option {one}" for one in options]
    return "\n".join(lines) + "\n"


def only_rule(*options: str, policy: str = "both") -> RuleConfig:
    (rule,) = parse(MEMBERS + rule_text(*options, policy=policy)).rules
    return rule


def refusal(mproutd: str, network: str = NETWORK) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(mproutd, network)
    return str(caught.value)


def test_a_policy_has_its_members_in_the_order_of_the_file() -> None:
    config = parse(MEMBERS + rule_text())
    assert config.policies == (
        PolicyConfig(
            "both",
            (MemberConfig("m1", "wan1", 1, 1), MemberConfig("m2", "wan2", 2, 3)),
            "unreachable",
            "/c/mproutd:8",
        ),
    )
    assert config.rules == (RuleConfig("r", "both", location="/c/mproutd:11"),)
    assert config.warnings == ()


def test_a_rule_may_name_an_uplink_or_what_carries_other_traffic() -> None:
    strict = "config uplink 'wan2'\n option strict '1'\n"
    text = rule_text(policy="wan1") + rule_text("proto 'udp'", name="s", policy="wan2")
    text += rule_text("family 'ipv4'", name="d", policy="default")
    text = text.replace("config rule 'r'", "config rule 'r'\n option dest_ip '192.0.2.1'")
    config = parse(strict + text)
    assert [(one.name, one.last_resort, one.is_uplink) for one in config.policies] == [
        ("wan1", "default", True),
        ("wan2", "unreachable", True),
    ]
    assert [rule.policy for rule in config.rules] == ["wan1", "wan2", "default"]


def test_every_option_of_a_rule() -> None:
    rule = only_rule(
        "list proto 'tcp,udp'",
        "list src_ip '192.168.1.0/24'",
        "list src_ip '2001:db8::/32'",
        "dest_ip '!10.0.0.0/8,fd00::/8'",
        "dest_port '443 8000-8010'",
        "src_port '1024:65535'",
        "src_iface 'lan eth9'",
        "src_mac '02-00-00-AA-bb-cc'",
        "dscp 'ef 8'",
        "domain 'Example.org *.example.net.'",
        "set 'tv'",
        "sticky '1'",
        "timeout '60'",
    )
    assert rule == RuleConfig(
        "r",
        "both",
        (AF_INET, AF_INET6),
        (6, 17),
        Selection(("192.168.1.0/24", "2001:db8::/32")),
        Selection(("10.0.0.0/8", "fd00::/8"), True),
        Selection(((1024, 65535),)),
        Selection(((443, 443), (8000, 8010))),
        Selection(("br-lan", "eth9")),
        Selection(("02:00:00:aa:bb:cc",)),
        Selection((46, 8)),
        ("example.org", "example.net"),
        "tv",
        None,
        True,
        60,
        "/c/mproutd:11",
    )
    assert rule.forwarded


def test_a_rule_has_the_families_in_which_it_can_match() -> None:
    assert only_rule("src_ip '192.0.2.1'").families == (AF_INET,)
    assert only_rule("dest_ip '::/0'").families == (AF_INET6,)
    assert only_rule("family 'ipv6'").families == (AF_INET6,)
    assert only_rule("src_ip '!192.0.2.1'").families == (AF_INET, AF_INET6)
    assert only_rule("proto 'all'").protocols == ()


def test_a_rule_that_is_not_enabled_is_checked_and_left_out() -> None:
    config = parse(MEMBERS + rule_text() + rule_text("enabled '0'", "proto 'udp'", name="off"))
    assert [rule.name for rule in config.rules] == ["r"]
    assert "there is no policy" in refusal(rule_text("enabled '0'", policy="nowhere"))


def test_a_user_is_looked_up_when_the_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "network").write_text(NETWORK)
    own = rule_text(f"user '{getpass.getuser()}'") + rule_text("user '5-9'", name="s")
    (tmp_path / "mproutd").write_text(MEMBERS + own)
    users = [rule.user for rule in load(str(tmp_path)).rules]
    assert users == [(os.getuid(), os.getuid()), (5, 9)]
    (tmp_path / "mproutd").write_text(MEMBERS + rule_text("user 'no.such.user'"))
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path))
    reason = "rule 'r', option 'user': there is no user 'no.such.user' on this host"
    assert str(caught.value) == f"{tmp_path}/mproutd:11: {reason}"


def test_an_own_rule_takes_an_ip_rule_for_each_combination() -> None:
    assert own_rules_of(only_rule()) == 0
    assert own_rules_of(only_rule("user 'all'")) == 1
    assert own_rules_of(only_rule("user 'all'", policy="default")) == 3
    assert own_rules_of(only_rule("user '1'", "proto 'tcp udp'", "dest_port '80,443'")) == 4


@pytest.mark.parametrize(
    ("text", "location", "reason"),
    [
        ("config member 'm'\n", 1, "member 'm': has no uplink: set option interface"),
        ("config member\n option interface 'wan1'\n", 1, "needs a name: config member 'NAME'"),
        ("config rule 'a_name_of_far_too_many_letters'\n", 1, "at most 24"),
        ("config member 'm'\n option interface 'wan3'\n", 2, "no uplink 'wan3' (did you mean 'wa"),
        (
            "config member 'm'\n option interface 'wan1'\n option metric '0'\n",
            3,
            "'0' is out of range: 1 to 256",
        ),
        ("config policy 'p'\n", 1, "policy 'p': has no member: add list use_member"),
        (
            MEMBERS + "config policy 'p'\n list use_member 'm3'\n",
            12,
            "there is no member 'm3'",
        ),
        (
            "config member 'm'\nconfig policy 'p'\n list use_member 'm'\n",
            1,
            "member 'm': has no uplink: set option interface",
        ),
        (
            "config policy 'p'\n list use_member 'm'\nconfig member 'm'\n option interface 'wan1'\n"
            "config member 'n'\n option interface 'wan1'\n"
            "config policy 'q'\n list use_member 'm'\n list use_member 'n'\n",
            9,
            "has the uplink wan1 a second time",
        ),
        (
            MEMBERS + "config policy 'wan1'\n list use_member 'm1'\n",
            11,
            "'wan1' is an uplink: choose a name",
        ),
        (
            MEMBERS + "config policy 'default'\n list use_member 'm1'\n",
            11,
            "'default' is where other traffic goes: choose a name",
        ),
        ("config rule 'r'\n", 1, "rule 'r': has no policy: set option use_policy"),
        (rule_text(policy="bath") + MEMBERS, 2, "no policy or uplink 'bath' (did you mean 'both'"),
        (MEMBERS + rule_text("dest_port '80'"), 13, "needs a protocol with ports: set proto to tc"),
        (
            MEMBERS + rule_text("proto 'tcp icmp'", "src_port '80'"),
            14,
            "option 'src_port': needs a protocol with ports: set proto to tcp, udp, dccp, sctp or",
        ),
        (
            MEMBERS + rule_text("list src_ip '1.2.3.4'", "list src_ip '!1.2.3.5'"),
            14,
            "negate all of its values with !, or none",
        ),
        (
            MEMBERS + rule_text("family 'ipv4'", "dest_ip '2001:db8::1'"),
            14,
            "option 'dest_ip': is IPv6, and the rest of the rule is IPv4",
        ),
        (MEMBERS + rule_text("src_iface 'dial'"), 13, "device of interface 'dial' is not known"),
        (
            MEMBERS + rule_text("user '1'", "domain 'example.org'"),
            14,
            "option 'domain': cannot be combined with user",
        ),
        (
            MEMBERS + rule_text("user '1'", "sticky '1'"),
            14,
            "option 'sticky': cannot be combined with user",
        ),
        (
            MEMBERS + rule_text("user '1'", "dest_ip '!192.0.2.1'"),
            14,
            "cannot be negated together with user",
        ),
        (
            MEMBERS + rule_text("user '1'", "proto 'tcp'", "dest_port '1024-65535'"),
            15,
            "option 'dest_port': with user, ports are 1 to 65534: ip rules take no others",
        ),
        (MEMBERS + rule_text("user 'a b'"), 13, "'a b' is not a user"),
        (
            "config mproutd\n option policy_mask '0x03000000'\n" + MEMBERS + rule_text(),
            2,
            "mark_mask 0x7f000000 and policy_mask 0x3000000 share bits: change one of them",
        ),
        (
            "config uplink 'wan1'\n option mark '0x100/0xff00'\n" + MEMBERS + rule_text(),
            2,
            "its mask shares bits with policy_mask 0x3f00: change one of them",
        ),
        (
            "config uplink 'wan1'\n option table '7256'\n" + MEMBERS + rule_text(),
            2,
            "tables 7256 to 7511 are for policies",
        ),
        (
            "config mproutd\n option policy_mask '3'\n"
            + MEMBERS
            + rule_text("sticky '1'")
            + rule_text("sticky '1'", "proto 'udp'", name="s")
            + rule_text("sticky '1'", "proto 'tcp'", name="t"),
            20,
            "too many policies and sticky rules: 4, and policy_mask 0x3 has marks for 3",
        ),
    ],
)
def test_a_mistake_is_one_line(text: str, location: int, reason: str) -> None:
    line = refusal(text)
    assert line.startswith(f"/c/mproutd:{location}: ")
    assert reason in line


def test_own_rules_have_room_for_a_thousand() -> None:
    ports = ",".join(map(str, range(1, 1002)))
    line = refusal(MEMBERS + rule_text("user 'all'", "proto 'tcp'", f"dest_port '{ports}'"))
    assert "rules with user need 1001 ip rules, and there is room for 1000" in line


def test_what_has_no_effect_is_a_warning() -> None:
    config = parse(MEMBERS)
    assert config.warnings == (
        "/c/mproutd:8: policy 'both': has no effect: no rule uses this policy",
    )
    config = parse("config member 'm1'\n option interface 'wan1'\n" + rule_text(policy="wan1"))
    assert [warning.partition(": ")[2] for warning in config.warnings] == [
        "member 'm1': has no effect: no policy uses this member"
    ]
    config = parse(MEMBERS + rule_text("timeout '5'", "src_iface 'eth1'"))
    assert [warning.partition("'r', ")[2] for warning in config.warnings] == [
        "option 'timeout': has no effect without option sticky '1'",
        "option 'src_iface': has no effect for eth1: it is the device of uplink wan1, and "
        "connections from there keep it",
    ]
    assert parse(MEMBERS + rule_text("src_iface '!eth1'")).warnings == ()
    unpinned = "config mproutd 'mproutd'\n option pin_flows '0'\n"
    (warning,) = parse(unpinned + MEMBERS + rule_text("sticky '1'")).warnings
    assert warning.endswith(
        "'r', option 'sticky': has no effect with pin_flows 0: no connection keeps its uplink"
    )
    local = "config uplink 'wan2'\n option default_route '0'\n"
    assert parse(local + MEMBERS + rule_text()).warnings == (
        "/c/mproutd:7: member 'm2', option 'interface': has no effect: wan2 has default_route 0",
    )
    covered = parse(MEMBERS + rule_text() + rule_text("proto 'tcp'", name="s"))
    assert covered.warnings == (
        "/c/mproutd:13: rule 's': never matches: r at /c/mproutd:11 matches everything that it "
        "does",
    )


def covers(wide: RuleConfig, narrow: RuleConfig) -> bool:
    return bool(covered_rules((wide, narrow)))


def test_which_rules_cover_others() -> None:
    every = RuleConfig("r", "p")
    subnet = every._replace(families=(AF_INET,), sources=Selection(("192.168.0.0/16",)))
    host = subnet._replace(sources=Selection(("192.168.1.1", "192.168.2.0/24")))
    assert covers(every, host)
    assert covers(subnet, host)
    assert not covers(host, subnet)
    assert not covers(host, every._replace(families=(AF_INET,)))
    assert not covers(subnet, every)
    elsewhere = host._replace(sources=Selection(("10.0.0.1",)))
    but_ten = subnet._replace(sources=Selection(("10.0.0.0/8",), True))
    assert covers(but_ten, host)
    assert not covers(but_ten, elsewhere)
    assert covers(but_ten, subnet._replace(sources=Selection(("10.0.0.0/7",), True)))
    assert not covers(subnet._replace(sources=Selection(("10.0.0.0/7",), True)), but_ten)
    assert not covers(subnet, but_ten)
    assert not covers(every, every._replace(user=(0, 0)))
    users = every._replace(user=(0, 99))
    assert covers(users, users._replace(user=(5, 6)))
    assert not covers(users, users._replace(user=(5, 100)))
    assert not covers(users, users._replace(user="somebody"))
    assert covers(users._replace(user="somebody"), users._replace(user="somebody"))
    tcp = every._replace(protocols=(6,))
    assert not covers(tcp, every)
    assert covers(every._replace(protocols=(6, 17)), tcp)
    phones = every._replace(macs=Selection(("02:00:00:00:00:01",), True))
    two = every._replace(macs=Selection(("02:00:00:00:00:01", "02:00:00:00:00:02"), True))
    assert covers(phones, two)
    assert not covers(two, phones)
    assert not covers(phones, every._replace(macs=Selection(("02:00:00:00:00:01",))))
    v6 = every._replace(families=(AF_INET6,), destinations=Selection(("::/0",)))
    assert not covers(v6, every)
    assert covers(v6, v6._replace(destinations=Selection(("2001:db8::/32",))))
    assert covered_rules((every, host, tcp)) == [(host, every), (tcp, every)]


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (network_prefix, "0.0.0.0/0", "0.0.0.0/0"),
        (network_prefix, "2001:DB8:0::/48", "2001:db8::/48"),
        (network_prefix, "192.0.2.1", "192.0.2.1"),
        (port_range, "80", (80, 80)),
        (port_range, "80-90", (80, 90)),
        (port_range, "80:90", (80, 90)),
        (protocol, "any", 0),
        (protocol, "ipv6-icmp", 58),
        (protocol, "89", 89),
        (mac_address, "02:00:00:12:34:5F", "02:00:00:12:34:5f"),
        (dscp, "AF41", 34),
        (dscp, "0x2e", 46),
        (domain, ".Example.ORG", "example.org"),
        (user, "all", ANY_USER),
        (user, "1000-1999", (1000, 1999)),
        (user, "squid", "squid"),
        (name_of("set", 4), "a_1", "a_1"),
    ],
)
def test_values(parser: object, text: str, value: object) -> None:
    assert callable(parser)
    assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "text", "reason"),
    [
        (network_prefix, "192.0.2.1/24", "bits beyond its length: write 192.0.2.0/24"),
        (network_prefix, "192.0.2.1/33", "from 0 to 32"),
        (network_prefix, "192.0.2", "not an address or prefix"),
        (network_prefix, "192.0.2.1/x", "not an address or prefix"),
        (port_range, "http", "is not a port or a range of them"),
        (port_range, "80-65536", "out of range"),
        (port_range, "90-80", "ends before it begins"),
        (protocol, "tpc", "did you mean 'tcp'?"),
        (protocol, "256", "1 to 255"),
        (mac_address, "02:00:00:12:34", "not a MAC address"),
        (mac_address, "02:00:00:12:34:5g", "not a MAC address"),
        (dscp, "voice", "not a code point"),
        (dscp, "64", "0 to 63"),
        (domain, "http://example.org", "not a domain"),
        (domain, "192.0.2.1", "not a domain"),
        (domain, "*.", "not a domain"),
        (user, "-1", "not a user"),
        (user, "", "not a user"),
        (user, "4294967295", "out of range"),
        (name_of("set", 4), "1a", "cannot be the name of a set"),
        (name_of("set", 4), "abcde", "at most 4"),
    ],
)
def test_values_that_are_refused(parser: object, text: str, reason: str) -> None:
    assert callable(parser)
    with pytest.raises(ValueError, match=re.escape(reason)):
        parser(text)


def test_numbers_beside_policies_may_be_free() -> None:
    free = "config uplink 'wan1'\n option mark '1/0xff'\n option table '7001'\n"
    config = parse(free + MEMBERS + rule_text())
    assert config.uplinks[0].table == 7001
    blackhole = MEMBERS + " option last_resort 'blackhole'\n" + rule_text()
    assert parse(blackhole).policies[0].last_resort == "blackhole"
    quiet = only_rule("user '1'", "sticky '0'")
    assert not quiet.sticky


def test_without_policies_there_are_none() -> None:
    config = parse("")
    assert Policies(config.policies, config.rules) == Policies()
