"""Which address and device a test goes by, and where to.  Pure.

From a status (docs/status.md), so that an uplink which has failed can be tested as well: its
addresses, its table and its rules are still there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FAMILIES = ("ipv4", "ipv6")


class Source(NamedTuple):
    """Where a test begins: an uplink, in one family."""

    uplink: str
    device: str
    address: str


class Peer(NamedTuple):
    """Where it ends."""

    address: str
    port: int


def family_name(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"


def endpoint(text: str, host: bool = True) -> tuple[str, int]:
    """HOST:PORT, [ADDRESS]:PORT; with `host` False PORT alone as well.  ValueError."""
    name, colon, port = text.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        raise ValueError("an IPv6 address stands in brackets: [2001:db8::1]:PORT")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError("a port is a number from 1 to 65535")
    if host and not name:
        raise ValueError("it has no host")
    if colon and not name:
        raise ValueError("it has no address")
    return name, int(port)


def sources(uplink: Mapping[str, Any], only: str | None = None) -> tuple[list[Source], str]:
    """The places of an element of `uplinks`, one for each family that can be tested, or why none.

    `only` one family.  An address that may have an endpoint comes before one that cannot.
    """
    found, why = [], ""
    for family in uplink["families"]:
        if only in (None, family["family"]):
            addresses = family["addresses"] or family["sources"]
            if family["reason"] in ("no-device", "link-down", "no-carrier") or not addresses:
                why = why or family["text"] or "it has no address"
            else:
                found.append(Source(uplink["name"], uplink["device"], addresses[0]))
    return found, why


def match(found: Sequence[Source], peers: Sequence[Peer]) -> tuple[Source, Peer] | None:
    """The first peer that a place has a family for, with that place."""
    for peer in peers:
        for source in found:
            if family_name(source.address) == family_name(peer.address):
                return source, peer
    return None


def joinable_uplinks(status: Mapping[str, Any], source: Source) -> list[str]:
    """The other uplinks that have an endpoint from where a subflow of this test could join."""
    return [
        uplink["name"]
        for uplink in status["uplinks"]
        if uplink["name"] != source.uplink
        and any(
            end["actual"]
            and "subflow" in end["flags"]
            and family_name(end["address"]) == family_name(source.address)
            for end in uplink["endpoints"]
        )
    ]


def uplink_of(status: Mapping[str, Any], address: str) -> str | None:
    """The uplink whose address this is."""
    for uplink in status["uplinks"]:
        for family in uplink["families"]:
            if address in family["addresses"] or address in family["sources"]:
                return str(uplink["name"])
    return None
