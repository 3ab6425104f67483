"""Filters for kernel events, in the kernel and in Python.  Pure.

In the kernel, classic BPF programs on the event sockets drop events of our own changes and routes
that affect nothing here, so that a full BGP table that comes and goes costs no CPU time.  In
Python, is_relevant() looks at a few bytes of what is left.

Invariants: no filter drops an event that could change the outcome of a pass now; an event too many
only costs a pass without a difference.  Events that is_relevant() rejects may matter later, so
they still update the cache (cache.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from struct import Struct
from sys import byteorder

from mproutd.model import PROTOCOL
from mproutd.netlink.nlmsg import U32, DecodeError, Message, attribute, spans, text
from mproutd.netlink.rtnl_decode import (
    IFA_ADDRESS,
    IFADDR,
    IFINFO,
    IFLA_ALT_IFNAME,
    IFLA_IFNAME,
    IFLA_PROP_LIST,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)

SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; not in Python's socket module."""

Instruction = tuple[int, int, int, int]
"""struct sock_filter (linux/filter.h): code, jump if true, jump if false, k."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_JUMP_EQUAL, _RETURN = 0x15, 0x06
_TYPE, _PORT, _DST_LEN, _PROTOCOL = 4, 12, 17, 21
"""Offsets: of nlmsghdr's fields, and of rtmsg's behind it."""
_NETCONF_IFINDEX, _NETCONF_KEY, _NETCONF_VALUE = 24, 30, 32
"""Offsets in a RTM_NEWNETCONF for one setting: netconfmsg's family, then two attributes."""
_NETCONFA_RP_FILTER = 3
"""linux/netconf.h."""
_LOOSE = 2
ALL_DEVICES = 0xFFFFFFFF
"""linux/netconf.h, NETCONFA_IFINDEX_ALL: the ifindex of net.ipv4.conf.all."""

_COMMAND = 16
"""Offset of genlmsghdr's command."""
_CLOSED, _SUB_ESTABLISHED, _SUB_CLOSED = 3, 10, 11
"""linux/mptcp_pm.h: MPTCP_EVENT_*."""

_FILTER = Struct("=HBBL")
_FPROG = Struct("@HP")


def _as_loaded(value: int, size: int) -> int:
    """A host-order field as a BPF load sees it: loads are big-endian (linux/filter.h)."""
    return int.from_bytes(value.to_bytes(size, byteorder), "big")


def event_filter(port: int) -> list[Instruction]:
    """Drop events caused by nlmsg_pid `port` (our request socket), and foreign specific routes.

    Of routes, defaults and those with our protocol pass, so that the removal of our routes by
    other programs is noticed.  Of sysctls (RTM_NEWNETCONF), those that set rp_filter pass, except
    to the value that mproutd sets itself.  All other messages pass; which there are depends on the
    multicast groups of the socket.
    """
    return [
        (_LOAD_WORD, 0, 0, _PORT),
        (_JUMP_EQUAL, 13, 0, _as_loaded(port, 4)),
        (_LOAD_HALF, 0, 0, _TYPE),
        (_JUMP_EQUAL, 2, 0, _as_loaded(RTM_NEWROUTE, 2)),
        (_JUMP_EQUAL, 1, 0, _as_loaded(RTM_DELROUTE, 2)),
        (_JUMP_EQUAL, 4, 8, _as_loaded(RTM_NEWNETCONF, 2)),
        (_LOAD_BYTE, 0, 0, _DST_LEN),
        (_JUMP_EQUAL, 6, 0, 0),
        (_LOAD_BYTE, 0, 0, _PROTOCOL),
        (_JUMP_EQUAL, 4, 5, PROTOCOL),
        (_LOAD_HALF, 0, 0, _NETCONF_KEY),
        (_JUMP_EQUAL, 0, 3, _as_loaded(_NETCONFA_RP_FILTER, 2)),
        (_LOAD_WORD, 0, 0, _NETCONF_VALUE),
        (_JUMP_EQUAL, 1, 0, _as_loaded(_LOOSE, 4)),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]


def subflow_event_filter(everything: bool) -> list[Instruction]:
    """Of the path manager's events, pass subflows that closed before their connection.

    With `everything`, also pass sub-established and closed, which end the wait for a subflow.  A
    busy proxy causes thousands of those a second, but hardly any of the first kind: when a
    connection ends, there are no events for its subflows.
    """
    if not everything:
        return [
            (_LOAD_BYTE, 0, 0, _COMMAND),
            (_JUMP_EQUAL, 0, 1, _SUB_CLOSED),
            (_RETURN, 0, 0, 0xFFFFFFFF),
            (_RETURN, 0, 0, 0),
        ]
    return [
        (_LOAD_BYTE, 0, 0, _COMMAND),
        (_JUMP_EQUAL, 2, 0, _SUB_ESTABLISHED),
        (_JUMP_EQUAL, 1, 0, _CLOSED),
        (_JUMP_EQUAL, 0, 1, _SUB_CLOSED),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]


def sock_fprog(instructions: list[Instruction]) -> tuple[bytes, array[int]]:
    """struct sock_fprog for setsockopt(SO_ATTACH_FILTER), and the memory that it points to.

    Keep the memory until the call returns; the kernel makes a copy.
    """
    memory = array("B", b"".join(_FILTER.pack(*instruction) for instruction in instructions))
    return _FPROG.pack(len(instructions), memory.buffer_info()[0]), memory


def is_relevant(
    message: Message,
    indexes: Collection[int],
    names: frozenset[str],
    networks: Collection[tuple[int, int, int]] = (),
) -> bool:
    """Whether a link, address, route or rule event can affect these devices now.

    A device matches by ifindex, which covers a rename away, or by name, which covers a new device
    and a rename to this name.  An address on another device matches if its subnet is among
    `networks`, as (family, length, leading bits).  Routes and rules always match, since routes
    have passed event_filter().  So does a broken message.
    """
    kind, body = message.type, message.body
    if kind in (RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE):
        return True
    try:
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            if len(body) < 8:
                return True
            family, length, _, _, index = IFADDR.unpack_from(body)
            return index in indexes or (family, length, _leading_bits(body, length)) in networks
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            if len(body) < 16:
                return True
            family, _, index, _, _ = IFINFO.unpack_from(body)
            if family:
                # A bridge's or IPv6's view of the device, not its state.
                return False
            if index in indexes:
                return True
            name = attribute(body, 16, IFLA_IFNAME)
            return name is None or text(name) in names or not names.isdisjoint(_other_names(body))
        if kind == RTM_NEWNETCONF:
            index = netconf_ifindex(body)
            return index == ALL_DEVICES or index in indexes
    except DecodeError:
        return True
    return False


def _other_names(body: bytes) -> list[str]:
    """A device's alternative names (IFLA_ALT_IFNAME, as ip-link(8) calls them: altname)."""
    properties = attribute(body, 16, IFLA_PROP_LIST)
    if properties is None:
        return []
    return [
        text(properties[start:end])
        for kind, start, end in spans(properties)
        if kind == IFLA_ALT_IFNAME
    ]


def netconf_ifindex(body: bytes) -> int:
    """The device whose sysctl was set; ALL_DEVICES for net.ipv4.conf.all and a broken message."""
    if len(body) < _NETCONF_IFINDEX - 12:
        return ALL_DEVICES
    index: int = U32.unpack_from(body, _NETCONF_IFINDEX - 16)[0]
    return index


def _leading_bits(body: bytes, length: int) -> int:
    """Of the subnet in an address event."""
    packed = attribute(body, IFADDR.size, IFA_ADDRESS) or b""
    return int.from_bytes(packed, "big") >> max(0, len(packed) * 8 - length)
