"""Two UCI files and what they ask for, or the one line that says what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import Config, ConfigError, UplinkConfig, build
from mproutd.configuration.health import HealthConfig
from mproutd.configuration.options import GLOBALS, MODES, OPTIONS, UPLINK
from mproutd.configuration.parsers import Option, Section
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
    "what is wrong with an interface of nobody's is nobody's business": (
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
    assert config.warnings == (
        "/c/network:8: interface 'wan2', option 'multipath': a second master counts as on; "
        "the first is in /c/network:5",
    )


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


U1 = "/c/mproutd:2: uplink 'wan1', option "
U2 = "/c/mproutd:4: uplink 'wan2', option "
G = "/c/mproutd:2: mproutd 'globals', option "
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


D = "/c/network:2: interface 'w', option 'device': "
SAY = "say on, master, off, backup or handover"
REFUSED = [
    # modes
    (
        (WAN1.replace("master", "mastr"), ""),
        "/c/network:3: interface 'wan1', option 'multipath': 'mastr' is no mode; "
        f"{SAY} (did you mean 'master'?)",
    ),
    (
        (WAN1.replace("master", "ON"), ""),
        "/c/network:3: interface 'wan1', option 'multipath': 'ON' is no mode; "
        f"{SAY} (did you mean 'on'?)",
    ),
    (
        (WAN1 + "config interface wan6\n option device eth1\n option multipath on\n", ""),
        "/c/network:6: interface 'wan6', option 'multipath': 'on', but 'master' in "
        "/c/network:3 for the same device eth1",
    ),
    (
        one("multipath", "backup"),
        U1 + "'multipath': 'backup', but 'master' in /c/network:3 for the same device eth1",
    ),
    (
        (WAN1.replace("option multipath", "list multipath"), ""),
        "/c/network:3: interface 'wan1', option 'multipath': "
        "takes one value: write 'option', not 'list'",
    ),
    (
        ("config interface\n option device eth1\n option multipath on\n", ""),
        "/c/network:1: interface without a name: an uplink needs a name",
    ),
    # devices
    (
        network_device("abcdefghijklmnop"),
        D + "'abcdefghijklmnop' is no device name: 16 bytes, and 15 are the most",
    ),
    (network_device("é" * 8), D + "'éééééééé' is no device name: 16 bytes, and 15 are the most"),
    (network_device(".."), D + "'..' is no device name"),
    (network_device("a/b"), D + "'a/b' is no device name: '/' cannot be part of one"),
    (network_device("eth0 eth1"), D + "'eth0 eth1' is no device name: ' ' cannot be part of one"),
    (
        network_device("\x1b[31mred"),
        D + r"'\x1b[31mred' is no device name: '\x1b' cannot be part of one",
    ),
    (
        network_device("/dev/cdc-wdm0"),
        D + "'/dev/cdc-wdm0' is a modem's port; name the network device in the uplink's "
        "section of mproutd",
    ),
    (network_device("@w"), D + "'@w' leads back to itself or too far"),
    (
        (network_device("@wna")[0] + "config interface wan\n", ""),
        D + "there is no interface 'wna' (did you mean 'wan'?)",
    ),
    (
        (network_device("@wan")[0] + "config interface wan\n", ""),
        D + "'wan' has no device that could be used",
    ),
    (
        ("config interface w\n option multipath on\n", ""),
        "/c/network:1: interface 'w': no device",
    ),
    (
        (WAN1, "config uplink wan\n option table 5\n"),
        "/c/mproutd:1: uplink 'wan': no device here and no such interface in network "
        "(did you mean 'wan1'?)",
    ),
    # what mproutd's own file may hold
    (
        one("tabel", "5"),
        U1 + "'tabel': there is none (did you mean 'table'?)",
    ),
    (one("zzz", "5"), U1 + "'zzz': there is none"),
    (
        (WAN1, "config uplnk wan1\n"),
        "/c/mproutd:1: uplnk 'wan1': 'uplnk' is no type of section; say mproutd or uplink "
        "(did you mean 'uplink'?)",
    ),
    ((WAN1, "config uplink\n"), "/c/mproutd:1: uplink without a name: an uplink needs a name"),
    (
        (WAN1, "config mproutd a\nconfig mproutd b\n"),
        "/c/mproutd:2: mproutd 'b': the second one; see /c/mproutd:1",
    ),
    # tables
    (one("table", "0"), U1 + "'table': '0' is not within 1..4294967295"),
    (one("table", "4294967296"), U1 + "'table': '4294967296' is not within 1..4294967295"),
    *(
        (
            one("table", str(n)),
            U1 + f"'table': {n} is the kernel's own (253 default, 254 main, 255 local)",
        )
        for n in (253, 254, 255)
    ),
    (
        one("table", "main"),
        U1 + "'table': 'main' is no number (names of rt_tables are not looked up)",
    ),
    (
        one("table", "7000"),
        U1 + "'table': 7000 is table_base, which holds the default for other traffic",
    ),
    (two("table", "7001", "0x1b59"), U2 + "'table': 7001 is taken in /c/mproutd:2"),
    (all_of_us("table_base", "255"), G + "'table_base': '255' is not within 256..4294967040"),
    (
        all_of_us("table_base", "4294967041"),
        G + "'table_base': '4294967041' is not within 256..4294967040",
    ),
    # marks
    (
        one("mark", "3"),
        U1 + "'mark': mark 3 lies outside mark_mask 0x7f000000: write '3/0xff' or set mark_mask",
    ),
    (
        one("mark", "0x1234"),
        U1 + "'mark': mark 0x1234 lies outside mark_mask 0x7f000000: "
        "write '0x1234/0xffff' or set mark_mask",
    ),
    (
        one("mark", "0"),
        U1 + "'mark': 0 is what an unmarked packet has; a mark has at least one bit",
    ),
    (
        one("mark", "0/0xff"),
        U1 + "'mark': 0 is what an unmarked packet has; a mark has at least one bit",
    ),
    (
        one("mark", "0x100/0xff"),
        U1 + "'mark': '0x100/0xff' never matches: the mark has bits outside its own mask",
    ),
    (
        one("mark", "0x7f000000"),
        U1 + "'mark': '0x7f000000' selects 0x7f000000, all bits of mark_mask, "
        "which mproutd keeps for its own questions",
    ),
    (one("mark", "0x1ffffffff"), U1 + "'mark': '0x1ffffffff' is more than 32 bits"),
    (one("mark", "3/"), U1 + "'mark': '' is no number"),
    (
        two("mark", "3/0xff", "0x103/0xfff"),
        U2 + "'mark': '0x103/0xfff' can select the same packet as '3/0xff' in /c/mproutd:2",
    ),
    (
        all_of_us("mark_mask", "0x1ffffffff"),
        G + "'mark_mask': '0x1ffffffff' is more than 32 bits",
    ),
    (
        all_of_us("mark_mask", "0x80"),
        G + "'mark_mask': '0x80' has fewer than the two bits that marks need",
    ),
    # gateways
    (one("gateway", "10.1.1"), U1 + "'gateway': '10.1.1' is no IPv4 address"),
    (
        one("gateway", "fe80::1"),
        U1 + "'gateway': 'fe80::1' is no IPv4 address; gateway is for IPv4, gateway6 for the "
        "other family",
    ),
    (
        one("gateway6", "10.1.1.1"),
        U1 + "'gateway6': '10.1.1.1' is no IPv6 address; gateway6 is for IPv6, gateway for the "
        "other family",
    ),
    (one("gateway6", "fe80::1%eth1"), U1 + "'gateway6': 'fe80::1%eth1' is no IPv6 address"),
    (
        one("gateway", "0.0.0.0"),
        U1 + "'gateway': '0.0.0.0' is the unspecified address, which is no gateway",
    ),
    (
        one("gateway", "127.0.0.1"),
        U1 + "'gateway': '127.0.0.1' is a loopback address, which is no gateway",
    ),
    (
        one("gateway", "224.0.0.1"),
        U1 + "'gateway': '224.0.0.1' is a multicast address, which is no gateway",
    ),
    (
        one("gateway", "255.255.255.255"),
        U1 + "'gateway': '255.255.255.255' is the broadcast address, which is no gateway",
    ),
    (
        one("gateway6", "ff02::2"),
        U1 + "'gateway6': 'ff02::2' is a multicast address, which is no gateway",
    ),
    (
        one("gateway6", "::"),
        U1 + "'gateway6': '::' is the unspecified address, which is no gateway",
    ),
    (
        (
            BOTH + "config interface w6\n option device eth1\n",
            "config uplink wan1\n option gateway 10.0.0.1\n"
            "config uplink w6\n option gateway 10.0.0.2\n",
        ),
        "/c/mproutd:4: uplink 'w6', option 'gateway': '10.0.0.2', but '10.0.0.1' in /c/mproutd:2 "
        "for the same device eth1",
    ),
    # what arrives
    (one("iif", "eth2"), U1 + "'iif': 'eth2' is itself the device of interface 'wan2'"),
    (two("iif", "br-lan", "br-lan"), U2 + "'iif': 'br-lan' is taken in /c/mproutd:2"),
    (one("iif", "lan lan"), U1 + "'iif': 'lan' is taken in /c/mproutd:2"),
    (one("iif", "@lan"), U1 + "'iif': '@lan' names an interface; give its device"),
    # programs
    (one("on_up", "/bin/sh 'a"), U1 + "'on_up': '/bin/sh 'a': no closing quotation"),
    (
        one("on_up", "sh -c x"),
        U1 + "'on_up': 'sh -c x' is no program; give its whole path, from /",
    ),
    (
        one("on_up", "/bin/sh \x1b"),
        U1 + "'on_up': '/bin/sh \\x1b' holds a control character",
    ),
    # numbers and words
    (
        one("strict", "maybe"),
        U1 + "'strict': 'maybe' is neither 1 nor 0 (yes, on, true; no, off, false)",
    ),
    (all_of_us("subflows", "256"), G + "'subflows': '256' is not within 0..255"),
    (all_of_us("subflows", "-1"), G + "'subflows': '-1' is no number"),
    (all_of_us("subflows", "0x8g"), G + "'subflows': '0x8g' is no number"),
    (all_of_us("subflows", "08"), G + "'subflows': '08' is no number"),
    (all_of_us("subflows", "٣"), G + "'subflows': '٣' is no number"),
    (all_of_us("add_addr_accepted", "1_0"), G + "'add_addr_accepted': '1_0' is no number"),
    (all_of_us("rule_priority", "0"), G + "'rule_priority': '0' is not within 1..31864"),
    (all_of_us("rule_priority", "31865"), G + "'rule_priority': '31865' is not within 1..31864"),
    (
        all_of_us("role", "servre"),
        G + "'role': 'servre' is no role; say client, server or both (did you mean 'server'?)",
    ),
    # of several, the first in the files
    (
        (
            WAN1 + WAN2.replace("'on'", "'oj'").replace("eth2", "eth 2"),
            "config uplink wan1\n option table x\n",
        ),
        "/c/network:5: interface 'wan2', option 'device': 'eth 2' is no device name: ' ' cannot "
        "be part of one",
    ),
]


@pytest.mark.parametrize(
    ("files", "line"),
    REFUSED,
    ids=[re.sub(r"[^ -~]", "?", line) for _, line in REFUSED],
)
def test_refused_with_one_line(files: tuple[str, str], line: str) -> None:
    assert refusal(*files) == line


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
    assert line == (
        "/c/network:7: interface 'w2': 3 uplinks are too many: 199 have a place, and mark_mask "
        "0x3 has marks for 2 without a mark of their own"
    )
    assert len(parse(network, "config mproutd globals\n option mark_mask 7\n").uplinks) == 3


def test_a_value_of_any_length_makes_a_short_line() -> None:
    assert len(refusal(WAN1.replace("master", "m" * 100_000))) < 250


@pytest.mark.parametrize("option", [*GLOBALS.items(), *UPLINK.items()], ids=lambda o: str(o[0]))
def test_the_default_that_is_told_is_the_default_that_counts(option: tuple) -> None:
    name, known = option
    defaults = {
        **UplinkConfig._field_defaults,
        **Config._field_defaults,
        **HealthConfig._field_defaults,
    }
    if known.default is None:
        assert defaults.get(name) in (None, ()) or name == "device"
    elif known.default:
        assert known.parse(known.default) == defaults[name]
    else:
        assert defaults[name] == ""


def test_every_option_is_told_of() -> None:
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
    found = []
    for kind, options in types.items():
        names = st.lists(st.sampled_from(["wan", "wan6", "dsl", "lan"]), unique=True)
        for name in draw(names)[: 1 if kind == "mproutd" else 4]:
            said = {}
            if kind != "mproutd" and draw(st.integers(0, 9)):
                line = len(found) * 20 + 20
                said["device"] = Option((draw(st.sampled_from(["eth1", "eth2", "e3"])),), (line,))
            for option in draw(st.lists(st.sampled_from(options), unique=True)):
                sensible = st.sampled_from(PLAUSIBLE[option])
                value = draw(sensible if draw(st.integers(0, 30)) else st.text(max_size=20))
                said[option] = Option((value,), (len(found) * 20 + len(said) + 2,))
            found.append(Section(file, len(found) * 20 + 1, kind, name, said))
    return tuple(found)


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
