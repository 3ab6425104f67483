"""Which devices and subnets the plan depends on, and so which events.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.model import Snapshot
from mproutd.planning.cache import cache_last
from mproutd.planning.overlaps import subnet_keys
from mproutd.planning.routes import main_default_devices
from mproutd.planning.uplinks import ObservedUplink


class Relevance(NamedTuple):
    """The arguments of bpf.is_relevant()."""

    indexes: frozenset[int]
    names: frozenset[str]
    networks: frozenset[tuple[int, int, int]]


@cache_last
def relevance(
    config: Config, snapshot: Snapshot | None, uplinks: tuple[ObservedUplink, ...]
) -> Relevance:
    """`snapshot` and `uplinks` are those of the last pass."""
    indexes = frozenset(uplink.link.index for uplink in uplinks if uplink.link)
    if snapshot is not None:
        indexes |= main_default_devices(snapshot)
    names = frozenset(uplink.device for uplink in config.uplinks)
    return Relevance(indexes, names, subnet_keys(uplinks))
