"""Reports for people: plain values in, lines out.  Pure, and light: imports nothing.

A status fits 80 columns: one line an uplink, then only what is not as wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_GOOD, _BAD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"
_HEADINGS = ("UPLINK", "MODE", "DEVICE", "STATE", "ADDRESS", "GATEWAY", "ENDPOINTS")


def status_lines(status: dict[str, Any], colour: bool = False) -> list[str]:
    """The status as a table, and what is not as wanted below it."""
    if not status["enabled"]:
        lines = ["multipath is not enabled: nothing of mproutd's is in the kernel"]
    elif not status["uplinks"]:
        lines = ["no uplink is configured"]
    else:
        lines = _table(status, colour)
        lines += _default(status)
    lines += _trouble(status, colour)
    return [safe(line) for line in lines] if not colour else lines


def _table(status: dict[str, Any], colour: bool) -> list[str]:
    rows: list[tuple[str, ...]] = []
    states: list[bool] = []
    for uplink in status["uplinks"]:
        first = True
        for family in _shown(uplink):
            head = (uplink["name"], uplink["mode"], uplink["device"]) if first else ("", "", "")
            word = "up" if family["usable"] else (family["reason"] or "").replace("-", " ")
            address = safe(", ".join(family["addresses"])) or "-"
            gateway = family["gateway"] or ("direct" if family["gateway_from"] else "-")
            rows.append((*map(safe, head), word, address, gateway, _endpoints(uplink, family)))
            states.append(family["usable"])
            first = False
    widths = [
        max(len(row[column]) for row in [*rows, _HEADINGS]) for column in range(len(_HEADINGS))
    ]
    lines = ["  ".join(map(str.ljust, _HEADINGS, widths)).rstrip()]
    for row, usable in zip(rows, states, strict=True):
        cells = list(map(str.ljust, row, widths))
        if colour:
            cells[3] = f"{_GOOD if usable else _BAD}{cells[3]}{_PLAIN}"
        lines.append("  ".join(cells).rstrip())
    return lines


def _shown(uplink: dict[str, Any]) -> list[dict[str, Any]]:
    """The families worth a line: those with an address, or the first to say why there is none."""
    telling = [
        family
        for family in uplink["families"]
        if family["usable"] or family["addresses"] or family["reason"] in ("tentative", "duplicate")
    ]
    return telling or uplink["families"][:1]


def _endpoints(uplink: dict[str, Any], family: dict[str, Any]) -> str:
    words = []
    for endpoint in uplink["endpoints"]:
        if endpoint["address"] in family["addresses"]:
            flags = ",".join(endpoint["flags"])
            number = endpoint["id"] if endpoint["id"] is not None else "?"
            state = "" if endpoint["state"] == "ok" else f" {endpoint['state']}"
            words.append(f"{number} {flags}{state}")
    return "; ".join(words) or "none"


def _default(status: dict[str, Any]) -> list[str]:
    if not status["default"]:
        return []
    words = [f"{family} by {uplink}" for family, uplink in status["default"].items()]
    return ["other traffic: " + ", ".join(words)]


def _trouble(status: dict[str, Any], colour: bool) -> list[str]:
    lines = []
    for uplink in status["uplinks"]:
        if uplink["mode"] != "off" and not uplink["usable"]:
            reasons = dict.fromkeys(
                family["text"] for family in uplink["families"] if family["reason"] != "no-address"
            ) or {uplink["families"][0]["text"]: None}
            lines.append(f"{uplink['name']} is not usable: {'; '.join(map(str, reasons))}")
    lines += [problem["text"] for problem in status["problems"]]
    lines += [f"differs, being mended: {change}" for change in status["drift"]]
    lines = [f"{_BAD}!{_PLAIN} {safe(line)}" if colour else f"! {line}" for line in lines]
    lines += [f"note: {safe(warning)}" for warning in status["warnings"]]
    return lines


def change_lines(changes: Iterable[dict[str, Any]]) -> list[str]:
    """What `reconcile` did, a command a line; what failed with the kernel's words behind it."""
    return [
        safe(
            f"{change['command']}    # failed: {change['error']}"
            if change.get("error")
            else change["command"]
        )
        for change in changes
    ]


def safe(text: str) -> str:
    """One line without control characters: names come from the kernel and from files."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
