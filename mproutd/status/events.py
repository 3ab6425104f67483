"""What `mproutd monitor` tells: one plain value for each thing that happens.  Pure.

    {"version": 1, "time": 1763666000.123, "kind": "subflow", "event": "sub-established",
     "uplink": "wan2", "device": "eth2", "text": "subflow established ...", ...}

docs/monitor.md has every field.  The first line that a client gets is of the kind `begin`,
then one of the kind `decision` for each uplink as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from os import strerror
from typing import Any

from mproutd.format import address_port
from mproutd.netlink.mptcp_pm import Event
from mproutd.status.connections import UplinkNames

VERSION = 1

EVENT_KINDS = {
    "begin": "the first line: who speaks, and that nothing before it is told",
    "decision": "an uplink, or other traffic, is used otherwise than before",
    "change": "a change of the kernel that was made, as an ip command",
    "failure": "a change that the kernel refused, with its words",
    "configuration": "the configuration was read again, or refused",
    "connection": "an MPTCP connection begins, is established, or ends",
    "subflow": "a subflow of one is established, closes, or changes its priority",
    "address": "the peer announces an address, or takes one back",
    "listener": "somebody begins or ends to listen for MPTCP connections",
    "other": "an event that this version has no words for",
    "overrun": "the kernel had more events than were read in time; some are not told",
    "dropped": "the reader was too slow; `count` lines before this one were left out",
    "end": "the daemon stops",
}
"""Every kind of line."""

_PEER_WISH = {True: "the peer wants it as backup", False: "the peer wants it in full use"}
_RESET = {
    1: "MPTCP-specific error",
    2: "lack of resources",
    3: "administratively prohibited",
    4: "too much outstanding data",
    5: "unacceptable performance",
    6: "a middlebox interferes",
}
"""RFC 8684, section 3.6."""


def make_event(
    kind: str, now: float, text: str, uplink: str = "", device: str = "", **more: Any
) -> dict[str, Any]:
    """One line.  `now` in epoch seconds."""
    assert kind in EVENT_KINDS
    return {
        "version": VERSION,
        "time": round(now, 6),
        "kind": kind,
        "uplink": uplink or None,
        "device": device or None,
        "text": text,
        **more,
    }


def kernel_event(
    event: Event, now: float, where: UplinkNames, device: Callable[[int], str]
) -> dict[str, Any]:
    """A line for an event of the kernel's path manager."""
    kind, words = _words(event)
    more: dict[str, Any] = {"event": event.kind}
    if event.token:
        more["token"] = f"{event.token:08x}"
        if kind != "connection":
            words += f" (connection {event.token:08x})"
    if event.source and event.kind != "announced":
        more["local"] = address_port(event.source, event.sport)
        more["local_id"] = event.local_id
    if event.destination:
        more["remote"] = address_port(event.destination, event.dport)
    if kind in ("subflow", "address"):
        more["remote_id"] = event.remote_id
    if kind == "subflow":
        more["backup_by_peer"] = event.backup
        more["error"] = strerror(event.error) if event.error else None
    uplink = where.of(event.source, event.device) or ""
    named = device(event.device) if event.device else ""
    return make_event(kind, now, words, uplink, named, **more)


def _words(event: Event) -> tuple[str, str]:
    """(kind, text)."""
    source = address_port(event.source, event.sport)
    ends = f"{source} → {address_port(event.destination, event.dport)}"
    kind = event.kind
    connection = f"connection {event.token:08x}"
    if kind == "created":
        return "connection", f"{connection} begins {ends}"
    if kind == "established":
        return "connection", f"{connection} established {ends}"
    if kind == "closed":
        return "connection", f"{connection} closed"
    if kind == "sub-established":
        return "subflow", f"subflow established {ends}"
    if kind == "sub-closed":
        why = f": {strerror(event.error)}" if event.error else ""
        reason = _RESET.get(event.reset_reason)
        return "subflow", f"subflow closed {ends}{why}{f'; {reason}' if reason else ''}"
    if kind == "sub-priority":
        return "subflow", f"subflow {ends}: {_PEER_WISH[event.backup]}"
    if kind == "announced":
        told = address_port(event.destination, event.dport) if event.dport else event.destination
        return "address", f"the peer announces {told}, id {event.remote_id}"
    if kind == "removed":
        return "address", f"the peer takes back its address with id {event.remote_id}"
    if kind in ("listener-created", "listener-closed"):
        word = "opened" if kind == "listener-created" else "closed"
        return "listener", f"listener {word} {address_port(event.source, event.sport)}"
    return "other", f"event {kind}"
