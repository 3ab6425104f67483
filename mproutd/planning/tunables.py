"""The MPTCP limits and the sysctls of devices: what they should be and what they were.  Pure.

Invariants: a value that an administrator chose stays; what was found first can be put back; no
limit is raised further than needed, and none so that an uplink which must not carry gets subflows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET

from mproutd.configuration.config import Config
from mproutd.model import (
    ANY_DEVICE,
    FAMILIES,
    FULLMESH,
    IMPLICIT,
    LAMINAR,
    SUBFLOW,
    Endpoint,
    Limits,
    Link,
    Mptcp,
    Rule,
    Snapshot,
    Sysctl,
    family_of,
)
from mproutd.planning.endpoints import flags_for
from mproutd.planning.ownership import OUR_SYSCTLS, Ownership
from mproutd.planning.sharing import carries_other_traffic
from mproutd.planning.uplinks import RANK, ObservedUplink, by_rank, local_only


def original_limits(ownership: Ownership, snapshot: Snapshot) -> Limits | None:
    """The limits without mproutd; None where the kernel has no MPTCP."""
    return ownership.original_limits(snapshot.mptcp.limits) if snapshot.mptcp else None


def plan_limits(
    ownership: Ownership,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    endpoints: Collection[Endpoint],
    shares: Mapping[int, Sequence[tuple[str, int]]],
) -> Limits | None:
    """What is configured, or else what the endpoints need; never below an administrator's.

    `shares`: family → (uplink, weight) of those that carry other traffic, with a master.
    """
    config, original = ownership.config, original_limits(ownership, snapshot)
    if snapshot.mptcp is None or original is None or not config.uplinks:
        return original
    highest = snapshot.mptcp.max_limit
    accepted = min(wanted_announcements(config, snapshot.mptcp), highest)
    if accepted and exposed_uplinks(snapshot, uplinks, endpoints, shares):
        accepted = 0
    accepted = max(original.add_addr_accepted, accepted)
    subflows = config.subflows
    if subflows is None:
        subflows = _needed_subflows(ownership, snapshot.mptcp, uplinks, accepted)
    return Limits(max(original.subflows, min(subflows, highest)), accepted)


def wanted_announcements(config: Config, mptcp: Mptcp) -> int:
    """How many announced addresses a connection is to accept, as far as it is safe.

    The option, or else as many as possible where an uplink has endpoints for announced addresses.
    """
    if config.add_addr_accepted is not None:
        return config.add_addr_accepted
    return mptcp.max_limit if _joins_announced(config, mptcp) else 0


def needs_main_default(config: Config) -> bool:
    """Whether the plan depends on where main leads unbound traffic: by a master or limits."""
    return (
        bool(config.add_addr_accepted)
        or carries_other_traffic(config)
        or any(uplink.fullmesh or uplink.laminar for uplink in config.uplinks)
    )


def exposed_uplinks(
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    endpoints: Collection[Endpoint],
    shares: Mapping[int, Sequence[tuple[str, int]]],
) -> list[tuple[ObservedUplink, int]]:
    """(uplink, family) where a subflow to an announced address would leave, and none may.

    Without a fullmesh or laminar endpoint in the family, the kernel binds such a subflow to
    nothing, so that it leaves like other traffic (net/mptcp/pm_kernel.c, fill_local_addresses_vec).
    An uplink that is `off` may carry none, one that is `handover` only while it has endpoints.
    """
    carrying = {(endpoint.device, family_of(endpoint.address)) for endpoint in endpoints}
    bound = {
        family_of(endpoint.address)
        for endpoint in endpoints
        if endpoint.flags & (FULLMESH | LAMINAR)
    }
    exposed: list[tuple[ObservedUplink, int]] = []
    for family in FAMILIES:
        route = snapshot.defaults.get((ANY_DEVICE, family))
        for uplink in uplinks if family not in bound else ():
            if family in shares:
                leads_here = any(uplink.config.name == name for name, _ in shares[family])
            else:
                leads_here = bool(route and uplink.link and uplink.link.index in route.devices)
            if not leads_here or uplink.link is None:
                continue
            mode = uplink.config.mode
            idle = (uplink.link.index, family) not in carrying
            if mode == "off" or (mode == "handover" and idle):
                exposed.append((uplink, family))
    return exposed


def _joins_announced(config: Config, mptcp: Mptcp) -> bool:
    """Whether an uplink, when it carries, has endpoints for addresses that peers announce."""
    return any(
        flags_for(config, uplink, mptcp.laminar) & (FULLMESH | LAMINAR)
        for uplink in config.uplinks
        if uplink.mode in RANK
    )


def _needed_subflows(
    ownership: Ownership, mptcp: Mptcp, uplinks: Sequence[ObservedUplink], accepted: int
) -> int:
    """How many subflows a connection may need beside its initial one.

    One from each address of the uplinks, also from the one where it began: the initial subflow,
    which does not count, may be lost, and that address joins again.  An uplink counts once
    before it has an address, so that a lost lease changes nothing.  How many a server's clients
    open, and how many addresses meet a fullmesh endpoint, is for the peers to decide.  In a pair, a
    connection that outlived standby has one subflow more.
    """
    config = ownership.config
    roles = {uplink.role or config.role for uplink in config.uplinks}
    if roles != {"client"} or (accepted and _joins_announced(config, mptcp)):
        return mptcp.max_limit
    others = [
        endpoint.address
        for endpoint in mptcp.endpoints
        if endpoint.flags & (SUBFLOW | IMPLICIT) == SUBFLOW
        and not ownership.owns_endpoint(endpoint)
    ]
    needed, ranked = 0, [*by_rank(uplinks), *local_only(uplinks)]
    for index, family in enumerate(FAMILIES):
        addresses = {address for address in others if family_of(address) == family}
        without_address = 0
        for uplink in ranked:
            eligible = uplink.paths[index].eligible
            addresses.update([address.address for address in eligible])
            without_address += not eligible
        needed = max(needed, len(addresses) + without_address)
    outlived = int(config.pair and bool(ranked))  # see relocation.py: it belongs to no endpoint
    return needed + accepted + outlived


def recorded_limits(
    ownership: Ownership, snapshot: Snapshot, wanted: Limits | None
) -> tuple[Limits, ...] | None:
    """What State.limits must hold before `wanted` is set; None for `wanted`: no change."""
    original = original_limits(ownership, snapshot)
    if snapshot.mptcp is None or original is None:
        return ownership.state.limits
    current = snapshot.mptcp.limits
    ours = wanted or current
    if current not in (original, ours):  # our earlier values stay known until they are replaced
        return (original, ours, current)
    return (original, ours) if original != ours else None


def plan_sysctls(
    ownership: Ownership,
    snapshot: Snapshot,
    uplinks: Sequence[ObservedUplink],
    endpoints: Collection[Endpoint],
    rules: Mapping[Rule, str],
    shared: Collection[str],
) -> dict[Sysctl, str]:
    """rp_filter loose where replies arrive; ARP for an address only on its own device.

    Main leads replies of subflows and of steered traffic (`rules`: those by mark or iif) through
    another device, and a strict filter drops what would not leave by the device it came from.
    `shared`: the addresses in a subnet that another device has as well.  The kernel uses the
    higher rp_filter of `all` and the device.  arp_ignore 1 replies only for addresses of the
    incoming device, arp_announce 2 sends requests only with one.  A value other than the
    default is an administrator's and stays (Documentation/networking/ip-sysctl.rst).
    """
    carrying = {endpoint.device for endpoint in endpoints if ":" not in endpoint.address}
    steered = {
        name for rule, name in rules.items() if rule.family == AF_INET and (rule.fwmask or rule.iif)
    }
    wanted: dict[Sysctl, str] = {}

    def want(link: Link, key: str, changeable: bool) -> None:
        if changeable or ownership.owns_sysctl(link.index, key, getattr(link, key)):
            wanted[Sysctl(link.name, key, OUR_SYSCTLS[key])] = uplink.config.name

    for uplink in uplinks:
        link = uplink.link
        if link is None:
            continue
        if link.index in carrying or uplink.config.name in steered:
            strict = max(link.rp_filter, snapshot.rp_filter_all) == 1
            want(link, "rp_filter", strict)
        if any(address.address in shared for address in uplink.paths[0].covered):
            want(link, "arp_ignore", link.arp_ignore == 0)
            want(link, "arp_announce", link.arp_announce == 0)
    return wanted


def sysctl_value(links: Mapping[int, Link], device: int, key: str) -> int | None:
    """The value as found; None where there is no such device or sysctl.

    `device` is an ifindex, since a sysctl stays with a device that is renamed and does not
    apply to the next device of that name.
    """
    link = links.get(device)
    return getattr(link, key) if link and key in OUR_SYSCTLS else None
