"""The ipsets and nftables sets that dnsmasq fills, from OpenWrt's dhcp file.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mproutd.configuration.sections import Section
from mproutd.importers.draft import Source, unique


def domains_by_set(dhcp: Sequence[Section]) -> dict[str, list[str]]:
    """Set → the domains whose addresses dnsmasq adds to it."""
    domains: dict[str, list[str]] = {}
    for section in dhcp:
        source = Source(section)
        if section.type == "ipset":
            for name in source.values("name"):
                domains.setdefault(name, []).extend(source.values("domain"))
        elif section.type == "dnsmasq":
            for value in source.values("ipset"):  # /DOMAIN/DOMAIN/SET,SET
                *names, sets = value.strip("/").split("/")
                for name in sets.split(","):
                    domains.setdefault(name, []).extend(names)
    return {name: unique(listed) for name, listed in domains.items() if listed}
