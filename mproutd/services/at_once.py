"""What services do after a pass, done at once by a command where no daemon runs.

A service's modules are imported only if it has something to do: it is configured and the pass has
found what it is for, or an earlier process has left a record in the runtime directory.
"""

from __future__ import annotations

import os

from mproutd.configuration.config import Config
from mproutd.environment import RESOLVED_DIRECTORY
from mproutd.model import Operation, Snapshot
from mproutd.netlink.sysctls import forwarding_devices
from mproutd.planning.plan import Plan

Made = list[tuple[Operation, str]]
"""Each change, and the kernel's error."""


def change(
    runtime_dir: str, config: Config, plan: Plan, snapshot: Snapshot, *, dry_run: bool = False
) -> Made:
    """What is changed in the kernel."""
    made: Made = []
    if _may_have_table(runtime_dir, config, snapshot):
        from mproutd.firewall import table

        made += table.change_now(runtime_dir, config, plan, snapshot, dry_run=dry_run)
    if _has_prefixes(plan) or _exists(runtime_dir, "prefixes.json"):
        from mproutd.services import lan_prefixes

        made += lan_prefixes.change_now(runtime_dir, config, plan, dry_run=dry_run)
    return made


def update_resolvers(runtime_dir: str, config: Config, plan: Plan) -> list[str]:
    """What is changed in other programs; what failed.  OSError."""
    if plan.resolvers or _exists(runtime_dir, "resolv.conf"):
        from mproutd import resolv_conf

        resolv_conf.update(runtime_dir, config.enabled, plan)
    if os.path.isdir(RESOLVED_DIRECTORY) or _exists(runtime_dir, "resolved.json"):
        from mproutd.services import resolved_bus

        return resolved_bus.update(runtime_dir, config.enabled, plan)
    return []


def _may_have_table(runtime_dir: str, config: Config, snapshot: Snapshot) -> bool:
    """Whether there should be a table or may be one; without multipath it is always looked for."""
    return (
        not config.enabled
        or _exists(runtime_dir, "nftables")
        or bool(forwarding_devices(link.name for link in snapshot.links.values()))
    )


def _has_prefixes(plan: Plan) -> bool:
    """Whether hosts may have addresses from an uplink's prefix."""
    return any(uplink.paths[1].prefixes or uplink.config.prefix for uplink in plan.uplinks)


def _exists(runtime_dir: str, name: str) -> bool:
    return os.path.lexists(os.path.join(runtime_dir, name))
