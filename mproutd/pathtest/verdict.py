"""From what both ends saw to who loses MPTCP.  Pure.

What must hold: a side is named only where nobody else could have done it.  Where one end alone
was seen, the verdict says which two it can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

VERSION = 1
WORKS, LOST, UNREACHED = 0, 1, 3
"""Exit status: MPTCP works; there is a connection, but not MPTCP as it should be; none at all."""

EXPLANATIONS = {
    "works": "MPTCP works",
    "own-off": "the kernel of this machine has MPTCP switched off",
    "own-paused": "the kernel of this machine did not ask for MPTCP: it gave up asking for a "
    "while, after connections whose SYN was lost",
    "peer-off": "plain TCP: the peer has MPTCP switched off",
    "not-offered": "plain TCP: the answer to the SYN had no MPTCP; the peer does not speak it, "
    "or a box on the path takes it away",
    "syn-stripped": "plain TCP: a box on the path takes MPTCP out of the SYN, on the way there",
    "answer-stripped": "plain TCP: a box on the path takes MPTCP out of the answer to the SYN, "
    "on the way back",
    "handshake-stripped": "plain TCP: a box on the path takes MPTCP out of the SYN or of its "
    "answer; the listener cannot tell which",
    "ack-stripped": "plain TCP: a box on the path lets the SYN and its answer pass, and takes "
    "MPTCP out of what the client sends after them",
    "data-stripped": "a box on the path lets the handshake pass, and takes MPTCP out of the "
    "packets that carry data",
    "syn-dropped": "a box on the path, or the peer's firewall, drops a SYN with MPTCP; one "
    "without it is answered",
    "syn-refused": "a box on the path, or the peer's firewall, refuses a SYN with MPTCP; one "
    "without it is answered",
    "data-dropped": "a box on the path drops packets with MPTCP after the handshake; plain TCP "
    "passes",
    "changed": "a box on the path changes the data",
    "big-lost": "MPTCP works for small packets; full ones are lost without a word, with plain "
    "TCP as well",
    "no-time": "connected by MPTCP; the time was over before it could be told what becomes of data",
    "no-data": "connected, but no data passes, with plain TCP neither",
    "refused": "the peer refuses the connection, plain TCP as well",
    "no-answer": "no answer, to plain TCP neither",
    "no-route": "there is no way to the peer",
    "no-name": "the name of the peer has no address that this uplink could go to",
    "no-address": "the uplink cannot be used",
}
"""Code → what it says."""

REMEDIES = {
    "own-off": "sysctl net.mptcp.enabled=1",
    "own-paused": "test where the SYNs are lost; writing net.mptcp.blackhole_timeout ends it",
    "peer-off": "at the peer: sysctl net.mptcp.enabled=1",
    "not-offered": "to tell peer from path, run `mproutd test --listen PORT` at the other end, or "
    "test the same peer by another uplink",
    "syn-stripped": "ask the provider, or go through a tunnel",
    "answer-stripped": "ask the provider, or go through a tunnel",
    "handshake-stripped": "ask the provider, or go through a tunnel",
    "ack-stripped": "ask the provider, or go through a tunnel",
    "data-stripped": "ask the provider, or go through a tunnel",
    "syn-dropped": "look at the firewalls in between; or go through a tunnel",
    "syn-refused": "look at the firewalls in between; or go through a tunnel",
    "data-dropped": "look at the firewalls in between; or go through a tunnel",
    "changed": "find the proxy or the ALG in between (modem, router), and switch it off",
    "big-lost": "let ICMP (fragmentation needed, packet too big) pass, or lower the MTU of the "
    "device; on a router, clamp the MSS",
    "no-time": "give it more: --timeout SECONDS",
    "no-data": "try another port; see whether something accepts for the peer",
    "refused": "is the service running there, and is this its port?",
    "no-answer": "does the peer answer by another uplink? else look at firewalls and `mproutd "
    "status`",
    "no-route": "see: mproutd status UPLINK",
    "no-name": "name an address, or see whether the resolver answers",
    "no-address": "see: mproutd status UPLINK",
}
"""Code → what to do."""

SIDES = {
    "own": ("own-off", "own-paused"),
    "peer": ("peer-off",),
    "peer or path": ("not-offered", "syn-dropped", "syn-refused"),
    "path": (
        "syn-stripped",
        "answer-stripped",
        "handshake-stripped",
        "ack-stripped",
        "data-stripped",
        "data-dropped",
        "changed",
        "big-lost",
    ),
}
"""Who loses MPTCP → codes."""

_UNREACHED = ("no-time", "no-data", "refused", "no-answer", "no-route", "no-name", "no-address")
_STATUS = {"works": WORKS} | dict.fromkeys(_UNREACHED, UNREACHED)


class Evidence(NamedTuple):
    """What was seen.  None: it did not come to that."""

    own: str = ""
    """Why this machine's kernel did not ask: off, paused; empty when it did."""
    failed: str = ""
    """Why the MPTCP connection was not made: refused, no-answer, no-route; empty when it was."""
    offered: bool | None = None
    """The answer to the SYN carried MPTCP."""
    kept: bool | None = None
    """It was MPTCP at the end."""
    acked: bool | None = None
    """The peer's end acknowledged the first line, or answered it."""
    same: bool | None = None
    """What came back is what was sent."""
    big: bool | None = None
    """Full-size packets came back."""
    plain: bool | None = None
    """Plain TCP got as far as MPTCP should have: connected, and its first line acknowledged
    where MPTCP's was not."""
    plain_big: bool | None = None
    """Full-size packets came back by plain TCP."""
    peer: Mapping[str, Any] | None = None
    """What a listener at the other end saw, see wording.py."""


def diagnose(evidence: Evidence) -> str:
    """The code of the verdict."""
    if evidence.failed:
        if not evidence.plain:
            return evidence.failed
        return "syn-refused" if evidence.failed == "refused" else "syn-dropped"
    if evidence.own:
        return f"own-{evidence.own}"
    if evidence.acked is False and evidence.kept:
        if evidence.plain is None:
            return "no-time"
        return "data-dropped" if evidence.plain else "no-data"
    if evidence.same is False:
        return "changed"
    if evidence.big is False and evidence.kept:
        if evidence.plain_big is None:
            return "no-time"
        return "data-dropped" if evidence.plain_big else "big-lost"
    if evidence.kept:
        return "works" if evidence.acked else "no-time"
    return _fallen(evidence)


def _fallen(evidence: Evidence) -> str:
    """It is plain TCP: since when, and by whom?"""
    peer = evidence.peer
    if not evidence.offered:
        if peer is None:
            return "not-offered"
        if not peer["mptcp"]:
            return "peer-off"
        if peer["asked"] is None:
            return "handshake-stripped"
        return "answer-stripped" if peer["asked"] else "syn-stripped"
    if peer is not None and peer["accepted"] == "tcp":
        return "ack-stripped"
    return "data-stripped"


def side(code: str) -> str | None:
    """own, peer, path, `peer or path`; None where nothing was lost, or nothing reached."""
    return next((name for name, codes in SIDES.items() if code in codes), None)


def exit_status(code: str) -> int:
    return _STATUS.get(code, LOST)
