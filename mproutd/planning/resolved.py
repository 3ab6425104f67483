"""Which links systemd-resolved should not ask for names that belong to no link.  Pure.

systemd-resolved asks the resolvers of all links at once, each through its own link, and believes
that a name does not exist only when all have replied.  While an uplink has a carrier and is dead,
such lookups wait for it.  A link whose `default-route` is off is left out of them.

Invariants: only a link that is on record is switched on again; what somebody else sets in between
stays as it is; no link is switched off unless another one that carries has resolvers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mproutd.planning.uplinks import OFF, ObservedUplink

Record = Mapping[int, str]
"""ifindex → device of the links that we have switched off."""


class Links(NamedTuple):
    """The links of the uplinks, by what names may expect of them."""

    silent: Mapping[int, str] = {}
    """ifindex → device: has a carrier, but its health check has failed or its quota is used up."""
    carrying: frozenset[int] = frozenset()
    """ifindexes of those that may carry queries."""


class LinkState(NamedTuple):
    """What systemd-resolved has of a link."""

    default_route: bool
    has_servers: bool


class Change(NamedTuple):
    """A link's `default-route` has to be set."""

    index: int  # type: ignore[assignment]  # hides tuple.index(), which is not used
    device: str
    default_route: bool


def plan_links(uplinks: Iterable[ObservedUplink], enabled: bool = True) -> Links:
    """What the links are, as far as they concern systemd-resolved.

    An uplink that is configured to be off is left alone, unlike one that its quota switches off:
    its resolvers are the administrator's choice.
    """
    silent: dict[int, str] = {}
    carrying = set()
    for uplink in uplinks if enabled else ():
        link, config = uplink.link, uplink.config
        if link is None or not config.default_route or _is_configured_off(uplink):
            continue
        if uplink.usable and config.mode != OFF:
            carrying.add(link.index)
        elif link.up and link.carrier and (_has_failed(uplink) or uplink.usable):
            silent[link.index] = link.name
    known = {index: name for index, name in silent.items() if index not in carrying}
    return Links(known, frozenset(carrying)) if carrying else Links()


def _is_configured_off(uplink: ObservedUplink) -> bool:
    return uplink.config.mode == OFF and not uplink.over_quota


def _has_failed(uplink: ObservedUplink) -> bool:
    return not uplink.usable and any(path.reason == "check-failed" for path in uplink.paths)


def plan_changes(
    links: Links, states: Mapping[int, LinkState], record: Record
) -> tuple[list[Change], dict[int, str]]:
    """(what has to be set, the record without the links that need none).

    `states` are those of the links that systemd-resolved knows.
    """
    answered = any(
        index in states and states[index].has_servers and states[index].default_route
        for index in links.carrying
    )
    changes, remaining = [], dict(record)
    for index, device in record.items():
        state = states.get(index)
        if state is None or (index not in links.silent and state.default_route):
            del remaining[index]
        elif index not in links.silent:
            changes.append(Change(index, device, True))
    for index, device in links.silent.items():
        state = states.get(index)
        if index in record or state is None or not answered:
            continue
        if state.default_route and state.has_servers:
            changes.append(Change(index, device, False))
    return changes, remaining


def encode(record: Record) -> dict[str, Any]:
    return {"links": {str(index): device for index, device in record.items()}}


def decode(document: Any) -> Record:
    """The record in a file.  ValueError."""
    links = document.get("links") if isinstance(document, dict) else None
    if not isinstance(links, dict) or not all(
        index.isdecimal() and isinstance(device, str) for index, device in links.items()
    ):
        raise ValueError("is not a record of links")
    return {int(index): device for index, device in links.items()}
