"""The nftables table `inet mproutd`: a connection keeps the uplink that it began on.  Pure.

A packet that arrives from an uplink, or leaves by one, notes that uplink in its connection's mark,
unless the connection has one already.  A packet of such a connection that arrives from anywhere
else gets the uplink's packet mark, which an ip rule leads to the uplink's table.  The rules follow
from the configuration and the slots; which uplinks are usable is up to the ip rules, so that a
failure changes nothing here.

Only the bits of `mark_mask` are used of a connection's mark, and of a packet's mark those of the
uplink's mask.  A verdict map on the device costs the same for 2 uplinks and for 50.

Packets that this host sends are left alone, because their source address was chosen together with
the route.  The exception is a reply whose address is translated back (a port forward to this host's
own LAN address): its source says nothing about the uplink.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.options import MAX_UPLINKS
from mproutd.planning.numbering import Numbers, deposit

TABLE = "inet mproutd"
_BASE_CHAINS = """\
	chain incoming {{
		type filter hook prerouting priority mangle + 1; policy accept;
		ct mark & {mask} == 0 goto arriving
{transit}		ct mark & {mask} vmap {{ {steer} }}
	}}
	chain outgoing {{
		type filter hook postrouting priority mangle + 1; policy accept;
		ct mark & {mask} == 0 goto leaving
	}}
	chain replies {{
		type route hook output priority mangle + 1; policy accept;
		ct direction reply ct status dnat ct mark & {mask} vmap {{ {steer} }}
	}}
	chain arriving {{
		iifname vmap {{ {arriving} }}
	}}
	chain leaving {{
		oifname vmap {{ {leaving} }}
	}}
"""
_UPLINK_CHAINS = """\
	chain note_{name} {{
		ct mark set ct mark | {connection:#010x}
	}}
	chain to_{name} {{
		iifname {device} return
		meta mark set meta mark & {others:#010x} | {mark:#010x}
	}}
"""
MAX_NAME = 24
"""Characters of an uplink's name in the name of a chain; kernels before 4.14 have 32 in all."""


class _Uplink:
    """What the table has about one uplink."""

    def __init__(self, uplink: UplinkConfig, numbers: Numbers, connection_mark: int) -> None:
        short = len(uplink.name) <= MAX_NAME
        self.name = uplink.name if short else f"slot.{numbers.slot}"
        self.device = quoted_device(uplink.device)
        self.mark, self.mask = numbers.mark, numbers.mask
        self.connection_mark = connection_mark


def wants_table(config: Config) -> bool:
    """Whether the configuration asks for the table; a host that does not forward needs none."""
    return config.enabled and config.pin_flows and bool(config.uplinks)


def connection_marks(config: Config, numbers: Mapping[str, Numbers]) -> dict[str, int]:
    """Uplink → its value in the bits of mark_mask of a connection's mark.

    The uplink's mark, where that lies in mark_mask.  One with a mask of its own gets what its slot
    would give, or else the first free value.  Without a packet mark, an uplink has none.
    """
    mask = config.mark_mask
    marks = {name: own.mark for name, own in numbers.items() if own.mask == mask}
    taken = {*marks.values(), mask}
    for name, own in numbers.items():
        if own.mask in (0, mask):
            continue
        for slot in (own.slot, *range(1, MAX_UPLINKS + 1)):
            value = deposit(slot, mask)
            if value != -1 and value not in taken:
                marks[name] = value
                taken.add(value)
                break
    return marks


def quoted_device(name: str) -> str:
    """A device's name as nft reads it; empty where nft has no way to write it."""
    if not name or '"' in name or "\\" in name:
        return ""
    return f'"{name[:-1]}\\*"' if name.endswith("*") else f'"{name}"'


def ruleset(config: Config, uplinks: Iterable[UplinkConfig], numbers: Mapping[str, Numbers]) -> str:
    """The table as nft reads it; empty where no uplink can have its connections kept.

    `uplinks` have the names of their devices; one without a device has no rule yet.
    """
    marks = connection_marks(config, numbers)
    kept = [
        _Uplink(uplink, numbers[uplink.name], marks[uplink.name])
        for uplink in uplinks
        if uplink.name in marks and quoted_device(uplink.device)
    ]
    if not kept:
        return ""
    steer = ", ".join(f"{own.connection_mark:#010x} : goto to_{own.name}" for own in kept)
    # With main_routes, main's specific routes still come first for what arrives from an uplink,
    # so that a connection from one uplink to a host behind another is answered by the first.
    devices = ", ".join(own.device for own in kept)
    text = _BASE_CHAINS.format(
        mask=f"{config.mark_mask:#010x}",
        transit="" if config.main_routes else f"\t\tiifname {{ {devices} }} return\n",
        steer=steer,
        arriving=", ".join(f"{own.device} : goto note_{own.name}" for own in kept),
        leaving=", ".join(f"{own.device} : goto note_{own.name}" for own in kept),
    )
    text += "".join(
        _UPLINK_CHAINS.format(
            name=own.name,
            connection=own.connection_mark,
            device=own.device,
            others=0xFFFFFFFF & ~own.mask,
            mark=own.mark,
        )
        for own in kept
    )
    return f"table {TABLE} {{\n{text}}}\n"


def transaction(table: str, existing: str = "", known: bool = False) -> str:
    """What makes `table` of the `existing` one (a listing), in one transaction.

    A table that is `known` to be as we left it only has its rules and chains replaced, so that
    sets keep their elements; any other is deleted first.
    """
    if known and table and existing:
        stale = sorted(chains(existing) - chains(table))
        drop = "".join(f"delete chain {TABLE} {chain}\n" for chain in stale)
        return f"flush table {TABLE}\n{drop}{table}"
    # Added before it is deleted, so that it makes no difference whether it exists.
    return f"add table {TABLE}\ndelete table {TABLE}\n{table}"


def chains(table: str) -> set[str]:
    """The names of a table's chains."""
    return set(re.findall(r"^\s*chain (\S+) \{", table, re.MULTILINE))


# -- other programs' rules ----------------------------------------------------------------

_TABLE_LINE = re.compile(r"table (\S+ \S+) \{")
_HOOK_LINE = re.compile(r"\s*type \S+ hook (\S+) .*?priority (\S+(?: [+-] \d+)?);")
_SET_MARK = re.compile(r"\b(ct|meta) mark set (.+?)(?: (?:return|accept|drop|continue)\b|$)")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50}
_OPERATORS = {"&": "&", "and": "&", "|": "|", "or": "|", "^": "^", "xor": "^"}
OWN_PRIORITY = -149
"""Of the chain `incoming`: mangle + 1."""


def overwriting_rules(listing: str, mask: int, marks: Iterable[int]) -> list[tuple[str, str]]:
    """(table, rule) for each rule of another table that clears or changes our bits of a mark.

    `listing`: what `nft list ruleset` prints.  Rules that xtables extensions made are not seen.
    Setting one of `marks` is intended, and so is a packet's mark before ours is set.
    """
    own = {*marks}
    found: list[tuple[str, str]] = []
    table = hook = ""
    priority = 0
    for line in listing.splitlines():
        if match := _TABLE_LINE.match(line):
            table, hook = match[1], ""
        elif line.startswith("\tchain "):
            hook = ""
        elif match := _HOOK_LINE.match(line):
            hook, priority = match[1], _priority(match[2])
        elif " mark set " in line and table != TABLE:
            for kind, expression in _SET_MARK.findall(line):
                late = hook == "prerouting" and priority > OWN_PRIORITY
                if (kind == "ct" or late) and _overwrites(kind, expression, mask, own):
                    found.append((table, line.strip()))
    return found


def _priority(text: str) -> int:
    """A chain's priority as nft prints it: a number, or a name with an offset."""
    name, _, offset = text.partition(" ")
    if name.lstrip("-").isdecimal():
        return int(name)
    return _PRIORITIES.get(name, 0) + (int(offset.replace(" ", "")) if offset else 0)


def _overwrites(kind: str, expression: str, mask: int, marks: set[int]) -> bool:
    """Whether setting a mark to this changes bits of `mask` otherwise than to one of `marks`."""
    words: Sequence[str] = expression.replace("(", " ").replace(")", " ").split()
    source, kept, value = "", mask, 0
    if words[:2] in (["ct", "mark"], ["meta", "mark"]):
        source, words = words[0], words[2:]
    elif words[:1] == ["mark"]:
        source, words = "meta", words[1:]
    elif len(words) == 1:
        words = ["|", *words]
        kept = 0
    if len(words) % 2:
        return False  # a map, or another expression: unknown
    for operator, operand in zip(words[::2], words[1::2], strict=True):
        try:
            number = int(operand, 0) & mask
        except ValueError:
            return False
        symbol = _OPERATORS.get(operator)
        if symbol == "&":
            kept, value = kept & number, value & number
        elif symbol in ("|", "^"):
            kept, value = kept & ~number, value | number
        else:
            return False
    restores = source == kind or (kind == "meta" and source == "ct")
    return value not in marks and not (restores and kept == mask)
