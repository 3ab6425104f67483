"""Asks nf_tables whether a named set has an address.  Pure.

Sources: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c, nf_tables_getsetelem.
"""

from __future__ import annotations

from errno import ENOENT
from socket import inet_pton
from struct import Struct

from mproutd.model import family_of
from mproutd.netlink.nlmsg import Message, put, request

_GET_ELEMENTS = 10 << 8 | 13
"""NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM."""
_INET = 1
_NFGENMSG = Struct(">BBH")
_NESTED = 0x8000
_TABLE, _SET, _ELEMENTS = 1, 2, 3
"""NFTA_SET_ELEM_LIST_*."""
_ELEMENT, _KEY, _VALUE = 1, 1, 1
"""NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE."""


def get(sequence: int, table: str, name: str, value: str) -> bytes:
    """Request the element that covers an address; ENOENT if there is none, or no such set."""
    key = put(_KEY | _NESTED, put(_VALUE, inet_pton(family_of(value), value)))
    body = _NFGENMSG.pack(_INET, 0, 0)
    body += put(_TABLE, table.encode() + b"\0") + put(_SET, name.encode() + b"\0")
    body += put(_ELEMENTS | _NESTED, put(_ELEMENT | _NESTED, key))
    return request(_GET_ELEMENTS, 0, sequence, body)


def is_found(reply: Message | OSError) -> bool:
    """Whether the set has it.  OSError for any other error than that it has not."""
    if isinstance(reply, OSError):
        if reply.errno == ENOENT:
            return False
        raise reply
    return True
