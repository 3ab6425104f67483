"""Where other traffic leaves, in words.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mproutd.status.traffic_types import OtherTraffic

_TABLE_MAIN = 254


def ways_out(traffic: Iterable[OtherTraffic], families: Mapping[str, str]) -> list[str]:
    """`IPv4 via wan1`, `IPv6 unreachable (wan2 off)`, `from br-lan IPv4 via wg0 (main)`."""
    texts = []
    for flow in traffic:
        # A device has no space in its name, as what a rule selects by has.
        word = "with" if " " in (flow["origin"] or "") else "from"
        origin = f"{word} {flow['origin']} " if flow["origin"] else ""
        name = flow["uplink"] or flow["device"]
        off = f" ({', '.join(flow['barred'])} off)" if flow["barred"] else ""
        by_main = " (main)" if flow["table"] == _TABLE_MAIN else ""
        texts.append(
            f"{origin}{families[flow['family']]} "
            + (f"via {name}{by_main}" if name else f"unreachable{off}")
        )
    return texts
