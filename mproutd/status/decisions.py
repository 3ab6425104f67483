"""What changed between two passes, as events for the log.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from mproutd.model import FAMILIES, FAMILY_NAMES
from mproutd.planning.plan import Desired
from mproutd.planning.uplinks import REASONS, Observed, Path


class Decision(NamedTuple):
    """One event: a line for people, and fields for machines."""

    text: str
    uplink: str = ""
    device: str = ""
    good: bool = True
    """False for what a person may want to hear about: a line that is lost."""


def decisions(before: Desired | None, now: Desired) -> list[Decision]:
    """What the new plan decided otherwise than the old one."""
    old = {entry.uplink.name: entry for entry in before.observed} if before else {}
    told = []
    for entry in now.observed:
        told += _uplink(old.get(entry.uplink.name), entry)
    gone = old.keys() - {entry.uplink.name for entry in now.observed}
    told += [Decision(f"{name} is no longer managed", name) for name in sorted(gone)]
    previous = before.default if before else {}
    for family in FAMILIES:
        uplink = now.default.get(family, "")
        if uplink != previous.get(family, ""):
            way = f"by {uplink}" if uplink else "as main says"
            told.append(Decision(f"other traffic ({FAMILY_NAMES[family]}) leaves {way}", uplink))
    return told


def _uplink(before: Observed | None, now: Observed) -> list[Decision]:
    told = []
    name, device = now.uplink.name, now.uplink.device
    for place, path in enumerate(now.paths):
        old = before.paths[place] if before else None
        if old is not None and _said(old) == _said(path):
            continue
        if path.usable:
            told.append(Decision(f"{name} usable: {_way(path)}", name, device))
        elif (old is not None and old.usable) or (
            path.covered and (old is None or path.reason != old.reason)
        ):
            why = f"{name} not usable ({FAMILY_NAMES[path.family]}): {REASONS[path.reason]}"
            told.append(Decision(why, name, device, False))
    if not told and not any(path.covered for path in now.paths):
        # Neither family was there before: said once for both, as far as it is news.
        reason = now.paths[0].reason
        if before is None or (reason not in ("no-address", before.paths[0].reason)):
            told.append(Decision(f"{name} not usable: {REASONS[reason]}", name, device, False))
    if before is not None and before.uplink.mode != now.uplink.mode:
        told.append(Decision(f"{name} is now {now.uplink.mode}", name, device))
    return told


def _said(path: Path) -> tuple[object, ...]:
    addresses = tuple(address.address for address in path.eligible)
    return (path.usable, path.reason, addresses if path.usable else (), path.gateway)


def _way(path: Path) -> str:
    word = "addresses" if len(path.eligible) > 1 else "address"
    addresses = ", ".join(address.address for address in path.eligible)
    assert path.gateway is not None
    if not path.gateway.address:
        return f"{word} {addresses}, straight to the device"
    source = {
        "configuration": "from the configuration",
        "lease": "from the lease",
        "main": "from main",
        "remembered": "as last known",
    }.get(path.gateway.origin, f"from {path.gateway.origin}")
    return f"{word} {addresses}, gateway {path.gateway.address} {source}"
