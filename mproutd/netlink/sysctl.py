"""The sysctls below net.ipv4.conf, per device."""

from __future__ import annotations

import errno

_CONF = "/proc/sys/net/ipv4/conf/"
_SYSCTLS = frozenset(("rp_filter", "arp_ignore", "arp_announce"))


def read_sysctl(device: str, key: str) -> int:
    try:
        with open(sysctl_path(device, key), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def sysctl_path(device: str, key: str) -> str:
    """OSError (EINVAL) for a name that would lead to another directory."""
    if key not in _SYSCTLS or "/" in device or device in ("", ".", "..", "default"):
        raise OSError(errno.EINVAL, f"not a per-device sysctl: {device}.{key}")
    return f"{_CONF}{device}/{key}"
