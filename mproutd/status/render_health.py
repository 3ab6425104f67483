"""Health checks for people: a line for a family, or one for each host as well.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd.format import format_duration, safe

if TYPE_CHECKING:
    from mproutd.status.types import CheckStatus, HostStatus, UplinkStatus

FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


def check_summaries(uplink: UplinkStatus) -> list[str]:
    """A line for each checked family: `check IPv4: 2 of 2 hosts answer, 12 ms`."""
    return [
        safe(f"check {FAMILIES[check['family']]}: {_check_state(check)}")
        for check in uplink.get("health") or ()
    ]


def failed_checks(uplink: UplinkStatus) -> str:
    """What failed checks found, as the end of a sentence; "" for none."""
    results = [
        f"{check['summary']}{_hold(check)}"
        for check in uplink.get("health") or ()
        if check["failed"] and check["summary"]
    ]
    return f" ({'; '.join(results)})" if results else ""


def _hold(check: CheckStatus) -> str:
    return f", held down for {check['hold']:.0f} s" if check["hold"] else ""


def _check_state(check: CheckStatus) -> str:
    if check["error"]:
        return f"cannot probe: {check['error']}"
    if not check["running"]:
        return "failed, not running" if check["failed"] else "not running"
    words = [check["summary"] or "no result yet"]
    latencies = [host["latency"] for host in check["hosts"] if host["latency"] is not None]
    if latencies and not check["failed"]:
        words.append(_latency(min(latencies)))
    if check["in_use"]:
        words.append("failed, but in use: no other uplink is usable")
    elif check["failed"]:
        words.append(f"failed; {check['good_rounds']} of {check['up']} successful rounds")
    elif check["bad_rounds"]:
        words.append(f"{check['bad_rounds']} of {check['down']} failed rounds")
    return ", ".join(words) + _hold(check)


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def check_lines(check: CheckStatus, now: float) -> list[str]:
    """A line for the check of one family, and one for each host.  `now` in epoch seconds."""
    age = f", for {format_duration(now - check['since'])}" if check["since"] else ""
    flaps = f", flapped {check['flaps']} times" if check["flaps"] else ""
    first = f"check by {check['method']}{age}: {_check_state(check)}{flaps}"
    return [safe(line) for line in (first, *map(_host_line, check["hosts"]))]


def _host_line(host: HostStatus) -> str:
    name = host["host"]
    if host["address"] and host["address"] != name:
        name += f" ({host['address']})"
    words = ["reachable" if host["reachable"] else host["error"] or "not probed yet"]
    if host["latency"] is not None:
        words.append(_latency(host["latency"]))
    if host["sent"]:
        words.append(f"{host['loss']:.0f} % loss")
        words.append(f"{host['replies']} replies to {host['sent']} probes")
    return f"{name}: {', '.join(words)}"
