"""The MPTCP limits and the sysctls of devices: what they should be and what they were.  Pure.

Invariants: a value that an administrator chose stays; what was found first can be put back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET

from mproutd.model import Endpoint, Limits, Link, Rule, Snapshot, Sysctl
from mproutd.planning.ownership import OUR_SYSCTLS, Ownership
from mproutd.planning.uplinks import ObservedUplink


def original_limits(ownership: Ownership, snapshot: Snapshot) -> Limits | None:
    """The limits without mproutd; None where the kernel has no MPTCP."""
    return ownership.original_limits(snapshot.mptcp.limits) if snapshot.mptcp else None


def plan_limits(ownership: Ownership, snapshot: Snapshot) -> Limits | None:
    """What is configured, or all that the kernel accepts; never below an administrator's."""
    config, original = ownership.config, original_limits(ownership, snapshot)
    if snapshot.mptcp is None or original is None or not config.uplinks:
        return original
    highest = snapshot.mptcp.max_limit

    def raised(wanted: int | None, found: int) -> int:
        return max(found, highest if wanted is None else min(wanted, highest))

    return Limits(
        raised(config.subflows, original.subflows),
        raised(config.add_addr_accepted, original.add_addr_accepted),
    )


def recorded_limits(
    ownership: Ownership, snapshot: Snapshot, wanted: Limits | None
) -> tuple[Limits, ...] | None:
    """What State.limits must hold before `wanted` is set; None for `wanted`: no change."""
    original = original_limits(ownership, snapshot)
    if snapshot.mptcp is None or original is None:
        return ownership.state.limits
    found = snapshot.mptcp.limits
    ours = wanted or found
    if found not in (original, ours):  # our earlier values stay known until they are replaced
        return (original, ours, found)
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
