"""The LAN's IPv6 prefixes for people.  Pure, and quick to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd.format import safe

if TYPE_CHECKING:
    from mproutd.status.types import Status, UplinkStatus


def deprecated_line(uplink: UplinkStatus) -> str:
    """As in: deprecated in lan: 2001:db8:1::1 on br-lan; empty for none."""
    listed = [f"{item['address']} on {item['device']}" for item in uplink.get("deprecated", ())]
    return safe(f"deprecated in lan: {', '.join(listed)}") if listed else ""


def announcers_line(status: Status) -> str:
    """Who announces prefixes in the LAN; empty where nobody wants to know."""
    announcers = status.get("announcers")
    if announcers is None:
        return ""
    words = [
        f"{item['program']} ({'follows' if item['follows'] else 'does not follow'} the kernel)"
        for item in announcers
    ]
    return safe(f"prefixes announced by: {', '.join(words) or 'no program known here'}")
