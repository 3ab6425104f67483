"""MPTCP connections summed by peer or by local port, and their rates.  Pure.

A connection does not name the peer's machine, so a peer is the address that the connection began
with.  A gateway whose connections begin on several uplinks is several peers,
and gateways behind one translated address are one.  A server with a port for each gateway has
no such doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mproutd.format import aligned, format_bytes, format_rate, safe

if TYPE_CHECKING:
    from mproutd.status.connection_types import ConnectionGroup, ConnectionStatus

VERSION = 1
_COLUMNS = ("CONNECTIONS", "SUBFLOWS", "SENT", "RECEIVED", "OUT", "IN")


def grouped(
    by: str,
    connections: Sequence[ConnectionStatus],
    previous: Sequence[ConnectionStatus] = (),
    seconds: float = 0,
) -> list[ConnectionGroup]:
    """The sums, those with the most bytes first.

    `previous`: the same list, `seconds` ago; without it there are no rates.
    """
    earlier = {_identity(connection): connection for connection in previous}
    members: dict[str, list[ConnectionStatus]] = {}
    for connection in connections:
        members.setdefault(_key(by, connection), []).append(connection)
    groups = [_group(key, found, earlier, seconds) for key, found in members.items()]
    return sorted(groups, key=lambda group: (-_volume(group), group["key"]))


def _key(by: str, connection: ConnectionStatus) -> str:
    if by == "port":
        return connection["local"].rpartition(":")[2]
    return _address(connection["remote"])


def _identity(connection: ConnectionStatus) -> str:
    """One that fell back to plain TCP may have no token."""
    return connection["token"] or f"{connection['local']} {connection['remote']}"


def _address(end: str) -> str:
    """Of ADDRESS:PORT or [ADDRESS]:PORT."""
    return end.rpartition(":")[0].strip("[]")


def _group(
    key: str,
    members: Sequence[ConnectionStatus],
    earlier: Mapping[str, ConnectionStatus],
    seconds: float,
) -> ConnectionGroup:
    subflows = [subflow for connection in members for subflow in connection["subflows"]]
    remotes = [_address(connection["remote"]) for connection in members]
    remotes += [_address(subflow["remote"]) for subflow in subflows]
    sent = _sum([connection["sent"] for connection in members])
    received = _sum([connection["received"] for connection in members])
    before = [earlier.get(_identity(connection)) for connection in members]
    old_sent = _sum([connection["sent"] for connection in before if connection])
    old_received = _sum([connection["received"] for connection in before if connection])
    return {
        "key": key,
        "addresses": sorted(set(remotes), key=remotes.index),
        "connections": len(members),
        "fallback": sum(connection["fallback"] for connection in members),
        "subflows": len(subflows),
        "sent": sent,
        "received": received,
        "sent_rate": _rate(sent, old_sent, seconds),
        "received_rate": _rate(received, old_received, seconds),
    }


def _sum(counts: Sequence[int | None]) -> int | None:
    """Of those that are known; None if there are some and none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known or not counts else None


def _rate(now: int | None, before: int | None, seconds: float) -> int | None:
    """Bits per second.  A sum can shrink where the kernel has no count for whole connections."""
    if now is None or before is None or seconds <= 0:
        return None
    return max(0, round((now - before) * 8 / seconds))


def _volume(group: ConnectionGroup) -> int:
    return (group["sent"] or 0) + (group["received"] or 0)


def group_lines(by: str, groups: Sequence[ConnectionGroup]) -> list[str]:
    """A table, with the further addresses of a group below its line."""
    if not groups:
        return ["no MPTCP connection"]
    head, *rows = aligned([(by.upper(), *_COLUMNS), *map(_cells, groups)])
    lines = [head]
    for row, group in zip(rows, groups, strict=True):
        lines += [row, *_notes(group)]
    return lines


def _cells(group: ConnectionGroup) -> tuple[str, ...]:
    return (
        safe(group["key"]),
        str(group["connections"]),
        str(group["subflows"]),
        format_bytes(group["sent"]),
        format_bytes(group["received"]),
        format_rate(group["sent_rate"]),
        format_rate(group["received_rate"]),
    )


def _notes(group: ConnectionGroup) -> list[str]:
    notes = []
    others = [safe(address) for address in group["addresses"] if address != group["key"]]
    shown = others[:4] + ([f"{len(others) - 4} more"] if len(others) > 4 else [])
    if shown:
        notes.append(f"    addresses: {', '.join(shown)}")
    if group["fallback"]:
        notes.append(f"    plain TCP: {group['fallback']}")
    return notes
