"""Whether this gateway has a way out, in as little as a script needs every second.  Pure.

It comes from the last pass, without a look at the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mproutd.configuration.config import Config
from mproutd.planning.modes import is_standby
from mproutd.planning.plan import Plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import OFF, Facts, ObservedUplink

if TYPE_CHECKING:
    from mproutd.planning.health import Failed


class Record(Protocol):
    """The state file."""

    state: State
    error: str


def usable_uplinks(plan: Plan | None, config: Config, record: Record) -> dict[str, Any]:
    """The reply to the request `usable`: the uplinks that are usable, and why others are not.

    An uplink that is only in use because all checks failed does not count: another gateway may
    have a better one.
    """
    uplinks = [
        uplink
        for uplink in (plan.uplinks if plan else ())
        if uplink.config.mode != OFF and uplink.config.default_route
    ]
    failed = plan.state.failed if plan else ()
    reasons = {uplink.config.name: _reason(uplink, failed) for uplink in uplinks}
    return {
        "usable": [name for name, reason in reasons.items() if not reason],
        "reasons": {name: reason for name, reason in reasons.items() if reason},
        "enabled": config.enabled,
        "standby": is_standby(config, record.state, Facts()) if config.pair else None,
        "state_file_error": record.error,
    }


def _reason(uplink: ObservedUplink, failed: Failed) -> str:
    """Why it is not usable; empty when it is."""
    working = [
        path
        for path in uplink.paths
        if path.usable and (uplink.config.name, path.family) not in failed
    ]
    if working:
        return ""
    shown = next((path for path in uplink.paths if path.usable or path.eligible), uplink.paths[0])
    return shown.reason or "check-failed"
