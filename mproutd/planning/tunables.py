"""The limits and sysctls that we change: what they should be, and what they were before.

What must hold: a value that an administrator chose stays, ours is known by the memory, and
what was found at first can be put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mproutd.configuration.config import Config
from mproutd.model import Endpoint, Limits, Link, Snapshot, Sysctl
from mproutd.planning.cache import cache_last
from mproutd.planning.state import State
from mproutd.planning.uplinks import ObservedUplink

OURS = {"rp_filter": 2, "arp_ignore": 1, "arp_announce": 2}
"""The sysctls that we change, and the one value that we give them."""


def before_us(snapshot: Snapshot, state: State) -> Limits | None:
    """The limits without our doing: what we found, unless somebody changed them since."""
    if snapshot.mptcp is None:
        return None
    found = snapshot.mptcp.limits
    if state.limits is None:
        return found
    before, *ours = state.limits
    return Limits(
        before.subflows if found.subflows in [each.subflows for each in ours] else found.subflows,
        before.add_addr_accepted
        if found.add_addr_accepted in [each.add_addr_accepted for each in ours]
        else found.add_addr_accepted,
    )


def plan_limits(config: Config, snapshot: Snapshot, state: State) -> Limits | None:
    """At least what is configured, or all that the kernel allows; never below an admin's."""
    before = before_us(snapshot, state)
    if snapshot.mptcp is None or before is None or not config.uplinks:
        return before
    cap = snapshot.mptcp.cap

    def raised(wanted: int | None, now: int) -> int:
        return max(now, cap if wanted is None else min(wanted, cap))

    return Limits(
        raised(config.subflows, before.subflows),
        raised(config.add_addr_accepted, before.add_addr_accepted),
    )


def plan_sysctls(
    snapshot: Snapshot,
    state: State,
    uplinks: Sequence[ObservedUplink],
    endpoints: Mapping[Endpoint, str],
    shared: Mapping[str, object],
) -> dict[Sysctl, str]:
    """rp_filter loose where subflows arrive; ARP for an address only on its own device.

    Documentation/networking/ip-sysctl.rst: rp_filter counts as the higher of `all` and the
    device's; arp_ignore 1 answers for an address of the incoming device alone, arp_announce
    2 asks with one.  A value that somebody chose (anything but the default) stays.
    """
    carrying = {endpoint.device for endpoint in endpoints if ":" not in endpoint.address}
    wanted: dict[Sysctl, str] = {}

    def want(link: Link, key: str, changeable: bool) -> None:
        kept = getattr(link, key) == OURS[key] and (link.index, key) in state.sysctls
        if changeable or kept:
            wanted[Sysctl(link.name, key, OURS[key])] = uplink.config.name

    for uplink in uplinks:
        link = uplink.link
        if link is None:
            continue
        if link.index in carrying:
            strict = max(link.rp_filter, snapshot.rp_filter_all) == 1
            want(link, "rp_filter", strict)
        if any(address.address in shared for address in uplink.paths[0].covered):
            want(link, "arp_ignore", link.arp_ignore == 0)
            want(link, "arp_announce", link.arp_announce == 0)
    return wanted


@cache_last
def settings(links: Mapping[int, Link]) -> dict[tuple[int, str], int]:
    """(ifindex, key) → value, as found.  A pass asks three times.

    By ifindex, since a setting goes with a device that is renamed, and not over to the next
    one that gets its name.
    """
    return {(index, key): getattr(link, key) for index, link in links.items() for key in OURS}


def limits_to_remember(
    snapshot: Snapshot, state: State, wanted: Limits | None
) -> tuple[Limits, ...] | None:
    before = before_us(snapshot, state)
    if snapshot.mptcp is None or before is None:
        return state.limits
    found = snapshot.mptcp.limits
    after = wanted or found
    if found not in (before, after):  # ours of before: known as such until the change is made
        return (before, after, found)
    return (before, after) if before != after else None
