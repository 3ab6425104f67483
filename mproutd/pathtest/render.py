"""A test's result in plain words.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mproutd.format import safe
from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES
from mproutd.status.render import wrap


def result_lines(told: Mapping[str, Any]) -> list[str]:
    """What `mproutd test` prints: the verdict, and under it what it rests on."""
    code = told["verdict"]
    lines = wrap(f"{_path(told)}: {EXPLANATIONS[code]}", "", "  ")
    for ground in _grounds(told):
        lines += wrap(ground, "    ", "      ")
    if code in REMEDIES:
        lines += wrap(REMEDIES[code].replace("UPLINK", str(told["uplink"])), "    → ", "      ")
    return lines


def seen_line(seen: Mapping[str, Any]) -> str:
    """What `mproutd test --listen` prints of one test."""
    return safe(f"{seen['client']}: {_seen(seen)}; {seen['received']} bytes echoed")


def _path(told: Mapping[str, Any]) -> str:
    begin = f"{told['uplink']} ({told['device']})"
    return begin if told["to"] is None else f"{begin} to {_to(told['to'])}"


def _to(peer: Mapping[str, Any]) -> str:
    address = peer["address"]
    return f"[{address}]:{peer['port']}" if ":" in address else f"{address}:{peer['port']}"


def _grounds(told: Mapping[str, Any]) -> list[str]:
    lines = []
    if told["error"]:
        lines.append(str(told["error"]))
    if told["connect_ms"] is not None:
        words = [f"connected from {told['local']} in {_millis(told['connect_ms'])}"]
        if told["first_byte_ms"] is not None:
            words.append(f"first byte back after {_millis(told['first_byte_ms'])}")
        lines.append(", ".join(words))
    if told["echoed"] is not None:
        changed = "not as they were sent" if told["verdict"] == "changed" else "unchanged"
        lines.append(f"{told['echoed']} bytes came back, {changed}")
    elif told["listener"] and told["verdict"] == "works":
        lines.append("the time was over before full packets had come back")
    if told["verdict"] == "changed":
        lines.append(_checksums(told))
    lines += _mtu(told["mtu"]) + _joins(told["joins"])
    if told["listener"]:
        lines.append(f"the listener saw {told['listener']['client']}: {_seen(told['listener'])}")
    elif told["connect_ms"] is not None:
        lines.append("no listener of mproutd there: one line was sent, no data compared")
    return lines


def _checksums(told: Mapping[str, Any]) -> str:
    if told["checksums"]:
        return "MPTCP's checksums noticed, and the kernel gave MPTCP up there"
    return "without MPTCP's checksums (net.mptcp.checksum_enabled) nobody notices"


def _mtu(mtu: Mapping[str, Any]) -> list[str]:
    if mtu["there"] is None:
        return []
    sure = "" if mtu["proved"] else ", as far as the kernel knows"
    size = f"packets of {mtu['there']} bytes pass{sure}"
    if mtu["back"] is not None and mtu["back"] != mtu["there"]:
        size = f"packets of {mtu['there']} bytes pass there, of {mtu['back']} back{sure}"
    if mtu["device"] is not None and mtu["there"] < mtu["device"]:
        size += f"; {mtu['device']} is the MTU of the device"
    return [size]


def _joins(joins: Mapping[str, Any]) -> list[str]:
    lines = [
        f"a second subflow joined by {each['uplink'] or each['local']}" for each in joins["found"]
    ]
    came = {each["uplink"] for each in joins["found"]}
    missing = [name for name in joins["expected"] if name not in came]
    if missing:
        lines.append(f"no subflow joined by {', '.join(missing)}")
    return lines


def _seen(seen: Mapping[str, Any]) -> str:
    if not seen["mptcp"]:
        return "plain TCP, MPTCP is switched off there"
    if seen["accepted"] == "mptcp":
        return "MPTCP" if seen["kept"] else "MPTCP in the handshake, plain TCP later"
    if seen["asked"] is None:
        return "plain TCP"
    if seen["asked"]:
        return "MPTCP in the SYN, plain TCP after it"
    return "a SYN without MPTCP"


def _millis(value: float) -> str:
    return f"{value:.1f} ms"
