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
from collections.abc import Collection, Sequence
from struct import Struct, pack
from sys import byteorder

from mproutd.model import PROTOCOL, TABLE_MAIN, UNICAST
from mproutd.netlink.nlmsg import U32, DecodeError, Message, attribute, spans, text
from mproutd.netlink.rtnl_decode import (
    IFA_ADDRESS,
    IFADDR,
    IFINFO,
    IFLA_ALT_IFNAME,
    IFLA_IFNAME,
    IFLA_PROP_LIST,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_VIA,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMSG,
)
from mproutd.netlink.rtnl_nexthops import RTM_DELNEXTHOP, RTM_NEWNEXTHOP

SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; not in Python's socket module."""

Instruction = tuple[int, int, int, int]
"""struct sock_filter (linux/filter.h): code, jump if true, jump if false, k."""

_Step = tuple[int, int, str, str]
"""Code, k, and the labels to jump to if true and if false."""

_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_JUMP_EQUAL, _RETURN = 0x15, 0x06
_LOAD_VALUE, _LOAD_INDEX = 0x00, 0x01
"""Of a constant into A, and into X."""
_TYPE, _PORT, _DST_LEN, _TABLE, _PROTOCOL, _ROUTE_TYPE, _ATTRIBUTES = 4, 12, 17, 20, 21, 23, 28
"""Offsets: of nlmsghdr's fields, and of rtmsg's and its attributes behind it."""
_NEXTHOP_PROTOCOL = 18
"""Offset of nhmsg's protocol."""
_FIND_ATTRIBUTE = 0xFFFFF00C
"""SKF_AD_OFF + SKF_AD_NLATTR: the offset of the attribute of type X from offset A on, or 0."""
_NETCONF_IFINDEX, _NETCONF_KEY, _NETCONF_VALUE = 24, 30, 32
"""Offsets in a RTM_NEWNETCONF for one setting: netconfmsg's family, then two attributes."""
_NETCONFA_RP_FILTER, _NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN = 3, 6
"""linux/netconf.h."""
_LOOSE = 2
ALL_DEVICES = 0xFFFFFFFF
"""linux/netconf.h, NETCONFA_IFINDEX_ALL: the ifindex of net.ipv4.conf.all."""
FUTURE_DEVICES = 0xFFFFFFFE
"""NETCONFA_IFINDEX_DEFAULT: of net.ipv4.conf.default, which no existing device follows."""

_COMMAND = 16
"""Offset of genlmsghdr's command."""
_ESTABLISHED, _CLOSED, _SUB_ESTABLISHED, _SUB_CLOSED = 2, 3, 10, 11
"""linux/mptcp_pm.h: MPTCP_EVENT_*."""

_LINK_LOCAL = b"\xfe\x80"
"""Every device is connected to fe80::/64."""

_FILTER = Struct("=HBBL")
_FPROG = Struct("@HP")


def _as_loaded(value: int, size: int) -> int:
    """A host-order field as a BPF load sees it: loads are big-endian (linux/filter.h)."""
    return int.from_bytes(value.to_bytes(size, byteorder), "big")


def event_filter(port: int, all_nexthops: bool = False) -> list[Instruction]:
    """Drop events caused by nlmsg_pid `port` (our request socket), and foreign specific routes.

    Of routes, these pass: defaults; those with our protocol, so that their removal by other
    programs is noticed; and those of main without a gateway, which connect a device to its subnet.
    Of nexthop objects, those with our protocol pass, or `all_nexthops`.  Of sysctls
    (RTM_NEWNETCONF), ignore_routes_with_linkdown passes, and rp_filter except for the value that
    mproutd sets itself.  All other messages pass; which there are depends on the multicast groups
    of the socket.
    """
    program: list[_Step | str] = [
        (_LOAD_WORD, _PORT, "", ""),
        (_JUMP_EQUAL, _as_loaded(port, 4), "drop", ""),
        (_LOAD_HALF, _TYPE, "", ""),
        (_JUMP_EQUAL, _as_loaded(RTM_NEWNETCONF, 2), "sysctl", ""),
        (_JUMP_EQUAL, _as_loaded(RTM_NEWROUTE, 2), "route", ""),
        (_JUMP_EQUAL, _as_loaded(RTM_DELROUTE, 2), "route", ""),
        (_JUMP_EQUAL, _as_loaded(RTM_NEWNEXTHOP, 2), "nexthop", ""),
        (_JUMP_EQUAL, _as_loaded(RTM_DELNEXTHOP, 2), "nexthop", "pass"),
        "nexthop",
        (_LOAD_BYTE, _NEXTHOP_PROTOCOL, "", ""),
        (_JUMP_EQUAL, PROTOCOL, "pass", "pass" if all_nexthops else "drop"),
        "sysctl",
        (_LOAD_HALF, _NETCONF_KEY, "", ""),
        (_JUMP_EQUAL, _as_loaded(_NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, 2), "pass", ""),
        (_JUMP_EQUAL, _as_loaded(_NETCONFA_RP_FILTER, 2), "", "drop"),
        (_LOAD_WORD, _NETCONF_VALUE, "", ""),
        (_JUMP_EQUAL, _as_loaded(_LOOSE, 4), "drop", "pass"),
        "route",
        (_LOAD_BYTE, _DST_LEN, "", ""),
        (_JUMP_EQUAL, 0, "pass", ""),
        (_LOAD_BYTE, _PROTOCOL, "", ""),
        (_JUMP_EQUAL, PROTOCOL, "pass", ""),
        (_LOAD_BYTE, _TABLE, "", ""),
        (_JUMP_EQUAL, TABLE_MAIN, "", "drop"),
        (_LOAD_BYTE, _ROUTE_TYPE, "", ""),
        (_JUMP_EQUAL, UNICAST, "", "drop"),
    ]
    for kind in (RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH):
        program += [
            (_LOAD_INDEX, kind, "", ""),
            (_LOAD_VALUE, _ATTRIBUTES, "", ""),
            (_LOAD_WORD, _FIND_ATTRIBUTE, "", ""),
            (_JUMP_EQUAL, 0, "", "drop"),
        ]
    return _assemble(program)


def _assemble(program: Sequence[_Step | str]) -> list[Instruction]:
    """Instructions whose jumps have labels, which are the strings between them.

    No label means the next instruction; "pass" and "drop" end the program.
    """
    steps = [step for step in program if not isinstance(step, str)]
    labels = {"pass": len(steps), "drop": len(steps) + 1}
    for position, step in enumerate(program):
        if isinstance(step, str):
            labels[step] = position - sum(isinstance(step, str) for step in program[:position])

    def distance(index: int, label: str) -> int:
        return labels[label] - index - 1 if label else 0

    return [
        *(
            (code, distance(index, if_true), distance(index, if_false), value)
            for index, (code, value, if_true, if_false) in enumerate(steps)
        ),
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


def established_event_filter() -> list[Instruction]:
    """Of the path manager's events, pass that a connection was established."""
    return [
        (_LOAD_BYTE, 0, 0, _COMMAND),
        (_JUMP_EQUAL, 0, 1, _ESTABLISHED),
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
    """Whether a link, address, route, rule or nexthop event can affect these devices now.

    A device matches by ifindex, which covers a rename away, or by name, which covers a new device
    and a rename to this name.  An address on another device matches if its subnet is among
    `networks`, as (family, length, leading bits).  A foreign route to a subnet matches if it leads
    there through one of the devices; other routes, which have passed event_filter(), and rules
    always match.  So does a broken message.
    """
    kind, body = message.type, message.body
    if kind in (RTM_NEWRULE, RTM_DELRULE, RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
        return True
    try:
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            if len(body) < RTMSG.size:
                return True
            _, length, _, _, _, protocol, _, _, _ = RTMSG.unpack_from(body)
            if not length or protocol == PROTOCOL:
                return True
            device = attribute(body, RTMSG.size, RTA_OIF)
            if device is None or len(device) != U32.size:
                return True
            destination = attribute(body, RTMSG.size, RTA_DST) or b""
            return U32.unpack(device)[0] in indexes and not destination.startswith(_LINK_LOCAL)
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


def changes_lookups(body: bytes) -> bool:
    """Whether the sysctl that was set decides which routes a lookup finds."""
    at = _NETCONF_KEY - 16
    return body[at : at + 2] == pack("=H", _NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN)


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


def ifindex_of(message: Message) -> int:
    """The device of a link or address event; meaningless but harmless for others."""
    return U32.unpack_from(message.body, 4)[0] if len(message.body) >= 8 else 0
