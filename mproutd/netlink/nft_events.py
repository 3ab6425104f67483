"""nf_tables: what the kernel lists and reports of tables.  Pure.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

from collections.abc import Iterable

from mproutd.netlink.nftables import (
    DELETE_CHAIN,
    DELETE_RULE,
    DELETE_TABLE,
    GET_CHAIN,
    GET_RULE,
    GET_SET,
    INET,
    NEW_CHAIN,
    NEW_RULE,
    NEW_TABLE,
    NFGENMSG,
    SUBSYSTEM,
    TABLE_NAME,
    Encode,
    string,
)
from mproutd.netlink.nlmsg import (
    NLM_F_DUMP,
    DecodeError,
    Message,
    attribute,
    put,
    request,
    text,
)

_OF_A_TABLE = frozenset((NEW_TABLE, DELETE_TABLE, NEW_CHAIN, DELETE_CHAIN, NEW_RULE, DELETE_RULE))
"""Sets and their elements may change."""


def chains_request(sequence: int) -> bytes:
    """A dump of all chains of the family inet."""
    head = NFGENMSG.pack(INET, 0, 0)
    return request(SUBSYSTEM << 8 | GET_CHAIN, NLM_F_DUMP, sequence, head)


def rules_request(table: str) -> Encode:
    """A dump of the rules of a table."""
    body = NFGENMSG.pack(INET, 0, 0) + put(TABLE_NAME, string(table))
    return lambda sequence: request(SUBSYSTEM << 8 | GET_RULE, NLM_F_DUMP, sequence, body)


def sets_request(table: str) -> Encode:
    """A dump of the sets of a table."""
    body = NFGENMSG.pack(INET, 0, 0) + put(TABLE_NAME, string(table))
    return lambda sequence: request(SUBSYSTEM << 8 | GET_SET, NLM_F_DUMP, sequence, body)


def is_of(body: bytes, table: str) -> bool:
    """Whether the chain or rule of a dump, or of an event, is of this table.  DecodeError."""
    if body[:1] != bytes([INET]):
        return False
    table_name = attribute(body, NFGENMSG.size, TABLE_NAME)
    return table_name is not None and text(table_name) == table


def set_name(body: bytes) -> str:
    """The name of a set of a dump.  DecodeError."""
    return text(attribute(body, NFGENMSG.size, 2) or b"")


def chain_name(body: bytes) -> str:
    """The name of a chain of a dump.  DecodeError."""
    return text(attribute(body, NFGENMSG.size, 3) or b"")


# -- events -------------------------------------------------------------------------------


def concerns(message: Message, table: str) -> bool:
    """Whether an event changes this table, one of its chains or one of its rules."""
    if message.type >> 8 != SUBSYSTEM or message.type & 0xFF not in _OF_A_TABLE:
        return False
    try:
        return is_of(message.body, table)
    except DecodeError:
        return True


def is_deleted(messages: Iterable[Message]) -> bool:
    """Of events that concern a table: whether it was deleted, and not added again."""
    kinds = [message.type & 0xFF for message in messages]
    return DELETE_TABLE in kinds and NEW_TABLE not in kinds


def new_rule(message: Message) -> bool:
    """Whether an event adds a rule to any table."""
    return message.type == SUBSYSTEM << 8 | NEW_RULE
