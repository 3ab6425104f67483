"""A table as nft(8) writes it: the record of what was written, and the preview.  Pure."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop

from mproutd.netlink.nft_values import (
    ALL_BITS,
    CT_DIRECTION,
    CT_MARK,
    CT_STATE,
    CT_STATUS,
    DESTINATION4,
    DESTINATION6,
    DPORT,
    DSCP4,
    DSCP6,
    ETHER_SOURCE,
    IIF,
    IIFNAME,
    IIFTYPE,
    L4PROTO,
    META_MARK,
    NEW,
    NFPROTO,
    OIFNAME,
    SOURCE4,
    SOURCE6,
    SPORT,
    Among,
    Assign,
    Chain,
    Choice,
    Forget,
    InSet,
    Jump,
    Key,
    Match,
    NamedSet,
    Remember,
    Source,
    Statement,
    Table,
    Translate,
    Value,
)

_KEYS = {
    CT_MARK: "ct mark",
    CT_STATE: "ct state",
    CT_DIRECTION: "ct direction",
    CT_STATUS: "ct status",
    META_MARK: "meta mark",
    IIF: "iif",
    IIFNAME: "iifname",
    OIFNAME: "oifname",
    IIFTYPE: "meta iiftype",
    NFPROTO: "meta nfproto",
    L4PROTO: "meta l4proto",
    ETHER_SOURCE: "ether saddr",
    SOURCE4: "ip saddr",
    SOURCE6: "ip6 saddr",
    DESTINATION4: "ip daddr",
    DESTINATION6: "ip6 daddr",
    DSCP4: "ip dscp",
    DSCP6: "ip6 dscp",
    SPORT: "th sport",
    DPORT: "th dport",
}
_TYPES = {SOURCE4: "ipv4_addr", SOURCE6: "ipv6_addr"}
_TYPES |= {DESTINATION4: "ipv4_addr", DESTINATION6: "ipv6_addr"}


def script(table: Table) -> str:
    """What nft(8) reads to make this table of whatever is there, in one transaction."""
    # Added before it is deleted, so that it makes no difference whether it exists.
    lines = [f"add table inet {table.name}", f"delete table inet {table.name}"]
    if table.chains:
        lines.append(f"table inet {table.name} {{")
        for own in table.sets:
            lines += _named_set(own)
        for chain in table.chains:
            lines += _chain(chain)
        lines.append("}")
    return "\n".join(lines) + "\n"


def _named_set(own: NamedSet) -> list[str]:
    flags = "interval,timeout" if own.interval else "dynamic,timeout"
    lines = [f"\tset {own.name} {{", f"\t\ttype {_TYPES[own.key]}", f"\t\tflags {flags}"]
    if not own.interval:
        lines.append("\t\tsize 65535")
    if own.timeout:
        lines.append(f"\t\ttimeout {own.timeout}s")
    return [*lines, "\t}"]


def _chain(chain: Chain) -> list[str]:
    lines = [f"\tchain {chain.name} {{"]
    if chain.hook:
        hook = f"type {chain.type} hook {chain.hook} priority {chain.priority}"
        lines.append(f"\t\t{hook}; policy accept;")
    lines += ["\t\t" + " ".join(map(_statement, rule)) for rule in chain.rules]
    return [*lines, "\t}"]


def _statement(statement: Statement) -> str:
    if isinstance(statement, Jump):
        verb = "jump" if statement.comes_back else "goto"
        return f"{verb} {statement.chain}" if statement.chain else "return"
    if isinstance(statement, Source):
        return f"ip6 saddr {'' if statement.equal else '!= '}{statement.prefix}"
    if isinstance(statement, Translate):
        prefix = statement.prefix
        return f"snat ip6 prefix to {prefix}" if prefix else "masquerade"
    key = _KEYS[statement.key]
    if isinstance(statement, Among):
        values = ", ".join(_range(statement.key, value) for value in statement.values)
        if statement.needs_set:
            values = f"{{ {values} }}"
        return f"{key} {'!= ' if statement.negated else ''}{values}"
    if isinstance(statement, InSet):
        renewal = f" update @{statement.set} {{ {key} }}" if statement.renew else ""
        return f"{key} @{statement.set}{renewal}"
    if isinstance(statement, Remember):
        return f"update @{statement.set} {{ {key} timeout {statement.seconds}s }}"
    if isinstance(statement, Forget):
        return f"delete @{statement.set} {{ {key} }}"
    if isinstance(statement, Assign):
        kept = "" if statement.keep == ALL_BITS else f" & {statement.keep:#010x}"
        return f"{key} set {key}{kept} | {statement.value:#010x}"
    if isinstance(statement, Choice):
        masked = key if statement.mask == ALL_BITS else f"{key} & {statement.mask:#010x}"
        targets = ", ".join(
            f"{_value(statement.key, value)} : {_statement(jump)}"
            for value, jump in statement.targets.items()
        )
        return f"{masked} vmap {{ {targets} }}"
    return _match(key, statement)


def _match(key: str, match: Match) -> str:
    if match.key == CT_STATE and match.mask == NEW:
        return "ct state new"
    operator = "==" if match.equal else "!="
    value = _value(match.key, match.value)
    if isinstance(match.mask, bytes):
        if match.key not in (DSCP4, DSCP6):
            length = f"{int.from_bytes(match.mask, 'big'):b}".count("1")
            value += f"/{length}"
    elif match.mask != ALL_BITS:
        key += f" & {match.mask:#010x}"
    return f"{key} {operator} {value}"


def _range(key: Key, value: bytes | tuple[bytes, bytes]) -> str:
    if isinstance(value, bytes):
        return _value(key, value)
    first, last = value
    return _value(key, first) if first == last else f"{_value(key, first)}-{_value(key, last)}"


def _value(key: Key, value: Value) -> str:
    """A device's name is quoted; a `*` at its end would match any rest."""
    if isinstance(value, bytes):
        return _part_of_packet(key, value)
    if isinstance(value, str):
        return f'"{value[:-1]}\\*"' if value.endswith("*") else f'"{value}"'
    return f"{value:#010x}" if key in (CT_MARK, META_MARK) else str(value)


def _part_of_packet(key: Key, value: bytes) -> str:
    if key in (IIFNAME, OIFNAME):
        return _value(key, value.rstrip(b"\0").decode("utf-8", "surrogateescape"))
    if key == ETHER_SOURCE:
        return value.hex(":")
    if key in _TYPES:
        return inet_ntop(AF_INET if key.size == 4 else AF_INET6, value)
    number = int.from_bytes(value, "big")
    if key in (DSCP4, DSCP6):
        number >>= 2 if key == DSCP4 else 6
    return str(number)
