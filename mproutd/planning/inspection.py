"""What one look at the kernel found, without changing anything: the facts behind a status.

Pure.  The reconciler fills an Inspection, and `status.build` turns it into JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import Object, Operation, Route, Snapshot
from mproutd.planning.last_changes import LastChanges
from mproutd.planning.pacing import FailedOperation
from mproutd.planning.plan import Plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import ObservedUplink

if TYPE_CHECKING:
    from mproutd.planning.traffic import Flow

Lookups = Mapping[str, Route | None]
"""Address → the route of a packet from it to the internet; None where there is none."""


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
