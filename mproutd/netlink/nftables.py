"""nf_tables: a table with its chains and rules as messages, and events about tables.  Pure.

Only what mproutd's own table needs; tests compare it with what nft(8) makes of the same text.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c, nft_ct.c, nft_meta.c,
nft_bitwise.c, nft_lookup.c, nft_payload.c, nft_nat.c, nft_masq.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from socket import AF_INET6, inet_pton
from struct import Struct
from sys import byteorder
from typing import NamedTuple

from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    NLM_F_DUMP,
    DecodeError,
    Message,
    attribute,
    put,
    request,
    text,
)

NETLINK_NETFILTER = 12
RULESET_GROUP = 7
"""NFNLGRP_NFTABLES."""
_SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, in the upper byte of a message's type."""
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _GET_CHAIN, _DELETE_CHAIN = 0, 2, 3, 4, 5
_NEW_RULE, _GET_RULE, _DELETE_RULE, _NEW_SET, _NEW_ELEMENTS = 6, 7, 8, 9, 12
_OF_A_TABLE = frozenset(
    (_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _DELETE_CHAIN, _NEW_RULE, _DELETE_RULE)
)
"""Sets and their elements may change."""
_INET = 1
_TABLE_NAME = 1
"""NFTA_TABLE_NAME, and the same number in the messages of chains and rules."""
_NFGENMSG = Struct(">BBH")
_BE32 = Struct(">I")
_HOST32 = Struct("=I")
_NESTED = 0x8000
_CREATE, _EXCLUSIVE, _APPEND = 0x400, 0x200, 0x800
_REGISTER, _VERDICT_REGISTER = 1, 0
_GOTO, _RETURN = -4 & 0xFFFFFFFF, -5 & 0xFFFFFFFF
_ANONYMOUS_MAP = 1 | 2 | 8
"""NFT_SET_ANONYMOUS, _CONSTANT and _MAP."""
_VERDICT_DATA = 0xFFFFFF00
_NETWORK_HEADER, _SOURCE_OFFSET = 1, 8
"""NFT_PAYLOAD_NETWORK_HEADER, and where the source is in the header of IPv6."""
_SOURCE_NAT, _NETMAP = 0, 1 << 6
"""NFT_NAT_SNAT and NF_NAT_RANGE_NETMAP (linux/netfilter/nf_nat.h)."""
HOOKS = {"prerouting": 0, "output": 3, "postrouting": 4}
_ELEMENTS_PER_MESSAGE = 200

Encode = Callable[[int], bytes]
"""A message without its sequence number."""


class Key(NamedTuple):
    """What a statement looks at: the expression, its key, and its size in bytes."""

    expression: str
    number: int
    size: int = 4


CT_MARK, CT_DIRECTION, CT_STATUS = Key("ct", 3), Key("ct", 1, 1), Key("ct", 2)
META_MARK, IIFNAME, OIFNAME = Key("meta", 3), Key("meta", 6, 16), Key("meta", 7, 16)
IIF, NFPROTO = Key("meta", 4), Key("meta", 15, 1)
Value = int | str
"""A number, or the name of a device."""
ALL_BITS = 0xFFFFFFFF


class Match(NamedTuple):
    """Go on only if the key, in the bits of the mask, has this value, or another one."""

    key: Key
    value: Value
    mask: int = ALL_BITS
    equal: bool = True


class Jump(NamedTuple):
    """Go to another chain for good; without one, return from this one."""

    chain: str = ""


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


Statement = Match | Jump | Choice | Assign | Source | Translate
Rule = Sequence[Statement]


class Chain(NamedTuple):
    """A chain; with a hook, one that the kernel calls."""

    name: str
    rules: Sequence[Rule]
    hook: str = ""
    priority: int = 0
    type: str = "filter"


class Table(NamedTuple):
    """A table of the family inet."""

    name: str
    chains: Sequence[Chain] = ()


# -- writing ------------------------------------------------------------------------------


def transaction(table: Table, stale: Iterable[str] | None = None) -> list[Encode]:
    """Make this table of whatever is there, at once; without chains, delete it.

    With `stale`, the chains to delete, only rules and chains are replaced, and sets with a name
    keep their elements.
    """
    name = put(_TABLE_NAME, _string(table.name))
    batch = [_batch(_BATCH_BEGIN), _message(_NEW_TABLE, name, _CREATE)]
    if stale is None:
        batch.append(_message(_DELETE_TABLE, name))
        if table.chains:
            batch.append(_message(_NEW_TABLE, name, _CREATE))
    else:
        batch.append(_message(_DELETE_RULE, name))
        batch += [_message(_DELETE_CHAIN, name + put(3, _string(chain))) for chain in stale]
    batch += [_message(_NEW_CHAIN, name + _chain(chain), _CREATE) for chain in table.chains]
    maps = 0
    for chain in table.chains:
        for rule in chain.rules:
            for statement in rule:
                if isinstance(statement, Choice):
                    maps += 1
                    batch += _map(name, maps, statement)
            first = maps - sum(isinstance(statement, Choice) for statement in rule) + 1
            body = name + put(2, _string(chain.name)) + put(4 | _NESTED, _rule(rule, first))
            batch.append(_message(_NEW_RULE, body, _CREATE | _APPEND))
    last = batch.pop()
    return [*batch, partial(_acknowledged, last), _batch(_BATCH_END)]


def _acknowledged(encode: Encode, sequence: int) -> bytes:
    message = bytearray(encode(sequence))
    flags = int.from_bytes(message[6:8], byteorder) | NLM_F_ACK
    message[6:8] = flags.to_bytes(2, byteorder)
    return bytes(message)


def _batch(kind: int) -> Encode:
    head = _NFGENMSG.pack(0, 0, _SUBSYSTEM)
    return lambda sequence: request(kind, 0, sequence, head)


def _message(kind: int, body: bytes, flags: int = 0) -> Encode:
    whole = _NFGENMSG.pack(_INET, 0, 0) + body
    return lambda sequence: request(_SUBSYSTEM << 8 | kind, flags, sequence, whole)


def _chain(chain: Chain) -> bytes:
    body = put(3, _string(chain.name))
    if chain.hook:
        priority = _BE32.pack(chain.priority & 0xFFFFFFFF)
        hook = put(1, _BE32.pack(HOOKS[chain.hook])) + put(2, priority)
        body += put(4 | _NESTED, hook) + put(5, _BE32.pack(1)) + put(7, _string(chain.type))
    return body


def _map(table: bytes, number: int, choice: Choice) -> list[Encode]:
    """An anonymous map, which the rule with the same number refers to, and its elements."""
    key = choice.key
    body = table + put(2, b"__map%d\0") + put(3, _BE32.pack(_ANONYMOUS_MAP))
    body += put(4, _BE32.pack(_KEY_TYPES[key])) + put(5, _BE32.pack(key.size))
    body += put(6, _BE32.pack(_VERDICT_DATA)) + put(7, _BE32.pack(0))
    body += put(9 | _NESTED, put(1, _BE32.pack(len(choice.targets))))
    body += put(10, _BE32.pack(number)) + put(13, _KEY_IN_HOST_ORDER)
    messages = [_message(_NEW_SET, body, _CREATE)]
    elements = [
        put(
            1 | _NESTED,
            put(1 | _NESTED, put(1, _data(key, value))) + put(2 | _NESTED, _verdict(jump)),
        )
        for value, jump in choice.targets.items()
    ]
    for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE):
        part = b"".join(elements[start : start + _ELEMENTS_PER_MESSAGE])
        body = table + put(2, b"__map%d\0") + put(3 | _NESTED, part) + put(4, _BE32.pack(number))
        messages.append(_message(_NEW_ELEMENTS, body, _CREATE))
    return messages


_KEY_IN_HOST_ORDER = bytes((0, 4)) + _HOST32.pack(1)
"""For nft list: libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER, and nft's BYTEORDER_HOST_ENDIAN."""
_KEY_TYPES = {CT_MARK: 19, META_MARK: 19, IIFNAME: 41, OIFNAME: 41}
"""nft's own numbers of data types (include/datatype.h): mark and ifname; the kernel keeps them."""


def _rule(rule: Rule, number: int) -> bytes:
    """The expressions; `number` is that of the rule's first map."""
    expressions = b""
    for statement in rule:
        if isinstance(statement, Match):
            expressions += _load(statement.key, statement.mask)
            expressions += _compare(_data(statement.key, statement.value), statement.equal)
        elif isinstance(statement, Choice):
            expressions += _load(statement.key, statement.mask)
            body = put(1, b"__map%d\0") + put(2, _BE32.pack(_REGISTER))
            body += put(3, _BE32.pack(_VERDICT_REGISTER)) + put(4, _BE32.pack(number))
            expressions += _expression("lookup", body)
            number += 1
        elif isinstance(statement, Assign):
            expressions += _load(statement.key)
            expressions += _bitwise(statement.keep & ~statement.value, statement.value)
            expressions += _key_expression(statement.key, store=True)
        elif isinstance(statement, Source):
            expressions += _source(statement)
        elif isinstance(statement, Translate):
            expressions += _translate(statement)
        else:
            expressions += _immediate(_VERDICT_REGISTER, _verdict(statement))
    return expressions


def _compare(data: bytes, equal: bool) -> bytes:
    operator = _BE32.pack(0 if equal else 1)
    body = put(1, _BE32.pack(_REGISTER)) + put(2, operator) + put(3 | _NESTED, put(1, data))
    return _expression("cmp", body)


def _immediate(register: int, data: bytes) -> bytes:
    return _expression("immediate", put(1, _BE32.pack(register)) + put(2 | _NESTED, data))


def _source(source: Source) -> bytes:
    """As nft does it: whole bytes of the address, or all of it with a mask."""
    start, length = _split(source.prefix)
    size = 16 if length % 8 else length // 8
    body = put(1, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(_NETWORK_HEADER))
    body += put(3, _BE32.pack(_SOURCE_OFFSET)) + put(4, _BE32.pack(size))
    expressions = _key_expression(NFPROTO) + _compare(bytes((AF_INET6,)), True)
    expressions += _expression("payload", body)
    if length % 8:
        mask = ((1 << length) - 1 << 128 - length).to_bytes(16, "big")
        body = put(1, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(_REGISTER))
        body += put(3, _BE32.pack(16)) + put(4 | _NESTED, put(1, mask))
        expressions += _expression("bitwise", body + put(5 | _NESTED, put(1, bytes(16))))
    return expressions + _compare(start[:size], source.equal)


def _translate(translate: Translate) -> bytes:
    if not translate.prefix:
        return _expression("masq", b"")
    start, length = _split(translate.prefix)
    last = int.from_bytes(start, "big") | (1 << 128 - length) - 1
    expressions = _immediate(1, put(1, start)) + _immediate(2, put(1, last.to_bytes(16, "big")))
    body = put(1, _BE32.pack(_SOURCE_NAT)) + put(2, _BE32.pack(AF_INET6))
    body += put(3, _BE32.pack(1)) + put(4, _BE32.pack(2)) + put(7, _BE32.pack(_NETMAP))
    return expressions + _expression("nat", body)


def _split(prefix: str) -> tuple[bytes, int]:
    address, _, length = prefix.partition("/")
    return inet_pton(AF_INET6, address), int(length or 128)


def _load(key: Key, mask: int = ALL_BITS) -> bytes:
    loaded = _key_expression(key)
    return loaded if mask == ALL_BITS else loaded + _bitwise(mask, 0)


def _key_expression(key: Key, store: bool = False) -> bytes:
    register = (4 if key.expression == "ct" else 3) if store else 1
    body = put(register, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(key.number))
    return _expression(key.expression, body)


def _bitwise(mask: int, xor: int) -> bytes:
    body = put(1, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(_REGISTER)) + put(3, _BE32.pack(4))
    body += put(4 | _NESTED, put(1, _HOST32.pack(mask)))
    body += put(5 | _NESTED, put(1, _HOST32.pack(xor)))
    return _expression("bitwise", body)


def _expression(name: str, body: bytes) -> bytes:
    return put(1 | _NESTED, put(1, _string(name)) + put(2 | _NESTED, body))


def _verdict(jump: Jump) -> bytes:
    verdict = put(1, _BE32.pack(_GOTO if jump.chain else _RETURN))
    if jump.chain:
        verdict += put(2, _string(jump.chain))
    return put(2 | _NESTED, verdict)


def _data(key: Key, value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").ljust(key.size, b"\0")
    return value.to_bytes(key.size, byteorder)


def _string(name: str) -> bytes:
    return name.encode("ascii") + b"\0"


# -- reading ------------------------------------------------------------------------------


def chains_request(sequence: int) -> bytes:
    """A dump of all chains of the family inet."""
    head = _NFGENMSG.pack(_INET, 0, 0)
    return request(_SUBSYSTEM << 8 | _GET_CHAIN, NLM_F_DUMP, sequence, head)


def rules_request(table: str) -> Encode:
    """A dump of the rules of a table."""
    body = _NFGENMSG.pack(_INET, 0, 0) + put(_TABLE_NAME, _string(table))
    return lambda sequence: request(_SUBSYSTEM << 8 | _GET_RULE, NLM_F_DUMP, sequence, body)


def is_of(body: bytes, table: str) -> bool:
    """Whether the chain or rule of a dump, or of an event, is of this table.  DecodeError."""
    if body[:1] != bytes([_INET]):
        return False
    table_name = attribute(body, _NFGENMSG.size, _TABLE_NAME)
    return table_name is not None and text(table_name) == table


def chain_name(body: bytes) -> str:
    """The name of a chain of a dump.  DecodeError."""
    return text(attribute(body, _NFGENMSG.size, 3) or b"")


# -- events -------------------------------------------------------------------------------


def concerns(message: Message, table: str) -> bool:
    """Whether an event changes this table, one of its chains or one of its rules."""
    if message.type >> 8 != _SUBSYSTEM or message.type & 0xFF not in _OF_A_TABLE:
        return False
    try:
        return is_of(message.body, table)
    except DecodeError:
        return True


def is_deleted(messages: Iterable[Message]) -> bool:
    """Of events that concern a table: whether it was deleted, and not added again."""
    kinds = [message.type & 0xFF for message in messages]
    return _DELETE_TABLE in kinds and _NEW_TABLE not in kinds


def new_rule(message: Message) -> bool:
    """Whether an event adds a rule to any table."""
    return message.type == _SUBSYSTEM << 8 | _NEW_RULE
