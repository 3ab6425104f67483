"""What passes did and could not do, as reconcile's report has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import strerror
from typing import Any, NamedTuple

from mproutd.configuration.config import Config
from mproutd.iproute2 import device_names, ip_command
from mproutd.model import FAMILIES, FAMILY_NAMES, Operation
from mproutd.planning.inspection import Preview
from mproutd.planning.plan import Outcome, Plan
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path


def changes(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Every change that was made or refused, in order."""
    told = []
    for outcome in outcomes:
        name = device_names(outcome.snapshot.links)
        for operation in outcome.done:
            told.append(change(operation, ip_command(operation, name)))
        for failure in outcome.failures:
            text = f"{failure.text} ({strerror(failure.errno)})"
            if failure.text == strerror(failure.errno):
                text = failure.text
            told.append(change(failure.operation, ip_command(failure.operation, name), text))
    return told


def planned_changes(preview: Preview) -> list[dict[str, Any]]:
    """Every change that a reconciliation would make, in order."""
    name = device_names(preview.snapshot.links)
    return [change(operation, ip_command(operation, name)) for operation in preview.operations]


def change(operation: Operation, text: str, error: str = "") -> dict[str, Any]:
    """One change as reconcile's JSON has it."""
    return {
        "verb": operation.verb,
        "uplink": operation.uplink or None,
        "command": text,
        "error": error or None,
    }


class Decision(NamedTuple):
    """One event: a line for people, and fields for machines."""

    text: str
    uplink: str = ""
    device: str = ""
    good: bool = True
    """False for what a person may want to hear about: a line that is lost."""


def decisions(before: Plan | None, now: Plan) -> list[Decision]:
    """What the new plan decided otherwise than the old one."""
    old = {entry.config.name: entry for entry in before.uplinks} if before else {}
    told = []
    for entry in now.uplinks:
        told += _uplink(old.get(entry.config.name), entry)
    gone = old.keys() - {entry.config.name for entry in now.uplinks}
    told += [Decision(f"{name} is no longer managed", name) for name in sorted(gone)]
    previous = before.default if before else {}
    for family in FAMILIES:
        uplink = now.default.get(family, "")
        if uplink != previous.get(family, ""):
            way = f"by {uplink}" if uplink else "as main says"
            told.append(Decision(f"other traffic ({FAMILY_NAMES[family]}) leaves {way}", uplink))
    return told


def _uplink(before: ObservedUplink | None, now: ObservedUplink) -> list[Decision]:
    told = []
    name, device = now.config.name, now.config.device
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
    if before is not None and before.config.mode != now.config.mode:
        told.append(Decision(f"{name} is now {now.config.mode}", name, device))
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


MAX_STATUS_LENGTH = 1000
"""Characters: a service manager takes a datagram of 4096 bytes at most."""


def status_line(config: Config, uplinks: Sequence[ObservedUplink]) -> str:
    """As in: 2 of 3 uplinks usable: wan1 wan2; wan3 no carrier."""
    if not config.enabled:
        return "multipath is not enabled in the configuration"
    if not uplinks:
        return "no uplink is configured"
    usable = [uplink.config.name for uplink in uplinks if uplink.usable]
    others = [f"{uplink.config.name} {_reason(uplink)}" for uplink in uplinks if not uplink.usable]
    count = f"{len(usable)} of {len(uplinks)} uplinks usable"
    first = f"{count}: {' '.join(usable)}" if usable else count
    return "; ".join([first, *others])[:MAX_STATUS_LENGTH]


def _reason(uplink: ObservedUplink) -> str:
    """The reason of the family that has an address, if one has: it is the one that was meant."""
    reasons = [path.reason for path in uplink.paths]
    told = next((reason for reason in reasons if reason != "no-address"), reasons[0])
    return told.replace("-", " ")
