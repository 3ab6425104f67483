"""What an nftables table consists of: keys, statements, chains and sets.  Pure.

Sources: linux/netfilter/nf_tables.h; the types of data are those of nft(8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Key(NamedTuple):
    """What a statement looks at: the expression, its key, and its size in bytes."""

    expression: str
    number: int
    """For a payload, the offset."""
    size: int = 4
    base: int = -1
    """Of a payload: NFT_PAYLOAD_LL_HEADER, _NETWORK_HEADER or _TRANSPORT_HEADER."""
    data_type: int = 0
    """nft's own number of the data type (include/datatype.h); the kernel keeps it for sets."""


CT_MARK, CT_STATE = Key("ct", 3, data_type=19), Key("ct", 0)
CT_DIRECTION, CT_STATUS = Key("ct", 1, 1), Key("ct", 2)
META_MARK, IIFTYPE = Key("meta", 3, data_type=19), Key("meta", 8, 2)
IIF = Key("meta", 4)
IIFNAME, OIFNAME = Key("meta", 6, 16, data_type=41), Key("meta", 7, 16, data_type=41)
NFPROTO, L4PROTO = Key("meta", 15, 1), Key("meta", 16, 1, data_type=12)
ETHER_SOURCE = Key("payload", 6, 6, 0, 9)
SOURCE4, DESTINATION4 = Key("payload", 12, 4, 1, 7), Key("payload", 16, 4, 1, 7)
SOURCE6, DESTINATION6 = Key("payload", 8, 16, 1, 8), Key("payload", 24, 16, 1, 8)
DSCP4, DSCP6 = Key("payload", 1, 1, 1), Key("payload", 0, 2, 1)
SPORT, DPORT = Key("payload", 0, 2, 2, 13), Key("payload", 2, 2, 2, 13)
NEW = 1 << 3
"""NF_CT_STATE_BIT(IP_CT_NEW) (linux/netfilter/nf_conntrack_common.h)."""
Value = int | str | bytes
"""A number in the host's order, the name of a device, or part of a packet."""
ALL_BITS = 0xFFFFFFFF


class Match(NamedTuple):
    """Go on only if the key, in the bits of the mask, has this value, or another one."""

    key: Key
    value: Value
    mask: int | bytes = ALL_BITS
    """As bytes for part of a packet."""
    equal: bool = True


class Among(NamedTuple):
    """Go on only if the key has one of these values or lies in one of these ranges, or in none."""

    key: Key
    values: tuple[bytes | tuple[bytes, bytes], ...]
    negated: bool = False

    @property
    def needs_set(self) -> bool:
        """Of one range, the bounds are compared."""
        return len(self.values) > 1


class InSet(NamedTuple):
    """Go on only if the key is in a named set; `renew` starts the element's timeout again."""

    key: Key
    set: str
    renew: bool = False


class Remember(NamedTuple):
    """Put the key into a named set for some seconds, or start its timeout again."""

    key: Key
    set: str
    seconds: int


class Forget(NamedTuple):
    """Take the key out of a named set."""

    key: Key
    set: str


class Jump(NamedTuple):
    """Go to another chain for good, or come back; without one, return from this one."""

    chain: str = ""
    comes_back: bool = False


class Choice(NamedTuple):
    """A verdict map: where to go for each value of a key, in the bits of the mask."""

    key: Key
    targets: Mapping[Value, Jump]
    mask: int = ALL_BITS


class Assign(NamedTuple):
    """Set a mark to `old & keep | value`."""

    key: Key
    keep: int
    value: int


class Source(NamedTuple):
    """Go on only if the packet is of IPv6 and has a source from this prefix, or another one."""

    prefix: str
    equal: bool = True


class Translate(NamedTuple):
    """Translate the source: its prefix to this one, or else to the address of the device."""

    prefix: str = ""


Statement = Match | Among | InSet | Remember | Forget | Jump | Choice | Assign | Source | Translate
Rule = Sequence[Statement]


class Chain(NamedTuple):
    """A chain; with a hook, one that the kernel calls."""

    name: str
    rules: Sequence[Rule]
    hook: str = ""
    priority: int = 0
    type: str = "filter"


class NamedSet(NamedTuple):
    """A set whose elements come from rules or from other programs."""

    name: str
    key: Key
    timeout: int = 0
    """Seconds after which elements vanish unless they say otherwise."""
    interval: bool = False
    """It may have prefixes and ranges; no rule adds to it."""


class Table(NamedTuple):
    """A table of the family inet."""

    name: str
    chains: Sequence[Chain] = ()
    sets: Sequence[NamedSet] = ()
