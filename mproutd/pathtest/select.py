"""Selects the uplink address that a test starts from and the peer address that it connects to.
Pure.

Works on a status (docs/status.md), so that a failed uplink can be tested too: its addresses, its
table and its rules are still in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_UNUSABLE = ("no-device", "link-down", "no-carrier")
"""Reasons (docs/status.md) for which a family of an uplink cannot even be tested."""


class Source(NamedTuple):
    """The local end of a test: an uplink in one address family."""

    uplink: str
    device: str
    address: str


class Peer(NamedTuple):
    """The remote end of a test."""

    address: str
    port: int


def family_name(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"


def parse_host_port(text: str, require_host: bool = True) -> tuple[str, int]:
    """HOST:PORT or [ADDRESS]:PORT; PORT alone unless `require_host`.  ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("put an IPv6 address in brackets: [2001:db8::1]:PORT")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError("the port must be a number from 1 to 65535")
    if require_host and not host:
        raise ValueError("the host is missing")
    if colon and not host:
        raise ValueError("the address before the colon is missing")
    return host, int(port)


def sources(uplink: Mapping[str, Any], only: str | None = None) -> tuple[list[Source], str]:
    """A source for each family of an uplink that can be tested; if none, the reason.

    `uplink` is an element of the status's `uplinks`; `only` restricts the result to "ipv4" or
    "ipv6".  An address that may have an endpoint is preferred.
    """
    candidates, reason = [], ""
    for family in uplink["families"]:
        if only in (None, family["family"]):
            addresses = family["addresses"] or family["sources"]
            if family["reason"] in _UNUSABLE or not addresses:
                reason = reason or family["text"] or "it has no address"
            else:
                candidates.append(Source(uplink["name"], uplink["device"], addresses[0]))
    return candidates, reason


def match(candidates: Sequence[Source], peers: Sequence[Peer]) -> tuple[Source, Peer] | None:
    """The first peer that has a source of its own family, with that source."""
    for peer in peers:
        for source in candidates:
            if family_name(source.address) == family_name(peer.address):
                return source, peer
    return None


def joinable_uplinks(status: Mapping[str, Any], source: Source) -> list[str]:
    """The other uplinks from whose endpoints a subflow of this test could join."""
    return [
        uplink["name"]
        for uplink in status["uplinks"]
        if uplink["name"] != source.uplink
        and any(
            endpoint["actual"]
            and "subflow" in endpoint["flags"]
            and family_name(endpoint["address"]) == family_name(source.address)
            for endpoint in uplink["endpoints"]
        )
    ]


def uplink_of(status: Mapping[str, Any], address: str) -> str | None:
    """The uplink that has this address."""
    for uplink in status["uplinks"]:
        for family in uplink["families"]:
            if address in family["addresses"] or address in family["sources"]:
                return str(uplink["name"])
    return None
