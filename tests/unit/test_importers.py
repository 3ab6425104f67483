"""`mproutd import`: what each program's files become, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mproutd import cli
from mproutd.configuration.config import Config, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.importers import mwan3, openmptcprouter, pbr
from mproutd.importers.draft import Draft, Names
from mproutd.importers.ipsets import domains_by_set
from mproutd.importers.selectors import classify

NETWORK = """
config globals 'globals'
	option multipath 'enable'
config interface 'loopback'
	option device 'lo'
config interface 'lan'
	option device 'br-lan'
	option proto 'static'
config interface 'wan'
	option device 'eth1'
	option proto 'dhcp'
config interface 'wan6'
	option device 'eth1'
	option proto 'dhcpv6'
config interface 'wanb'
	option device 'eth2'
	option proto 'pppoe'
config interface 'off'
	option device 'eth3'
	option disabled '1'
config interface 'nodevice'
	option proto 'dhcp'
"""


def imported(
    module: object, text: str, network: str = NETWORK, **others: str
) -> tuple[str, Config]:
    """The output, and the configuration that check makes of it."""
    files = {module.FILE: parse_sections(module.FILE, text)}  # type: ignore[attr-defined]
    for name, content in others.items():
        files[name.replace("_", "-")] = parse_sections(name, content)
    sections = parse_sections("network", network)
    draft = Draft()
    module.convert(files, sections, draft)  # type: ignore[attr-defined]
    draft.check(sections)
    return draft.text(), build(sections, parse_sections("mproutd", draft.text()))


def names(config: Config) -> list[str]:
    return [rule.name for rule in config.rules]


# -- mwan3 --------------------------------------------------------------------------------

INTERFACES = """
config interface 'wan'
	option enabled '1'
	list track_ip '192.0.2.53'
	list track_ip '198.51.100.53'
	option reliability '2'
config interface 'wan6'
	option enabled '1'
	option family 'ipv6'
	list track_ip '2001:db8::53'
config interface 'wanb'
	option enabled '1'
	list track_ip '203.0.113.53'
config member 'wan_3'
	option interface 'wan'
	option metric '1'
	option weight '3'
config member 'wan6_3'
	option interface 'wan6'
	option weight '3'
config member 'wanb_2'
	option interface 'wanb'
	option weight '2'
config policy 'balanced'
	list use_member 'wan_3'
	list use_member 'wan6_3'
	list use_member 'wanb_2'
"""
DEFAULT_RULES = """
config rule 'https'
	option sticky '1'
	option dest_port '443'
	option proto 'tcp'
	option use_policy 'balanced'
config rule 'rest_v4'
	option dest_ip '0.0.0.0/0'
	option family 'ipv4'
	option use_policy 'balanced'
config rule 'rest_v6'
	option dest_ip '::/0'
	option family 'ipv6'
	option use_policy 'balanced'
"""


def test_two_balanced_interfaces_of_mwan3() -> None:
    text, config = imported(mwan3, INTERFACES + DEFAULT_RULES)
    wan, wanb = config.uplinks
    assert (wan.name, wan.mode, wan.metric, wan.weight) == ("wan", "on", 1, 3)
    assert (wanb.name, wanb.metric, wanb.weight) == ("wanb", 1, 2)
    assert wan.health
    assert [target.text for target in wan.health.track_ip] == [
        "192.0.2.53", "198.51.100.53", "2001:db8::53",
    ]  # fmt: skip
    (policy,) = config.policies
    assert [(m.uplink, m.metric, m.weight) for m in policy.members] == [
        ("wan", 1, 3),
        ("wanb", 1, 2),
    ]
    assert policy.last_resort == "unreachable"
    assert names(config) == ["https", "rest_v4", "rest_v6"]
    assert [len(rule.families) for rule in config.rules] == [2, 1, 1]
    assert config.rules[0].sticky
    assert "'wan6' has the same device" in text
    assert "'wan6_3' is the same uplink as 'wan_3'" in text


@pytest.mark.parametrize(
    ("rule", "comment"),
    [
        ("option use_policy 'balanced'\n option dest_port '80'", "needs a protocol with ports"),
        ("option use_policy 'nowhere'", "policy 'nowhere' does not exist"),
        ("option use_policy 'blackhole'", "drop such packets in the firewall"),
        (
            "option use_policy 'balanced'\n option src_ip 'x'",
            "option src_ip: 'x' is not an address",
        ),
        ("option use_policy 'balanced'\n option src_ip '::1'\n option family 'ipv4'", "left out"),
    ],
)
def test_a_rule_that_cannot_be_had_is_left_out_whole(rule: str, comment: str) -> None:
    text, config = imported(mwan3, f"{INTERFACES}config rule 'odd'\n {rule}\n{DEFAULT_RULES}")
    assert names(config) == ["https", "rest_v4", "rest_v6"]
    assert comment in " ".join(text.replace("\n#   ", " ").split())


@pytest.mark.parametrize(
    ("interface", "comment"),
    [
        ("lte", "network has no interface 'lte'"),
        ("off", "interface 'off' is disabled in network, or has no device there"),
        ("nodevice", "interface 'nodevice' is disabled in network, or has no device there"),
        ("loopback", "is the loopback device"),
    ],
)
def test_an_interface_that_cannot_be_an_uplink(interface: str, comment: str) -> None:
    member = f"config member 'x'\n option interface '{interface}'\n"
    policy = "config policy 'only_x'\n list use_member 'x'\n"
    rule = "config rule 'r'\n option use_policy 'only_x'\n"
    own = f"config interface '{interface}'\n option enabled '1'\n"
    text, config = imported(mwan3, INTERFACES + own + member + policy + rule + DEFAULT_RULES)
    assert [uplink.name for uplink in config.uplinks] == ["wan", "wanb"]
    assert names(config) == ["https", "rest_v4", "rest_v6"]
    plain = text.replace("\n#   ", " ")
    assert plain.count(comment) == 2
    assert "policy 'only_x': no member is left" in plain
    assert "policy 'only_x' does not exist" in plain


def test_matches_of_mwan3() -> None:
    rule = """
config rule 'this_name_is_far_too_long_for_us'
	option src_ip '! 192.168.1.0/24'
	option src_iface 'lan'
	option proto 'udp'
	option src_port '1024:65535'
	option dest_port '5060:5070,10000'
	option timeout '60'
	option logging '1'
	option use_policy 'balanced'
config rule
	option proto 'all'
	option family 'any'
	option src_ip '10.0.0.0/8'
	option use_policy 'default'
	option logging '1'
	list logging '1'
	option surprise 'x'
"""
    text, config = imported(mwan3, INTERFACES + rule)
    first, second = config.rules
    assert first.name == "this_name_is_far_too_lon"
    assert (first.sources.negated, first.sources.values) == (True, ("192.168.1.0/24",))
    assert first.devices.values == ("br-lan",)
    assert first.source_ports.values == ((1024, 65535),)
    assert first.destination_ports.values == ((5060, 5070), (10000, 10000))
    assert (second.name, second.policy, second.protocols) == ("rule", "default", ())
    for comment in ("has a new name", "only for sticky", "mproutd explain", "that mproutd knows"):
        assert comment in text


def test_an_ipset_becomes_its_domains_or_a_set() -> None:
    dhcp = """
config ipset
	list name 'video'
	list domain 'video.example'
config dhcp 'lan'
config dnsmasq
	list ipset '/films.example/series.example/films,video'
"""
    rules = "".join(
        f"config rule '{name}'\n option ipset '{name}'\n option use_policy 'balanced'\n"
        for name in ("video", "films", "other")
    )
    text, config = imported(mwan3, INTERFACES + rules, dhcp=dhcp)
    video, films, other = config.rules
    assert video.domains == ("video.example", "films.example", "series.example")
    assert films.domains == ("films.example", "series.example")
    assert (other.domains, other.set) == ((), "other")
    assert "whatever fills the ipset has to fill it" in text.replace("\n#   ", " ")
    assert domains_by_set(parse_sections("dhcp", "config ipset\n list name 'x'\n")) == {}


@pytest.mark.parametrize(
    ("method", "ours", "remark"),
    [
        ("ping", "ping", ""),
        ("httping", "http", ""),
        ("httping'\n option httping_ssl '1", "https", ""),
        ("nping-tcp", "tcp", ""),
        ("nping-icmp", "ping", "by mproutd itself"),
        ("arping", "ping", "no probes by ARP"),
        ("telepathy", "ping", "unknown method"),
    ],
)
def test_track_method(method: str, ours: str, remark: str) -> None:
    interface = "config interface 'wan'\n option enabled 1\n list track_ip 'host.example'\n"
    text, config = imported(mwan3, f"{interface} option track_method '{method}'\n")
    assert config.uplinks[0].health
    assert config.uplinks[0].health.track_method == ours
    assert remark in text


def test_options_of_an_interface_with_and_without_a_counterpart() -> None:
    interface = """
config globals 'globals'
	option mmx_mask '0x3F00'
config interface 'wan'
	option enabled '1'
	list track_ip '192.0.2.1'
	option interval '10'
	option initial_state 'offline'
	option down '0'
	option keep_failure_interval '1'
	list flush_conntrack 'ifdown'
	list flush_conntrack 'ifup'
config interface 'wan6'
	option enabled '1'
	list track_ip '2001:db8::1'
	option interval '20'
	option initial_state 'offline'
	option up '4'
config interface 'wanb'
	option enabled '0'
config gadget 'x'
"""
    text, config = imported(mwan3, interface)
    (wan,) = config.uplinks
    assert wan.flush_conntrack
    assert wan.health
    assert (wan.health.interval, wan.health.initial_state, wan.health.up) == (10, "offline", 4)
    assert wan.health.down == 3
    plain = " ".join(text.replace("\n#   ", " ").split())
    for comment in (
        "option mmx_mask '0x3F00': mproutd uses the bits of mark_mask",
        "option down '0': '0' is out of range",
        "option keep_failure_interval '1'",
        "set `failback 'move'`",
        "the uplink has '10' already",
        "interface 'wanb': disabled",
        "gadget 'x': not a section of mwan3",
    ):
        assert comment in plain


def test_shares_of_other_traffic_follow_the_rule_for_everything() -> None:
    more = """
config interface 'lte'
	option enabled '1'
config member 'a'
	option interface 'wan'
	option weight '900'
config member 'b'
	option interface 'wanb'
	option weight 'many'
	option metric '999'
config policy 'p'
	list use_member 'a'
	list use_member 'b'
config rule 'all'
	option use_policy 'p'
"""
    network = NETWORK + "config interface 'lte'\n option device 'eth4'\n"
    text, config = imported(mwan3, INTERFACES + more, network)
    shares = {uplink.name: (uplink.metric, uplink.weight) for uplink in config.uplinks}
    assert shares == {"wan": (1, 255), "wanb": (256, 1), "lte": (256, None)}
    plain = " ".join(text.replace("\n#   ", " ").split())
    assert "policy 'p' does not use it" in plain
    assert "the highest is 256" in plain
    assert "weight 900: the highest for other traffic is 255" in plain
    assert "member 'b' is left out" not in plain
    assert "left out: option weight" in plain  # the member, and with it the policy's


def test_the_virtual_interface_of_pppoe_is_its_uplink() -> None:
    interface = "config interface 'wanb_6'\n option enabled '1'\n list track_ip '2001:db8::1'\n"
    _, config = imported(mwan3, interface)
    assert [uplink.name for uplink in config.uplinks] == ["wanb"]


def test_a_mode_in_network_counts() -> None:
    network = NETWORK.replace(
        "config interface 'wan'\n", "config interface 'wan'\n option multipath 'master'\n"
    )
    _, config = imported(mwan3, INTERFACES, network)
    assert [uplink.mode for uplink in config.uplinks] == ["master", "on"]


# -- pbr ----------------------------------------------------------------------------------

SETTINGS = "config pbr 'config'\n option enabled '1'\n option ipv6_enabled '1'\n"


def policy(**options: str) -> str:
    lines = [f"\toption {name} '{value}'\n" for name, value in options.items()]
    return "config policy\n" + "".join(lines)


def test_the_examples_of_pbr() -> None:
    text, config = imported(
        pbr,
        "config pbr 'config'\n option enabled '0'\n option verbosity '2'\n"
        "config include\n option path '/usr/share/pbr/x'\nconfig gadget\n"
        + policy(name="Media server", interface="wan", src_port="8096 32400", enabled="0")
        + policy(name="Both", interface="wan", dest_addr="192.0.2.1 192.0.2.1 192.0.2.2")
        + policy(name="Media/Remote", interface="wan", dest_addr="media.example tv.media.example"),
    )
    both, rule = config.rules
    assert both.destinations.values == ("192.0.2.1", "192.0.2.2")
    assert (rule.name, rule.policy, len(rule.families)) == ("media_remote", "only_wan", 1)
    assert rule.domains == ("media.example", "tv.media.example")
    assert config.policies[0].last_resort == "unreachable"
    assert [(uplink.name, uplink.mode) for uplink in config.uplinks] == [("wan", "off")]
    plain = " ".join(text.replace("\n#   ", " ").split())
    for comment in (
        "pbr is disabled",
        "only for pbr itself",
        "'Media server': disabled",
        "a script of pbr",
        "not a section of pbr",
    ):
        assert comment in plain


def test_a_policy_of_pbr_with_several_kinds_becomes_several_rules() -> None:
    _, config = imported(
        pbr,
        SETTINGS + "\toption strict_enforcement '0'\n"
        + policy(
            name="Mixed", interface="wanb", proto="tcp",
            src_addr="192.168.1.9 02:00:00:00:00:01 @br-lan fd00::9 192.168.1.10",
            dest_addr="203.0.113.0/24 2001:db8::/32", dest_port="443 8000-8010",
        ),
    )  # fmt: skip
    assert [(rule.name, rule.sources.values, rule.macs.values, rule.devices.values,
             rule.destinations.values) for rule in config.rules] == [
        ("mixed", ("192.168.1.9", "192.168.1.10"), (), (), ("203.0.113.0/24",)),
        ("mixed_2", (), ("02:00:00:00:00:01",), (), ("203.0.113.0/24",)),
        ("mixed_3", (), ("02:00:00:00:00:01",), (), ("2001:db8::/32",)),
        ("mixed_4", (), (), ("br-lan",), ("203.0.113.0/24",)),
        ("mixed_5", (), (), ("br-lan",), ("2001:db8::/32",)),
        ("mixed_6", ("fd00::9",), (), (), ("2001:db8::/32",)),
    ]  # fmt: skip
    assert all(rule.destination_ports.values == ((443, 443), (8000, 8010)) for rule in config.rules)
    assert config.policies[0].last_resort == "default"


@pytest.mark.parametrize(
    ("options", "rules", "comment"),
    [
        ({"interface": "ignore", "dest_addr": "192.0.2.1"}, 1, ""),
        ({"interface": "tor", "dest_addr": "192.0.2.1"}, 0, "network has no interface 'tor'"),
        ({"interface": "wan", "dest_addr": "https://x.example/list"}, 0, "cannot be matched"),
        ({"interface": "wan", "src_addr": "host.example"}, 0, "cannot be matched"),
        ({"interface": "wan", "dest_addr": "!host.example"}, 0, "cannot be matched"),
        ({"interface": "wan", "src_addr": "fd00::1", "dest_addr": "192.0.2.1"}, 0, "never matches"),
        ({"interface": "wan", "chain": "input", "dest_addr": "192.0.2.1"}, 0, "chain 'input'"),
        ({"interface": "wan", "chain": "output", "dest_addr": "192.0.2.1"}, 1, ""),
        ({"interface": "wan", "chain": "OUTPUT", "dest_addr": "x.example"}, 0, "left out"),
        ({"interface": "wan", "src_addr": "!192.168.1.1 !192.168.1.2"}, 1, ""),
        ({"interface": "wan", "dest_port": "5060"}, 1, ""),
        ({"interface": "wan", "src_addr": "x", "surprise": "y"}, 0, "cannot be matched"),
        ({"interface": "wan", "dest_port": "1", "surprise": "y"}, 1, "not an option of pbr"),
    ],
)
def test_odd_policies_of_pbr(options: dict[str, str], rules: int, comment: str) -> None:
    text, config = imported(pbr, SETTINGS + policy(name="It", **options))
    assert len(config.rules) == rules
    assert comment in " ".join(text.replace("\n#   ", " ").split())
    if options.get("interface") == "ignore":
        assert config.rules[0].policy == "default"
    if options.get("chain") == "output":
        assert not config.rules[0].forwarded
    if options.get("dest_port") == "5060":
        assert config.rules[0].protocols == (6, 17)


def test_tags_and_other_settings_of_pbr() -> None:
    settings = SETTINGS + "\toption wan_dscp '10'\n\toption gone_dscp '11'\n"
    settings += "\toption icmp_interface 'wan'\n\toption resolver_set 'dnsmasq.nftset'\n"
    text, config = imported(pbr, settings + "config dns_policy\n option name 'x'\n")
    (rule,) = config.rules
    assert (rule.dscp.values, rule.policy) == ((10,), "only_wan")
    for comment in ("no interface 'gone'", "router's own pings", "dnsmasq fills", "one resolver"):
        assert comment in " ".join(text.replace("\n#   ", " ").split())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("192.0.2.1", "address"), ("192.0.2.0/33", "unknown"), ("::/0", "address"),
        ("02-00-00-00-00-01", "mac"), ("@wg0", "device"), ("*.example.org.", "domain"),
        ("localhost", "unknown"), ("file:///etc/list", "unknown"), ("192.0.2.1/x", "unknown"),
    ],
)  # fmt: skip
def test_what_a_value_of_pbr_means(text: str, kind: str) -> None:
    assert classify(text).kind == kind
    assert classify("!" + text) == classify(text)._replace(negated=True)


# -- OpenMPTCProuter ----------------------------------------------------------------------

OMR_NETWORK = """
config globals 'globals'
	option multipath 'enable'
	option mptcp_subflows '3'
	option mptcp_add_addr_accepted '1'
	option mptcp_scheduler 'default'
	option mptcp_something '1'
	option ula_prefix 'fd00::/48'
config interface 'loopback'
	option device 'lo'
	option multipath 'off'
config interface 'wan1'
	option device 'eth1'
	option multipath 'master'
config interface 'wan2'
	option device 'eth2'
	option multipath 'on'
config interface 'wan2_6'
	option device 'eth2'
	option proto 'dhcpv6'
	option multipath 'on'
config interface 'wan3'
	option device 'eth3'
config interface 'omrvpn'
	option device 'tun0'
	option multipath 'off'
"""
OMR = """
config settings 'settings'
	option master 'balancing'
config server 'vps'
	list ip '192.0.2.2'
config interface 'wan1'
	option multipath 'master'
	option label 'cable'
config interface 'wan2'
config other 'x'
"""
TRACKER = """
config defaults 'defaults'
	option enabled '1'
	list hosts '192.0.2.53'
	list hosts '198.51.100.53'
	option timeout '3'
	option tries '4'
	option interval '5'
	option type 'ping'
	option options ''
config interface 'wan2'
	option type 'httping'
	option mail_alert '1'
	list hosts 'host.example'
config interface 'omrvpn'
	option enabled '0'
config interface 'gone'
config shadowsocks 'shadowsocks'
	list hosts '192.0.2.9'
"""


def test_modes_limits_and_tracking_of_openmptcprouter() -> None:
    text, config = imported(openmptcprouter, OMR, OMR_NETWORK, omr_tracker=TRACKER)
    assert (config.subflows, config.add_addr_accepted) == (3, 1)
    modes = {uplink.name: (uplink.mode, uplink.health) for uplink in config.uplinks}
    assert [mode for mode, _ in modes.values()] == ["master", "on", "off"]
    wan1, wan2, omrvpn = (health for _, health in modes.values())
    assert wan1
    assert wan2
    assert omrvpn is None
    assert (wan1.down, wan1.timeout, len(wan1.track_ip)) == (4, 3, 2)
    assert (wan2.track_method, [target.text for target in wan2.track_ip]) == (
        "http", ["host.example"],
    )  # fmt: skip
    plain = " ".join(text.replace("\n#   ", " ").split())
    for comment in (
        "option mptcp_scheduler 'default': mproutd leaves it to sysctl: net.mptcp.scheduler",
        "option mptcp_something '1': mproutd leaves it to sysctl",
        "option master 'balancing': `weight`",
        "server 'vps': the server, its tunnels",
        "shadowsocks 'shadowsocks': the server, its tunnels",
        "the mode in network counts",
        "option mail_alert '1': see `on_down`",
        "interface 'gone': network has no interface 'gone'",
    ):
        assert comment in plain
    assert "ula_prefix" not in text


@pytest.mark.parametrize(
    ("kind", "hosts", "comment"),
    [("none", ["gateway"], "only the gateway"), ("dns", ["192.0.2.53"], "are probed by ping")],
)
def test_other_types_of_omr_tracker(kind: str, hosts: list[str], comment: str) -> None:
    tracker = f"config defaults 'defaults'\n list hosts '192.0.2.53'\n option type '{kind}'\n"
    text, config = imported(openmptcprouter, OMR, OMR_NETWORK, omr_tracker=tracker)
    assert config.uplinks[0].health
    assert [target.text for target in config.uplinks[0].health.track_ip] == hosts
    assert comment in text


def test_omr_tracker_without_hosts_checks_nothing() -> None:
    tracker = "config defaults 'defaults'\n option interval '5'\n"
    _, config = imported(openmptcprouter, OMR, OMR_NETWORK, omr_tracker=tracker)
    assert not any(uplink.health for uplink in config.uplinks)


BYPASS = """
config proto 'films'
	list url 'films.example'
config global 'global'
config domains
	option name 'bank.example'
	option interface 'wan2'
	option vpn '1'
	option noipv6 '1'
config ips
	option ip '203.0.113.0/24'
	option interface 'all'
config macs
	option mac '02:00:00:00:00:09'
	option interface 'wan3'
config lan_ip
	option ip '192.168.1.7'
	option family 'ipv4'
config dest_port
	option dport '5060-5070'
	option proto 'udp'
config src_port
	option sport '9000'
config dpis
	option proto 'films'
config dpis
	option proto 'unheard'
config asns
	option asn 'AS64496'
config domains
	option name 'off.example'
	option enabled '0'
config ips
	option ip 'x'
config lan_ip
	option interface 'wan1'
config ips
	option ip '203.0.113.1'
	option interface 'gone'
config gadget
	option x '1'
"""


def test_omr_bypass() -> None:
    text, config = imported(openmptcprouter, OMR, OMR_NETWORK, omr_bypass=BYPASS)
    found = [(rule.policy, rule.domains or rule.destinations.values or rule.macs.values
              or rule.sources.values or rule.destination_ports.values or rule.source_ports.values)
             for rule in config.rules]  # fmt: skip
    assert found == [
        ("wan2", ("bank.example",)),
        ("default", ("203.0.113.0/24",)),
        ("wan3", ("02:00:00:00:00:09",)),
        ("default", ("192.168.1.7",)),
        ("default", ((5060, 5070),)),
        ("default", ((9000, 9000),)),
        ("default", ("films.example",)),
    ]
    assert [rule.protocols for rule in config.rules][4:6] == [(17,), (6, 17)]
    assert len(config.rules[3].families) == 1
    assert {uplink.name: uplink.mode for uplink in config.uplinks}["wan3"] == "off"
    plain = " ".join(text.replace("\n#   ", " ").split())
    for comment in (
        "no domains are known for 'unheard'",
        "networks of an AS are not looked up",
        "domains: disabled",
        "'x' cannot be matched",
        "it selects nothing",
        "network has no interface 'gone'",
        "not a section of omr-bypass",
        "the tunnel to the server is not an uplink",
        "a matter of the resolver",
    ):
        assert comment in plain


# -- the command --------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["import", *arguments])
    return code, *capsys.readouterr()


def test_the_output_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "network").write_text(NETWORK.replace("option multipath 'enable'", "option x '1'"))
    (tmp_path / "mwan3").write_text(INTERFACES + DEFAULT_RULES)
    code, text, _ = run(capsys, "mwan3", str(tmp_path))
    assert code == 0
    assert text.startswith("# From mwan3: ")
    assert "mproutd is inactive until network has" in text
    assert "exists already" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mwan3", "network"]
    (tmp_path / "mproutd").write_text(text)
    assert cli.main(["check", str(tmp_path)]) == 0
    _, text, _ = run(capsys, "mwan3", str(tmp_path))
    assert "exists already: merge" in " ".join(text.replace("#", "").split())


@pytest.mark.parametrize(
    ("program", "files", "message"),
    [
        ("mwan4", {}, "cannot import from 'mwan4' (did you mean 'mwan3'?); known: mwan3, pbr, "),
        ("mwan3", {}, "DIR/mwan3: no such file; copy the router's network and "),
        ("pbr", {"pbr": ""}, "DIR/network: no such file; copy "),
        ("pbr", {"pbr": "config pbr\n optoin x\n"}, "DIR/pbr:2: expected config, option or list"),
        (
            "mwan3",
            {"mwan3": "", "network": "config interface 'a b'\n"},
            "DIR/network:1: 'a b' is not a valid section name",
        ),
        (
            "mwan3",
            {"mwan3": "", "network": "config interface a\n option device x\n"
             " option multipath 'sideways'\n"},
            "DIR/network:3: interface 'a', option 'multipath': 'sideways' is not a mode",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    program: str,
    files: dict[str, str],
    message: str,
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    code, out, err = run(capsys, program, str(tmp_path))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.replace(str(tmp_path), "DIR").startswith(f"mproutd: {message}")


def test_an_active_configuration_needs_no_switch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network").write_text(NETWORK)
    (tmp_path / "pbr").write_text(SETTINGS)
    assert "inactive" not in run(capsys, "pbr", str(tmp_path))[1]


def test_names_are_unique_and_short() -> None:
    made = Names()
    texts = ("a b", "a_b", "9", "", "ü", "x" * 30, "x" * 31)
    assert [made.make(text, "rule") for text in texts] == [
        "a_b", "a_b_2", "rule_9", "rule", "rule_2", "x" * 24, "x" * 22 + "_2",
    ]  # fmt: skip


def test_a_quote_in_a_value_is_read_back() -> None:
    draft = Draft()
    draft.add("uplink", "wan").set("on_up", "/bin/echo it's\tup")
    (section,) = parse_sections("mproutd", draft.text())
    assert section.options["on_up"].values == ("/bin/echo it's?up",)
