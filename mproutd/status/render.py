"""Reports for people: plain values in, lines out.  Pure, and light.

What must hold: a status fits 80 columns whatever the addresses are, says each thing once, and
ends with what is not as wanted, each with its reason and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mproutd.format import (
    format_age,
    format_bytes,
    format_duration,
    format_rate,
    safe,
    safe_values,
    truncate,
)

WIDTH = 80
GREEN, RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"
FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}
ORIGINS = {"configuration": "configured", "point-to-point": "device"}
"""Words for where a gateway is known from; the others stand for themselves."""
_HEADINGS = ("UPLINK", "MODE", "DEVICE", "STATE", "FOR", "IN", "OUT")
_INDENT = " " * 4


def colored(text: str, colour: str) -> str:
    """In `colour`, or plain where that is empty."""
    return f"{colour}{text}{_PLAIN}" if colour else text


def status_lines(status: dict[str, Any], colour: bool = False, now: float = 0.0) -> list[str]:
    """The status as a table, and what is not as wanted below it.  `now` in epoch seconds."""
    status = safe_values(status)
    if not status["enabled"]:
        lines = ["multipath is not enabled: nothing of mproutd's is in the kernel"]
    elif not status["uplinks"]:
        lines = ["no uplink is configured"]
    else:
        lines = _table(status, now, colour)
        lines += default_lines(status)
    trouble = _trouble(status, now, colour)
    return [*lines, *([""] if trouble else []), *trouble]


# -- the table ----------------------------------------------------------------------------


def _table(status: dict[str, Any], now: float, colour: bool) -> list[str]:
    uplinks = status["uplinks"]
    said = [(safe(each["name"]), safe(each["device"])) for each in uplinks]
    longest = [max(map(len, column)) for column in zip(("UPLINK", "DEVICE"), *said, strict=True)]
    rows = [_row(each, longest, now) for each in uplinks]
    rest = [max(map(len, column)) + 2 for column in zip(_HEADINGS, *rows, strict=True)]
    names = WIDTH + 2 - sum(rest) + rest[0] + rest[2] - 4  # what the other columns leave for both
    room = min(longest[0], max(names // 2, names - longest[1]))
    rows = [_row(each, (room, max(names - room, names // 2)), now) for each in uplinks]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [_columns(_HEADINGS, widths)]
    inner = _inner_widths(uplinks)
    for uplink, row in zip(uplinks, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells[3] = colored(cells[3], GREEN if uplink["usable"] else RED)
        lines.append("  ".join(cells).rstrip())
        for family in _shown(uplink):
            lines += _family_lines(uplink, family, inner)
        for check in check_summaries(uplink):
            lines += wrap(check, _INDENT, _INDENT * 2)
    return lines


def _row(uplink: dict[str, Any], room: Sequence[int], now: float) -> tuple[str, ...]:
    moving = uplink["rate"] or {"received": None, "sent": None}
    return (
        truncate(safe(uplink["name"]), room[0]),
        uplink["mode"],
        truncate(safe(uplink["device"]) or "-", room[1]),
        state_word(uplink),
        format_age(now - uplink["since"]) if uplink["since"] else "-",
        format_rate(moving["received"]),
        format_rate(moving["sent"]),
    )


def state_word(uplink: dict[str, Any]) -> str:
    """`up`, or why not in two words."""
    if uplink["usable"]:
        return "up"
    families = _shown(uplink)
    return str(families[0]["reason"]).replace("-", " ")


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def _shown(uplink: dict[str, Any]) -> list[dict[str, Any]]:
    """The families worth a line: those with an address, or the first to say why there is none."""
    telling = [
        family
        for family in uplink["families"]
        if family["usable"]
        or family["addresses"]
        or family["reason"] in ("tentative", "dad-failed")
    ]
    return telling or uplink["families"][:1]


def _cells(uplink: dict[str, Any], family: dict[str, Any], address: str) -> tuple[str, str, str]:
    way = "-"
    if family["gateway_from"]:
        origin = ORIGINS.get(family["gateway_from"], family["gateway_from"])
        way = f"via {family['gateway']} ({origin})" if family["gateway"] else "direct"
    if not family["usable"] and uplink["usable"]:
        way += f", {str(family['reason']).replace('-', ' ')}"
    return address or "no address", way, _endpoint(uplink, address)


def _endpoint(uplink: dict[str, Any], address: str) -> str:
    for endpoint in uplink["endpoints"]:
        if endpoint["address"] == address:
            number = f"{endpoint['id']} " if endpoint["id"] is not None else ""
            state = "" if endpoint["state"] == "ok" else f" {endpoint['state']}"
            return f"endpoint {number}{','.join(endpoint['flags'])}{state}"
    return "no endpoint"


def _all_cells(uplink: dict[str, Any], family: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [_cells(uplink, family, each) for each in family["addresses"] or [""]]


def _fits(cells: Sequence[str], widths: Sequence[int] = (0, 0)) -> bool:
    padded = [max(len(cell), width) for cell, width in zip(cells, widths, strict=False)]
    return len(_INDENT) + sum(padded) + len(cells[-1]) + 4 <= WIDTH


def _inner_widths(uplinks: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Columns for the address and the way, among the lines that fit."""
    rows = [
        cells
        for uplink in uplinks
        for family in _shown(uplink)
        for cells in _all_cells(uplink, family)
        if _fits(cells)
    ]
    widths = (
        max((len(row[0]) for row in rows), default=0),
        max((len(row[1]) for row in rows), default=0),
    )
    return widths if all(_fits(row, widths) for row in rows) else (0, 0)


def _family_lines(
    uplink: dict[str, Any], family: dict[str, Any], widths: tuple[int, int]
) -> list[str]:
    lines = []
    for cells in _all_cells(uplink, family):
        if _fits(cells, widths):
            lines.append(_INDENT + _columns(cells, [*widths, 0]))
        else:
            lines += [_INDENT + cells[0], *wrap(f"{cells[1]}  {cells[2]}", _INDENT * 2)]
    return lines


def default_lines(status: dict[str, Any]) -> list[str]:
    """Which uplink carries other traffic."""
    words = [f"{FAMILIES[family]} by {uplink}" for family, uplink in status["default"].items()]
    return wrap("other traffic: " + ", ".join(words), "", "  ") if words else []


# -- what is not as wanted ----------------------------------------------------------------


def _trouble(status: dict[str, Any], now: float, colour: bool) -> list[str]:
    lines = []
    mark = colored("!", RED if colour else "")

    def say(text: str, advice: str | None = None) -> None:
        first, *rest = wrap(text, "", "  ", WIDTH - 2)
        lines.extend([f"{mark} {first}", *rest])
        if advice:
            lines.extend(wrap(f"→ {advice}", "  ", "    "))

    for uplink in status["uplinks"]:
        if uplink["mode"] != "off" and not uplink["usable"]:
            long = f", for {format_duration(now - uplink['since'])}" if uplink["since"] else ""
            reasons = {family["reason"]: family for family in _shown(uplink)}
            for family in reasons.values():
                advice = (family["advice"] or "").replace("DEVICE", uplink["device"])
                why = failed_checks(uplink) if family["reason"] == "check-failed" else ""
                say(f"{uplink['name']} is not usable{long}: {family['text']}{why}", advice)
    advices = [problem["advice"] for problem in status["problems"]]
    for problem, further in zip(status["problems"], [*advices[1:], ""], strict=False):
        # Once for all that it is about.
        say(problem["text"], None if problem["advice"] == further else problem["advice"])
    for change in status["drift"]:
        say(f"differs, being mended: {change}")
    for warning in status["warnings"]:
        lines += wrap(f"note: {warning}", "", "  ")
    return lines


def wrap(text: str, indent: str, further: str | None = None, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns, broken at spaces only, so that what is pasted is whole.

    textwrap would do, but the regular expressions that it compiles take 5 ms of a status.
    """
    lines, line, empty = [], indent, True
    for word in safe(text).split(" "):
        if not empty and len(line) + 1 + len(word) > width:
            lines.append(line)
            line, empty = indent if further is None else further, True
        line += word if empty else f" {word}"
        empty = False
    return [*lines, line]


# -- the other commands -------------------------------------------------------------------


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


def connection_lines(connections: list[dict[str, Any]]) -> list[str]:
    """What `connections` tells: a block for each connection, a line for each subflow."""
    if not connections:
        return ["no MPTCP connection"]
    lines = []
    for each in safe_values(connections):
        state = "" if each["state"] == "established" else f" ({each['state']})"
        name = f"{each['token']} " if each["token"] else ""
        moved = f"sent {format_bytes(each['sent'])}, received {format_bytes(each['received'])}"
        lines += _fitting([f"{name}to {each['remote']}{state}"], [moved])
        if each["fallback"]:
            lines.append("  fell back to plain TCP: the peer or a box in between speaks no MPTCP")
        rows = [_subflow_cells(flow, each["remote"]) for flow in each["subflows"]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines += _fitting(["  " + cells[0], cells[1]], cells[2:])
    return lines


def _fitting(head: Sequence[str], rest: Sequence[str]) -> list[str]:
    """One line, or more where one would be too long."""
    line = "  ".join([*head, *rest]).rstrip()
    if len(line) <= WIDTH:
        return [line]
    first = "  ".join(head).rstrip()
    lines = [first] if len(first) <= WIDTH else wrap(first, "", _INDENT)
    return [*lines, *wrap("  ".join(rest).rstrip(), _INDENT)]


def _subflow_cells(flow: dict[str, Any], remote: str) -> tuple[str, ...]:
    notes = []
    if flow["state"] != "established":
        notes.append(flow["state"])
    if flow["backup"]:
        notes.append("backup")
    if flow["backup_by_peer"]:
        notes.append("backup (peer)")
    if flow["retransmitted"]:
        notes.append(f"{flow['retransmitted']} sent again")
    if flow["remote"] != remote:
        notes.append(f"to {flow['remote']}")
    rtt = f"{flow['rtt_ms']:.1f} ms" if flow["rtt_ms"] is not None else "-"
    return (
        safe(flow["uplink"] or (f"({flow['device']})" if flow["device"] else "-")),
        flow["local"],
        rtt,
        f"out {format_bytes(flow['sent'])}",
        f"in {format_bytes(flow['received'])}",
        ", ".join(notes),
    )


def event_line(told: dict[str, Any], clock: str) -> str:
    """A line of `monitor`; `clock` is its time of day."""
    text = safe(told["text"])
    named = told["uplink"] or (f"({told['device']})" if told["device"] else "")
    # Most decisions name the uplink themselves.
    if named and named not in text.split():
        text = f"{safe(named)}: {text}"
    return f"{clock} {text}"


_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


def check_summaries(uplink: dict[str, Any]) -> list[str]:
    """A line for each family that is asked: `check IPv4: 2 of 2 hosts answer, 12 ms`."""
    return [
        safe(f"check {_FAMILIES[each['family']]}: {_verdict(each)}")
        for each in uplink.get("health") or ()
    ]


def failed_checks(uplink: dict[str, Any]) -> str:
    """What a check that failed has found, as the end of a sentence; "" for none."""
    words = [
        f"{each['summary']}" + (f", out for {each['hold']:.0f} s at least" if each["hold"] else "")
        for each in uplink.get("health") or ()
        if each["failed"] and each["summary"]
    ]
    return f" ({'; '.join(words)})" if words else ""


def _verdict(check: dict[str, Any]) -> str:
    if check["error"]:
        return f"nobody could be asked: {check['error']}"
    if not check["running"]:
        return "failed when there was a line to ask by" if check["failed"] else "not asked now"
    words = [check["summary"] or "no answer awaited yet"]
    delays = [each["latency"] for each in check["hosts"] if each["latency"] is not None]
    if delays and not check["failed"]:
        words.append(_delay(min(delays)))
    if check["in_use"]:
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


def check_lines(check: dict[str, Any], now: float) -> list[str]:
    """Everything about one family, a line for it and one for each host; `now` in epoch seconds."""
    long = f", since {format_duration(now - check['since'])}" if check["since"] else ""
    flaps = f", did not stay {check['flaps']} times" if check["flaps"] else ""
    first = f"check by {check['method']}{long}: {_verdict(check)}{flaps}"
    return [safe(line) for line in (first, *map(_host, check["hosts"]))]


def _host(host: dict[str, Any]) -> str:
    name = host["host"]
    if host["address"] and host["address"] != name:
        name += f" ({host['address']})"
    words = ["answers" if host["reachable"] else host["error"] or "not asked yet"]
    if host["latency"] is not None:
        words.append(_delay(host["latency"]))
    if host["sent"]:
        words.append(f"{host['loss']:.0f} % lost lately")
        words.append(f"{host['replies']} of {host['sent']} in all")
    return f"{name}: {', '.join(words)}"
