"""Sysctls below net.ipv4.conf, and whether this host is a router."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET, AF_INET6, if_nametoindex

from mproutd.model import Link, Operation, Sysctl
from mproutd.netlink.nlmsg import Ack

_CONF = "/proc/sys/net/ipv4/conf/"
_SYSCTLS = frozenset(("rp_filter", "arp_ignore", "arp_announce"))


def write(operations: Sequence[Operation], link: Callable[[str], Link | None]) -> dict[int, Ack]:
    """Write sysctls, unless something changed since the last read; failures by index.

    `link` returns a device as last read.

    A value that somebody else has just set is kept, since the next pass decides about it.  Nor
    is another device written to that took over the name: its value would never be restored.
    """
    failed = {}
    for index, operation in enumerate(operations):
        setting = operation.value
        assert isinstance(setting, Sysctl)
        known = link(setting.device)
        try:
            with open(_sysctl_path(setting.device, setting.key), "w", encoding="ascii") as file:
                value = read(setting.device, setting.key)
                if known and _ifindex(setting.device) != known.index:
                    failed[index] = Ack(errno.ENODEV)
                elif known and value != getattr(known, setting.key):
                    failed[index] = Ack(errno.EAGAIN, "changed by another program just now")
                else:
                    file.write(str(setting.value))
        except OSError as error:
            failed[index] = Ack(error.errno or errno.EIO)
    return failed


def read(device: str, key: str) -> int:
    try:
        with open(_sysctl_path(device, key), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def hides_nexthops() -> bool:
    """Whether routes tell only the id of their nexthop object, not what it has."""
    try:
        with open("/proc/sys/net/ipv4/nexthop_compat_mode", encoding="ascii") as file:
            return file.read().strip() == "0"
    except OSError:
        return False


def forwarding_devices(names: Iterable[str]) -> frozenset[tuple[str, int]]:
    """(device, family) for which this host is a router."""
    return frozenset(
        (name, family)
        for name in names
        for family, version in ((AF_INET, "ipv4"), (AF_INET6, "ipv6"))
        if _is_forwarding(name, version)
    )


def ignores_advertisements(device: str) -> bool:
    """Whether accept_ra is 1 and forwarding on: the kernel then ignores routers.

    With accept_ra 0, a program may read the advertisements instead.
    """
    try:
        with open(f"/proc/sys/net/ipv6/conf/{device}/accept_ra", encoding="ascii") as file:
            return file.read().strip() == "1" and _is_forwarding(device, "ipv6")
    except OSError:
        return False


def _is_forwarding(device: str, version: str) -> bool:
    return _is_set(device, version, "forwarding")


def ignores_dead_links(device: str) -> bool:
    """Whether a lookup finds the routes of a device only while it has carrier, in any family."""
    key = "ignore_routes_with_linkdown"
    return (
        _is_set(device, "ipv4", key) or _is_set("all", "ipv4", key) or _is_set(device, "ipv6", key)
    )


def _is_set(device: str, version: str, key: str) -> bool:
    try:
        # Not open(), which takes four times as long.
        descriptor = os.open(f"/proc/sys/net/{version}/conf/{device}/{key}", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.read(descriptor, 16).strip() == b"1"
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _ifindex(device: str) -> int:
    """0 when no device has this name."""
    try:
        return if_nametoindex(device)
    except OSError:
        return 0


def _sysctl_path(device: str, key: str) -> str:
    """OSError (EINVAL) for a name that would lead to another directory."""
    if key not in _SYSCTLS or "/" in device or device in ("", ".", "..", "default"):
        raise OSError(errno.EINVAL, f"not a per-device sysctl: {device}.{key}")
    return f"{_CONF}{device}/{key}"
