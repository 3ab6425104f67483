"""Where other traffic leaves, in words.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mproutd.status.traffic_types import OtherTraffic
    from mproutd.status.types import Status

_TABLE_MAIN = 254


def share_list(shares: Iterable[tuple[str, int]]) -> str:
    """`wan1`, or `wan1 (3), wan2 (1) and wan3 (1)` with the weights of several."""
    listed = list(shares)
    if len(listed) < 2:
        return "".join(name for name, _ in listed)
    words = [f"{name} ({weight})" for name, weight in listed]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def ways_out(traffic: Iterable[OtherTraffic], families: Mapping[str, str]) -> list[str]:
    """`IPv4 via wan1 (3) and wan2 (1)`, `IPv6 unreachable (wan2 off)`, `from br-lan IPv4 via wg0
    (main)`."""
    texts = []
    for flow in traffic:
        # A device has no space in its name, as what a rule selects by has.
        word = "with" if " " in (flow["origin"] or "") else "from"
        origin = f"{word} {flow['origin']} " if flow["origin"] else ""
        names = share_list(
            (share["uplink"] or share["device"], share["weight"]) for share in flow["shares"]
        )
        off = f" ({', '.join(flow['barred'])} off)" if flow["barred"] else ""
        by_main = " (main)" if flow["table"] == _TABLE_MAIN else ""
        texts.append(
            f"{origin}{families[flow['family']]} "
            + (f"via {names}{by_main}" if names else f"unreachable{off}")
        )
    return texts


def share_ratios(status: Status) -> dict[tuple[str, str], float]:
    """(uplink, family) → its part of other traffic, where mproutd decides about that."""
    ratios: dict[tuple[str, str], float] = {}
    for flow in status["other_traffic"]:
        if flow["origin"] is None and flow["family"] in status["default"]:
            total = sum(share["weight"] for share in flow["shares"])
            for share in flow["shares"]:
                if share["uplink"] is not None:
                    ratios[share["uplink"], flow["family"]] = share["weight"] / total
    return ratios
