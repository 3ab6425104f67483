"""The router's own IPv6 addresses with their lifetimes, as values; see model.py."""

from __future__ import annotations

from typing import NamedTuple

FOREVER = 0xFFFFFFFF
"""INFINITY_LIFE_TIME (net/addrconf.h)."""


class LanAddress(NamedTuple):
    """An IPv6 address of this host with what a change of its lifetimes has to keep."""

    link: int
    """The device's ifindex."""
    device: str
    address: str
    prefixlen: int
    preferred: int
    """Seconds from now on, or FOREVER; 0: deprecated."""
    valid: int
    flags: int = 0
    metric: int = 0
    """Of the route that it brings (IFA_RT_PRIORITY)."""
    protocol: int = 0
    """IFA_PROTO."""
    created: int = 0
    """When, in hundredths of a second since the boot."""

    @property
    def key(self) -> tuple[int, str]:
        return self.link, self.address
