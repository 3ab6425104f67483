"""An explanation as text: what, why, and what next.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mproutd.format import address_port, safe
from mproutd.planning.uplinks import REASONS

if TYPE_CHECKING:
    from mproutd.explain.types import Explanation, FlowStatus, MemberStatus

_LABEL = 10
_LAST_RESORTS = {
    "main": "what table main has",
    "default": "other traffic",
    "unreachable": "unreachable",
    "blackhole": "blackhole",
}


def explanation_lines(explanation: Explanation) -> list[str]:
    """A few lines; the first one is the answer."""
    lines = [_answer(explanation)]
    lines += [f"  {label:{_LABEL}}{text}" for label, text in _details(explanation)]
    return [safe(line) for line in lines]


def _answer(explanation: Explanation) -> str:
    flow = explanation["flow"]
    if explanation["kind"] == "to-host":
        result = "stays on this host"
    elif explanation["error"]:
        result = f"does not leave: {explanation['error']}"
    else:
        via = f"{explanation['device']}"
        if explanation["uplink"]:
            via = f"{explanation['uplink']} ({explanation['device']})"
        router = explanation["gateway"]
        result = f"leaves via {via}, " + (f"gateway {router}" if router else "no gateway needed")
    return f"{_flow(flow)}: {result}"


def _flow(flow: FlowStatus) -> str:
    source = flow["source"] or "this host"
    if flow["source"] and flow["source_port"]:
        source = address_port(source, flow["source_port"])
    target = flow["destination"]
    if flow["destination_port"]:
        target = address_port(target, flow["destination_port"])
    words = [source, "to", target]
    if flow["protocol"]:
        words.append(flow["protocol"])
    if flow["iif"]:
        words += ["from", flow["iif"]]
    elif flow["uid"] is not None:
        words += ["as uid", str(flow["uid"])]
    return " ".join(words)


def _details(explanation: Explanation) -> Iterator[tuple[str, str]]:
    if explanation["kept_uplink"]:
        sticky = explanation["kept_by"] == "sticky"
        reason = "where earlier connections of the sender are" if sticky else "where it began"
        yield "keeps", f"{explanation['kept_uplink']}, {reason}"
    rule = explanation["rule"]
    if rule:
        target = rule["policy"] if rule["policy"] != "default" else "other traffic"
        ignored = "" if explanation["applies"] else ", which does not decide here"
        yield "rule", f"{rule['name']} ({rule['location']}): {target}{ignored}"
    if explanation["mark"]:
        yield "mark", explanation["mark"]
    if explanation["ip_rule"]:
        yield "ip rule", explanation["ip_rule"]
    if explanation["route"] and explanation["kind"] != "to-host":
        yield "route", str(explanation["route"])
    if explanation["source"] and not explanation["flow"]["source"]:
        yield "source", explanation["source"]
    following = _next(explanation)
    if following:
        yield "next", following
    for open_rule in explanation["open_rules"]:
        yield (
            "open",
            (
                f"rule {open_rule['name']} ({open_rule['location']}) comes first, if "
                f"{' and '.join(open_rule['arguments'])} matches"
            ),
        )
    for note in explanation["notes"]:
        yield "note", note


def _next(explanation: Explanation) -> str:
    words = [_member(member) for member in explanation["standby"]]
    if explanation["last_resort"]:
        words.append(_LAST_RESORTS[explanation["last_resort"]])
    return ", then ".join(words)


def _member(member: MemberStatus) -> str:
    if member["usable"]:
        return member["uplink"]
    return f"{member['uplink']} (unusable: {REASONS[member['reason'] or '']})"
