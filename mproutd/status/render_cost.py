"""Quotas and overflow for people.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd.format import format_bytes, format_duration, format_rate, safe

if TYPE_CHECKING:
    from mproutd.status.cost_types import DirectionLoad
    from mproutd.status.types import UplinkStatus


def cost_summaries(uplink: UplinkStatus, now: float) -> list[str]:
    """A line for its quota, and one for overflow.  `now` in epoch seconds."""
    lines = []
    if quota := uplink.get("quota"):
        text = f"quota: {format_bytes(quota['used'])} of {format_bytes(quota['limit'])}"
        left = format_duration(quota["end"] - now)
        text += f" ({quota['percent']:.0f} %), a new {quota['period']} in {left}"
        if quota["state"] == "reached":
            text += f"; used up, so its mode is {uplink['effective_mode']}"
        lines.append(text)
    if overflow := uplink.get("overflow"):
        if overflow["carrying"]:
            age = f" for {format_duration(now - overflow['since'])}" if overflow["since"] else ""
            why = f", because {overflow['reason']}" if overflow["reason"] else ""
            hold = f"; at least {overflow['hold']:.0f} s more" if overflow["hold"] else ""
            lines.append(f"overflow: carries{age}{why}{hold}")
        else:
            lines.append(f"overflow: carries while the others exceed {overflow['threshold']} %")
    return [safe(line) for line in lines]


def load_line(uplink: UplinkStatus) -> str:
    """How full a regular uplink is; "" where nobody wants to know."""
    load = uplink.get("load")
    if not load:
        return ""
    return f"load: in {_direction(load['download'])}, out {_direction(load['upload'])}"


def _direction(load: DirectionLoad) -> str:
    if load["capacity"] is None:
        return "of unknown capacity"
    capacity = format_rate(load["capacity"]) + (" (learned)" if load["learned"] else "")
    return capacity if load["percent"] is None else f"{load['percent']:.0f} % of {capacity}"


def cost_words(uplink: UplinkStatus) -> str:
    """The same for a narrow column: "carries", "61 % of quota"."""
    words = []
    overflow, quota = uplink.get("overflow"), uplink.get("quota")
    if overflow and overflow["carrying"]:
        words.append(f"carries: {overflow['reason']}" if overflow["reason"] else "carries")
    if quota:
        words.append(f"{quota['percent']:.0f} % of quota")
    return safe(", ".join(words))
