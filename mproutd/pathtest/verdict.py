"""From the evidence of both ends to a verdict: what happens to MPTCP, and on whose side.  Pure.

Invariant: a side is named only where no other could have caused the loss.  Where only one end was
observed, the verdict names the two that remain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

VERSION = 1
WORKS, LOST, UNREACHED = 0, 1, 3
"""Exit status: MPTCP works; connected, but MPTCP does not fully work; no usable connection."""

EXPLANATIONS = {
    "works": "MPTCP works",
    "local-unsupported": "this machine's kernel does not support MPTCP",
    "local-disabled": "MPTCP is disabled on this machine",
    "local-paused": "this machine's kernel sent no MP_CAPABLE: it pauses MPTCP for a while after "
    "connections whose SYNs were lost",
    "peer-disabled": "plain TCP: MPTCP is disabled on the peer",
    "not-negotiated": "plain TCP: the SYN-ACK carried no MP_CAPABLE; the peer does not support "
    "MPTCP, or a middlebox removes it",
    "syn-stripped": "plain TCP: a middlebox removes MP_CAPABLE from the SYN, on the way to the "
    "peer",
    "synack-stripped": "plain TCP: a middlebox removes MP_CAPABLE from the SYN-ACK, on the way "
    "back",
    "handshake-stripped": "plain TCP: a middlebox removes MP_CAPABLE from the SYN or the SYN-ACK; "
    "the listener cannot tell which",
    "ack-stripped": "plain TCP: a middlebox passes MPTCP in SYN and SYN-ACK, but removes it from "
    "the client's packets after them",
    "data-stripped": "a middlebox passes the handshake, but removes MPTCP from data packets",
    "syn-dropped": "a middlebox or the peer's firewall drops SYNs with MP_CAPABLE; a SYN without "
    "it is answered",
    "syn-refused": "a middlebox or the peer's firewall rejects SYNs with MP_CAPABLE; a SYN without "
    "it is accepted",
    "data-dropped": "a middlebox drops packets with MPTCP after the handshake; plain TCP passes",
    "data-modified": "a middlebox modifies the data",
    "pmtu-blackhole": "MPTCP works for small packets; full-size packets are lost silently, by "
    "plain TCP too",
    "timeout": "connected by MPTCP; the time ran out before the data was checked",
    "no-data": "connected, but no data passes, by plain TCP either",
    "refused": "the peer refuses the connection, by plain TCP too",
    "no-answer": "no answer, to plain TCP either",
    "no-route": "no route to the peer",
    "no-name": "the peer's name has no address that this uplink can reach",
    "uplink-unusable": "the uplink cannot be used",
}
"""Code → what it means."""

_CONTACT = "ask the provider, or use a tunnel"
_FIREWALLS = "check the firewalls on the path, or use a tunnel"

REMEDIES = {
    "local-unsupported": "use a kernel with CONFIG_MPTCP=y",
    "local-disabled": "sysctl net.mptcp.enabled=1",
    "local-paused": "test the uplink that lost the SYNs; writing net.mptcp.blackhole_timeout ends "
    "the pause",
    "peer-disabled": "on the peer: sysctl net.mptcp.enabled=1",
    "not-negotiated": "to tell peer from path, run `mproutd test --listen PORT` on the peer, or "
    "test the same peer over another uplink",
    "syn-stripped": _CONTACT,
    "synack-stripped": _CONTACT,
    "handshake-stripped": _CONTACT,
    "ack-stripped": _CONTACT,
    "data-stripped": _CONTACT,
    "syn-dropped": _FIREWALLS,
    "syn-refused": _FIREWALLS,
    "data-dropped": _FIREWALLS,
    "data-modified": "find the proxy or ALG on the path (modem, router) and disable it",
    "pmtu-blackhole": "let ICMP pass (fragmentation needed, packet too big), or lower the MTU of "
    "the device; on a router, clamp the MSS",
    "timeout": "allow more time: --timeout SECONDS",
    "no-data": "try another port; check whether something else accepts connections for the peer",
    "refused": "check that the service runs on the peer and listens on this port",
    "no-answer": "try the peer over another uplink; then check firewalls and `mproutd status`",
    "no-route": "see: mproutd status UPLINK",
    "no-name": "use an address, or check the resolver",
    "uplink-unusable": "see: mproutd status UPLINK",
}
"""Code → what to do."""

SIDES = {
    "local": ("local-unsupported", "local-disabled", "local-paused"),
    "peer": ("peer-disabled",),
    "peer or path": ("not-negotiated", "syn-dropped", "syn-refused"),
    "path": (
        "syn-stripped",
        "synack-stripped",
        "handshake-stripped",
        "ack-stripped",
        "data-stripped",
        "data-dropped",
        "data-modified",
        "pmtu-blackhole",
    ),
}
"""Where MPTCP is lost → codes."""

_UNREACHED = (
    "timeout",
    "no-data",
    "refused",
    "no-answer",
    "no-route",
    "no-name",
    "uplink-unusable",
)
_STATUS = {"works": WORKS} | dict.fromkeys(_UNREACHED, UNREACHED)


class Evidence(NamedTuple):
    """What was observed.  None: not observed."""

    local: str = ""
    """Why this machine sent no MP_CAPABLE: unsupported, disabled, paused; empty when it did."""
    failed: str = ""
    """Why there was no MPTCP connection: refused, no-answer, no-route; empty when there was."""
    synack_mp_capable: bool | None = None
    """The SYN-ACK carried MP_CAPABLE."""
    mptcp: bool | None = None
    """The connection was MPTCP at the end."""
    acked: bool | None = None
    """The peer acknowledged or answered the first line."""
    intact: bool | None = None
    """The echo was what had been sent."""
    full_size: bool | None = None
    """Full-size packets came back."""
    plain_tcp: bool | None = None
    """Plain TCP got as far as MPTCP should have: it connected, and the peer acknowledged its
    first line where it did not acknowledge MPTCP's."""
    plain_full_size: bool | None = None
    """Full-size packets came back by plain TCP."""
    listener: Mapping[str, Any] | None = None
    """The view of a listener on the peer, see protocol.py."""


def diagnose(evidence: Evidence) -> str:
    """The code of the verdict."""
    if evidence.failed:
        if not evidence.plain_tcp:
            return evidence.failed
        return "syn-refused" if evidence.failed == "refused" else "syn-dropped"
    if evidence.local:
        return f"local-{evidence.local}"
    if evidence.acked is False and evidence.mptcp:
        if evidence.plain_tcp is None:
            return "timeout"
        return "data-dropped" if evidence.plain_tcp else "no-data"
    if evidence.intact is False:
        return "data-modified"
    if evidence.full_size is False and evidence.mptcp:
        if evidence.plain_full_size is None:
            return "timeout"
        return "data-dropped" if evidence.plain_full_size else "pmtu-blackhole"
    if evidence.mptcp:
        return "works" if evidence.acked else "timeout"
    return _diagnose_fallback(evidence)


def _diagnose_fallback(evidence: Evidence) -> str:
    """The connection is plain TCP: which packet lost MPTCP?"""
    listener = evidence.listener
    if not evidence.synack_mp_capable:
        if listener is None:
            return "not-negotiated"
        if not listener["mptcp_enabled"]:
            return "peer-disabled"
        if listener["syn_mp_capable"] is None:
            return "handshake-stripped"
        return "synack-stripped" if listener["syn_mp_capable"] else "syn-stripped"
    if listener is not None and listener["accepted"] == "tcp":
        return "ack-stripped"
    return "data-stripped"


def side(code: str) -> str | None:
    """A key of SIDES; None where MPTCP is not lost, or there was no usable connection."""
    return next((name for name, codes in SIDES.items() if code in codes), None)


def exit_status(code: str) -> int:
    return _STATUS.get(code, LOST)
