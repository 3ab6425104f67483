"""Events for whoever runs the daemon: one line each on stderr, for any supervisor.

An event is a sentence with fields; what takes fields gets them.
"""

from __future__ import annotations

import sys

ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7
"""syslog(3) priorities."""

level = INFO
"""What is said: this priority and the graver ones."""


def event(priority: int, text: str, **fields: str) -> None:
    """Say it.  `fields` name the uplink, the device, the operation."""
    if priority > level:
        return
    line = "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)
    try:
        sys.stderr.write(f"mproutd: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads: no reason to stop routing
