"""What precedes an imported configuration: where it goes, and what it still needs.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mproutd.configuration.sections import Section
from mproutd.importers.draft import Draft


def header(draft: Draft, program: str, network: Sequence[Section], existing: str) -> None:
    """Comments at the top; `existing`: our file, if there is one already."""
    top = draft.add()
    top.comment(
        f"From {program}: /etc/config/mproutd (Debian: /etc/mproutd/mproutd). Save it, and run "
        "mproutd check. Comments name what has no counterpart."
    )
    if existing:
        top.comment(f"{existing} exists already: merge the two by hand.")
    enabled = any(
        section.options["multipath"].values[-1] == "enable"
        for section in network
        if section.type == "globals" and "multipath" in section.options
    )
    if not enabled:
        top.comment(
            "mproutd is inactive until network has: config globals 'globals', "
            "option multipath 'enable'"
        )
    top.comment(f"Disable {program} before mproutd starts: both would make rules and marks.")
