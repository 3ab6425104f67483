"""`mproutd connections`: the MPTCP connections, or their sums by peer or port."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd import commands
from mproutd.commands import warn

if TYPE_CHECKING:
    from mproutd.status.connection_types import ConnectionStatus

SAMPLE_SECONDS = 1.0
"""Between the two lists that rates are computed from."""


def perform(options: argparse.Namespace) -> str:
    """What the options want to be printed.  CommandError."""
    begun, connections = time.monotonic(), commands.connections(options)
    if not os.path.isdir("/proc/sys/net/mptcp"):
        warn("the kernel does not support MPTCP: use one with CONFIG_MPTCP=y")
    if options.by:
        return _sums(options, connections, begun)
    from mproutd.status.connections import VERSION
    from mproutd.status.render import connection_lines

    if options.json:
        return json.dumps({"version": VERSION, "connections": connections}, indent=2)
    return "\n".join(connection_lines(connections))


def _sums(options: argparse.Namespace, previous: Sequence[ConnectionStatus], begun: float) -> str:
    from mproutd.status.connection_groups import VERSION, group_lines, grouped

    time.sleep(SAMPLE_SECONDS)
    seconds, connections = time.monotonic() - begun, commands.connections(options)
    groups = grouped(options.by, connections, previous, seconds)
    if options.json:
        sums = {"version": VERSION, "by": options.by, "seconds": round(seconds, 3)}
        return json.dumps({**sums, "groups": groups}, indent=2)
    return "\n".join(group_lines(options.by, groups))
