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
from mproutd.netlink.nftables import (
    ALL_BITS,
    CT_DIRECTION,
    CT_MARK,
    CT_STATUS,
    IIFNAME,
    META_MARK,
    OIFNAME,
    Assign,
    Chain,
    Choice,
    Jump,
    Key,
    Match,
    Rule,
    Table,
    Value,
)
from mproutd.planning.numbering import Numbers, deposit

TABLE = "mproutd"
PRIORITY = -149
"""mangle + 1: after an administrator's marks, so that a connection that is under way wins."""
NAT_PRIORITY = -199
"""The first that the kernel allows a chain of type nat, since one that translates is the last."""
_REPLY, _TRANSLATED = 1, 1 << 5
"""IP_CT_DIR_REPLY and IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)."""
MAX_NAME = 24
"""Characters of an uplink's name in the name of a chain; kernels before 4.14 have 32 in all."""


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


def make_table(
    config: Config, uplinks: Iterable[UplinkConfig], numbers: Mapping[str, Numbers]
) -> Table:
    """The table; without chains where no uplink can have its connections kept.

    `uplinks` have the names of their devices; one without a device has no rule yet.
    """
    marks, mask = connection_marks(config, numbers), config.mark_mask
    kept = [uplink for uplink in uplinks if uplink.name in marks and uplink.device]
    if not kept:
        return Table(TABLE)
    names = {uplink.name: _chain_name(uplink, numbers) for uplink in kept}
    note: dict[Value, Jump] = {uplink.device: Jump(f"note_{names[uplink.name]}") for uplink in kept}
    targets: dict[Value, Jump] = {
        marks[uplink.name]: Jump(f"to_{names[uplink.name]}") for uplink in kept
    }
    unknown = Match(CT_MARK, 0, mask)
    # One lookup for every packet, of new connections and of known ones.
    incoming: list[Rule] = [[Choice(CT_MARK, {0: Jump("arriving"), **targets}, mask)]]
    steer = Choice(CT_MARK, targets, mask)
    if not config.main_routes:
        # Else main's specific routes come first for what arrives from an uplink, so that a
        # connection from one uplink to a host behind another is answered by the first.
        arrived: dict[Value, Jump] = {uplink.device: Jump() for uplink in kept}
        incoming = [[unknown, Jump("arriving")], [Choice(IIFNAME, arrived)], [steer]]
    replies: Rule = [Match(CT_DIRECTION, _REPLY), Match(CT_STATUS, 0, _TRANSLATED, False), steer]
    chains = [
        Chain("incoming", incoming, "prerouting", PRIORITY),
        # A chain of type nat sees one packet of each connection, the first.
        Chain("outgoing", [[unknown, Jump("leaving")]], "postrouting", NAT_PRIORITY, "nat"),
        Chain("replies", [replies], "output", PRIORITY, "route"),
        Chain("arriving", [[Choice(IIFNAME, note)]]),
        Chain("leaving", [[Choice(OIFNAME, note)]]),
    ]
    for uplink in kept:
        name, own = names[uplink.name], numbers[uplink.name]
        mark = Assign(META_MARK, ALL_BITS & ~own.mask, own.mark)
        chains.append(Chain(f"note_{name}", [[Assign(CT_MARK, ALL_BITS, marks[uplink.name])]]))
        elsewhere = Match(IIFNAME, uplink.device, equal=False)
        chains.append(Chain(f"to_{name}", [[elsewhere, mark]]))
    return Table(TABLE, chains)


def _chain_name(uplink: UplinkConfig, numbers: Mapping[str, Numbers]) -> str:
    """UCI's names are letters, digits and underscores: with a dot there is no other like it."""
    short = len(uplink.name) <= MAX_NAME
    return uplink.name if short else f"slot.{numbers[uplink.name].slot}"


# -- as nft writes it ---------------------------------------------------------------------

_KEYS = {
    CT_MARK: "ct mark",
    CT_DIRECTION: "ct direction",
    CT_STATUS: "ct status",
    META_MARK: "meta mark",
    IIFNAME: "iifname",
    OIFNAME: "oifname",
}


def script(table: Table) -> str:
    """What nft(8) reads to make this table of whatever is there, in one transaction."""
    # Added before it is deleted, so that it makes no difference whether it exists.
    lines = [f"add table inet {table.name}", f"delete table inet {table.name}"]
    if table.chains:
        lines.append(f"table inet {table.name} {{")
        for chain in table.chains:
            lines.append(f"\tchain {chain.name} {{")
            if chain.hook:
                hook = f"type {chain.type} hook {chain.hook} priority {chain.priority}"
                lines.append(f"\t\t{hook}; policy accept;")
            lines += ["\t\t" + " ".join(map(_statement, rule)) for rule in chain.rules]
            lines.append("\t}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _statement(statement: Match | Jump | Choice | Assign) -> str:
    if isinstance(statement, Jump):
        return f"goto {statement.chain}" if statement.chain else "return"
    key = _KEYS[statement.key]
    if isinstance(statement, Assign):
        kept = "" if statement.keep == ALL_BITS else f" & {statement.keep:#010x}"
        return f"{key} set {key}{kept} | {statement.value:#010x}"
    masked = key if statement.mask == ALL_BITS else f"{key} & {statement.mask:#010x}"
    if isinstance(statement, Choice):
        targets = ", ".join(
            f"{_value(statement.key, value)} : {_statement(jump)}"
            for value, jump in statement.targets.items()
        )
        return f"{masked} vmap {{ {targets} }}"
    operator = "==" if statement.equal else "!="
    return f"{masked} {operator} {_value(statement.key, statement.value)}"


def _value(key: Key, value: Value) -> str:
    """A device's name is quoted; a `*` at its end would match any rest."""
    if isinstance(value, str):
        return f'"{value[:-1]}\\*"' if value.endswith("*") else f'"{value}"'
    return f"{value:#010x}" if key in (CT_MARK, META_MARK) else str(value)


# -- other programs' rules ----------------------------------------------------------------

_TABLE_LINE = re.compile(r"table (\S+ \S+) \{")
_HOOK_LINE = re.compile(r"\s*type \S+ hook (\S+) .*?priority (\S+(?: [+-] \d+)?);")
_SET_MARK = re.compile(r"\b(ct|meta) mark set (.+?)(?: (?:return|accept|drop|continue)\b|$)")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50}
_OPERATORS = {"&": "&", "and": "&", "|": "|", "or": "|", "^": "^", "xor": "^"}


def overwriting_rules(listing: str, mask: int, marks: Iterable[int]) -> list[tuple[str, str]]:
    """(table, rule) for each rule of another table that clears or changes our bits of a mark.

    `listing`: what `nft list ruleset` prints.  Rules that xtables extensions made are not seen.
    Setting one of `marks` is intended, and so is a packet's mark before ours is set.
    """
    if " mark set " not in listing:
        return []
    own = {*marks}
    overwriting: list[tuple[str, str]] = []
    table = hook = ""
    priority = 0
    for line in listing.splitlines():
        if match := _TABLE_LINE.match(line):
            table, hook = match[1], ""
        elif line.startswith("\tchain "):
            hook = ""
        elif match := _HOOK_LINE.match(line):
            hook, priority = match[1], _priority(match[2])
        elif " mark set " in line and table != f"inet {TABLE}":
            for kind, expression in _SET_MARK.findall(line):
                late = hook == "prerouting" and priority > PRIORITY
                if (kind == "ct" or late) and _overwrites(kind, expression, mask, own):
                    overwriting.append((table, line.strip()))
    return overwriting


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
