"""Events for whoever runs the daemon: to the journal with fields, else a line each on stderr.

An event is a sentence with fields; what takes fields gets them.  `journalctl UPLINK=wan2`
finds what concerned that uplink.  The journal is asked for by begin(), and only where stderr
leads there: under another supervisor, and in a terminal, stderr is where people look.

What must hold: whatever happens to the reader, saying something never fails.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7
"""syslog(3) priorities."""

level = INFO
"""What is said: this priority and the graver ones."""

NAME = "mproutd"

_send: Callable[..., object] | None = None
"""systemd's sendv("KEY=value", ...); None for stderr."""
_in_journal = False


def begin() -> None:
    """Find out where stderr leads: a daemon does so once, a command never."""
    global _send, _in_journal
    _in_journal = _leads_to_journal(os.environ.get("JOURNAL_STREAM", ""))
    if _in_journal:
        try:
            from systemd.journal import sendv
        except ImportError:
            _send = None
        else:
            _send = sendv


def event(priority: int, text: str, **fields: str) -> None:
    """Say it.  `fields` name the uplink, the device, the operation; empty ones say nothing."""
    if priority > level:
        return
    line = "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)
    try:
        if _send is not None:
            named = [f"{key}={value}" for key, value in fields.items() if value]
            _send(f"MESSAGE={line}", f"PRIORITY={priority}", f"SYSLOG_IDENTIFIER={NAME}", *named)
            return
    except (OSError, ValueError):
        pass  # stderr leads to the same journal
    # The journal knows our name, and takes a priority in front of a line: sd-daemon(3).
    front = f"<{priority}>" if _in_journal else f"{NAME}: "
    try:
        sys.stderr.write(f"{front}{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads: no reason to stop routing


def _leads_to_journal(told: str) -> bool:
    """Whether stderr is the stream that JOURNAL_STREAM (systemd.exec(5)) speaks of.

    The variable is handed on to every child, whose stderr may be another one.
    """
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return told == f"{found.st_dev}:{found.st_ino}"
