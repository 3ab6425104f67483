"""What health checks found, for people.  Pure."""

from __future__ import annotations

from typing import Any

from mproutd.format import safe, span

_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


def short(uplink: dict[str, Any]) -> list[str]:
    """A line for each family that is asked: `check IPv4: 2 of 2 hosts answer, 12 ms`."""
    return [
        safe(f"check {_FAMILIES[each['family']]}: {_verdict(each)}")
        for each in uplink.get("health") or ()
    ]


def because(uplink: dict[str, Any]) -> str:
    """What a check that failed has found, as the end of a sentence; "" for none."""
    words = [
        f"{each['verdict']}" + (f", out for {each['hold']:.0f} s at least" if each["hold"] else "")
        for each in uplink.get("health") or ()
        if each["failed"] and each["verdict"]
    ]
    return f" ({'; '.join(words)})" if words else ""


def _verdict(check: dict[str, Any]) -> str:
    if check["error"]:
        return f"nobody could be asked: {check['error']}"
    if not check["running"]:
        return "failed when there was a line to ask by" if check["failed"] else "not asked now"
    words = [check["verdict"] or "no answer awaited yet"]
    delays = [each["latency"] for each in check["hosts"] if each["latency"] is not None]
    if delays and not check["failed"]:
        words.append(_delay(min(delays)))
    if check["kept"]:
        words.append("failed, in use since no other line is")
    elif check["failed"]:
        words.append(f"failed; {check['good_rounds']} of {check['up']} good rounds")
    elif check["bad_rounds"]:
        words.append(f"{check['bad_rounds']} of {check['down']} bad rounds")
    if check["hold"]:
        words.append(f"out for {check['hold']:.0f} s at least")
    return ", ".join(words)


def _delay(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def full(check: dict[str, Any], now: float) -> list[str]:
    """Everything about one family, a line for it and one for each host; `now` in epoch seconds."""
    long = f", since {span(now - check['since'])}" if check["since"] else ""
    flaps = f", did not stay {check['flaps']} times" if check["flaps"] else ""
    first = f"check by {check['method']}{long}: {_verdict(check)}{flaps}"
    return [safe(line) for line in (first, *map(_host, check["hosts"]))]


def _host(host: dict[str, Any]) -> str:
    name = host["host"]
    if host["address"] and host["address"] != name:
        name += f" ({host['address']})"
    words = ["answers" if host["answers"] else host["fault"] or "not asked yet"]
    if host["latency"] is not None:
        words.append(_delay(host["latency"]))
    if host["sent"]:
        words.append(f"{host['loss']:.0f} % lost lately")
        words.append(f"{host['answered']} of {host['sent']} in all")
    return f"{name}: {', '.join(words)}"
