"""What a rule's options may look like: parsers of the packets that it selects.  Pure.

Like those of parsers.py; most return a Selection, since their values can be negated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import inet_pton
from typing import Any, NamedTuple

from mproutd.configuration.parsers import U32, is_address, is_label, number, quoted, suggestion
from mproutd.model import FAMILY_NAMES, bits, family_of, prefix, split_prefix

PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "sctp": 132,
    "udplite": 136,
}
"""The names of /etc/protocols that occur in rules."""
WITH_PORTS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
DSCP = {
    **{f"cs{precedence}": precedence << 3 for precedence in range(8)},
    **{f"af{c}{drop}": c << 3 | drop << 1 for c in range(1, 5) for drop in range(1, 4)},
    "be": 0,
    "le": 1,
    "va": 44,
    "ef": 46,
}
"""The names of code points (RFC 2474, 2597, 3246, 5865, 8622)."""
LAST_RESORTS = ("unreachable", "blackhole", "default")
ANY_USER = (0, U32 - 1)
MAX_SET_NAME, MAX_RULE_NAME = 24, 24
"""Characters, so that the names of nftables objects that contain them are short."""

Range = tuple[int, int]
"""The first and the last."""


class Selection(NamedTuple):
    """The values that an option of a rule allows or, negated, excludes; none for any."""

    values: tuple[Any, ...] = ()
    negated: bool = False

    def __bool__(self) -> bool:
        return bool(self.values)


ANY = Selection()


def negatable(parse: Callable[[str], Any]) -> Callable[[str], Selection]:
    """One value or several with commas, negated by `!` in front."""

    def parse_all(text: str) -> Selection:
        negated = text.startswith("!")
        items = text[negated:].strip().split(",")
        return Selection(tuple(parse(item.strip()) for item in items), negated)

    return parse_all


def several(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """One value or several with commas."""
    return lambda text: tuple(parse(item.strip()) for item in text.split(","))


def network_prefix(text: str) -> str:
    """An address or prefix of either family, in canonical form; the whole of one ends in /0."""
    address, slash, length = text.partition("/")
    if not is_address(address) or (slash and not (length.isascii() and length.isdecimal())):
        raise ValueError(f"{quoted(text)} is not an address or prefix, such as 192.0.2.0/24")
    family = family_of(address)
    packed, size = inet_pton(family, address), int(length) if slash else bits(family)
    if size > bits(family):
        raise ValueError(f"{quoted(text)}: the length must be from 0 to {bits(family)}")
    if size == 0:
        return "::/0" if ":" in address else "0.0.0.0/0"
    network = prefix(packed, size, family)
    if split_prefix(network, family)[0] != packed:
        raise ValueError(f"{quoted(text)} has bits beyond its length: write {network}")
    return network


def _range(kind: str, highest: int, text: str) -> Range:
    """A number, or two with - or : between them."""
    first_text, separator, last_text = text.partition("-" if "-" in text else ":")
    try:
        first = number(first_text)
        last = number(last_text) if separator else first
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a {kind} or a range of them") from None
    if last > highest:
        raise ValueError(f"{quoted(text)} is out of range: up to {highest}")
    if first > last:
        raise ValueError(f"{quoted(text)} ends before it begins")
    return first, last


port_range = partial(_range, "port", 65535)


def protocol(text: str) -> int:
    """The number of a protocol; 0 for all."""
    if text in ("all", "any"):
        return 0
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    try:
        value = number(text)
    except ValueError:
        near = suggestion(text, PROTOCOLS)
        raise ValueError(
            f"{quoted(text)} is not a protocol: use tcp, udp, icmp, icmpv6, all or a number{near}"
        ) from None
    if not 1 <= value <= 255:
        raise ValueError(f"{quoted(text)} is out of range: 1 to 255")
    return value


def mac_address(text: str) -> str:
    digits = text.replace("-", ":").lower().split(":")
    if len(digits) != 6 or not all(
        len(pair) == 2 and all(c in "0123456789abcdef" for c in pair) for pair in digits
    ):
        raise ValueError(f"{quoted(text)} is not a MAC address, such as 02:00:00:12:34:56")
    return ":".join(digits)


def dscp(text: str) -> int:
    """A code point by its name or number."""
    if text.lower() in DSCP:
        return DSCP[text.lower()]
    try:
        value = number(text)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is not a code point: use a name such as ef, cs5 or af41, or 0 to 63"
        ) from None
    if value > 63:
        raise ValueError(f"{quoted(text)} is out of range: 0 to 63")
    return value


def domain(text: str) -> str:
    """A domain, which includes its subdomains; in lower case."""
    name = text.removeprefix("*.").strip(".").lower()
    labels = name.split(".")
    if not name or len(name) > 253 or not all(map(is_label, labels)) or labels[-1].isdigit():
        raise ValueError(f"{quoted(text)} is not a domain, such as example.org")
    return name


def name_of(kind: str, limit: int) -> Callable[[str], str]:
    """A name of letters, digits and underscores that begins with a letter."""

    def parse(text: str) -> str:
        plain = text.isascii() and text.replace("_", "a").isalnum() and text[0].isalpha()
        if not plain or len(text) > limit:
            raise ValueError(
                f"{quoted(text)} cannot be the name of a {kind}: letters, digits and _, "
                f"a letter first, at most {limit}"
            )
        return text

    return parse


def user(text: str) -> str | Range:
    """A user's number, a range of them, all of them, or a name that is looked up later."""
    if text in ("all", "any"):
        return ANY_USER
    if text[:1].isdecimal():
        return _range("user's number", ANY_USER[1], text)
    if not text.isprintable() or not text or text[0] == "-" or set(text) & set(" :,!"):
        raise ValueError(
            f"{quoted(text)} is not a user: a name, a number, a range such as 1000-1999, or all"
        )
    return text


def families_of(prefixes: tuple[str, ...]) -> set[int]:
    return {family_of(text) for text in prefixes}


def family_names(families: set[int]) -> str:
    return " and ".join(FAMILY_NAMES[family] for family in sorted(families))
