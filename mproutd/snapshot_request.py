"""What a pass has to read, which depends on configuration, state and facts alone."""

from __future__ import annotations

from mproutd.configuration.config import Config
from mproutd.model import family_of
from mproutd.netlink.kernel import SnapshotRequest
from mproutd.planning.cache import cache_recent
from mproutd.planning.decision import KEPT
from mproutd.planning.health import effective
from mproutd.planning.modes import Verdicts
from mproutd.planning.numbering import tables_in_use
from mproutd.planning.ownership import Ownership
from mproutd.planning.sharing import NEXTHOP_IDS, uses_nexthops
from mproutd.planning.state import State
from mproutd.planning.tunables import needs_main_default
from mproutd.planning.uplinks import Facts

NO_FACTS = Facts()


def snapshot_request(
    config: Config,
    state: State,
    *,
    sweep: bool,
    full: bool,
    facts: Facts = NO_FACTS,
    probe: bool = False,
) -> SnapshotRequest:
    """What to read.  `sweep` includes every table that may hold routes of ours.

    `probe` permits the kernel's features to be probed by writes, where the plan depends on them.
    """
    return _snapshot_request(config, state, facts, sweep, full, probe)


@cache_recent(KEPT)
def _snapshot_request(
    config: Config, state: State, facts: Facts, sweep: bool, full: bool, probe: bool
) -> SnapshotRequest:
    if sweep or not config.enabled:
        tables = Ownership(config, state).tables
    else:
        tables = state.tables | tables_in_use(config, state.slots, state.policies)
    devices = {uplink.device for uplink in config.uplinks}
    failed = {name for name, _ in effective(config, state, facts)}
    remembered = {(device, family_of(address)) for device, address in state.gateways}
    suspect_devices = {uplink.device for uplink in config.uplinks if uplink.name in failed}
    suspect_devices |= Verdicts(config, state, facts).suspect_devices(config)
    return SnapshotRequest(
        devices,
        sorted(tables),
        config.mark_mask,
        state.without_endpoint,
        full,
        suspect_devices,
        remembered,
        any_device=sweep or needs_main_default(config),
        nexthops=NEXTHOP_IDS if sweep or state.nexthops or uses_nexthops(config) else range(0),
        probe_laminar=probe and any(uplink.laminar for uplink in config.uplinks),
    )
