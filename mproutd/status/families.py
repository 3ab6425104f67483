"""One uplink in one family, as a status tells it: addresses, gateway, and the proof.  Pure.

The proof is the kernel's own answer to where a packet from each address would go, asked
without naming a device, as an unbound socket would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mproutd.iproute2 import Names
from mproutd.model import ANYWHERE, ELSEWHERE, FAMILY_NAMES, Route
from mproutd.planning.uplinks import REASONS, Observed, Path
from mproutd.status.advice import ADVICE

Lookups = Mapping[str, Route | None]
"""Address → the route that a packet from it takes to the world; None for no route."""


def sources(observed: Sequence[Observed]) -> list[str]:
    """The addresses whose lookups a status wants."""
    return list(
        dict.fromkeys(
            address.address
            for entry in observed
            if entry.link
            for path in entry.paths
            for address in path.covered
        )
    )


def leaves(observed: Sequence[Observed], uplink: str, number: int, lookups: Lookups) -> bool:
    """Whether anything from this uplink's addresses of a family finds a way to the world."""
    return any(
        lookups.get(address.address) is not None
        for entry in observed
        if entry.uplink.name == uplink
        for path in entry.paths
        if path.family == number
        for address in path.eligible
    )


def family_name(number: int) -> str:
    return FAMILY_NAMES[number].lower()


def family(
    path: Path, ifindex: int, table: int, since: float | None, lookups: Lookups, name: Names
) -> dict[str, Any]:
    """An element of `families`; `ifindex`, `table` are the uplink's, `since` an epoch second."""
    return {
        "family": family_name(path.family),
        "usable": path.usable,
        "since": since,
        "reason": path.reason or None,
        "text": REASONS.get(path.reason),
        "advice": ADVICE.get(path.reason),
        "addresses": [address.address for address in path.eligible],
        "sources": [address.address for address in path.covered],
        "prefixes": list(path.prefixes),
        "table": path.table or table,
        "table_from": "netifd" if path.table else None,
        "gateway": path.gateway.address or None if path.gateway else None,
        "gateway_from": path.gateway.origin if path.gateway else None,
        "lookups": [
            _lookup(path, address.address, ifindex, lookups[address.address], name)
            for address in path.covered
            if address.address in lookups
        ],
    }


def _lookup(
    path: Path, address: str, ifindex: int, route: Route | None, name: Names
) -> dict[str, Any]:
    wanted = path.gateway.address if path.gateway else ""
    asked, answer = ANYWHERE[path.family], None
    if route is not None and route.table:
        if route.destination == ELSEWHERE[path.family]:
            asked = route.destination
        via = f"via {route.gateway} " if route.gateway else ""
        answer = f"{via}dev {name(route.device)} table {route.table}"
    return {
        "command": f"ip route get {asked} from {address}",
        "answer": answer,
        "right": route is not None
        and bool(route.table)
        and (route.device, route.gateway) == (ifindex, wanted),
    }
