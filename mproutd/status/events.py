"""The lines of `mproutd monitor`: one plain value for each event.  Pure.

    {"version": 1, "time": 1763666000.123, "kind": "subflow", "event": "sub-established",
     "uplink": "wan2", "device": "eth2", "text": "subflow established ...", ...}

status.types.MonitorEvent has the fields.  The first line is of the kind `begin`; one of the
kind `decision` for the current state of each uplink follows.
"""

from __future__ import annotations

from collections.abc import Callable
from os import strerror
from typing import TYPE_CHECKING, Any

from mproutd.format import address_port
from mproutd.netlink.mptcp_pm import Event
from mproutd.status.connections import UplinkNames

if TYPE_CHECKING:
    from mproutd.status.event_types import EventKind, MonitorEvent

VERSION = 1

EVENT_KINDS = {
    "begin": "the first line; what happened before it is not reported",
    "decision": "an uplink, or other traffic, is used differently than before",
    "change": "a change made in the kernel, as an ip command",
    "failure": "a change that the kernel rejected, with its error",
    "configuration": "the configuration was rejected at a reload",
    "action": "a program of `on_up`, `on_down` or `on_quota` ended, or could not be run",
    "quota": "a quota was nearly or fully used up, a new period began, or its figure was entered",
    "overflow": "an uplink began or stopped carrying beside the regular ones",
    "standby": "the gateway of a pair entered or left standby",
    "conntrack": "connections of an uplink were removed from connection tracking, or could not be",
    "nftables": "mproutd's nftables table was written or removed, or could not be",
    "prefix": "an address in the LAN was deprecated or is preferred again, or could not be changed",
    "connection": "an MPTCP connection was created, established or closed",
    "subflow": "a subflow was established or closed, or changed its priority",
    "address": "the peer announced an address, or withdrew one",
    "listener": "a program began or stopped listening for MPTCP connections",
    "other": "an event that this version does not know",
    "overrun": "the kernel sent events faster than they were read; some are missing",
    "dropped": "this reader was too slow; `count` lines before this one were dropped",
    "end": "the daemon stops",
}
"""Every kind of line."""

_RESET_REASONS = {
    1: "MPTCP-specific error",
    2: "lack of resources",
    3: "administratively prohibited",
    4: "too much outstanding data",
    5: "unacceptable performance",
    6: "middlebox interference",
}
"""RFC 8684, section 3.6."""


def make_event(
    kind: EventKind, now: float, text: str, uplink: str = "", device: str = "", **more: Any
) -> MonitorEvent:
    """One line; `now` in epoch seconds, `more` are further fields of MonitorEvent."""
    return {
        "version": VERSION,
        "time": round(now, 6),
        "kind": kind,
        "uplink": uplink or None,
        "device": device or None,
        "text": text,
        **more,  # type: ignore[typeddict-item]
    }


def kernel_event(
    event: Event, now: float, uplinks: UplinkNames, device_name: Callable[[int], str]
) -> MonitorEvent:
    """The line for an event of the kernel's path manager."""
    kind, text = _describe(event)
    more: dict[str, Any] = {"event": event.kind}
    if event.token:
        more["token"] = f"{event.token:08x}"
        if kind != "connection":
            text += f" (connection {event.token:08x})"
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
    uplink = uplinks.of(event.source, event.device) or ""
    device = device_name(event.device) if event.device else ""
    return make_event(kind, now, text, uplink, device, **more)


def _describe(event: Event) -> tuple[EventKind, str]:
    """(kind, text)."""
    local = address_port(event.source, event.sport)
    ends = f"{local} → {address_port(event.destination, event.dport)}"
    connection = f"connection {event.token:08x}"
    match event.kind:
        case "created":
            return "connection", f"{connection} created {ends}"
        case "established":
            return "connection", f"{connection} established {ends}"
        case "closed":
            return "connection", f"{connection} closed"
        case "sub-established":
            return "subflow", f"subflow established {ends}"
        case "sub-closed":
            return "subflow", f"subflow closed {ends}{_close_reason(event)}"
        case "sub-priority":
            priority = "backup" if event.backup else "regular"
            return "subflow", f"subflow {ends}: the peer requests {priority} priority"
        case "announced":
            port = event.dport
            address = address_port(event.destination, port) if port else event.destination
            return "address", f"the peer announces {address}, id {event.remote_id}"
        case "removed":
            return "address", f"the peer withdraws its address with id {event.remote_id}"
        case "listener-created":
            return "listener", f"listening on {local}"
        case "listener-closed":
            return "listener", f"no longer listening on {local}"
    return "other", f"unknown event {event.kind}"


def _close_reason(event: Event) -> str:
    error = f": {strerror(event.error)}" if event.error else ""
    reason = _RESET_REASONS.get(event.reset_reason)
    return f"{error}; {reason}" if reason else error
