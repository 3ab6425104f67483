"""Which kernel events are worth waking up for, before and after they reach Python.

In the kernel: a classic BPF program on the event socket drops the echoes of our own
requests and the routes that decide nothing here, so that a full BGP table that comes
and goes costs no process time.  In Python: concerns(), which looks at a few bytes.

What must hold: neither drops an event that could change the outcome of a pass now.  One
that is let through for nothing costs a pass without a difference.  What concerns() drops may
decide something later, so the reader hears it all the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from struct import Struct
from sys import byteorder

from mproutd.model import PROTOCOL
from mproutd.netlink.nlmsg import DecodeError, Message, attribute, text
from mproutd.netlink.rtnl_decode import (
    IFA_ADDRESS,
    IFADDR,
    IFINFO,
    IFLA_IFNAME,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)

SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; Python's socket module has no name for it."""

Instruction = tuple[int, int, int, int]
"""struct sock_filter (linux/filter.h): code, jump if true, jump if false, k."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_JUMP_EQUAL, _RETURN = 0x15, 0x06
_TYPE, _PORT, _DST_LEN, _PROTOCOL = 4, 12, 17, 21
"""Offsets: of nlmsghdr's fields, and of rtmsg's behind it."""

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
    """Drop what nlmsg_pid `port` (our request socket) caused, and the specific routes of others.

    A route passes if it is a default one, or has our protocol: routes of ours that somebody
    else removes are seen.  Messages that are no routes pass; the groups that the socket
    joined choose among them.
    """
    return [
        (_LOAD_WORD, 0, 0, _PORT),
        (_JUMP_EQUAL, 8, 0, _as_loaded(port, 4)),
        (_LOAD_HALF, 0, 0, _TYPE),
        (_JUMP_EQUAL, 1, 0, _as_loaded(RTM_NEWROUTE, 2)),
        (_JUMP_EQUAL, 0, 4, _as_loaded(RTM_DELROUTE, 2)),
        (_LOAD_BYTE, 0, 0, _DST_LEN),
        (_JUMP_EQUAL, 2, 0, 0),
        (_LOAD_BYTE, 0, 0, _PROTOCOL),
        (_JUMP_EQUAL, 0, 1, PROTOCOL),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]


def subflow_event_filter(everything: bool) -> list[Instruction]:
    """For the path manager's events: subflows that closed before their connection did.

    `everything` also passes what says that a connection has its subflow after all, or is
    gone: sub-established and closed.  A busy proxy makes thousands of these a second, and
    next to none of the first: the subflows of a connection that ends are not told.
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
    """The value for setsockopt(SO_ATTACH_FILTER), and the memory that it points into.

    Keep the second until the call is done; the kernel makes its own copy.
    """
    memory = array("B", b"".join(_FILTER.pack(*each) for each in instructions))
    return _FPROG.pack(len(instructions), memory.buffer_info()[0]), memory


def is_relevant(
    message: Message,
    indexes: Collection[int],
    names: Collection[str],
    networks: Collection[tuple[int, int, int]] = (),
) -> bool:
    """Whether a link, address, route or rule event can matter to these devices.

    A device counts by its ifindex (so a rename away is seen) or by its name (so a device
    that is new, or renamed to what we wait for, is seen).  Any other's address counts where
    its subnet is one of ours, in `networks` as (family, length, leading bits).  Routes and rules
    always count: the first have come through the filter.  A broken message counts too.
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
                # How a bridge or IPv6 sees its port: not the state of the device.
                return False
            if index in indexes:
                return True
            name = attribute(body, 16, IFLA_IFNAME)
            return name is None or text(name) in names
    except DecodeError:
        return True
    return False


def _leading_bits(body: bytes, length: int) -> int:
    """Of the subnet that an address event speaks of."""
    packed = attribute(body, IFADDR.size, IFA_ADDRESS) or b""
    return int.from_bytes(packed, "big") >> max(0, len(packed) * 8 - length)
