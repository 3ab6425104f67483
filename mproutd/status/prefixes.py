"""The LAN's IPv6 prefixes in the status: what is deprecated, and who announces it.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from mproutd.lan_address import LanAddress
from mproutd.planning.prefixes import Record
from mproutd.status.problems import add_problems, problem

if TYPE_CHECKING:
    from mproutd.status.prefix_types import DeprecatedAddress
    from mproutd.status.types import Status

ANNOUNCERS = {"dnsmasq": True, "odhcpd": True, "radvd": False, "systemd-networkd": False}
"""Program → whether it announces the lifetimes that the kernel has."""


def deprecated_addresses(
    record: Record, addresses: Iterable[LanAddress]
) -> dict[str, list[DeprecatedAddress]]:
    """Uplink → the addresses from its prefix that are deprecated."""
    found: dict[str, list[DeprecatedAddress]] = {}
    for address in addresses:
        original = record.addresses.get(address.key)
        if original is not None:
            listed = found.setdefault(original.uplink, [])
            listed.append({"address": address.address, "device": address.device})
    return found


def add_deprecated(status: Status, deprecated: Mapping[str, list[DeprecatedAddress]]) -> None:
    for uplink in status["uplinks"]:
        uplink["deprecated"] = deprecated.get(uplink["name"], [])


def add_announcers(status: Status, running: Collection[str]) -> None:
    """Which of these programs announce the prefixes, and whether hosts learn what is deprecated."""
    concerned = any(
        "deprecated" in uplink and any(family["prefixes"] for family in uplink["families"])
        for uplink in status["uplinks"]
    )
    if not concerned or not status["enabled"]:
        return
    status["announcers"] = [
        {"program": name, "follows": ANNOUNCERS[name]} for name in sorted(running)
    ]
    if len(status["uplinks"]) > 1:
        deaf = [name for name in sorted(running) if not ANNOUNCERS[name]]
        add_problems(status, [problem("announcer-ignores-kernel", program=name) for name in deaf])
