"""What one look at the kernel found, without changing anything: the facts behind a status.

Pure.  The reconciler fills an Inspection, and `status.build` turns it into JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import FAMILIES, Object, Operation, Route, Snapshot
from mproutd.planning.pacing import FailedOperation
from mproutd.planning.plan import Plan
from mproutd.planning.state import State
from mproutd.planning.traffic import Flow
from mproutd.planning.uplinks import ObservedUplink

Lookups = Mapping[str, Route | None]
"""Address → the route of a packet from it to the internet; None where there is none."""


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


class Counts(NamedTuple):
    """Totals since the start."""

    passes: int = 0
    writes: int = 0
    """Changes requested from the kernel."""
    failed_writes: int = 0
    """Those that it refused."""
    restores: int = 0
    """Those that restored what others had removed."""


class Inspection(NamedTuple):
    """The kernel beside the plan, and what the reconciler knows of earlier passes."""

    config: Config
    directory: str
    """Of the configuration."""
    snapshot: Snapshot
    plan: Plan
    state: State
    """The state file's content."""
    drift: Sequence[Operation]
    """What a pass would change now, without the endpoints of misrouted addresses and those
    that connections keep."""
    lookups: Lookups
    restored: Mapping[Object, int]
    """What others remove → how often it was restored lately."""
    flows: Sequence[tuple[Flow, Route | None]] = ()
    """Kinds of traffic, and the entry of a routing table that leads each to the internet."""
    misrouted: Sequence[str] = ()
    """Addresses whose packets leave through another device than planned."""
    kept: Mapping[str, int] = {}
    """Address → connections for which an endpoint stays that is to be deleted."""
    lists_connections: bool = True
    """The kernel has mptcp_diag."""
    mptcp_paused: bool = False
    """The kernel does not use MPTCP for new connections for a while."""
    blackhole_defaults: Sequence[Route] = ()
    """Default routes of main that discard; read only where a lookup failed."""
    failed: Collection[FailedOperation] = ()
    """What the kernel refused and is still wanted."""
    now: float = 0.0
    """The time of `failed`, in seconds of its clock."""
    time: float = 0.0
    """Epoch second of the look."""
    rate_limited: Collection[Object] = ()
    """What others removed so often that it is restored only every few seconds."""
    last_changes: LastChanges = LastChanges()
    remembered: Mapping[tuple[str, int], float] = {}
    """(device, family) → seconds for which its gateway has been remembered."""
    ignores_advertisements: Collection[str] = ()
    """Devices without an IPv6 gateway whose accept_ra and forwarding tell the kernel to ignore
    routers."""
    default_tables: Mapping[tuple[str, int], Sequence[int]] = {}
    """(device, family) without a gateway → other programs' tables with a default through it."""
    netifd: Mapping[str, str] | None = None
    """Interface → its device, as Facts has it."""
    counts: Counts = Counts()
    config_error: str = ""
    """Why the configuration on disk was rejected; empty when it is in use."""
    state_file_error: str = ""
    hints_error: str = ""
    netifd_error: str = ""


class Preview(NamedTuple):
    """What a reconciliation would change."""

    config: Config
    snapshot: Snapshot
    plan: Plan
    operations: Sequence[Operation]


def lookup_sources(uplinks: Sequence[ObservedUplink]) -> list[str]:
    """The addresses to look up for a status, each once."""
    return list(
        dict.fromkeys(
            address.address
            for uplink in uplinks
            if uplink.link and uplink.config.default_route
            for path in uplink.paths
            for address in path.covered
        )
    )
