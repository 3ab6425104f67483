"""What the plan makes of the verdicts of health checks.  Pure.

What must hold: the same verdicts give the same plan in a daemon, after its restart and in a
command without one; no check ever makes the last usable uplink unusable, nor takes a family of
addresses away that only an uplink in use has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mproutd.configuration.config import Config
from mproutd.model import FAMILIES
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts, ObservedUplink

Failed = tuple[tuple[str, int], ...]
"""(uplink, family) of each that a check takes for dead, in the order in which they failed."""


def effective(config: Config, state: State, facts: Facts) -> Failed:
    """The verdicts that count now.

    While nobody checks (before a daemon's first pass, in a command) the last ones stand.  An
    uplink of which there is no state begins as its initial_state says, at a start or with a
    reload.  Where all begin offline, the first of the file is spared.
    """
    asked = {uplink.name for uplink in config.uplinks if uplink.health}
    last = state.failed if facts.failed is None else facts.failed
    known = tuple(each for each in last if each[0] in asked)
    return (*known, *(each for each in initially_offline(config, state.slots) if each not in known))


def initially_offline(config: Config, known: Collection[str]) -> Failed:
    """Who begins as failed: `initial_state` is offline, and it is none of the `known` uplinks."""
    return tuple(
        (uplink.name, family)
        for uplink in reversed(config.uplinks)
        if uplink.health and uplink.health.initial_state == "offline" and uplink.name not in known
        for family in FAMILIES
    )


def keep_last_usable(uplinks: Sequence[ObservedUplink], failed: Failed) -> list[ObservedUplink]:
    """The same, but if none were usable because of checks, the last that failed is.

    Nothing better is known than that line, and the hosts that were asked may be what is dead.
    The same goes for a family that no uplink in use has but for its check.  (Where the whole
    uplink failed that is no reason: it would be in use with one family, and keep `handover`
    from taking over.)  An uplink that is off counts only where there is no other.
    """
    seen = list(uplinks)
    for families, alive in (((0, 1), False), ((0,), True), ((1,), True)) if failed else ():
        _spare(seen, failed, families, alive)
    return seen


def _spare(
    seen: list[ObservedUplink], failed: Failed, families: tuple[int, ...], alive: bool
) -> None:
    """`families`: by their places in FAMILIES, as in an uplink's paths.  `alive`: only among the
    uplinks that are usable, by the other family."""
    counting = [uplink for uplink in seen if uplink.config.mode != "off"] or seen
    if any(uplink.paths[family].usable for uplink in counting for family in families):
        return
    order = {
        name: place
        for place, (name, family) in enumerate(failed)
        if FAMILIES.index(family) in families
    }
    out = [
        uplink
        for uplink in counting
        if uplink.usable == alive
        and uplink.config.name in order
        and any(uplink.paths[family].reason == "check-failed" for family in families)
    ]
    if out:
        last = max(out, key=lambda uplink: order[uplink.config.name])
        paths = list(last.paths)
        for family in families:
            if paths[family].reason == "check-failed":
                paths[family] = paths[family]._replace(usable=True, reason="")
        seen[seen.index(last)] = last._replace(paths=(paths[0], paths[1]))
