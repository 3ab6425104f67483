"""The options that mproutd reads: their names, how each is spelt, what it is without.

One table for each kind of section.  The reader, its hints and the tests of the
manual page all go by these tables, so an option exists exactly when it stands here.
spelling.py says what a parser is; tracking.py has the options of health checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import AF_INET, AF_INET6

from mproutd.configuration.health import TRACKING
from mproutd.configuration.parsers import OptionSpec, between, boolean, number, one_of, shown
from mproutd.model import (
    FAMILY_NAMES,
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    canonical,
    family_of,
)

MODES = ("on", "master", "off", "backup", "handover")
ROLES = ("client", "server", "both")
ON_THE_DEVICE = ("none", "static", "dhcp", "dhcpv6")
"""The protocols of netifd that use the device which the section names.  For any other (pppoe,
wwan, qmi, 6in4, wireguard …) netifd makes one, and `device` is at most what lies below it."""
DEVICE_BYTES = 15
"""linux/if.h: IFNAMSIZ is 16 with the terminating zero."""
RULE_SPAN = 900
"""The rules of the uplinks have this many priorities from rule_priority on."""
TABLE_SPAN = 256
"""And their tables this many numbers from table_base on."""
MAX_PRIORITY = 32763
"""The next ones are taken: 32764 and 32765 by ours for other traffic, 32766 by main."""
U32 = 0xFFFFFFFF


def device(text: str) -> str:
    """A network device's name (net/core/dev.c, dev_valid_name)."""
    if text.startswith("/dev/"):
        raise ValueError(
            f"{shown(text)} is a modem's port; name the network device in the uplink's "
            "section of mproutd"
        )
    size = len(text.encode(errors="surrogatepass"))
    if size > DEVICE_BYTES:
        raise ValueError(
            f"{shown(text)} is no device name: {size} bytes, and {DEVICE_BYTES} are the most"
        )
    if text in ("", ".", ".."):
        raise ValueError(f"{shown(text)} is no device name")
    if text[0] == "@":
        raise ValueError(f"{shown(text)} names an interface; give its device")
    for c in text:
        if c in "/:" or c.isspace() or not c.isprintable():
            raise ValueError(f"{shown(text)} is no device name: {shown(c)} cannot be part of one")
    return text


def device_or_alias(text: str) -> str:
    """A device's name, or "@" and the interface of network whose device it is."""
    return text if text[:1] == "@" and len(text) > 1 else device(text)


def gateway(family: int, option: str, other: str) -> Callable[[str], str]:
    name = FAMILY_NAMES[family]

    def parse(text: str) -> str:
        try:
            address = canonical(text)
        except (OSError, ValueError):
            raise ValueError(f"{shown(text)} is no {name} address") from None
        if family_of(address) != family:
            raise ValueError(
                f"{shown(text)} is no {name} address; {option} is for {name}, "
                f"{other} for the other family"
            )
        first = address.partition(".")[0]
        if address in ("::", "0.0.0.0"):
            what = "the unspecified address"
        elif address == "::1" or (family == AF_INET and first == "127"):
            what = "a loopback address"
        elif (family == AF_INET and 224 <= int(first) <= 239) or (
            address.startswith("ff") and address.find(":") == 4
        ):
            what = "a multicast address"
        elif address == "255.255.255.255":
            what = "the broadcast address"
        else:
            return address
        raise ValueError(f"{shown(text)} is {what}, which is no gateway")

    return parse


def table(text: str) -> int:
    """The number of a routing table that may be ours."""
    try:
        value = number(text)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is no number (names of rt_tables are not looked up)"
        ) from None
    if value in (TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL):
        raise ValueError(f"{value} is the kernel's own (253 default, 254 main, 255 local)")
    if not 1 <= value <= U32:
        raise ValueError(f"{shown(text)} is not within 1..{U32}")
    return value


def table_base(text: str) -> int:
    """The first of 256 tables; the span must not touch 0, 253-255 or the end."""
    return between(TABLE_LOCAL + 1, U32 - TABLE_SPAN + 1)(text)


def mark(text: str) -> tuple[int, int | None]:
    """ "MARK" or "MARK/MASK"; the mask is None where the text brings none."""
    value_text, slash, mask_text = text.partition("/")
    value = number(value_text)
    mask = number(mask_text) if slash else None
    if value > U32 or (mask or 0) > U32:
        raise ValueError(f"{shown(text)} is more than 32 bits")
    if value == 0:
        raise ValueError("0 is what an unmarked packet has; a mark has at least one bit")
    if mask is not None and value & ~mask:
        raise ValueError(f"{shown(text)} never matches: the mark has bits outside its own mask")
    return value, mask


def mark_mask(text: str) -> int:
    value = number(text)
    if value > U32:
        raise ValueError(f"{shown(text)} is more than 32 bits")
    if value.bit_count() < 2:
        raise ValueError(f"{shown(text)} has fewer than the two bits that marks need")
    return value


def program(text: str) -> tuple[str, ...]:
    """A command line in words, as a shell splits them; no shell runs it."""
    from shlex import split

    try:
        words = split(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {str(error).lower()}") from None
    if not words or not words[0].startswith("/"):
        raise ValueError(f"{shown(text)} is no program; give its whole path, from /")
    if not text.isprintable():
        raise ValueError(f"{shown(text)} holds a control character")
    return tuple(words)


MODE = OptionSpec(
    one_of("mode", MODES), "what the uplink is for: on, master, off, backup, handover"
)
DEVICE = OptionSpec(device_or_alias, "the network device, or @ and an interface that has it")
IFNAME = DEVICE._replace(summary="the older spelling of device")

PROTO = OptionSpec(str, "how netifd sets it up; most protocols make a device of their own", "none")

NETWORK_GLOBALS: Mapping[str, OptionSpec] = {
    "multipath": OptionSpec(str, "enable: mproutd is at work; anything else: it takes itself away"),
}
INTERFACE: Mapping[str, OptionSpec] = {
    "multipath": MODE,
    "device": DEVICE,
    "ifname": IFNAME,
    "proto": PROTO,
}
GLOBALS: Mapping[str, OptionSpec] = {
    "role": OptionSpec(one_of("role", ROLES), "client, server or both", "client"),
    "subflows": OptionSpec(between(0, 255), "subflows that a connection may have"),
    "add_addr_accepted": OptionSpec(between(0, 255), "announced addresses that a connection takes"),
    "rule_priority": OptionSpec(
        between(1, MAX_PRIORITY - RULE_SPAN + 1), "where the rules begin", "7000"
    ),
    "table_base": OptionSpec(table_base, "the table for other traffic; uplinks follow it", "7000"),
    "mark_mask": OptionSpec(
        mark_mask, "the bits of a packet's mark that are mproutd's", "0x7f000000"
    ),
    "main_routes": OptionSpec(boolean, "main's specific routes come before the uplinks'", "1"),
}
UPLINK: Mapping[str, OptionSpec] = {
    "multipath": MODE,
    "device": DEVICE,
    "ifname": IFNAME,
    "table": OptionSpec(table, "the number of its routing table"),
    "mark": OptionSpec(mark, "the mark that selects it, with a mask of its own if one is given"),
    "gateway": OptionSpec(gateway(AF_INET, "gateway", "gateway6"), "its IPv4 gateway", ""),
    "gateway6": OptionSpec(gateway(AF_INET6, "gateway6", "gateway"), "its IPv6 gateway", ""),
    "iif": OptionSpec(device, "what arrives on this device leaves by the uplink", many=True),
    "strict": OptionSpec(boolean, "what its rules select never falls through to another line", "0"),
    "ula": OptionSpec(boolean, "unique local addresses (fc00::/7) are eligible too", "0"),
    "fullmesh": OptionSpec(boolean, "its endpoint connects to every address of the peer", "0"),
    "laminar": OptionSpec(boolean, "its endpoint answers an announced address, once", "0"),
    "flush_conntrack": OptionSpec(boolean, "forwarded connections leave it when it is lost", "0"),
    "on_up": OptionSpec(program, "the program that runs when it becomes usable"),
    "on_down": OptionSpec(program, "the program that runs when it is not usable any more"),
    "action_timeout": OptionSpec(between(1, 3600), "seconds that these programs may take", "30"),
    **TRACKING,
}
OPTIONS: Mapping[tuple[str, str], Mapping[str, OptionSpec]] = {
    ("network", "globals"): NETWORK_GLOBALS,
    ("network", "interface"): INTERFACE,
    ("mproutd", "mproutd"): GLOBALS,
    ("mproutd", "uplink"): UPLINK,
}
"""Every option by file and type of section: what the manual page has to have."""
