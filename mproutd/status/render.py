"""Reports for people: plain values in, lines out.  Pure, and quick to import.

Invariants: a status fits 80 columns whatever its addresses are, and ends with what needs
attention, each with a reason and advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mproutd.format import (
    format_age,
    format_bytes,
    format_rate,
    safe,
    safe_values,
    shortened,
    truncate,
)
from mproutd.status.render_cost import cost_summaries
from mproutd.status.render_health import FAMILIES, check_summaries, failed_checks
from mproutd.status.render_prefixes import announcers_line, deprecated_line
from mproutd.status.render_traffic import ways_out

if TYPE_CHECKING:
    from mproutd.status.change_types import Change
    from mproutd.status.connection_types import ConnectionStatus, SubflowStatus
    from mproutd.status.event_types import MonitorEvent
    from mproutd.status.types import (
        FamilyStatus,
        Status,
        UplinkStatus,
    )

WIDTH = 80
GREEN, RED, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[0m"
ORIGINS = {
    "configuration": "configured",
    "local": "own subnets only",
    "point-to-point": "device",
    "remembered": "last known",
}
"""How the origin of a gateway is printed, where not as it is."""
_HEADINGS = ("UPLINK", "MODE", "DEVICE", "STATE", "FOR", "IN", "OUT")
_INDENT = " " * 4


def colored(text: str, color: str) -> str:
    """The text in `color`; plain where that is empty."""
    return f"{color}{text}{_RESET}" if color else text


def status_lines(status: Status, color: bool = False, now: float = 0.0) -> list[str]:
    """The status as a table, with what needs attention below it.  `now` in epoch seconds."""
    status = safe_values(status)
    if not status["enabled"]:
        lines = ["multipath is not enabled; mproutd has removed everything it installed"]
    elif not status["uplinks"]:
        lines = ["no uplink is configured"]
    else:
        lines = [*_table(status["uplinks"], now, color), *default_lines(status)]
        if status.get("standby"):
            lines[:0] = ["standby: the other gateway of the pair carries the traffic", ""]
    attention = _attention(status, color)
    return [*lines, "", *attention] if attention else lines


# -- the table ----------------------------------------------------------------------------


def _table(uplinks: Sequence[UplinkStatus], now: float, color: bool) -> list[str]:
    rows = _rows(uplinks, now)
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [_columns(_HEADINGS, widths)]
    inner_widths = _inner_widths(uplinks)
    for uplink, row in zip(uplinks, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if color:
            cells[3] = colored(cells[3], GREEN if uplink["usable"] else RED)
        lines.append("  ".join(cells).rstrip())
        for family in _shown_families(uplink):
            lines += _family_lines(uplink, family, inner_widths)
        summaries = [*check_summaries(uplink), *cost_summaries(uplink, now)]
        for summary in (*summaries, *filter(None, [deprecated_line(uplink)])):
            lines += wrap(summary, _INDENT, _INDENT * 2)
    return lines


def _rows(uplinks: Sequence[UplinkStatus], now: float) -> list[tuple[str, ...]]:
    """One row for each uplink; names and devices share what the other columns leave."""
    longest_name = max(len("UPLINK"), *(len(uplink["name"]) for uplink in uplinks))
    longest_device = max(len("DEVICE"), *(len(uplink["device"]) for uplink in uplinks))
    rows = [_row(uplink, longest_name, longest_device, now) for uplink in uplinks]
    widths = [max(map(len, column)) + 2 for column in zip(_HEADINGS, *rows, strict=True)]
    both = WIDTH + 2 - sum(widths) + widths[0] + widths[2] - 4
    name_width = min(longest_name, max(both // 2, both - longest_device))
    device_width = max(both - name_width, both // 2)
    return [_row(uplink, name_width, device_width, now) for uplink in uplinks]


def _row(uplink: UplinkStatus, name_width: int, device_width: int, now: float) -> tuple[str, ...]:
    rate = uplink["rate"]
    return (
        truncate(uplink["name"], name_width),
        uplink["mode"],
        truncate(uplink["device"] or "-", device_width),
        state_word(uplink),
        format_age(now - uplink["since"]) if uplink["since"] else "-",
        format_rate(rate["received"] if rate else None),
        format_rate(rate["sent"] if rate else None),
    )


def state_word(uplink: UplinkStatus) -> str:
    """`up`, or the reason why not in two words."""
    return "up" if uplink["usable"] else _words(_shown_families(uplink)[0]["reason"])


def _words(reason: str | None) -> str:
    return str(reason).replace("-", " ")


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def _shown_families(uplink: UplinkStatus) -> list[FamilyStatus]:
    """The families that have an address; where none has, the first says why."""
    families = [
        family
        for family in uplink["families"]
        if family["usable"]
        or family["addresses"]
        or family["reason"] in ("tentative", "dad-failed")
    ]
    return families or uplink["families"][:1]


def _cells(uplink: UplinkStatus, family: FamilyStatus) -> list[tuple[str, str, str]]:
    """(address, gateway, endpoint) for each address of a family."""
    gateway = "-"
    if family["gateway_from"]:
        origin = ORIGINS.get(family["gateway_from"], family["gateway_from"])
        gateway = f"via {family['gateway']} ({origin})" if family["gateway"] else "direct"
    if not family["usable"] and uplink["usable"]:
        gateway += f", {_words(family['reason'])}"
    return [
        (address or "no address", gateway, _endpoint(uplink, address))
        for address in family["addresses"] or [""]
    ]


def _endpoint(uplink: UplinkStatus, address: str) -> str:
    for endpoint in uplink["endpoints"]:
        if endpoint["address"] == address:
            number = f"{endpoint['id']} " if endpoint["id"] is not None else ""
            state = "" if endpoint["state"] == "ok" else f" {endpoint['state']}"
            port = f" port {endpoint['port']}" if endpoint["port"] else ""
            return f"endpoint {number}{','.join(endpoint['flags'])}{port}{state}"
    return "no endpoint"


def _fits(cells: Sequence[str], widths: Sequence[int] = (0, 0)) -> bool:
    padded = [max(len(cell), width) for cell, width in zip(cells, widths, strict=False)]
    return len(_INDENT) + sum(padded) + len(cells[-1]) + 4 <= WIDTH


def _inner_widths(uplinks: Iterable[UplinkStatus]) -> tuple[int, int]:
    """Widths of the address and gateway columns, among the lines that fit."""
    rows = [
        cells
        for uplink in uplinks
        for family in _shown_families(uplink)
        for cells in _cells(uplink, family)
        if _fits(cells)
    ]
    widths = (
        max((len(row[0]) for row in rows), default=0),
        max((len(row[1]) for row in rows), default=0),
    )
    return widths if all(_fits(row, widths) for row in rows) else (0, 0)


def _family_lines(uplink: UplinkStatus, family: FamilyStatus, widths: tuple[int, int]) -> list[str]:
    lines = []
    for cells in _cells(uplink, family):
        if _fits(cells, widths):
            lines.append(_INDENT + _columns(cells, [*widths, 0]))
        else:
            lines += [_INDENT + cells[0], *wrap(f"{cells[1]}  {cells[2]}", _INDENT * 2)]
    return lines


def default_lines(status: Status) -> list[str]:
    """Where other traffic leaves."""
    words = ways_out(status["other_traffic"], FAMILIES)
    lines = wrap("other traffic: " + ", ".join(words), "", "  ") if words else []
    if status.get("policies"):
        from mproutd.status.policies import policy_lines

        for line in policy_lines(status, FAMILIES):
            lines += wrap(line, "", "  ")
    announced = announcers_line(status)
    return [*lines, *wrap(announced, "", "  ")] if announced else lines


# -- what needs attention -----------------------------------------------------------------


def _attention(status: Status, color: bool) -> list[str]:
    mark = colored("!", RED if color else "")
    lines: list[str] = []
    for uplink in status["uplinks"]:
        if uplink["mode"] != "off" and not uplink["usable"]:
            lines += _unusable_lines(uplink, mark)
    problems = status["problems"]
    for index, problem in enumerate(problems):
        # Equal advice once, below the last problem that it is for.
        following = problems[index + 1]["advice"] if index + 1 < len(problems) else ""
        advice = problem["advice"]
        lines += attention_lines(problem["text"], "" if advice == following else advice, mark)
    for command in shortened(status["drift"]):
        doing = ", repairing" if status["running"] else ""
        lines += attention_lines(f"drift{doing}: {command}", "", mark)
    for warning in status["warnings"]:
        lines += wrap(f"note: {warning}", "", "  ")
    return lines


def _unusable_lines(uplink: UplinkStatus, mark: str) -> list[str]:
    reasons = {family["reason"]: family for family in _shown_families(uplink)}
    lines = []
    for family in reasons.values():
        checks = failed_checks(uplink) if family["reason"] == "check-failed" else ""
        advice = (family["advice"] or "").replace("DEVICE", uplink["device"])
        text = f"{uplink['name']} is not usable: {family['text']}{checks}"
        lines += attention_lines(text, advice, mark)
    return lines


def attention_lines(text: str, advice: str, mark: str) -> list[str]:
    """A line that begins with `mark`, and the advice below it."""
    first, *rest = wrap(text, "", "  ", WIDTH - 2)
    return [f"{mark} {first}", *rest, *(wrap(f"→ {advice}", "  ", "    ") if advice else [])]


def wrap(text: str, indent: str, further: str | None = None, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns, broken at spaces only so that commands can be pasted.

    textwrap compiles regular expressions, which would add 5 ms to a status.
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


def change_lines(changes: Iterable[Change]) -> list[str]:
    """A command for each change; the kernel's error behind one that failed."""
    lines = []
    for change in changes:
        script = change.get("input", "")
        command = f"{change['command']} <<'END'" if script else change["command"]
        error = f"    # failed: {change['error']}" if change.get("error") else ""
        lines.append(safe(f"{command}{error}"))
        if script:
            body = [safe(line.expandtabs(2)) for line in script.splitlines()]
            lines += [*body, "END"]
    return lines


def connection_lines(connections: list[ConnectionStatus]) -> list[str]:
    """A block for each connection, in it a line for each subflow."""
    if not connections:
        return ["no MPTCP connection"]
    lines = []
    safe_connections: list[ConnectionStatus] = safe_values(connections)
    for connection in safe_connections:
        remote = connection["remote"]
        state = "" if connection["state"] == "established" else f" ({connection['state']})"
        token = f"{connection['token']} " if connection["token"] else ""
        sent, received = format_bytes(connection["sent"]), format_bytes(connection["received"])
        lines += _fitting([f"{token}to {remote}{state}"], [f"sent {sent}, received {received}"])
        if connection["fallback"]:
            lines.append("  fell back to plain TCP: the peer or a middlebox does not support MPTCP")
        rows = [_subflow_cells(subflow, remote) for subflow in connection["subflows"]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines += _fitting(["  " + cells[0], cells[1]], cells[2:])
    return lines


def _fitting(head: Sequence[str], rest: Sequence[str]) -> list[str]:
    """One line, or more where it would be too long."""
    line = "  ".join([*head, *rest]).rstrip()
    if len(line) <= WIDTH:
        return [line]
    first = "  ".join(head).rstrip()
    lines = [first] if len(first) <= WIDTH else wrap(first, "", _INDENT)
    return [*lines, *wrap("  ".join(rest).rstrip(), _INDENT)]


def _subflow_cells(subflow: SubflowStatus, remote: str) -> tuple[str, ...]:
    notes = []
    if subflow["state"] != "established":
        notes.append(subflow["state"])
    if subflow["backup"]:
        notes.append("backup")
    if subflow["backup_by_peer"]:
        notes.append("backup (peer)")
    if subflow["retransmitted"]:
        notes.append(f"{subflow['retransmitted']} retransmitted")
    if subflow["remote"] != remote:
        notes.append(f"to {subflow['remote']}")
    return (
        subflow["uplink"] or (f"({subflow['device']})" if subflow["device"] else "-"),
        subflow["local"],
        f"{subflow['rtt_ms']:.1f} ms" if subflow["rtt_ms"] is not None else "-",
        f"out {format_bytes(subflow['sent'])}",
        f"in {format_bytes(subflow['received'])}",
        ", ".join(notes),
    )


def event_line(event: MonitorEvent, clock: str) -> str:
    """A line of `monitor`; `clock` is its time of day."""
    text = safe(event["text"])
    subject = event["uplink"] or (f"({event['device']})" if event["device"] else "")
    # Most decisions name the uplink themselves.
    if subject and subject not in text.split():
        text = f"{safe(subject)}: {text}"
    return f"{clock} {text}"
