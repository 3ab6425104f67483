"""How all uplinks stand, in one line: for `systemctl status`.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mproutd.configuration.config import Config
from mproutd.planning.uplinks import Observed

LONGEST = 1000
"""Characters: a service manager takes a datagram of 4096 bytes at most."""


def status_line(config: Config, observed: Sequence[Observed]) -> str:
    """As in: 2 of 3 uplinks usable: wan1 wan2; wan3 no carrier."""
    if not config.enabled:
        return "multipath is not enabled in the configuration"
    if not observed:
        return "no uplink is configured"
    usable = [entry.uplink.name for entry in observed if entry.usable]
    others = [f"{entry.uplink.name} {_reason(entry)}" for entry in observed if not entry.usable]
    count = f"{len(usable)} of {len(observed)} uplinks usable"
    first = f"{count}: {' '.join(usable)}" if usable else count
    return "; ".join([first, *others])[:LONGEST]


def _reason(entry: Observed) -> str:
    """The reason of the family that has an address, if one has: it is the one that was meant."""
    reasons = [path.reason for path in entry.paths]
    told = next((reason for reason in reasons if reason != "no-address"), reasons[0])
    return told.replace("-", " ")
