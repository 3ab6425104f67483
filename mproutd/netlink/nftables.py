"""Events of nf_tables: whether somebody changed a table or its rules.  Pure.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

from mproutd.netlink.nlmsg import DecodeError, Message, attribute, text

NETLINK_NETFILTER = 12
RULESET_GROUP = 7
"""NFNLGRP_NFTABLES."""
_SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, in the upper byte of a message's type."""
_NEW_RULE = 6
_OF_A_TABLE = frozenset((0, 2, 3, 5, _NEW_RULE, 8))
"""NFT_MSG_NEW and NFT_MSG_DEL of TABLE, CHAIN and RULE.  Sets and their elements may change."""
_FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
_TABLE_NAME = 1
"""NFTA_TABLE_NAME, and the same number in the messages of chains and rules."""
_NFGENMSG_BYTES = 4


def concerns(message: Message, table: str) -> bool:
    """Whether an event changes this table ("inet NAME"), one of its chains or one of its rules."""
    if message.type >> 8 != _SUBSYSTEM or message.type & 0xFF not in _OF_A_TABLE:
        return False
    family, _, name = table.partition(" ")
    if message.body[:1] != bytes([_FAMILIES[family]]):
        return False
    try:
        found = attribute(message.body, _NFGENMSG_BYTES, _TABLE_NAME)
    except DecodeError:
        return True
    return found is not None and text(found) == name


def new_rule(message: Message) -> bool:
    """Whether an event adds a rule to any table."""
    return message.type == _SUBSYSTEM << 8 | _NEW_RULE
