"""Two UCI files: the configuration that they give, or one line with what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration import policies
from mproutd.configuration.config import (
    Config,
    ConfigError,
    UplinkConfig,
    build,
    without_programs,
)
from mproutd.configuration.health import HealthConfig
from mproutd.configuration.options import GLOBALS, MODES, OPTIONS, UPLINK
from mproutd.configuration.sections import Option, Section
from mproutd.configuration.uci_parser import parse_sections

ON = "config globals 'globals'\n option multipath 'enable'\n"
WAN1 = "config interface 'wan1'\n option device 'eth1'\n option multipath 'master'\n"
WAN2 = "config interface 'wan2'\n option device 'eth2'\n option multipath 'on'\n"


def parse(network: str, mproutd: str = "") -> Config:
    return build(parse_sections("/c/network", network), parse_sections("/c/mproutd", mproutd))


def refusal(network: str, mproutd: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(network, mproutd)
    return str(caught.value)


def modes(config: Config) -> dict[str, str]:
    return {uplink.name: uplink.mode for uplink in config.uplinks}


def test_without_its_programs_a_configuration_routes_as_before() -> None:
    fault = "/c/network: every user can change it"
    own = "config uplink wan1\n option on_up '/bin/up'\n option on_quota '/bin/full'\n"
    own += " option quota '1g'\n"
    config = parse(ON + WAN1 + WAN2, own)
    left = without_programs(config, [fault])
    before, after = config.uplinks[0], left.uplinks[0]
    assert before.on_up
    assert before.on_quota
    assert after == before._replace(on_up=(), on_quota=())
    assert left.uplinks[1] == config.uplinks[1]
    assert left.warnings[-1] == f"{fault}, so on_quota, on_up are ignored; chown root, chmod go-w"
    assert left._replace(uplinks=config.uplinks, warnings=config.warnings) == config
    left = without_programs(parse(ON + WAN1), [fault])
    assert left.warnings == (f"{fault}, and with it all routes; chown root, chmod go-w",)


def test_a_disabled_interface_is_as_if_it_were_not_there() -> None:
    old = "config interface 'old'\n option device 'eth1'\n option disabled '1'\n"
    old += " option multipath 'off'\n"
    config = parse(ON + old + WAN1 + WAN2 + " option disabled 'true'\n")
    assert modes(config) == {"wan1": "master"}
    assert modes(parse(ON + WAN1 + " option disabled '0'\n")) == {"wan1": "master"}


def test_the_uplink_section_of_a_disabled_interface_is_ignored_too() -> None:
    disabled = "config interface 'wan1'\n option device 'eth1'\n option disabled '1'\n"
    assert modes(parse(ON + disabled, "config uplink 'wan1'\n option multipath 'on'\n")) == {}


SIX = "config interface 'wan1_6'\n option device 'eth1'\n option proto 'dhcpv6'\n"


@pytest.mark.parametrize("network", [WAN1 + SIX, SIX + "{off}" + WAN1])
def test_the_mode_of_a_section_for_ipv6_alone_is_ignored_with_a_warning(network: str) -> None:
    off = " option multipath 'off'\n"
    text = ON + (network.format(off=off) if "{off}" in network else network + off)
    config = parse(text)
    assert [uplink.mode for uplink in config.uplinks] == ["master"]
    (warning,) = config.warnings
    assert "wan1_6" in warning
    assert "'off'" not in refusal(ON + WAN1 + WAN1.replace("wan1", "b").replace("master", "on"))


@pytest.mark.parametrize(("mode", "warnings"), [("off", 0), ("on", 1)])
def test_the_loopback_device_is_no_uplink(mode: str, warnings: int) -> None:
    lo = f"config interface 'loopback'\n option device 'lo'\n option multipath '{mode}'\n"
    config = parse(ON + lo + WAN1)
    assert modes(config) == {"wan1": "master"}
    assert len(config.warnings) == warnings


def test_the_example_of_the_manual() -> None:
    config = parse(
        """
config globals 'globals'
	option multipath 'enable'

config interface 'wan1'
	option device 'eth1'
	option multipath 'master'      # on | master | off | backup | handover
""",
        """
config mproutd 'globals'
	option role 'both'
	option subflows '8'
	option add_addr_accepted '4'
	option rule_priority '8000'
	option table_base '9000'
	option mark_mask '0xff00'
	option main_routes 'no'

config uplink 'wan1'
	option table '7001'
	option mark '0x0100'
	option gateway '10.1.1.1'
	option gateway6 'FE80:0::1'
	list iif 'br-lan'
	list iif 'br-guest'
	option strict '1'
	option ula 'yes'
	option fullmesh 'on'
	option laminar 'true'
""",
    )
    assert config == Config(
        enabled=True,
        role="both",
        subflows=8,
        add_addr_accepted=4,
        rule_priority=8000,
        table_base=9000,
        mark_mask=0xFF00,
        main_routes=False,
        uplinks=(
            UplinkConfig(
                name="wan1",
                device="eth1",
                mode="master",
                table=7001,
                mark=0x100,
                gateway="10.1.1.1",
                gateway6="fe80::1",
                iif=("br-lan", "br-guest"),
                strict=True,
                ula=True,
                fullmesh=True,
                laminar=True,
                interfaces=("wan1",),
                netifd_interface="wan1",
            ),
        ),
    )


UPLINKS = {
    # what is written: (network, mproutd), the uplinks as "name device mode interfaces"
    "an interface without a mode is not managed": (
        ("config interface 'lan'\n option device 'br-lan'\n" + WAN2, ""),
        ["wan2 eth2 on wan2"],
    ),
    "the order is that of the file": (
        (WAN2 + WAN1, ""),
        ["wan2 eth2 on wan2", "wan1 eth1 master wan1"],
    ),
    "ifname is the older device": (
        ("config interface w\n option ifname eth5\n option multipath backup\n", ""),
        ["w eth5 backup w"],
    ),
    "wan and wan6 are one": (
        (WAN1 + "config interface wan6\n option device eth1\n option multipath master\n", ""),
        ["wan1 eth1 master wan1 wan6"],
    ),
    "the second one says no mode": (
        (WAN1 + "config interface wan6\n option device '@wan1'\n", ""),
        ["wan1 eth1 master wan1 wan6"],
    ),
    "the one with the mode gives the name": (
        ("config interface wan6\n option device '@wan1'\n" + WAN1, ""),
        ["wan1 eth1 master wan1 wan6"],
    ),
    "an alias of an alias": (
        (
            "config interface c\n option device @b\n option multipath on\n"
            "config interface b\n option device @a\nconfig interface a\n option device eth0\n",
            "",
        ),
        ["c eth0 on c b a"],
    ),
    "an uplink section alone is off": (
        ("config interface wan3\n option device eth3\n", "config uplink wan3\n"),
        ["wan3 eth3 off wan3"],
    ),
    "the uplink section has the mode": (
        (
            "config interface wan3\n option device eth3\n",
            "config uplink wan3\n option multipath on\n",
        ),
        ["wan3 eth3 on wan3"],
    ),
    "an uplink section stands alone, after what is in network": (
        (WAN1, "config uplink dsl\n option device ppp0\n option multipath backup\n"),
        ["wan1 eth1 master wan1", "dsl ppp0 backup"],
    ),
    "stand-alone on a device of network": (
        (WAN1, "config uplink dsl\n option device eth1\n"),
        ["wan1 eth1 master wan1"],
    ),
    "the device in mproutd goes first": (
        (
            "config interface lte\n option device /dev/cdc-wdm0\n option multipath handover\n",
            "config uplink lte\n option device wwan0\n",
        ),
        ["lte wwan0 handover lte"],
    ),
    "an alias follows the device in mproutd": (
        (
            "config interface a\n option device eth1\n option multipath on\n"
            "config interface b\n option device @a\n",
            "config uplink a\n option device ppp0\n",
        ),
        ["a ppp0 on a b"],
    ),
    "an unmanaged interface may be invalid": (
        (
            WAN1 + "config interface x\n option device 'eth0.1 eth0.2'\n option type bridge\n"
            "config interface y\n option device @z\nconfig interface v\n option device @v\n",
            "",
        ),
        ["wan1 eth1 master wan1"],
    ),
    "15 bytes are a device name": (
        ("config interface w\n option device abcdefghijklmno\n option multipath on\n", ""),
        ["w abcdefghijklmno on w"],
    ),
    "similar names are different ones": (
        (
            "".join(
                f"config interface {n}\n option device {d}\n option multipath on\n"
                for n, d in (("wan1", "eth0"), ("wan10", "eth0.300"))
            ),
            "",
        ),
        ["wan1 eth0 on wan1", "wan10 eth0.300 on wan10"],
    ),
}


@pytest.mark.parametrize(("files", "expected"), UPLINKS.values(), ids=UPLINKS)
def test_uplinks(files: tuple[str, str], expected: list[str]) -> None:
    config = parse(ON + files[0], files[1])
    assert [" ".join((u.name, u.device, u.mode, *u.interfaces)) for u in config.uplinks] == expected
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("network", "enabled", "warnings"),
    [
        (ON, True, 0),
        ("config globals 'globals'\n option multipath 'disable'\n", False, 0),
        ("config globals 'globals'\n option multipath 'enabled'\n", False, 1),
        ("config globals 'globals'\n option ula_prefix 'fd00::/48'\n", False, 1),
        ("", False, 1),
    ],
)
def test_anything_but_enable_disables_and_uplinks_are_read_all_the_same(
    network: str, enabled: bool, warnings: int
) -> None:
    config = parse(network + WAN1)
    assert config.enabled == enabled
    assert [u.name for u in config.uplinks] == ["wan1"]
    assert len(config.warnings) == warnings


def test_a_program_is_a_list_of_words_as_a_shell_splits_them() -> None:
    own = """config uplink wan1\n option on_up '/usr/bin/notify "wan one" up'\n"""
    assert parse(WAN1, own).uplinks[0].on_up == ("/usr/bin/notify", "wan one", "up")


def test_of_two_masters_the_first_wins() -> None:
    config = parse(ON + WAN1 + WAN2.replace("'on'", "'master'"))
    assert [u.mode for u in config.uplinks] == ["master", "on"]
    (warning,) = config.warnings
    assert warning.startswith("/c/network:8: interface 'wan2', option 'multipath': ")
    assert "treated as on" in warning
    assert "/c/network:5" in warning


def test_sections_of_one_uplink_share_their_settings() -> None:
    network = WAN1 + "config interface wan6\n option device @wan1\n"
    config = parse(
        ON + network,
        "config uplink wan1\n option gateway 10.1.1.1\n list iif lan1\n"
        " option strict 1\nconfig uplink wan6\n option gateway6 fe80::9\n"
        " option iif 'lan2 lan3'\n option strict on\n",
    )
    (wan1,) = config.uplinks
    assert (wan1.gateway, wan1.gateway6, wan1.strict) == ("10.1.1.1", "fe80::9", True)
    assert wan1.iif == ("lan1", "lan2", "lan3")


@pytest.mark.parametrize(
    ("mark", "mark_mask", "expected"),
    [
        ("0x01000000", "0x7f000000", (0x01000000, None)),
        ("3/0xff", "0x7f000000", (3, 0xFF)),
        ("3", "0xff", (3, None)),
        ("0X0A/0XFF", "0x7f000000", (10, 255)),
    ],
)
def test_marks(mark: str, mark_mask: str, expected: tuple[int, int | None]) -> None:
    config = parse(
        ON + WAN1,
        f"config mproutd globals\n option mark_mask {mark_mask}\n"
        f"config uplink wan1\n option mark {mark}\n",
    )
    assert (config.uplinks[0].mark, config.uplinks[0].mask) == expected


def test_a_mark_is_compared_with_all_before_it() -> None:
    network = ON + "".join(
        f"config interface wan{n}\n option device eth{n}\n option multipath on\n" for n in (1, 2, 3)
    )
    marks = "".join(
        f"config uplink wan{n}\n option mark {mark}\n"
        for n, mark in ((1, "0x1/0x3"), (2, "0x2/0x3"), (3, "0x6/0xf"))
    )
    line = refusal(network, marks)
    assert "uplink 'wan3', option 'mark'" in line
    assert "'0x6/0xf' can match the same packet as '0x2/0x3'" in line


BOTH = WAN1 + WAN2


def one(option: str, value: str) -> tuple[str, str]:
    return BOTH, f'config uplink wan1\n option {option} "{value}"\n'


def two(option: str, first: str, second: str) -> tuple[str, str]:
    return BOTH, "".join(
        f"config uplink {name}\n option {option} '{value}'\n"
        for name, value in (("wan1", first), ("wan2", second))
    )


def all_of_us(option: str, value: str) -> tuple[str, str]:
    return WAN1, f"config mproutd 'globals'\n option {option} '{value}'\n"


def network_device(device: str) -> tuple[str, str]:
    return f"config interface w\n option device '{device}'\n option multipath on\n", ""


REFUSED = [
    # modes
    (
        (WAN1.replace("master", "mastr"), ""),
        "network:3",
        "interface 'wan1'",
        "multipath",
        ["'mastr'", "'master'"],
    ),
    (
        (WAN1.replace("master", "ON"), ""),
        "network:3",
        "interface 'wan1'",
        "multipath",
        ["'ON'", "'on'"],
    ),
    (
        (WAN1 + "config interface wan6\n option device eth1\n option multipath on\n", ""),
        "network:6",
        "interface 'wan6'",
        "multipath",
        ["'on'", "'master'", "/c/network:3", "eth1"],
    ),
    (
        one("multipath", "backup"),
        "mproutd:2",
        "uplink 'wan1'",
        "multipath",
        ["'backup'", "'master'", "/c/network:3", "eth1"],
    ),
    (
        (WAN1.replace("option multipath", "list multipath"), ""),
        "network:3",
        "interface 'wan1'",
        "multipath",
        ["'option'", "'list'"],
    ),
    (
        ("config interface\n option device eth1\n option multipath on\n", ""),
        "network:1",
        "anonymous interface",
        "",
        ["needs a name"],
    ),
    # devices
    (
        network_device("a" * 128),
        "network:2",
        "interface 'w'",
        "device",
        ["128", "127"],
    ),
    (network_device("é" * 64), "network:2", "interface 'w'", "device", ["128", "127"]),
    (network_device(".."), "network:2", "interface 'w'", "device", ["'..'"]),
    (network_device("a/b"), "network:2", "interface 'w'", "device", ["'a/b'", "'/'"]),
    (network_device("eth0 eth1"), "network:2", "interface 'w'", "device", ["'eth0 eth1'", "' '"]),
    (
        network_device("\x1b[31mred"),
        "network:2",
        "interface 'w'",
        "device",
        ["'\\x1b[31mred'", "'\\x1b'"],
    ),
    (
        network_device("/dev/cdc-wdm0"),
        "network:2",
        "interface 'w'",
        "device",
        ["'/dev/cdc-wdm0'", "port"],
    ),
    (network_device("@w"), "network:2", "interface 'w'", "device", ["'@w'", "itself"]),
    (
        (network_device("@wna")[0] + "config interface wan\n", ""),
        "network:2",
        "interface 'w'",
        "device",
        ["'wna'", "'wan'"],
    ),
    (
        (network_device("@wan")[0] + "config interface wan\n", ""),
        "network:2",
        "interface 'w'",
        "device",
        ["'wan'"],
    ),
    (
        ("config interface w\n option multipath on\n", ""),
        "network:1",
        "interface 'w'",
        "",
        ["no device"],
    ),
    (
        (WAN1, "config uplink wan\n option table 5\n"),
        "mproutd:1",
        "uplink 'wan'",
        "",
        ["no device", "'wan1'"],
    ),
    # what mproutd's own file may hold
    (one("tabel", "5"), "mproutd:2", "uplink 'wan1'", "tabel", ["unknown", "'table'"]),
    (one("zzz", "5"), "mproutd:2", "uplink 'wan1'", "zzz", ["unknown"]),
    ((WAN1, "config uplnk wan1\n"), "mproutd:1", "uplnk 'wan1'", "", ["'uplink'"]),
    ((WAN1, "config uplink\n"), "mproutd:1", "anonymous uplink", "", ["needs a name"]),
    (
        (WAN1, "config mproutd a\nconfig mproutd b\n"),
        "mproutd:2",
        "mproutd 'b'",
        "",
        ["/c/mproutd:1"],
    ),
    # tables
    (one("table", "0"), "mproutd:2", "uplink 'wan1'", "table", ["'0'", "1", "4294967295"]),
    (
        one("table", "4294967296"),
        "mproutd:2",
        "uplink 'wan1'",
        "table",
        ["'4294967296'", "1", "4294967295"],
    ),
    *(
        (one("table", str(n)), "mproutd:2", "uplink 'wan1'", "table", [str(n), "kernel"])
        for n in (253, 254, 255)
    ),
    (one("table", "main"), "mproutd:2", "uplink 'wan1'", "table", ["'main'", "rt_tables"]),
    (one("table", "7000"), "mproutd:2", "uplink 'wan1'", "table", ["7000", "table_base"]),
    (
        two("table", "7001", "0x1b59"),
        "mproutd:4",
        "uplink 'wan2'",
        "table",
        ["7001", "/c/mproutd:2"],
    ),
    (
        all_of_us("table_base", "255"),
        "mproutd:2",
        "mproutd 'globals'",
        "table_base",
        ["'255'", "256", "4294966784"],
    ),
    (
        all_of_us("table_base", "4294966785"),
        "mproutd:2",
        "mproutd 'globals'",
        "table_base",
        ["'4294966785'", "256", "4294966784"],
    ),
    # marks
    (one("mark", "3"), "mproutd:2", "uplink 'wan1'", "mark", ["3", "0x7f000000", "'3/0xff'"]),
    (
        one("mark", "0x1234"),
        "mproutd:2",
        "uplink 'wan1'",
        "mark",
        ["0x1234", "0x7f000000", "'0x1234/0xffff'"],
    ),
    (one("mark", "0"), "mproutd:2", "uplink 'wan1'", "mark", ["unmarked"]),
    (one("mark", "0/0xff"), "mproutd:2", "uplink 'wan1'", "mark", ["unmarked"]),
    (
        one("mark", "0x100/0xff"),
        "mproutd:2",
        "uplink 'wan1'",
        "mark",
        ["'0x100/0xff'", "outside its mask"],
    ),
    (
        one("mark", "0x7f000000"),
        "mproutd:2",
        "uplink 'wan1'",
        "mark",
        ["'0x7f000000'", "all bits of mark_mask"],
    ),
    (one("mark", "0x1ffffffff"), "mproutd:2", "uplink 'wan1'", "mark", ["'0x1ffffffff'", "32"]),
    (one("mark", "3/"), "mproutd:2", "uplink 'wan1'", "mark", ["''", "number"]),
    (
        two("mark", "3/0xff", "0x103/0xfff"),
        "mproutd:4",
        "uplink 'wan2'",
        "mark",
        ["'0x103/0xfff'", "'3/0xff'", "/c/mproutd:2"],
    ),
    (
        all_of_us("mark_mask", "0x1ffffffff"),
        "mproutd:2",
        "mproutd 'globals'",
        "mark_mask",
        ["'0x1ffffffff'", "32"],
    ),
    (
        all_of_us("mark_mask", "0x80"),
        "mproutd:2",
        "mproutd 'globals'",
        "mark_mask",
        ["'0x80'", "two bits"],
    ),
    # gateways
    (one("gateway", "10.1.1"), "mproutd:2", "uplink 'wan1'", "gateway", ["'10.1.1'", "IPv4"]),
    (
        one("gateway", "fe80::1"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway",
        ["'fe80::1'", "IPv4", "gateway6"],
    ),
    (
        one("gateway6", "10.1.1.1"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway6",
        ["'10.1.1.1'", "IPv6", "set gateway "],
    ),
    (
        one("gateway6", "fe80::1%eth1"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway6",
        ["'fe80::1%eth1'", "IPv6"],
    ),
    (
        one("gateway", "0.0.0.0"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway",
        ["'0.0.0.0'", "unspecified"],
    ),
    (
        one("gateway", "127.0.0.1"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway",
        ["'127.0.0.1'", "loopback"],
    ),
    (
        one("gateway", "224.0.0.1"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway",
        ["'224.0.0.1'", "multicast"],
    ),
    (
        one("gateway", "255.255.255.255"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway",
        ["'255.255.255.255'", "broadcast"],
    ),
    (
        one("gateway6", "ff02::2"),
        "mproutd:2",
        "uplink 'wan1'",
        "gateway6",
        ["'ff02::2'", "multicast"],
    ),
    (one("gateway6", "::"), "mproutd:2", "uplink 'wan1'", "gateway6", ["'::'", "unspecified"]),
    (
        (
            BOTH + "config interface w6\n option device eth1\n",
            "config uplink wan1\n option gateway 10.0.0.1\n"
            "config uplink w6\n option gateway 10.0.0.2\n",
        ),
        "mproutd:4",
        "uplink 'w6'",
        "gateway",
        ["'10.0.0.2'", "'10.0.0.1'", "/c/mproutd:2"],
    ),
    # what arrives
    (one("iif", "eth2"), "mproutd:2", "uplink 'wan1'", "iif", ["'eth2'", "'wan2'"]),
    (
        two("iif", "br-lan", "br-lan"),
        "mproutd:4",
        "uplink 'wan2'",
        "iif",
        ["'br-lan'", "/c/mproutd:2"],
    ),
    (one("iif", "lan lan"), "mproutd:2", "uplink 'wan1'", "iif", ["'lan'", "/c/mproutd:2"]),
    (one("iif", "@lan"), "mproutd:2", "uplink 'wan1'", "iif", ["'@lan'", "alias"]),
    # programs
    (
        one("on_up", "/bin/sh 'a"),
        "mproutd:2",
        "uplink 'wan1'",
        "on_up",
        ["'/bin/sh 'a'", "quotation"],
    ),
    (
        one("on_up", "sh -c x"),
        "mproutd:2",
        "uplink 'wan1'",
        "on_up",
        ["'sh -c x'", "absolute path"],
    ),
    (
        one("on_up", "/bin/sh \x1b"),
        "mproutd:2",
        "uplink 'wan1'",
        "on_up",
        ["'/bin/sh \\x1b'", "control character"],
    ),
    # numbers and words
    (one("strict", "maybe"), "mproutd:2", "uplink 'wan1'", "strict", ["'maybe'", "1", "0"]),
    (
        all_of_us("subflows", "256"),
        "mproutd:2",
        "mproutd 'globals'",
        "subflows",
        ["'256'", "0", "255"],
    ),
    (all_of_us("subflows", "-1"), "mproutd:2", "mproutd 'globals'", "subflows", ["'-1'"]),
    (all_of_us("subflows", "0x8g"), "mproutd:2", "mproutd 'globals'", "subflows", ["'0x8g'"]),
    (all_of_us("subflows", "08"), "mproutd:2", "mproutd 'globals'", "subflows", ["'08'"]),
    (all_of_us("subflows", "٣"), "mproutd:2", "mproutd 'globals'", "subflows", ["'٣'"]),
    (
        all_of_us("add_addr_accepted", "1_0"),
        "mproutd:2",
        "mproutd 'globals'",
        "add_addr_accepted",
        ["'1_0'"],
    ),
    (
        all_of_us("rule_priority", "0"),
        "mproutd:2",
        "mproutd 'globals'",
        "rule_priority",
        ["'0'", "1", "30864"],
    ),
    (
        all_of_us("rule_priority", "30865"),
        "mproutd:2",
        "mproutd 'globals'",
        "rule_priority",
        ["'30865'", "30864"],
    ),
    (
        all_of_us("role", "servre"),
        "mproutd:2",
        "mproutd 'globals'",
        "role",
        ["'servre'", "'server'"],
    ),
    # of several, the first in the files
    (
        (
            WAN1 + WAN2.replace("'on'", "'oj'").replace("eth2", "eth 2"),
            "config uplink wan1\n option table x\n",
        ),
        "network:5",
        "interface 'wan2'",
        "device",
        ["'eth 2'", "' '"],
    ),
]


@pytest.mark.parametrize(("files", "location", "section", "option", "facts"), REFUSED)
def test_an_error_is_one_line_with_its_location_and_the_facts(
    files: tuple[str, str], location: str, section: str, option: str, facts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*files)
    error = caught.value
    assert (f"{error.file}:{error.line}", error.section, error.option) == (
        f"/c/{location}",
        section,
        option,
    )
    assert [fact for fact in facts if fact not in error.reason] == []
    line = str(error)
    assert line.isprintable()
    where = f"/c/{location}: {section}" + (f", option '{option}'" if option else "")
    assert line == f"{where}: {error.reason}"


def test_the_error_names_file_line_section_and_option() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(WAN1.replace("master", "mastr"))
    error = caught.value
    assert (error.file, error.line) == ("/c/network", 3)
    assert (error.section, error.option) == ("interface 'wan1'", "multipath")


def test_more_uplinks_than_marks() -> None:
    network = "".join(
        f"config interface w{n}\n option device e{n}\n option multipath on\n" for n in range(3)
    )
    line = refusal(network, "config mproutd globals\n option mark_mask 3\n")
    assert line.startswith("/c/network:7: interface 'w2': too many uplinks: 3, at most 198")
    assert "mark_mask 0x3 has marks for 2 " in line
    assert len(parse(network, "config mproutd globals\n option mark_mask 7\n").uplinks) == 3


def test_a_value_of_any_length_makes_a_short_line() -> None:
    assert len(refusal(WAN1.replace("master", "m" * 100_000))) < 250


def fields(kind: type[Any]) -> dict[str, tuple[Any, Any]]:
    """The type and the default of each field."""
    types = get_type_hints(kind, localns=vars(policies))
    return {name: (types[name], value) for name, value in kind._field_defaults.items()}


FIELDS = {
    **{("globals", name): default for name, default in fields(Config).items()},
    **{("uplink", name): default for name, default in fields(UplinkConfig).items()},
    **{("uplink", name): default for name, default in fields(HealthConfig).items()},
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("globals", name) for name in GLOBALS), *(("uplink", name) for name in UPLINK)],
)
def test_an_option_is_a_field_with_its_default(kind: str, name: str) -> None:
    if name in ("multipath", "device", "ifname"):
        return  # the mode and the device, which an uplink gets in more ways than one
    spec = (GLOBALS if kind == "globals" else UPLINK)[name]
    type_, default = FIELDS[kind, name]
    assert default == spec.default_value
    accepted = [get_origin(one) or one for one in (get_args(type_) or (type_,))]
    if get_origin(type_) is tuple:
        accepted = [tuple]
    assert isinstance(default, tuple(accepted))
    if spec.default:
        assert default == spec.parse(spec.default)


def test_every_option_has_a_summary_of_one_line() -> None:
    for table in OPTIONS.values():
        for known in table.values():
            assert known.summary
            assert "\n" not in known.summary


def test_the_recording_of_netifd() -> None:
    file = Path(__file__).parents[1] / "fixtures/netifd/network"
    config = build(parse_sections(str(file), file.read_text()))
    assert [(u.name, u.device, u.mode) for u in config.uplinks] == [
        ("wan1", "w1", "master"),
        ("wan2", "w2", "on"),
        ("wan3", "w3", "backup"),
        ("lte", "wwan0", "handover"),
    ]
    assert (config.enabled, config.warnings) == (True, ())


# What hypothesis writes: mostly what has a meaning, so that many files pass the first checks.
PLAUSIBLE = {
    "multipath": list(MODES),
    "device": ["eth1", "eth2", "@wan", "@wan6"],
    "table": ["7001", "7002", "0x1b59", "7000", "9000"],
    "mark": ["0x01000000", "3/0xff", "4/0xff", "0x03/0x03", "0x7f000000"],
    "gateway": ["10.1.1.1", "10.1.1.2"],
    "gateway6": ["fe80::1"],
    "iif": ["br-lan", "br-guest", "eth1"],
    "strict": ["1", "off"],
    "table_base": ["7000", "9000"],
    "mark_mask": ["0x7f000000", "0xff"],
    "role": ["client", "both"],
}


@st.composite
def files(draw: st.DrawFn, file: str, types: dict[str, list[str]]) -> tuple[Section, ...]:
    sections = []
    for kind, options in types.items():
        names = st.lists(st.sampled_from(["wan", "wan6", "dsl", "lan"]), unique=True)
        for name in draw(names)[: 1 if kind == "mproutd" else 4]:
            given = {}
            if kind != "mproutd" and draw(st.integers(0, 9)):
                line = len(sections) * 20 + 20
                given["device"] = Option((draw(st.sampled_from(["eth1", "eth2", "e3"])),), (line,))
            for option in draw(st.lists(st.sampled_from(options), unique=True)):
                sensible = st.sampled_from(PLAUSIBLE[option])
                value = draw(sensible if draw(st.integers(0, 30)) else st.text(max_size=20))
                given[option] = Option((value,), (len(sections) * 20 + len(given) + 2,))
            sections.append(Section(file, len(sections) * 20 + 1, kind, name, given))
    return tuple(sections)


NETWORK = {"interface": ["multipath", "device"]}
MPROUTD = {
    "uplink": "multipath device table mark gateway gateway6 iif strict".split(),
    "mproutd": ["table_base", "mark_mask", "role"],
}


@given(files("n", NETWORK), files("m", MPROUTD))
def test_any_sections_give_a_config_or_one_line(
    network: tuple[Section, ...], mproutd: tuple[Section, ...]
) -> None:
    try:
        config = build(network, mproutd)
    except ConfigError as error:
        line = str(error)
        assert line.isprintable()
        assert re.match(r"[nm]:\d+: ", line)
        return
    uplinks = config.uplinks
    devices = [u.device for u in uplinks]
    assert len(devices) == len(set(devices))
    assert sum(u.mode == "master" for u in uplinks) <= 1
    tables = [u.table for u in uplinks if u.table is not None]
    assert len(tables) == len(set(tables))
    assert config.table_base not in tables
    arrivals = [name for u in uplinks for name in u.iif]
    assert len(arrivals) == len(set(arrivals))
    assert not set(arrivals) & set(devices)
    marks = [(u.mark, config.mark_mask if u.mask is None else u.mask) for u in uplinks if u.mark]
    for at, (mark, mask) in enumerate(marks):
        assert mark & ~mask == 0
        for other, other_mask in marks[:at]:
            assert (mark ^ other) & mask & other_mask
    for uplink in uplinks:
        managed = [s for s in (*network, *mproutd) if s.name == uplink.name and s.type != "mproutd"]
        assert any(s.type == "uplink" or "multipath" in s.options for s in managed)
