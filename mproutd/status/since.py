"""Since when an uplink, and each of its families, is as it is.  Pure.

A daemon that starts does not know what was before it: its times begin with its first pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from mproutd.planning.uplinks import Observed


class Since:
    """State → the epoch second in which it began."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[object, float]] = {}

    def note(self, observed: Iterable[Observed], now: float) -> None:
        """Take note of what a pass saw at `now`."""
        known: dict[tuple[str, int], tuple[object, float]] = {}
        for entry in observed:
            name = entry.uplink.name
            states: list[tuple[int, object]] = [(0, entry.usable)]
            states += [(path.family, path.reason) for path in entry.paths]
            for family, state in states:
                before = self._known.get((name, family))
                same = before is not None and before[0] == state
                known[name, family] = before if before and same else (state, now)
        self._known = known

    def of(self, uplink: str, family: int = 0) -> float | None:
        """Since when; family 0 asks for the uplink as a whole.  None: never seen."""
        found = self._known.get((uplink, family))
        return found[1] if found else None
