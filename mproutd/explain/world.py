"""The configuration, the plan and the firewall's table, read for one explanation."""

from __future__ import annotations

from functools import partial

from mproutd.explain.decide import World
from mproutd.explain.kernel import FlowKernel
from mproutd.firewall import nft
from mproutd.firewall.ruleset import TABLE
from mproutd.firewall.table import is_router, pending_change, wanted_table
from mproutd.planning.inspection import Preview


def read_world(preview: Preview, runtime_dir: str, kernel: FlowKernel) -> World:
    """What the daemon has, or would have; `kernel` looks into sets.  OSError."""
    config, snapshot, plan, _ = preview
    wanted = wanted_table(config, plan, snapshot, is_router(snapshot))
    pins = None
    if wanted.chains:
        try:
            found = nft.read_table()
        except OSError:
            found = nft.Found()
        pins = pending_change(nft.Record(runtime_dir), wanted, found) is None
    in_set = partial(kernel.set_contains, TABLE)
    return World(config, snapshot, plan, in_set, pins)
