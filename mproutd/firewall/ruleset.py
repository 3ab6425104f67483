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
from mproutd.configuration.parsers import is_proper_name
from mproutd.firewall import translation
from mproutd.firewall.translation import Translation
from mproutd.netlink.nft_values import (
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
    Match,
    Rule,
    Table,
    Value,
)
from mproutd.planning.numbering import Numbers, PolicyNumbers, deposit

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
    """Whether connections are to be kept on their uplink; a host that does not forward has none."""
    return config.enabled and config.pin_flows and bool(config.uplinks)


def steers(config: Config) -> bool:
    """Whether rules select what this host forwards."""
    return config.enabled and any(rule.forwarded for rule in config.rules)


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
    config: Config,
    uplinks: Iterable[UplinkConfig],
    numbers: Mapping[str, Numbers],
    translations: Sequence[Translation] = (),
    policy_numbers: Mapping[str, PolicyNumbers] = {},
) -> Table:
    """The table; without chains where there is nothing to keep, to translate or to steer.

    `uplinks` have the names of their devices; one without a device has no rule yet.
    """
    listed = [uplink for uplink in uplinks if is_proper_name(uplink.device)]
    pinning = _pinning_chains(config, listed, numbers) if wants_table(config) else []
    names = {uplink.name: chain_name(uplink, numbers) for uplink in listed}
    table = Table(TABLE, (*pinning, *translation.chains(translations, names)))
    if not steers(config):
        return table
    from mproutd.firewall.policies import with_policies

    marks = connection_marks(config, numbers) if pinning else {}
    kept = {name: short for name, short in names.items() if name in marks}
    devices = [uplink.device for uplink in listed]
    return with_policies(config, table, devices, kept, policy_numbers)


def _pinning_chains(
    config: Config, uplinks: Iterable[UplinkConfig], numbers: Mapping[str, Numbers]
) -> list[Chain]:
    """Those that keep a connection on its uplink; none where no uplink has a mark."""
    marks, mask = connection_marks(config, numbers), config.mark_mask
    kept = [uplink for uplink in uplinks if uplink.name in marks]
    if not kept:
        return []
    names = {uplink.name: chain_name(uplink, numbers) for uplink in kept}
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
    return chains


def chain_name(uplink: UplinkConfig, numbers: Mapping[str, Numbers]) -> str:
    """UCI's names are letters, digits and underscores: with a dot there is no other like it."""
    short = len(uplink.name) <= MAX_NAME
    return uplink.name if short else f"slot.{numbers[uplink.name].slot}"


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
