"""Every problem that a status can name beside the state of the uplinks, by its code.  Pure.

A text says what and where; what to do is in advice.py.  docs/status.md has both, and a test
holds the three together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mproutd.iproute2 import Names, command, describe
from mproutd.model import Object
from mproutd.planning.retries import Refusal
from mproutd.status.advice import ADVICE

PROBLEMS = {
    "no-mptcp": "this kernel has no MPTCP: tables and rules are kept, endpoints are not",
    "mptcp-disabled": "net.mptcp.enabled is 0: no new connection uses MPTCP",
    "path-manager": "the path manager {path_manager!r} is not the kernel's: it ignores our "
    "endpoints",
    "configuration": "the configuration on disk is refused, the last good one is in use: {error}",
    "state-file": "{error}",
    "hints": "{error}; what hooks said is not used until then",
    "netifd": "netifd does not answer: {error}; what it said last is used, and it is asked again",
    "no-laminar": "{uplink}: this kernel has no laminar endpoints (Linux 6.18 has); "
    "it joins as without the option",
    "no-slot": "{uplink}: no room for an endpoint on {address}: the kernel takes {cap}",
    "foreign-endpoint": "{uplink}: somebody else's endpoint holds {address}: {found}; "
    "it is left as it is",
    "led-away": "{uplink}: a lookup from {address} does not leave by {device} "
    "(see: ip route get {anywhere} from {address} oif {device}); no endpoint there until it does",
    "discarded": "{uplink}: nothing from {address} leaves by {device}: main is asked first, and "
    "throws away what it has no better route for ({found}); no endpoint there until that ends",
    "no-mark": "{uplink}: mark_mask has no mark left for it",
    "removed": "{object}: removed by somebody else {count} times lately, and put back",
    "held-back": "{object}: removed by somebody else again and again; put back every few seconds",
    "refused": "{command}: {error} (tried {tries} times, next in {wait:.0f} s)",
    "kept": "{uplink}: its health check has failed in {families}, where no other uplink is usable: "
    "it stays in use",
    "mptcpd": "mptcpd runs here too: it adds endpoints for all addresses, with one set of flags, "
    "and leaves them behind",
    "low-limits": "the configuration wants limits above what this kernel allows ({cap})",
}
"""Every problem that a status can name, by its code."""


def problem(code: str, **values: Any) -> dict[str, Any]:
    """One problem: its code, its text in one line, and the values in it."""
    text = PROBLEMS[code].format(**values)
    return {"code": code, "text": text, "advice": ADVICE[code], **values}


def refused(refusals: Iterable[Refusal], now: float, name: Names) -> list[dict[str, Any]]:
    """Operations that the kernel refused; `now` on the clock of the refusals."""
    return [
        problem(
            "refused",
            command=command(refusal.operation, name),
            error=refusal.text,
            tries=refusal.tries,
            wait=max(0.0, refusal.until - now),
        )
        for refusal in refusals
    ]


def removed(
    counts: Mapping[Object, int], held: Collection[Object], name: Names
) -> list[dict[str, Any]]:
    """What somebody else removes; `held` is what is put back only every few seconds."""
    return [
        problem(
            "held-back" if value in held else "removed",
            object=describe(value, name),
            count=count,
            kind=type(value).__name__.lower(),
        )
        for value, count in counts.items()
    ]
