"""The lifetimes of IPv6 addresses: read and changed, and events about them.

Sources: linux/if_addr.h, net/ipv6/addrconf.c (inet6_rtm_newaddr, inet6_addr_modify).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from socket import AF_INET6, if_indextoname, inet_ntop, inet_pton
from struct import Struct, error

from mproutd.lan_address import LanAddress
from mproutd.model import SCOPE_GLOBAL
from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    NLM_F_REPLACE,
    U32,
    DecodeError,
    Message,
    attributes,
    put,
    put_u32,
    request,
)
from mproutd.netlink.rtnl_decode import IFADDR, RTM_DELADDR, RTM_NEWADDR
from mproutd.netlink.rtnl_encode import dump_addresses
from mproutd.netlink.sockets import Events, Requests

_NETLINK_ROUTE, _IPV6_ADDRESS_GROUP = 0, 9
_ADDRESS, _LOCAL, _CACHEINFO, _FLAGS, _METRIC, _PROTOCOL = 1, 2, 6, 8, 9, 11
"""IFA_*."""
_LIFETIMES = Struct("=LLLL")
"""struct ifa_cacheinfo: preferred, valid, created, updated."""
_SETTABLE = 0x02 | 0x10 | 0x100 | 0x200
"""IFA_F_NODAD, _HOMEADDRESS, _MANAGETEMPADDR, _NOPREFIXROUTE: lost unless they are given again."""


def read_addresses() -> list[LanAddress]:
    """The IPv6 addresses of global scope of all devices.  OSError."""
    channel = Requests(_NETLINK_ROUTE)
    try:
        return _read(channel)
    finally:
        channel.close()


def change_lifetimes(changes: Sequence[LanAddress]) -> list[OSError | None]:
    """Give existing addresses these lifetimes; the outcome of each.  OSError.

    The kernel adds an address that was deleted since it was read.  Such a one is deleted again.
    """
    channel = Requests(_NETLINK_ROUTE)
    try:
        failed = channel.change([partial(encode_change, address) for address in changes])
        created = {address.key: address.created for address in _read(channel)}
        revived = [
            address
            for index, address in enumerate(changes)
            if index not in failed and created.get(address.key, address.created) != address.created
        ]
        if revived:
            channel.change([partial(_encode_deletion, address) for address in revived])
        return [
            OSError(failed[index].errno, failed[index].text or os.strerror(failed[index].errno))
            if index in failed
            else None
            for index in range(len(changes))
        ]
    finally:
        channel.close()


def _read(channel: Requests) -> list[LanAddress]:
    bodies = channel.dump(partial(dump_addresses, family=AF_INET6))
    found = []
    for body in bodies:
        address = decode(body)
        if address is not None:
            try:
                found.append(address._replace(device=if_indextoname(address.link)))
            except OSError:
                continue  # the device is gone meanwhile
    return found


def decode(body: bytes) -> LanAddress | None:
    """An address without its device's name; None for one of another scope.  DecodeError."""
    try:
        family, length, flags, scope, index = IFADDR.unpack_from(body)
        if family != AF_INET6 or scope != SCOPE_GLOBAL:
            return None
        attrs = attributes(body, IFADDR.size)
        preferred, valid, created, _ = _LIFETIMES.unpack(attrs[_CACHEINFO])
        more, metric = attrs.get(_FLAGS), attrs.get(_METRIC)
        return LanAddress(
            index,
            "",
            inet_ntop(AF_INET6, attrs.get(_LOCAL) or attrs[_ADDRESS]),
            length,
            preferred,
            valid,
            U32.unpack(more)[0] if more else flags,
            U32.unpack(metric)[0] if metric else 0,
            attrs[_PROTOCOL][0] if attrs.get(_PROTOCOL) else 0,
            created,
        )
    except (error, KeyError, ValueError) as problem:
        raise DecodeError(str(problem)) from None


def encode_change(address: LanAddress, sequence: int) -> bytes:
    """A message that gives the address these lifetimes and leaves everything else."""
    body = IFADDR.pack(AF_INET6, address.prefixlen, 0, SCOPE_GLOBAL, address.link)
    body += put(_LOCAL, inet_pton(AF_INET6, address.address))
    body += put(_CACHEINFO, _LIFETIMES.pack(address.preferred, address.valid, 0, 0))
    body += put_u32(_FLAGS, address.flags & _SETTABLE)
    if address.metric:
        body += put_u32(_METRIC, address.metric)
    if address.protocol:
        body += put(_PROTOCOL, bytes((address.protocol,)))
    return request(RTM_NEWADDR, NLM_F_ACK | NLM_F_REPLACE, sequence, body)


def _encode_deletion(address: LanAddress, sequence: int) -> bytes:
    body = IFADDR.pack(AF_INET6, address.prefixlen, 0, SCOPE_GLOBAL, address.link)
    body += put(_LOCAL, inet_pton(AF_INET6, address.address))
    return request(RTM_DELADDR, NLM_F_ACK, sequence, body)


def address_events() -> Events:
    """A subscription to changes of IPv6 addresses.  OSError."""
    return Events(_NETLINK_ROUTE, (_IPV6_ADDRESS_GROUP,))


def concern_others(messages: Iterable[Message] | None, devices: Iterable[int]) -> bool:
    """Whether events (None after an overrun) are about devices other than these (ifindexes)."""
    if messages is None:
        return True
    own = frozenset(devices)
    return any(
        len(message.body) < IFADDR.size or IFADDR.unpack_from(message.body)[4] not in own
        for message in messages
    )
