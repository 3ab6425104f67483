"""Everything about one uplink, for people: what is desired beside what is there.  Pure.

In the lists `=` marks what is as desired, `+` what is desired and missing, `-` what is there
and not desired; the last two are also colored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mproutd.format import format_bytes, format_duration, format_rate, safe_values
from mproutd.status.render import (
    GREEN,
    ORIGINS,
    RED,
    attention_lines,
    colored,
    state_word,
    wrap,
)
from mproutd.status.render_cost import cost_summaries, load_line
from mproutd.status.render_health import FAMILIES, check_lines
from mproutd.status.render_prefixes import deprecated_line
from mproutd.status.render_resolvers import resolver_line

if TYPE_CHECKING:
    from mproutd.status.types import (
        Action,
        CheckStatus,
        Comparison,
        EndpointStatus,
        FamilyStatus,
        Lookup,
        Status,
        UplinkStatus,
    )


def uplink_lines(
    status: Status, uplink: UplinkStatus, now: float, clock: str, color: bool = False
) -> list[str]:
    """`uplink` is one of the status; `clock` is the time of day of its `since`."""
    status, uplink = safe_values(status), safe_values(uplink)
    good, bad = (GREEN, RED) if color else ("", "")
    lines = _summary(status, uplink, now, clock, color)
    for family in uplink["families"]:
        lines += ["", *_family(uplink, family, now, color)]
        for check in uplink.get("health") or ():
            if check["family"] == family["family"]:
                lines += _check(check, now)
    lines += _comparison("routes", uplink["routes"], good, bad)
    lines += _comparison("rules", uplink["rules"], good, bad)
    lines += _endpoints(uplink["endpoints"], good, bad)
    return lines + _problems(status, uplink, bad)


def _summary(
    status: Status, uplink: UplinkStatus, now: float, clock: str, color: bool
) -> list[str]:
    index = f" (ifindex {uplink['ifindex']})" if uplink["ifindex"] else ""
    device = f"device {uplink['device'] or '-'}{index}"
    mode: str = uplink["mode"]
    if uplink["effective_mode"] != mode:
        mode = f"{uplink['effective_mode']} (configured: {mode})"
    lines = wrap(f"{uplink['name']}: mode {mode}, {device}", "", "  ")
    state = state_word(uplink)
    if color:
        state = colored(state, GREEN if uplink["usable"] else RED)
    age = f" for {format_duration(now - uplink['since'])}, since {clock}" if uplink["since"] else ""
    lines.append(f"  {state}{age}")
    lines += wrap(_traffic(uplink), "  ")
    for text in (*cost_summaries(uplink, now), load_line(uplink)):
        lines += wrap(text, "  ", "    ") if text else []
    if (flows := uplink.get("flows")) is not None:
        lines += wrap(f"connections that keep it: {flows}", "  ")
    if action := uplink.get("action"):
        lines += wrap(_action(action, now), "  ", "    ")
    mark = f"mark {uplink['mark']}" if uplink["mark"] else "no mark"
    defaults = [FAMILIES[key] for key, name in status["default"].items() if name == uplink["name"]]
    other = f"; carries other traffic ({', '.join(defaults)})" if defaults else ""
    return lines + wrap(f"table {uplink['table']}, {mark}, slot {uplink['slot']}{other}", "  ")


def _traffic(uplink: UplinkStatus) -> str:
    received, sent = format_bytes(uplink["received"]), format_bytes(uplink["sent"])
    total = f"in {received}, out {sent} since the device was created"
    rate = uplink["rate"]
    if not rate:
        return total
    received, sent = format_rate(rate["received"]), format_rate(rate["sent"])
    return f"in {received}, out {sent} over {format_duration(max(1, rate['seconds']))}; {total}"


def _action(action: Action, now: float) -> str:
    """The program that ran last, or is running."""
    text = f"on_{action['event']} {action['program']} {action['text']}"
    if action["duration"] is not None:
        ago = format_duration(now - action["started"])
        text += f" after {action['duration']:.1f} s, {ago} ago"
    return text + (f": {action['output']}" if action["output"] else "")


# -- families -----------------------------------------------------------------------------


def _family(uplink: UplinkStatus, family: FamilyStatus, now: float, color: bool) -> list[str]:
    lines = _family_state(uplink, family, now, color)
    if family["gateway_from"]:
        origin = ORIGINS.get(family["gateway_from"], family["gateway_from"])
        gateway = f"gateway {family['gateway']}" if family["gateway"] else "no gateway needed"
        lines.append(f"  {gateway} ({origin})")
    if family["table_from"]:
        lines.append(f"  table {family['table']}, maintained by {family['table_from']}")
    lines += [f"  prefix {prefix}, delegated to hosts behind" for prefix in family["prefixes"]]
    if family["family"] == "ipv6" and (text := deprecated_line(uplink)):
        lines += wrap(text, "  ", "    ")
    for address in family["sources"]:
        note = "" if address in family["addresses"] else " (existing connections only)"
        lines.append(f"  address {address}{note}")
    for lookup in family["lookups"]:
        lines += _lookup(lookup, color)
    for resolver in uplink["resolvers"]:
        if (":" in resolver["address"]) == (family["family"] == "ipv6"):
            lines += wrap(resolver_line(resolver), "  ", "    ")
    return lines


def _family_state(uplink: UplinkStatus, family: FamilyStatus, now: float, color: bool) -> list[str]:
    age = f", for {format_duration(now - family['since'])}" if family["since"] else ""
    name = FAMILIES[family["family"]]
    if family["usable"]:
        return [f"{name}: {colored('usable', GREEN if color else '')}{age}"]
    lines = wrap(f"{name}: not usable{age}: {family['text']}", "", "  ")
    if family["sources"] or not uplink["usable"]:
        advice = (family["advice"] or "").replace("DEVICE", uplink["device"])
        lines += wrap(f"→ {advice}", "  ", "    ")
    return lines


def _lookup(lookup: Lookup, color: bool) -> list[str]:
    verdict, verdict_color = ("ok", GREEN) if lookup["matches"] else ("MISROUTED", RED)
    lines = [f"  $ {lookup['command']}", *wrap(lookup["result"] or "no route", "    ", width=68)]
    lines[-1] += f"  {colored(verdict, verdict_color if color else '')}"
    return lines


def _check(check: CheckStatus, now: float) -> list[str]:
    """The check of a family, its hosts indented."""
    first, *hosts = check_lines(check, now)
    lines = wrap(first, "  ", "    ")
    for host in hosts:
        lines += wrap(host, "    ", "      ")
    return lines


# -- kernel objects -----------------------------------------------------------------------


def _comparison(title: str, both: Comparison, good: str, bad: str) -> list[str]:
    lines = []
    for line in both["desired"]:
        present = line in both["actual"]
        lines += _marked("=" if present else "+", line, good if present else bad)
    for line in both["actual"]:
        if line not in both["desired"]:
            lines += _marked("-", line, bad)
    return ["", title, *(lines or ["  none"])]


def _endpoints(endpoints: Iterable[EndpointStatus], good: str, bad: str) -> list[str]:
    lines = []
    for endpoint in endpoints:
        if endpoint["state"] == "ok":
            lines += _marked("=", str(endpoint["actual"]), good)
            continue
        flags = ",".join(endpoint["flags"])
        port = f" port {endpoint['port']}" if endpoint["port"] else ""
        lines += _marked("+", f"{endpoint['address']}{port} {flags} ({endpoint['state']})", bad)
        if endpoint["actual"]:
            lines += _marked("-", endpoint["actual"], bad)
    return ["", "endpoints", *(lines or ["  none"])]


def _marked(mark: str, text: str, color: str) -> list[str]:
    first, *rest = wrap(text, "", "      ", 76)
    return [f"  {colored(mark, color)} {first}", *rest]


def _problems(status: Status, uplink: UplinkStatus, bad: str) -> list[str]:
    lines: list[str] = []
    for problem in status["problems"]:
        if problem.get("uplink", uplink["name"]) == uplink["name"]:
            lines += attention_lines(problem["text"], problem["advice"], colored("!", bad))
    return ["", *lines] if lines else []
