"""What is likely to happen next: an uplink loses its carrier, or gets it back.  Pure.

Deciding in advance keeps the decision (decision.py), so that the operations lie ready the first
time, too.  A guess that does not come true costs nothing but the time in which nothing else was to
be done: what a pass really sees is looked up, and where it is anything else, decided.
"""

from __future__ import annotations

from collections.abc import Iterator

from mproutd.configuration.config import Config
from mproutd.model import Snapshot
from mproutd.planning.decision import decide
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts, by_name

ANTICIPATION_DELAY = 1.5
"""Seconds from the last change; later than facts change by themselves (HANDBACK_DELAY)."""
MAX_UPLINKS = 4
"""With more, deciding for each of them takes too long, and too many decisions would be kept."""


def likely_snapshots(config: Config, snapshot: Snapshot) -> Iterator[Snapshot]:
    """For each uplink in use, what a pass will see when its carrier has come or gone."""
    if not config.enabled or len(config.uplinks) > MAX_UPLINKS:
        return
    links = by_name(snapshot.links)
    for uplink in config.uplinks:
        link = links.get(uplink.device)
        if link is not None and link.up and uplink.mode != "off":
            changed = link._replace(carrier=not link.carrier)
            yield snapshot._replace(links={**snapshot.links, link.index: changed})


def anticipate(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> None:
    """Decide what to do then."""
    for likely in likely_snapshots(config, snapshot):
        decide(config, likely, state, facts)
