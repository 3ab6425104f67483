"""nf_tables: a table with its chains and rules as messages, and events about tables.  Pure.

Only what mproutd's own table needs; tests compare it with what nft(8) makes of the same text.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c, nft_ct.c, nft_meta.c,
nft_bitwise.c, nft_lookup.c, nft_payload.c, nft_nat.c, nft_masq.c.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from socket import AF_INET6, inet_pton
from struct import Struct
from sys import byteorder
from typing import TypeGuard

from mproutd.netlink.nft_values import (
    ALL_BITS,
    NFPROTO,
    SOURCE6,
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
    Rule,
    Source,
    Statement,
    Table,
    Translate,
    Value,
)
from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    put,
    request,
)

NETLINK_NETFILTER = 12
RULESET_GROUP = 7
"""NFNLGRP_NFTABLES."""
SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, in the upper byte of a message's type."""
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
NEW_TABLE, DELETE_TABLE, NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = 0, 2, 3, 4, 5
NEW_RULE, GET_RULE, DELETE_RULE, NEW_SET, GET_SET, NEW_ELEMENTS = 6, 7, 8, 9, 10, 12
INET = 1
TABLE_NAME = 1
"""NFTA_TABLE_NAME, and the same number in the messages of chains and rules."""
NFGENMSG = Struct(">BBH")
_BE32 = Struct(">I")
_HOST32 = Struct("=I")
_NESTED = 0x8000
_CREATE, _EXCLUSIVE, _APPEND = 0x400, 0x200, 0x800
_REGISTER, _VERDICT_REGISTER = 1, 0
_JUMP, _GOTO, _RETURN = -3 & 0xFFFFFFFF, -4 & 0xFFFFFFFF, -5 & 0xFFFFFFFF
_ANONYMOUS, _INTERVAL, _MAP, _TIMEOUT, _EVAL = 1 | 2, 4, 8, 0x10, 0x20
"""NFT_SET_*; an anonymous set is constant, and rules add elements to one with EVAL."""
_INTERVAL_END = put(3, _BE32.pack(1))
_UPDATE, _DELETE = 1, 2
"""NFT_DYNSET_OP_*."""
_MAX_ELEMENTS = 65535
"""Of a set to which rules or dnsmasq add."""
_VERDICT_DATA = 0xFFFFFF00
_SOURCE_NAT, _NETMAP = 0, 1 << 6
"""NFT_NAT_SNAT and NF_NAT_RANGE_NETMAP (linux/netfilter/nf_nat.h)."""
HOOKS = {"prerouting": 0, "output": 3, "postrouting": 4}
_ELEMENTS_PER_MESSAGE = 200

Encode = Callable[[int], bytes]
"""A message without its sequence number."""


# -- writing ------------------------------------------------------------------------------


def transaction(
    table: Table, stale: Iterable[str] | None = None, sets: Collection[str] = ()
) -> list[Encode]:
    """Make this table of whatever is there, at once; without chains, delete it.

    With `stale`, the chains to delete, only rules and chains are replaced, and sets with a name
    keep their elements; `sets` are those that are there.
    """
    name = put(TABLE_NAME, string(table.name))
    batch = [_batch(_BATCH_BEGIN), _message(NEW_TABLE, name, _CREATE)]
    if stale is None:
        batch.append(_message(DELETE_TABLE, name))
        if table.chains:
            batch.append(_message(NEW_TABLE, name, _CREATE))
    else:
        batch.append(_message(DELETE_RULE, name))
        batch += [_message(DELETE_CHAIN, name + put(3, string(chain))) for chain in stale]
    batch += [_named_set(name, own) for own in table.sets if own.name not in sets]
    batch += [_message(NEW_CHAIN, name + _chain(chain), _CREATE) for chain in table.chains]
    number = 0
    for chain in table.chains:
        for rule in chain.rules:
            first = number + 1
            for statement in rule:
                if _needs_set(statement):
                    number += 1
                    batch += _anonymous_set(name, number, statement)
            body = name + put(2, string(chain.name)) + put(4 | _NESTED, _rule(rule, first))
            batch.append(_message(NEW_RULE, body, _CREATE | _APPEND))
    last = batch.pop()
    return [*batch, partial(_acknowledged, last), _batch(_BATCH_END)]


def _acknowledged(encode: Encode, sequence: int) -> bytes:
    message = bytearray(encode(sequence))
    flags = int.from_bytes(message[6:8], byteorder) | NLM_F_ACK
    message[6:8] = flags.to_bytes(2, byteorder)
    return bytes(message)


def _batch(kind: int) -> Encode:
    head = NFGENMSG.pack(0, 0, SUBSYSTEM)
    return lambda sequence: request(kind, 0, sequence, head)


def _message(kind: int, body: bytes, flags: int = 0) -> Encode:
    whole = NFGENMSG.pack(INET, 0, 0) + body
    return lambda sequence: request(SUBSYSTEM << 8 | kind, flags, sequence, whole)


def _chain(chain: Chain) -> bytes:
    body = put(3, string(chain.name))
    if chain.hook:
        priority = _BE32.pack(chain.priority & 0xFFFFFFFF)
        hook = put(1, _BE32.pack(HOOKS[chain.hook])) + put(2, priority)
        body += put(4 | _NESTED, hook) + put(5, _BE32.pack(1)) + put(7, string(chain.type))
    return body


# -- sets ---------------------------------------------------------------------------------


def _named_set(table: bytes, own: NamedSet) -> Encode:
    flags = _TIMEOUT | (_INTERVAL if own.interval else _EVAL)
    body = table + put(2, string(own.name)) + put(3, _BE32.pack(flags)) + _key_of_set(own.key)
    if not own.interval:
        body += put(9 | _NESTED, put(1, _BE32.pack(_MAX_ELEMENTS)))
    if own.timeout:
        body += put(11, (own.timeout * 1000).to_bytes(8, "big"))
    return _message(NEW_SET, body + put(10, _BE32.pack(0)), _CREATE)


def _key_of_set(key: Key) -> bytes:
    # For nft list: libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER, and nft's BYTEORDER_*.
    order = 2 if key.expression == "payload" else 1
    user_data = bytes((0, 4)) + _HOST32.pack(order)
    body = put(4, _BE32.pack(key.data_type)) + put(5, _BE32.pack(key.size))
    return body + put(13, user_data)


def _anonymous_set(table: bytes, number: int, statement: Choice | Among) -> list[Encode]:
    """The map or set that the rule with the same number refers to, and its elements."""
    key = statement.key
    if isinstance(statement, Choice):
        name, flags = b"__map%d\0", _ANONYMOUS | _MAP
        data = put(6, _BE32.pack(_VERDICT_DATA)) + put(7, _BE32.pack(0))
        elements = [
            _element(_data(key, value), put(2 | _NESTED, _verdict(jump)))
            for value, jump in statement.targets.items()
        ]
    else:
        name, flags, data = b"__set%d\0", _ANONYMOUS, b""
        if any(isinstance(value, tuple) for value in statement.values):
            flags |= _INTERVAL
            elements = _intervals(statement)
        else:
            elements = [_element(value) for value in statement.values if isinstance(value, bytes)]
    head = table + put(2, name)
    body = head + put(3, _BE32.pack(flags)) + _key_of_set(key) + data
    body += put(9 | _NESTED, put(1, _BE32.pack(len(elements)))) + put(10, _BE32.pack(number))
    messages = [_message(NEW_SET, body, _CREATE)]
    for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE):
        part = b"".join(elements[start : start + _ELEMENTS_PER_MESSAGE])
        body = head + put(3 | _NESTED, part) + put(4, _BE32.pack(number))
        messages.append(_message(NEW_ELEMENTS, body, _CREATE))
    return messages


def _element(key: bytes, data: bytes = b"") -> bytes:
    return put(1 | _NESTED, put(1 | _NESTED, put(1, key)) + data)


def _bounds(among: Among) -> list[tuple[bytes, bytes]]:
    return sorted(value if isinstance(value, tuple) else (value, value) for value in among.values)


def _intervals(among: Among) -> list[bytes]:
    """The first value of each interval, and the one after its last; none overlap in the kernel."""
    size = among.key.size
    merged: list[list[int]] = []
    for first_bytes, last_bytes in _bounds(among):
        first, last = int.from_bytes(first_bytes, "big"), int.from_bytes(last_bytes, "big")
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    elements = [] if merged[0][0] == 0 else [_element(bytes(size), _INTERVAL_END)]
    for first, last in merged:
        elements.append(_element(first.to_bytes(size, "big")))
        if last + 1 < 1 << 8 * size:
            elements.append(_element((last + 1).to_bytes(size, "big"), _INTERVAL_END))
    return elements


# -- rules --------------------------------------------------------------------------------


def _rule(rule: Rule, number: int) -> bytes:
    """The expressions; `number` is that of the rule's first anonymous set."""
    expressions = b""
    for statement in rule:
        expressions += _statement(statement, number)
        number += _needs_set(statement)
    return expressions


def _match(match: Match) -> bytes:
    """Of a prefix of whole bytes, only these are loaded; any other needs a mask."""
    key, mask, data = match.key, match.mask, _data(match.key, match.value)
    whole = mask.rstrip(b"\0") if isinstance(mask, bytes) else b""
    if whole and whole.count(0xFF) == len(whole):
        key, mask, data = key._replace(size=len(whole)), ALL_BITS, data[: len(whole)]
    operator = _BE32.pack(0 if match.equal else 1)
    body = put(1, _BE32.pack(_REGISTER)) + put(2, operator) + put(3 | _NESTED, put(1, data))
    return _load(key, mask) + _expression("cmp", body)


def _needs_set(statement: Statement) -> TypeGuard[Choice | Among]:
    """Whether it refers to an anonymous set or map."""
    return isinstance(statement, Choice) or (isinstance(statement, Among) and statement.needs_set)


def _statement(statement: Statement, number: int) -> bytes:
    register = _BE32.pack(_REGISTER)
    if isinstance(statement, Match):
        return _match(statement)
    if isinstance(statement, Choice):
        body = put(1, b"__map%d\0") + put(2, register)
        body += put(3, _BE32.pack(_VERDICT_REGISTER)) + put(4, _BE32.pack(number))
        return _load(statement.key, statement.mask) + _expression("lookup", body)
    if isinstance(statement, Among) and not statement.needs_set:
        ((first, last),) = _bounds(statement)
        body = put(1, register) + put(2, _BE32.pack(statement.negated))
        body += put(3 | _NESTED, put(1, first)) + put(4 | _NESTED, put(1, last))
        return _load(statement.key) + _expression("range", body)
    if isinstance(statement, Among):
        body = put(1, b"__set%d\0") + put(2, register) + put(4, _BE32.pack(number))
        if statement.negated:
            body += put(5, _BE32.pack(1))
        return _load(statement.key) + _expression("lookup", body)
    if isinstance(statement, InSet):
        name = put(1, string(statement.set))
        lookup = _load(statement.key) + _expression("lookup", name + put(2, register))
        return lookup + (_update(statement.key, statement.set) if statement.renew else b"")
    if isinstance(statement, Remember):
        return _update(statement.key, statement.set, statement.seconds)
    if isinstance(statement, Forget):
        return _update(statement.key, statement.set, operation=_DELETE)
    if isinstance(statement, Assign):
        changed = _bitwise(statement.keep & ~statement.value, statement.value)
        return _load(statement.key) + changed + _key_expression(statement.key, store=True)
    if isinstance(statement, Source):
        start, length = _split(statement.prefix)
        mask = ((1 << length) - 1 << 128 - length).to_bytes(16, "big")
        source = Match(SOURCE6, start, mask if length < 128 else ALL_BITS, statement.equal)
        return _statement(Match(NFPROTO, int(AF_INET6)), 0) + _statement(source, 0)
    if isinstance(statement, Translate):
        return _translate(statement)
    return _immediate(_VERDICT_REGISTER, _verdict(statement))


def _immediate(register: int, data: bytes) -> bytes:
    return _expression("immediate", put(1, _BE32.pack(register)) + put(2 | _NESTED, data))


def _update(key: Key, name: str, seconds: int = 0, operation: int = _UPDATE) -> bytes:
    body = put(1, string(name)) + put(3, _BE32.pack(operation)) + put(4, _BE32.pack(_REGISTER))
    if seconds:
        body += put(6, (seconds * 1000).to_bytes(8, "big"))
    return _load(key) + _expression("dynset", body)


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


def _load(key: Key, mask: int | bytes = ALL_BITS) -> bytes:
    loaded = _key_expression(key)
    return loaded if mask == ALL_BITS else loaded + _bitwise(mask, 0)


def _key_expression(key: Key, store: bool = False) -> bytes:
    if key.expression == "payload":
        body = put(1, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(key.base))
        body += put(3, _BE32.pack(key.number)) + put(4, _BE32.pack(key.size))
        return _expression("payload", body)
    register = (4 if key.expression == "ct" else 3) if store else 1
    body = put(register, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(key.number))
    return _expression(key.expression, body)


def _bitwise(mask: int | bytes, xor: int) -> bytes:
    mask = _HOST32.pack(mask) if isinstance(mask, int) else mask
    size = len(mask)
    body = put(1, _BE32.pack(_REGISTER)) + put(2, _BE32.pack(_REGISTER)) + put(3, _BE32.pack(size))
    body += put(4 | _NESTED, put(1, mask))
    body += put(5 | _NESTED, put(1, xor.to_bytes(size, byteorder)))
    return _expression("bitwise", body)


def _expression(name: str, body: bytes) -> bytes:
    return put(1 | _NESTED, put(1, string(name)) + put(2 | _NESTED, body))


def _verdict(jump: Jump) -> bytes:
    way = _JUMP if jump.comes_back else _GOTO
    verdict = put(1, _BE32.pack(way if jump.chain else _RETURN))
    if jump.chain:
        verdict += put(2, string(jump.chain))
    return put(2 | _NESTED, verdict)


def _data(key: Key, value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").ljust(key.size, b"\0")
    return value.to_bytes(key.size, byteorder)


def string(name: str) -> bytes:
    return name.encode("ascii") + b"\0"
