"""Which MPTCP endpoints should be there; pure.

The last path is never closed.  While no uplink at all is usable, an endpoint whose
address is still on its device stays: there is no better path to move to, the subflow may
come back with the carrier, and a connection whose last subflow was closed dies after
net.mptcp.close_timeout.  The same in one family, while nothing that carries is usable there:
as a backup, so that connections with a path by the other family move.  And where one link is
out and some connection there is plain TCP, since its peer knows no MPTCP: so that this one can
go on when the carrier is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from mproutd.configuration.config import Config
from mproutd.model import (
    BACKUP,
    FAMILIES,
    FULLMESH,
    IMPLICIT,
    LAMINAR,
    SIGNAL,
    SUBFLOW,
    Endpoint,
    Mptcp,
    Snapshot,
    family_of,
)
from mproutd.planning.state import State
from mproutd.planning.uplinks import ObservedUplink

RANK = {"master": 0, "on": 1, "backup": 2, "handover": 3}
"""The order of the modes; `off` never carries anything by itself."""


def by_rank(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """master, on, backup, handover; within a mode the order of the file; never off."""
    ranked = [uplink for uplink in uplinks if uplink.config.mode in RANK]
    return sorted(ranked, key=lambda uplink: RANK[uplink.config.mode])


def active(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """The uplinks that carry MPTCP now, best first.

    A handover uplink does only while no other is usable, and then only one of them.  (It
    goes on for a moment when another is back: see _still_needed; and stands by in a family
    that the others have not: see _standing_by.)
    """
    usable = [uplink for uplink in by_rank(uplinks) if uplink.usable]
    regular = [uplink for uplink in usable if uplink.config.mode != "handover"]
    return regular or usable[:1]


def _still_needed(
    uplinks: Sequence[ObservedUplink],
    found: Sequence[Endpoint],
    state: State,
    settled: frozenset[str] | None,
) -> list[ObservedUplink]:
    """The handover uplinks whose endpoints stay until a regular uplink has settled.

    The connections need a round trip to join there; without that moment, they would stand
    still meanwhile, and die where the line that came back does not carry yet.
    """
    regular = [uplink.config.name for uplink in active(uplinks) if uplink.config.mode != "handover"]
    if not regular or settled is None or not settled.isdisjoint(regular):
        return []
    there = {(endpoint.address, endpoint.device) for endpoint in found if is_ours(endpoint, state)}
    return [
        uplink
        for uplink in by_rank(uplinks)
        if uplink.config.mode == "handover"
        and uplink.link is not None
        and any(
            path.usable and (address.address, uplink.link.index) in there
            for path in uplink.paths
            for address in path.eligible
        )
    ]


def _standing_by(
    uplinks: Sequence[ObservedUplink], carrying: Sequence[ObservedUplink]
) -> list[ObservedUplink]:
    """Handover uplinks, each in a family in which nothing that carries is usable.

    A connection of that family that began there can move nowhere else; without its endpoint it
    would end, although its path works.
    """
    found = []
    for place in range(len(FAMILIES)):
        if any(uplink.paths[place].usable for uplink in carrying):
            continue
        first = next((each for each in by_rank(uplinks) if each.paths[place].usable), None)
        if first is not None:
            v4, v6 = (
                path._replace(usable=path.usable and at == place)
                for at, path in enumerate(first.paths)
            )
            found.append(first._replace(paths=(v4, v6)))
    return found


def flags_for(config: Config, uplink: ObservedUplink, laminar: bool) -> int:
    """MPTCP_PM_ADDR_FLAG_* for an uplink's endpoints.

    `backup` does nothing without `subflow`; the kernel refuses fullmesh beside signal
    (net/mptcp/pm_kernel.c, mptcp_pm_nl_add_addr_doit).
    `laminar`: whether the kernel knows that flag.
    """
    flags = {"client": SUBFLOW, "server": SIGNAL, "both": SUBFLOW | SIGNAL}[config.role]
    if uplink.config.mode == "backup":
        flags |= BACKUP
    if uplink.config.fullmesh and flags == flags & (SUBFLOW | BACKUP):
        flags |= FULLMESH
    if uplink.config.laminar and laminar and flags & SUBFLOW:
        flags |= LAMINAR
    return flags


def is_ours(endpoint: Endpoint, state: State) -> bool:
    """Whether it is one that we added; we never give one a port."""
    return not endpoint.port and (endpoint.address, endpoint.device) in state.endpoints


def is_client_endpoint(flags: int) -> bool:
    """Whether opening such an endpoint makes connections join from it, and nothing else.

    One that is announced (signal) is used by the peers: closing it cuts their subflows, and
    opening it again brings back only those that the peers care to make.
    """
    return flags & (SUBFLOW | SIGNAL) == SUBFLOW


def max_endpoints(mptcp: Mptcp) -> int:
    """How many endpoints the kernel takes: as many as its limits allow, or what it has shown."""
    return min(mptcp.cap, mptcp.max_endpoints)


def foreign_addresses(found: Sequence[Endpoint], state: State) -> frozenset[str]:
    """Addresses that somebody else's endpoint holds.

    One that the kernel made (implicit) gives way to ours; one with a port is another thing.
    """
    return frozenset(
        endpoint.address
        for endpoint in found
        if not is_ours(endpoint, state) and not endpoint.flags & IMPLICIT and not endpoint.port
    )


def plan_endpoints(
    config: Config,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    state: State,
    settled: frozenset[str] | None = None,
) -> tuple[dict[Endpoint, str], dict[str, str]]:
    """(endpoint → uplink, in the order in which they are worth having; address → uplink
    of those that the kernel's cap leaves without).

    Every uplink gets one before any gets two, and one of each family before two of one.
    """
    if snapshot.mptcp is None:
        return {}, {}
    found = snapshot.mptcp.endpoints
    candidates: list[tuple[int, Endpoint, str]] = []
    carrying = [*active(uplinks), *_still_needed(uplinks, found, state, settled)]
    if not carrying:
        return _last_paths(found, uplinks, state), {}
    waiting = _standing_by(uplinks, carrying)
    for uplink in [*carrying, *waiting]:
        assert uplink.link is not None
        flags = flags_for(config, uplink, snapshot.mptcp.laminar)
        flags |= BACKUP if uplink in waiting else 0
        by_family = (path.eligible for path in uplink.paths if path.usable)
        in_turn = (each for turn in zip_longest(*by_family) for each in turn if each is not None)
        for turn, address in enumerate(in_turn):
            endpoint = Endpoint(address.address, uplink.link.index, flags)
            candidates.append((turn, endpoint, uplink.config.name))
    candidates.sort(key=lambda candidate: candidate[0])
    others = foreign_addresses(found, state)
    addresses = {endpoint.address for _, endpoint, _ in candidates}
    room = max_endpoints(snapshot.mptcp) - sum(
        not is_ours(endpoint, state)
        and not (endpoint.flags & IMPLICIT and endpoint.address in addresses)
        for endpoint in found
    )
    sole_path, families = (
        snapshot.sole_path - addresses,
        {family_of(address) for address in addresses},
    )
    alone = [each for each in found if family_of(each.address) not in families]
    staying = _backups(found, uplinks, state) if sole_path or alone else {}
    chosen = {each: name for each, name in staying.items() if each.address in sole_path}
    room -= len(chosen)
    left_out: dict[str, str] = {}
    for _, endpoint, name in candidates:
        if endpoint.address in others:  # it counts as there
            chosen[endpoint] = name
        elif room > 0:
            chosen[endpoint] = name
            room -= 1
        else:
            left_out[endpoint.address] = name
    last = [each for each in staying if family_of(each.address) not in families]
    for endpoint in [each for each in last if each not in chosen][: max(0, room)]:
        chosen[endpoint] = staying[endpoint]
    return chosen, left_out


def _backups(
    found: Sequence[Endpoint], uplinks: Sequence[ObservedUplink], state: State
) -> dict[Endpoint, str]:
    """Ours whose address is still there, as backups."""
    return {
        endpoint._replace(flags=endpoint.flags | BACKUP): name
        for endpoint, name in _last_paths(found, uplinks, state).items()
    }


def _last_paths(
    found: Sequence[Endpoint], uplinks: Sequence[ObservedUplink], state: State
) -> dict[Endpoint, str]:
    """Ours that stay, as they are, while nothing is usable: those whose address is still there."""
    owners = {
        (address.address, uplink.link.index): uplink.config.name
        for uplink in by_rank(uplinks)
        if uplink.link is not None
        for path in uplink.paths
        for address in path.covered
    }
    return {
        endpoint._replace(id=0): owners[endpoint.address, endpoint.device]
        for endpoint in found
        if is_ours(endpoint, state) and (endpoint.address, endpoint.device) in owners
    }
