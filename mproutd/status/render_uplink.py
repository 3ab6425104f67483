"""Everything about one uplink, for people: what is wanted beside what is found.  Pure.

A line that begins with `=` is as wanted, `+` is wanted and not found, `-` is found and not
wanted; the last two are also coloured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mproutd.format import format_bytes, format_duration, format_rate, safe_values
from mproutd.status.render import (
    FAMILIES,
    GREEN,
    ORIGINS,
    RED,
    check_lines,
    colored,
    state_word,
    wrap,
)


def uplink_lines(
    status: dict[str, Any], uplink: dict[str, Any], now: float, clock: str, colour: bool = False
) -> list[str]:
    """`uplink` is one of the status; `clock` is the time of day of its `since`."""
    status, uplink = safe_values(status), safe_values(uplink)
    good, bad = (GREEN, RED) if colour else ("", "")
    state = colored(state_word(uplink), good if uplink["usable"] else bad)
    index = f" (ifindex {uplink['ifindex']})" if uplink["ifindex"] else ""
    long = (
        f" for {format_duration(now - uplink['since'])}, since {clock}" if uplink["since"] else ""
    )
    lines = wrap(
        f"{uplink['name']}: mode {uplink['mode']}, device {uplink['device'] or '-'}{index}",
        "",
        "  ",
    )
    lines.append(f"  {state}{long}")
    lines += wrap(_moved(uplink), "  ")
    if uplink.get("action"):
        lines += wrap(_action(uplink["action"], now), "  ", "    ")
    mark = f"mark {uplink['mark']}" if uplink["mark"] else "no mark"
    carries = [FAMILIES[key] for key, name in status["default"].items() if name == uplink["name"]]
    other = f"; carries other traffic ({', '.join(carries)})" if carries else ""
    lines += wrap(f"table {uplink['table']}, {mark}, slot {uplink['slot']}{other}", "  ")
    for family in uplink["families"]:
        lines += ["", *_family(uplink, family, now, colour)]
        for check in uplink.get("health") or ():
            if check["family"] == family["family"]:
                lines += checked(check, now)
    lines += _beside("routes", uplink["routes"], good, bad)
    lines += _beside("rules", uplink["rules"], good, bad)
    lines += _endpoints(uplink["endpoints"], good, bad)
    return lines + _problems(status, uplink, bad)


def checked(check: dict[str, Any], now: float) -> list[str]:
    """The check of a family, its hosts indented."""
    first, *hosts = check_lines(check, now)
    lines = wrap(first, "  ", "    ")
    for host in hosts:
        lines += wrap(host, "    ", "      ")
    return lines


def _moved(uplink: dict[str, Any]) -> str:
    received, sent = format_bytes(uplink["received"]), format_bytes(uplink["sent"])
    total = f"in {received}, out {sent} since the device was made"
    if not uplink["rate"]:
        return total
    moving = uplink["rate"]
    over = format_duration(max(1, moving["seconds"]))
    received, sent = format_rate(moving["received"]), format_rate(moving["sent"])
    return f"in {received}, out {sent} over {over}; {total}"


def _action(action: dict[str, Any], now: float) -> str:
    """The program that ran last, or runs."""
    text = f"on_{action['event']} {action['program']} {action['text']}"
    if action["duration"] is not None:
        text += f" after {action['duration']:.1f} s, {format_duration(now - action['started'])} ago"
    return text + (f": {action['output']}" if action["output"] else "")


def _family(uplink: dict[str, Any], family: dict[str, Any], now: float, colour: bool) -> list[str]:
    good, bad = (GREEN, RED) if colour else ("", "")
    long = f", for {format_duration(now - family['since'])}" if family["since"] else ""
    name = FAMILIES[family["family"]]
    if family["usable"]:
        lines = [f"{name}: {colored('usable', good)}{long}"]
    else:
        lines = wrap(f"{name}: not usable{long}: {family['text']}", "", "  ")
        if family["sources"] or not uplink["usable"]:
            advice = (family["advice"] or "").replace("DEVICE", uplink["device"])
            lines += wrap(f"→ {advice}", "  ", "    ")
    if family["gateway_from"]:
        origin = ORIGINS.get(family["gateway_from"], family["gateway_from"])
        gateway = f"gateway {family['gateway']}" if family["gateway"] else "no gateway needed"
        lines.append(f"  {gateway} ({origin})")
    if family["table_from"]:
        lines.append(f"  table {family['table']} is {family['table_from']}'s")
    lines += [f"  prefix {prefix} for hosts behind" for prefix in family["prefixes"]]
    for address in family["sources"]:
        note = "" if address in family["addresses"] else " (for old connections only)"
        lines.append(f"  address {address}{note}")
    for lookup in family["lookups"]:
        verdict = colored("right", good) if lookup["matches"] else colored("WRONG", bad)
        lines.append(f"  $ {lookup['command']}")
        lines += wrap(lookup["result"] or "no route", "    ", width=73)
        lines[-1] += f"  {verdict}"
    return lines


def _beside(
    title: str, both: dict[str, list[str]], good: str, bad: str, heading: str = ""
) -> list[str]:
    wanted, found = both["desired"], both["actual"]
    lines = []
    for each in wanted:
        lines += _marked("=" if each in found else "+", each, good if each in found else bad)
    for each in found:
        if each not in wanted:
            lines += _marked("-", each, bad)
    return ["", heading or title, *(lines or ["  none"])]


def _marked(mark: str, text: str, colour: str) -> list[str]:
    first, *rest = wrap(text, "", "      ", 76)
    return [f"  {colored(mark, colour)} {first}", *rest]


def _endpoints(endpoints: Iterable[dict[str, Any]], good: str, bad: str) -> list[str]:
    lines = []
    for each in endpoints:
        right = each["state"] == "ok"
        wanted = f"{each['address']} {','.join(each['flags'])}"
        if right:
            lines += _marked("=", str(each["actual"]), good)
        else:
            lines += _marked("+", f"{wanted} ({each['state']})", bad)
            if each["actual"]:
                lines += _marked("-", str(each["actual"]), bad)
    return ["", "endpoints", *(lines or ["  none"])]


def _problems(status: dict[str, Any], uplink: dict[str, Any], bad: str) -> list[str]:
    lines = []
    for problem in status["problems"]:
        if problem.get("uplink", uplink["name"]) == uplink["name"]:
            first, *rest = wrap(problem["text"], "", "  ", 78)
            lines += [f"{colored('!', bad)} {first}", *rest]
            lines += wrap(f"→ {problem['advice']}", "  ", "    ")
    return ["", *lines] if lines else []
