"""Which MPTCP endpoints should be there.  Pure.

Deleting an endpoint closes its subflows, and a connection whose last subflow is closed dies
after net.mptcp.close_timeout.  So a last path is never closed:

- While no uplink is usable, an endpoint of ours whose address is still on its device stays as
  it is: there is no better path, and its subflow may recover with the carrier.
- While no carrying uplink is usable in one family, such an endpoint of that family stays as a
  backup, so that connections with a path in the other family move there.
- Where a link is out and a connection there is plain TCP, because its peer has no MPTCP, the
  endpoint stays as a backup, so that the connection can go on when the carrier is back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.model import (
    ANY_DEVICE,
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
from mproutd.planning.ownership import Ownership
from mproutd.planning.uplinks import ObservedUplink, Path, by_rank, local_only


def active(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """The uplinks that carry MPTCP now, best first.

    Of the handover uplinks only the first usable one, and only while no other uplink carries.
    Uplinks that are usable and carry nothing stay, so that their routing is verified further.
    """
    usable = [uplink for uplink in by_rank(uplinks) if uplink.usable]
    regular = [uplink for uplink in usable if uplink.config.mode != "handover"]
    if any(carries(uplink) for uplink in regular):
        return regular
    reserve = usable[len(regular) :]
    first = next((place for place, uplink in enumerate(reserve) if carries(uplink)), len(reserve))
    return [*regular, *reserve[: first + 1]]


def carries(uplink: ObservedUplink) -> bool:
    """Whether it is usable for MPTCP in a family."""
    return any(path_carries(uplink, path) for path in uplink.paths)


def path_carries(uplink: ObservedUplink, path: Path) -> bool:
    addresses = {address.address for address in path.eligible} if uplink.withheld else set()
    return path.usable and (not addresses or not addresses <= uplink.withheld)


def without_service(
    ownership: Ownership, mptcp: Mptcp | None, uplinks: Sequence[ObservedUplink]
) -> frozenset[str]:
    """The addresses at which another program's endpoint takes the place of ours and serves not.

    It may have another role, or bind subflows to another device.
    """
    found = mptcp.endpoints if mptcp else ()
    foreign = ownership.foreign_keys(found)
    if not foreign:
        return frozenset()
    useless = set()
    for uplink in uplinks:
        flags = flags_for(ownership.config, uplink.config, False)
        wanted, port = flags & (SUBFLOW | SIGNAL), port_for(uplink.config, flags)
        own = {address.address for path in uplink.paths for address in path.eligible}
        for endpoint in found:
            blocks = endpoint.key in foreign and endpoint.port == port
            if blocks and endpoint.address in own and uplink.link:
                bound_here = endpoint.device in (0, uplink.link.index)
                if not (endpoint.flags & wanted and bound_here):
                    useless.add(endpoint.address)
    return frozenset(useless)


def flags_for(config: Config, uplink: UplinkConfig, laminar: bool) -> int:
    """MPTCP_PM_ADDR_FLAG_* for an uplink's endpoints; `laminar`: the kernel knows that flag.

    `backup` has no effect without `subflow`; the kernel rejects fullmesh with signal
    (net/mptcp/pm_kernel.c, mptcp_pm_nl_add_addr_doit).
    """
    role = uplink.role or config.role
    flags = {"client": SUBFLOW, "server": SIGNAL, "both": SUBFLOW | SIGNAL}[role]
    if uplink.mode == "backup":
        flags |= BACKUP
    if uplink.fullmesh and flags == flags & (SUBFLOW | BACKUP):
        flags |= FULLMESH
    if uplink.laminar and laminar and flags & SUBFLOW:
        flags |= LAMINAR
    return flags


def port_for(uplink: UplinkConfig, flags: int) -> int:
    """The port of an endpoint with these flags; 0 for none.

    The kernel accepts one only where an address is announced and not used for subflows itself
    (net/mptcp/pm_kernel.c, address_use_port).
    """
    return uplink.port or 0 if flags & (SIGNAL | SUBFLOW) == SIGNAL else 0


def _bound_to(uplink: ObservedUplink) -> int:
    """The ifindex in an uplink's endpoints.

    None for one that leads to its own subnets only: a socket that is bound to a device takes any
    IPv4 address for a neighbour there (net/ipv4/route.c, ip_route_output_key_hash_rcu), while
    without one a subflow to the internet fails at once, by the unreachable route in its table.
    """
    assert uplink.link is not None
    return uplink.link.index if uplink.config.default_route else ANY_DEVICE


def is_client_endpoint(flags: int) -> bool:
    """Whether adding such an endpoint only opens subflows from it.

    An announced one (signal) is used by the peers as well: deleting it closes their subflows,
    and adding it again restores only those that the peers choose to open.
    """
    return flags & (SUBFLOW | SIGNAL) == SUBFLOW


def plan_endpoints(
    ownership: Ownership,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    settled: frozenset[str] | None = None,
) -> tuple[dict[Endpoint, str], dict[str, str]]:
    """(endpoint → uplink, the most useful first; address → uplink of those that do not fit).

    `settled`: see Facts.
    """
    mptcp = snapshot.mptcp
    if mptcp is None:
        return {}, {}
    carrying = active(uplinks)
    carrying += [
        uplink
        for uplink in _handing_back(ownership, mptcp, uplinks, settled)
        if uplink not in carrying
    ]
    near = [uplink for uplink in local_only(uplinks) if uplink.usable]
    planned: dict[Endpoint, str] = {}
    if not near:
        planned |= _keep_present(ownership, mptcp, local_only(uplinks))
    if not carrying:
        planned |= _keep_present(ownership, mptcp, _ways_out(uplinks))
    standby = _standby(uplinks, carrying) if carrying else []
    candidates = _candidates(ownership.config, mptcp, carrying, standby, near)
    addresses = {endpoint.address for endpoint, _ in candidates}
    families = _families([*carrying, *standby]) if carrying else set(FAMILIES)
    sole_path = snapshot.sole_path - addresses
    backups: dict[Endpoint, str] = {}
    if sole_path or any(family_of(present.address) not in families for present in mptcp.endpoints):
        backups = {
            endpoint._replace(flags=endpoint.flags | BACKUP): name
            for endpoint, name in _keep_present(ownership, mptcp, _ways_out(uplinks)).items()
        }
    planned |= {
        endpoint: name for endpoint, name in backups.items() if endpoint.address in sole_path
    }
    room = _room(ownership, mptcp, addresses | snapshot.idle_implicit) - len(planned)
    foreign = ownership.foreign_keys(mptcp.endpoints)
    over_cap: dict[str, str] = {}
    for endpoint, name in candidates:
        if endpoint.key in foreign:  # somebody else's serves as well, and takes no more room
            planned[endpoint] = name
        elif room > 0:
            planned[endpoint] = name
            room -= 1
        else:
            over_cap[endpoint.address] = name
    last = [
        endpoint
        for endpoint in backups
        if family_of(endpoint.address) not in families and endpoint not in planned
    ]
    for endpoint in last[: max(0, room)]:
        planned[endpoint] = backups[endpoint]
    return planned, over_cap


def _candidates(
    config: Config,
    mptcp: Mptcp,
    carrying: Sequence[ObservedUplink],
    standby: Sequence[ObservedUplink],
    near: Sequence[ObservedUplink],
) -> list[tuple[Endpoint, str]]:
    """(endpoint, uplink), the most useful first; `near` are the usable ones of local_only().

    Every uplink gets one before any gets two, and one of each family before two of one.
    """
    candidates: list[tuple[int, Endpoint, str]] = []
    for uplink in [*carrying, *standby, *near]:
        assert uplink.link is not None
        flags = flags_for(config, uplink.config, mptcp.laminar)
        flags |= BACKUP if uplink in standby else 0
        port = port_for(uplink.config, flags)
        by_family = (path.eligible for path in uplink.paths if path.usable)
        alternating = (
            address
            for addresses in zip_longest(*by_family)
            for address in addresses
            if address is not None
        )
        for turn, address in enumerate(alternating):
            endpoint = Endpoint(address.address, _bound_to(uplink), flags, port=port)
            candidates.append((turn, endpoint, uplink.config.name))
    candidates.sort(key=lambda candidate: candidate[0])
    return [(endpoint, name) for _, endpoint, name in candidates]


def _room(ownership: Ownership, mptcp: Mptcp, yielding: Collection[str]) -> int:
    """How many endpoints of ours fit beside the others; implicit ones at `yielding` give way."""
    others = sum(
        not ownership.owns_endpoint(endpoint)
        and not (endpoint.flags & IMPLICIT and endpoint.address in yielding)
        for endpoint in mptcp.endpoints
    )
    return mptcp.max_endpoints - others


def _handing_back(
    ownership: Ownership,
    mptcp: Mptcp,
    uplinks: Sequence[ObservedUplink],
    settled: frozenset[str] | None,
) -> list[ObservedUplink]:
    """The handover uplinks whose endpoints stay until a regular uplink has settled.

    Connections need a round trip to open subflows there.  Without this overlap they would
    stall meanwhile, and die if the uplink that came back does not carry traffic yet.
    """
    if settled is None or all(uplink.config.mode != "handover" for uplink in uplinks):
        return []
    regular = [uplink.config.name for uplink in active(uplinks) if uplink.config.mode != "handover"]
    if not regular or not settled.isdisjoint(regular):
        return []
    own = {
        (endpoint.address, endpoint.device)
        for endpoint in mptcp.endpoints
        if ownership.owns_endpoint(endpoint)
    }
    return [
        uplink
        for uplink in by_rank(uplinks)
        if uplink.config.mode == "handover"
        and uplink.link is not None
        and any(
            path.usable and (address.address, uplink.link.index) in own
            for path in uplink.paths
            for address in path.eligible
        )
    ]


def _standby(
    uplinks: Sequence[ObservedUplink], carrying: Sequence[ObservedUplink]
) -> list[ObservedUplink]:
    """The first usable uplink in each family in which no carrying one is usable, in that family.

    It is a handover uplink, since all others are tried.  A connection of that family which began
    there can move nowhere else: without its endpoint it would end although its path works.
    """
    standby = []
    for index in range(len(FAMILIES)):
        if any(path_carries(uplink, uplink.paths[index]) for uplink in carrying):
            continue
        first = next(
            (uplink for uplink in by_rank(uplinks) if path_carries(uplink, uplink.paths[index])),
            None,
        )
        if first is not None:
            v4, v6 = (
                path._replace(usable=path.usable and position == index)
                for position, path in enumerate(first.paths)
            )
            standby.append(first._replace(paths=(v4, v6)))
    return standby


def _ways_out(uplinks: Sequence[ObservedUplink]) -> list[ObservedUplink]:
    """Those of by_rank(), and those that a quota has switched off, unless it is a hard one."""
    switched_off = [
        uplink
        for uplink in uplinks
        if uplink.over_quota and uplink.config.mode == "off" and not uplink.config.quota_hard
    ]
    return [*by_rank(uplinks), *switched_off]


def _families(uplinks: Sequence[ObservedUplink]) -> set[int]:
    """The families in which one of these is a way out for MPTCP."""
    return {path.family for uplink in uplinks for path in uplink.paths if path.usable}


def _keep_present(
    ownership: Ownership, mptcp: Mptcp, uplinks: Sequence[ObservedUplink]
) -> dict[Endpoint, str]:
    """Our existing endpoints, as they are, whose address is still on its device."""
    owners = {
        (address.address, _bound_to(uplink)): uplink.config.name
        for uplink in uplinks
        if uplink.link is not None
        for path in uplink.paths
        for address in path.covered
    }
    return {
        endpoint._replace(id=0): owners[endpoint.address, endpoint.device]
        for endpoint in mptcp.endpoints
        if ownership.owns_endpoint(endpoint) and (endpoint.address, endpoint.device) in owners
    }
