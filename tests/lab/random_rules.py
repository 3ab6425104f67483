"""Random policies, rules and packets, for the fake kernel and the real one."""

from __future__ import annotations

from random import Random
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import ConfigError
from mproutd.explain.request import Request
from tests.lab.fake_world import interface, uci

SOURCES: dict[int, tuple[str, ...]] = {
    AF_INET: tuple(f"192.168.70.{n}" for n in (10, 11, 12)),
    AF_INET6: tuple(f"2001:db8:70::{n}" for n in (10, 11, 12)),
}
DESTINATIONS: dict[int, tuple[str, ...]] = {
    AF_INET: ("198.51.100.1", "198.51.100.2", "203.0.113.1"),
    AF_INET6: ("2001:db8:100::1", "2001:db8:100::2", "2001:db8:113::1"),
}
SOURCE_PREFIXES = (*SOURCES[AF_INET], "192.168.70.8/30", "0.0.0.0/0", "10.0.0.0/8")
SOURCE_PREFIXES6 = (*SOURCES[AF_INET6], "2001:db8:70::/126", "2001:db8:71::/64")
TARGET_PREFIXES = (*DESTINATIONS[AF_INET], "198.51.100.0/24", "203.0.113.0/25")
TARGET_PREFIXES6 = (*DESTINATIONS[AF_INET6], "2001:db8:100::/48", "::/0")
PORTS = ("80", "443", "440-450", "8000-8999", "1000-65000")
DSCP = ("ef", "cs1", "af41", "0")
UIDS = ("1500", "1500-1600", "1601-1700", "all")
UPLINKS = 3


class Match(NamedTuple):
    """What the packets of a world may have beside addresses and ports."""

    macs: tuple[str, ...] = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    devices: tuple[str, ...] = ("br-lan", "eth9")
    sets: bool = True
    sticky: bool = True
    """Whether the rules may use sets, and remember sources."""


NETWORK = "".join(
    interface(f"wan{n}", f"eth{n}", mode)
    for n, mode in zip(range(1, UPLINKS + 1), ("master", "on", "on"), strict=True)
)


def policies(random: Random) -> str:
    """Members and policies of all uplinks; p3 has no way out without the last one."""
    text = ""
    for name in ("p1", "p2", "p3"):
        chosen = random.sample(range(1, UPLINKS + 1), random.randint(1, UPLINKS))
        resorts = ("unreachable", "blackhole", "default")
        if name == "p3":
            chosen, resorts = [UPLINKS], resorts[:2]
        members = ""
        for n in chosen:
            text += f"config member '{name}_{n}'\n option interface 'wan{n}'\n"
            text += f" option metric '{random.randint(1, 3) * 10 + n}'\n"
            members += f" list use_member '{name}_{n}'\n"
        resort = random.choice(resorts)
        text += f"config policy '{name}'\n{members} option last_resort '{resort}'\n"
    for n in range(1, UPLINKS + 1):
        text += f"config uplink 'wan{n}'\n option strict '{random.randint(0, 1)}'\n"
    return text


def rules(random: Random, count: int, match: Match, head: str) -> str:
    """Rules that check accepts after `head`."""
    text = ""
    for number in range(count):
        while True:
            candidate = _rule(random, f"r{number}", match)
            try:
                uci(NETWORK, head + text + candidate)
            except ConfigError:
                continue
            text += candidate
            break
    return text


def _rule(random: Random, name: str, match: Match) -> str:
    target = random.choice(("p1", "p2", "p3", "p1", "p2", "p3", "wan1", "wan3", "default"))
    text = f"config rule '{name}'\n option use_policy '{target}'\n"

    def add(option: str, values: tuple[str, ...], negatable: bool = True) -> str:
        if random.random() < 0.6:
            return ""
        chosen = random.sample(values, random.randint(1, min(2, len(values))))
        mark = "!" if negatable and random.random() < 0.25 else ""
        return "".join(f" list {option} '{mark}{value}'\n" for value in chosen)

    own = random.random() < 0.35
    families = random.choice(((AF_INET,), (AF_INET6,), (AF_INET, AF_INET6)))
    sources = SOURCE_PREFIXES * (AF_INET in families) + SOURCE_PREFIXES6 * (AF_INET6 in families)
    targets = TARGET_PREFIXES * (AF_INET in families) + TARGET_PREFIXES6 * (AF_INET6 in families)
    if not own:
        text += add("src_ip", sources)
    text += add("dest_ip", targets, not own)
    if random.random() < 0.5:
        text += "".join(f" list proto '{p}'\n" for p in random.choice((("udp",), ("tcp", "udp"))))
        text += add("src_port", PORTS, not own) + add("dest_port", PORTS, not own)
    elif random.random() < 0.2:
        text += " list proto 'icmp'\n"
    if own:
        return text + f" option user '{random.choice(UIDS)}'\n"
    text += add("src_iface", match.devices) + add("src_mac", match.macs) + add("dscp", DSCP)
    if match.sets and random.random() < 0.2:
        text += f" option set '{random.choice(('s1', 's2'))}'\n"
    if match.sets and random.random() < 0.2:
        text += " list domain 'd.example'\n"
    if match.sticky and random.random() < 0.2:
        text += " option sticky '1'\n"
    return text


def packet(random: Random, own: bool, mac: str, family: int) -> Request:
    """A packet with everything known."""
    return Request(
        random.choice(DESTINATIONS[family]),
        "" if own else random.choice(SOURCES[family]),
        random.choice((6, 17)),
        random.choice((500, 2000, 40000)),
        random.choice((80, 443, 445, 8080, 22)),
        "" if own else "br-lan",
        random.choice((0, 1500, 1550, 1650)) if own else None,
        "" if own else mac,
        0 if own else random.choice((0, 46, 8, 34)),
    )
