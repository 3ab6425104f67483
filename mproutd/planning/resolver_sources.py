"""Resolvers as programs name them: in a hint, netifd's reply, files in /run.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from socket import AF_INET
from typing import NamedTuple

from mproutd.model import canonical, family_of

MAX_RESOLVERS = 8
"""Of one uplink and one source."""


class Resolver(NamedTuple):
    """A DNS server of an uplink's provider, and who named it."""

    address: str
    origin: str
    """configuration, netifd, lease, ifupdown, networkd or resolvconf."""


_ByDevice = Mapping[str, tuple[Resolver, ...]]


def parse_resolvers(words: Iterable[str], origin: str) -> tuple[Resolver, ...]:
    """The addresses among these words; the device gives a link-local one its scope.

    Without what cannot be a resolver of a provider, above all this host (127.0.0.53), and what no
    resolv.conf can express: a port, or a name for TLS.
    """
    found = []
    for word in words:
        try:
            address = canonical(word.partition("%")[0])
        except (OSError, ValueError):
            continue
        if is_unicast(address):
            found.append(Resolver(address, origin))
    return tuple(dict.fromkeys(found))[:MAX_RESOLVERS]


def is_unicast(address: str) -> bool:
    """Whether it can be another host: not unspecified, loopback, multicast or reserved."""
    if ":" in address:
        return address not in ("::", "::1") and not address.startswith("ff")
    first = int(address.partition(".")[0])
    return 0 < first < 224 and first != 127


def is_link_local(address: str) -> bool:
    """Whether it means a host only together with a device (fe80::/10)."""
    return family_of(address) != AF_INET and address[:3] in ("fe8", "fe9", "fea", "feb")


def parse_networkd_link(text: str) -> tuple[Resolver, ...]:
    """DNS= of a file in /run/systemd/netif/links, as systemd-resolved reads it as well.

    It has the servers of leases, of router advertisements and of the .network file.
    """
    words: list[str] = []
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "DNS":
            words += value.split()
    return parse_resolvers(words, "networkd")


def parse_nameservers(text: str) -> tuple[Resolver, ...]:
    """The servers of a file in the syntax of resolv.conf(5)."""
    lines = (line.split() for line in text.splitlines())
    words = [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver"]
    return parse_resolvers(words, "resolvconf")


def merge_resolvers(first: _ByDevice, second: _ByDevice) -> _ByDevice:
    """Of two sources, by device; the first one's are preferred."""
    if not first or not second:
        return first or second
    merged = dict(first)
    for device, resolvers in second.items():
        merged[device] = merged.get(device, ()) + resolvers
    return merged
