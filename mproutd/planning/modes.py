"""The effective mode of each uplink: the configured one, and what overflow and quotas make of it.

Pure.  An uplink whose quota is used up changes to its quota_action, unless its mode is lower
already.  A backup or handover uplink that carries because the regular ones are full has the mode
`overflow`: below the regular ones for other traffic, beside them for MPTCP.  In standby every
uplink that would carry has the mode `standby`: its table and rules stay, and nothing else uses it.

Invariants: the configuration stays as it is; the last usable uplink is taken out of use only with
`quota_hard`; the same verdicts give the same modes in a daemon, after its restart, and in a
command without a daemon.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.cost import OVERFLOW_MODES
from mproutd.planning.state import State
from mproutd.planning.uplinks import (
    OFF,
    OVERFLOW,
    RANK,
    STANDBY,
    Facts,
    ObservedUplink,
    by_rank,
)


class Verdicts:
    """What counts now: of a daemon's services or, before its first pass, of the state file."""

    def __init__(self, config: Config, state: State, facts: Facts) -> None:
        over_quota = state.over_quota if facts.over_quota is None else facts.over_quota
        overflowing = state.overflowing if facts.overflowing is None else facts.overflowing
        self.over_quota: frozenset[str] = frozenset()
        """Uplinks whose quota is used up."""
        self.overflowing: frozenset[str] = frozenset()
        """Uplinks that carry because the regular ones are full."""
        self.standby = is_standby(config, state, facts)
        """The other gateway of the pair carries."""
        if over_quota or overflowing:
            self.over_quota = frozenset(
                uplink.name
                for uplink in config.uplinks
                if uplink.quota is not None and uplink.name in over_quota
            )
            self.overflowing = frozenset(
                uplink.name
                for uplink in config.uplinks
                if may_overflow(uplink)
                and uplink.name in overflowing
                and uplink.name not in self.over_quota
            )

    def suspect_devices(self, config: Config) -> set[str]:
        """The devices whose endpoints may go although the path works: a connection that fell
        back to plain TCP there has no other."""
        return {
            uplink.device
            for uplink in config.uplinks
            if (uplink.name in self.over_quota and uplink.quota_action != "backup")
            or (
                may_overflow(uplink)
                and uplink.mode == "handover"
                and uplink.name not in self.overflowing
            )
        }


def is_standby(config: Config, state: State, facts: Facts) -> bool:
    """Whether the other gateway of a pair carries.

    The state file has what was commanded last, and does not outlive a reboot: a gateway of a pair
    starts in standby, so that none becomes active that keepalived does not want.
    """
    if not config.pair:
        return False
    commanded = state.standby if facts.standby is None else facts.standby
    return commanded is not False


def may_overflow(uplink: UplinkConfig) -> bool:
    """Whether the uplink carries while the regular ones are full."""
    return uplink.overflow is not None and uplink.mode in OVERFLOW_MODES


def with_effective_modes(config: Config, verdicts: Verdicts) -> Config:
    """The configuration with the effective modes.

    An uplink that is to be off counts as `handover` until it is known which others are usable.
    """
    if not (verdicts.over_quota or verdicts.overflowing or verdicts.standby):
        return config
    uplinks = []
    for uplink in config.uplinks:
        if uplink.name in verdicts.over_quota:
            uplink = uplink._replace(mode=_demoted(uplink))
        elif uplink.name in verdicts.overflowing:
            uplink = uplink._replace(mode=OVERFLOW)
        if verdicts.standby and uplink.mode in RANK:
            uplink = uplink._replace(mode=STANDBY)
        uplinks.append(uplink)
    return config._replace(uplinks=tuple(uplinks))


def _demoted(uplink: UplinkConfig) -> str:
    action = uplink.quota_action or "backup"
    if action == OFF and not uplink.quota_hard and uplink.mode in RANK:
        action = "handover"
    if uplink.mode not in RANK or action not in RANK:
        return OFF
    return max(uplink.mode, action, key=lambda mode: RANK[mode])


def switch_off(
    uplinks: Sequence[ObservedUplink], over_quota: Collection[str]
) -> list[ObservedUplink]:
    """The same, with the uplinks off whose quota_action is `off`, if another is usable.

    Of several that are the only usable ones, the first stays.
    """
    if not over_quota:
        return list(uplinks)
    marked = [uplink._replace(over_quota=uplink.config.name in over_quota) for uplink in uplinks]
    usable = [uplink for uplink in by_rank(marked) if uplink.usable]
    condemned = [uplink for uplink in usable if _is_condemned(uplink)]
    kept = condemned[0].config.name if condemned and len(condemned) == len(usable) else ""
    return [
        uplink._replace(config=uplink.config._replace(mode=OFF))
        if _is_condemned(uplink) and uplink.config.name != kept
        else uplink
        for uplink in marked
    ]


def _is_condemned(uplink: ObservedUplink) -> bool:
    config = uplink.config
    return uplink.over_quota and config.quota_action == OFF and config.mode != STANDBY
