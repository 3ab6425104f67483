"""Where other traffic leaves, in words.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mproutd.status.traffic_types import OtherTraffic

_TABLE_MAIN = 254


def ways_out(traffic: Iterable[OtherTraffic], families: Mapping[str, str]) -> list[str]:
    """`IPv4 via wan1`, `IPv6 unreachable (wan2 off)`, `from br-lan IPv4 via wg0 (main)`."""
    words = []
    for each in traffic:
        origin = f"from {each['origin']} " if each["origin"] else ""
        way = each["uplink"] or each["device"]
        off = f" ({', '.join(each['barred'])} off)" if each["barred"] else ""
        by_main = " (main)" if each["table"] == _TABLE_MAIN else ""
        words.append(
            f"{origin}{families[each['family']]} "
            + (f"via {way}{by_main}" if way else f"unreachable{off}")
        )
    return words
