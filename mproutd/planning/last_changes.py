"""When uplinks changed their state, and how often they became unusable.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mproutd.model import FAMILIES
from mproutd.planning.uplinks import ObservedUplink


class LastChanges:
    """When each uplink, and each of its families, changed its state for the last time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[object, float]] = {}
        self._lost: dict[tuple[str, int], float] = {}
        """When each family that is not usable any more was usable for the last time."""
        self._uplinks: dict[str, ObservedUplink] = {}
        """By name, as recorded last."""
        self._outages: dict[tuple[str, int], dict[str, int]] = {}
        """(uplink, family) → reason → how often it became unusable for it."""

    def record(self, uplinks: Iterable[ObservedUplink], now: float) -> None:
        """Take the state of a pass at the epoch second `now`."""
        recorded, self._uplinks = self._uplinks, {}
        known = self._known
        for uplink in uplinks:
            name = uplink.config.name
            self._uplinks[name] = uplink
            if recorded.pop(name, None) is uplink:
                continue
            states: list[tuple[int, object]] = [(0, uplink.usable)]
            states += [(path.family, path.reason) for path in uplink.paths]
            for family, state in states:
                before = known.get((name, family))
                same = before is not None and before[0] == state
                known[name, family] = before if before and same else (state, now)
                if before and before[0] == "" and not same:
                    self._lost[name, family] = now
                    reasons = self._outages.setdefault((name, family), {})
                    reasons[str(state)] = reasons.get(str(state), 0) + 1
        for name in recorded.keys() - self._uplinks.keys():
            for family in (0, *FAMILIES):
                del known[name, family]
                self._lost.pop((name, family), None)
                self._outages.pop((name, family), None)

    def lost(self, uplink: str, family: int) -> float | None:
        """The epoch second until which a family was usable; None if no pass has seen that."""
        return self._lost.get((uplink, family))

    def outages(self, uplink: str, family: int) -> dict[str, int]:
        """Reason → how often a usable family became unusable for it, since the first pass."""
        return dict(self._outages.get((uplink, family), {}))

    def of(self, uplink: str, family: int = 0) -> float | None:
        """The epoch second of the last change; family 0 is the uplink as a whole.

        None when no pass has seen it.
        """
        known = self._known.get((uplink, family))
        return known[1] if known else None
