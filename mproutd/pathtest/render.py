"""The result of a test as text.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mproutd.format import address_port, safe
from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES
from mproutd.status.render import wrap


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """What `mproutd test` prints: the verdict, the facts behind it, and what to do."""
    code = result["verdict"]
    lines = wrap(f"{_path(result)}: {EXPLANATIONS[code]}", "", "  ")
    for fact in _facts(result):
        lines += wrap(fact, "    ", "      ")
    if code in REMEDIES:
        remedy = REMEDIES[code].replace("UPLINK", str(result["uplink"]))
        lines += wrap(remedy, "    → ", "      ")
    return lines


def view_text(view: Mapping[str, Any]) -> str:
    """What `mproutd test --listen` prints for one test."""
    return safe(f"{view['client']}: {_view(view)}; {view['received']} bytes echoed")


def _path(result: Mapping[str, Any]) -> str:
    path, peer = f"{result['uplink']} ({result['device']})", result["peer"]
    return f"{path} to {address_port(peer['address'], peer['port'])}" if peer else path


def _facts(result: Mapping[str, Any]) -> list[str]:
    listener, modified = result["listener"], result["verdict"] == "data-modified"
    lines = []
    if result["error"]:
        lines.append(str(result["error"]))
    if result["connect_ms"] is not None:
        lines.append(_timing(result))
    if result["echoed"] is not None:
        lines.append(f"{result['echoed']} bytes echoed, {'modified' if modified else 'unchanged'}")
    elif listener and result["verdict"] == "works":
        lines.append("the time ran out before full-size packets came back")
    if modified:
        lines.append(_checksums(result))
    lines += _mtu(result["mtu"]) + _joins(result["joins"])
    if listener:
        lines.append(f"seen by the listener: {listener['client']}: {_view(listener)}")
    elif result["connect_ms"] is not None:
        lines.append("the peer is no mproutd listener: one line was sent, no data compared")
    return lines


def _timing(result: Mapping[str, Any]) -> str:
    text = f"connected from {result['local']} in {result['connect_ms']:.1f} ms"
    if result["first_byte_ms"] is not None:
        text += f", first byte after {result['first_byte_ms']:.1f} ms"
    return text


def _checksums(result: Mapping[str, Any]) -> str:
    if result["checksums"]:
        return "detected by MPTCP checksums; the kernel fell back or closed the subflow"
    return "undetected without MPTCP checksums (net.mptcp.checksum_enabled)"


def _mtu(mtu: Mapping[str, Any]) -> list[str]:
    forward, reverse = mtu["forward"], mtu["reverse"]
    if forward is None:
        return []
    source = "verified" if mtu["verified"] else "according to the kernel"
    text = f"path MTU {forward} bytes, {source}"
    if reverse is not None and reverse != forward:
        text = f"path MTU {forward} bytes to the peer, {reverse} bytes back, {source}"
    if mtu["device"] is not None and forward < mtu["device"]:
        text += f"; device MTU {mtu['device']}"
    return [text]


def _joins(joins: Mapping[str, Any]) -> list[str]:
    joined = [join["uplink"] or join["local"] for join in joins["found"]]
    missing = [name for name in joins["expected"] if name not in joined]
    lines = [f"a second subflow joined over {name}" for name in joined]
    if missing:
        lines.append(f"no subflow joined over {', '.join(missing)}")
    return lines


def _view(view: Mapping[str, Any]) -> str:
    if not view["mptcp_enabled"]:
        return "plain TCP, MPTCP is disabled on the listener"
    if view["accepted"] == "mptcp":
        return "MPTCP" if view["mptcp"] else "MPTCP in the handshake, plain TCP afterwards"
    if view["syn_mp_capable"] is None:
        return "plain TCP"
    if view["syn_mp_capable"]:
        return "plain TCP after a SYN with MP_CAPABLE"
    return "plain TCP, no MP_CAPABLE in the SYN"
