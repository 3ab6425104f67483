"""What pbr and OpenMPTCProuter select packets by, addresses and names in one list.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from socket import inet_pton
from typing import NamedTuple

from mproutd.model import FAMILY_NAMES, bits, family_of

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
ADDRESS, MAC, DEVICE, DOMAIN, UNKNOWN = "address", "mac", "device", "domain", "unknown"


class Selector(NamedTuple):
    """One value of such a list."""

    kind: str
    value: str
    negated: bool = False
    family: str = ""
    """Of an address: ipv4 or ipv6."""


def classify(text: str) -> Selector:
    """What a value means: "!192.0.2.0/24", "@br-lan", a MAC address, a domain."""
    negated = text.startswith("!")
    value = text.removeprefix("!")
    if value.startswith("@"):
        return Selector(DEVICE, value[1:], negated)
    if _MAC.fullmatch(value):
        return Selector(MAC, value.lower().replace("-", ":"), negated)
    family = address_family(value)
    if family:
        return Selector(ADDRESS, value, negated, family)
    labels = value.removesuffix(".").removeprefix("*.").split(".")
    if len(labels) > 1 and all(_LABEL.fullmatch(label) for label in labels):
        return Selector(DOMAIN, value.removeprefix("*.").removesuffix(".").lower(), negated)
    return Selector(UNKNOWN, value, negated)


def address_family(text: str) -> str:
    """ "ipv4" or "ipv6" of an address or prefix; "" for anything else."""
    address, slash, length = text.partition("/")
    family = family_of(address)
    try:
        inet_pton(family, address)
    except (OSError, ValueError):
        return ""
    if slash and not (length.isdecimal() and int(length) <= bits(family)):
        return ""
    return FAMILY_NAMES[family].lower()


class Group(NamedTuple):
    """Values of one list that fit into one rule."""

    option_kind: str
    family: str
    values: tuple[str, ...]
    """With "!" in front where negated."""


def groups(selectors: Iterable[Selector]) -> list[Group]:
    """One for each kind, family and negation, in the order of their first values."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for kind, value, negated, family in selectors:
        listed = found.setdefault((kind, family, negated), [])
        text = f"!{value}" if negated else value
        if text not in listed:
            listed.append(text)
    return [Group(kind, family, tuple(values)) for (kind, family, _), values in found.items()]
