"""What the results of health checks mean for the plan.  Pure.

Invariants: the same results give the same plan in a daemon, after its restart, and in a command
without a daemon; no check makes the last usable uplink unusable, nor a family of addresses
that only one uplink in use has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mproutd.configuration.config import Config
from mproutd.model import FAMILIES
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts, ObservedUplink

Failed = tuple[tuple[str, int], ...]
"""(uplink, family) whose check has failed, in the order in which they failed."""


def effective(config: Config, state: State, facts: Facts) -> Failed:
    """The failures that count now.

    While no checks run (before a daemon's first pass, in a command) the last results count.  An
    uplink that the state file does not know begins as its initial_state says, at a start or
    after a reload.
    """
    checked = {uplink.name for uplink in config.uplinks if uplink.health}
    last = state.failed if facts.failed is None else facts.failed
    known = tuple(failure for failure in last if failure[0] in checked)
    initial = initially_offline(config, state.slots)
    return (*known, *(failure for failure in initial if failure not in known))


def initially_offline(config: Config, known: Collection[str]) -> Failed:
    """Failures of the uplinks with initial_state `offline` that are not among the `known`.

    In reverse, so that the first of the file counts as the last that failed: where all begin
    offline, that one stays usable.
    """
    return tuple(
        (uplink.name, family)
        for uplink in reversed(config.uplinks)
        if uplink.health and uplink.health.initial_state == "offline" and uplink.name not in known
        for family in FAMILIES
    )


def keep_last_usable(uplinks: Sequence[ObservedUplink], failed: Failed) -> list[ObservedUplink]:
    """The same, but where checks left none usable, the last uplink that failed stays usable.

    There is no better uplink, and the probed hosts themselves may be down.  The same goes for a
    family that an uplink in use would have but for its check.  (Not for an uplink whose check
    failed in both families: with one family it would stay in use, and `handover` would not take
    over.)  An uplink that is off counts only where there is no other.
    """
    kept = list(uplinks)
    if failed:
        _keep_last_failed(kept, failed, families=(0, 1), in_use=False)
        _keep_last_failed(kept, failed, families=(0,), in_use=True)
        _keep_last_failed(kept, failed, families=(1,), in_use=True)
    return kept


def _keep_last_failed(
    uplinks: list[ObservedUplink], failed: Failed, families: tuple[int, ...], in_use: bool
) -> None:
    """Make the last uplink that failed usable, if none is usable in any of `families`.

    `families` are indexes into FAMILIES, as of an uplink's paths.  `in_use`: only an uplink that
    is usable in the other family; else only one that is not usable at all.
    """
    ways_out = [uplink for uplink in uplinks if uplink.config.default_route]
    candidates = [uplink for uplink in ways_out if uplink.config.mode != "off"] or ways_out
    if any(uplink.paths[family].usable for uplink in candidates for family in families):
        return
    order = {
        name: position
        for position, (name, family) in enumerate(failed)
        if FAMILIES.index(family) in families
    }
    candidates = [
        uplink
        for uplink in candidates
        if uplink.usable == in_use
        and uplink.config.name in order
        and any(uplink.paths[family].reason == "check-failed" for family in families)
    ]
    if candidates:
        last = max(candidates, key=lambda uplink: order[uplink.config.name])
        paths = list(last.paths)
        for family in families:
            if paths[family].reason == "check-failed":
                paths[family] = paths[family]._replace(usable=True, reason="")
        uplinks[uplinks.index(last)] = last._replace(paths=(paths[0], paths[1]))
