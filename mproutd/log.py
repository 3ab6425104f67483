"""The log: to the journal with fields, to syslog, else one line for each event on stderr.

`journalctl UPLINK=wan2` finds the events of that uplink.  The journal is used only after setup(),
and only where stderr leads to it; syslog only on request (`run --syslog`), for supervisors that
log all of stderr as errors, such as procd.  In a terminal, people read stderr.

Invariant: logging never raises, whatever happens to the reader.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7
"""syslog(3) priorities."""

level = INFO
"""Events of a lower priority (a higher number) are not logged."""

IDENTIFIER = "mproutd"
SYSLOG_SOCKET = "/dev/log"

_send: Callable[..., object] | None = None
"""systemd.journal.sendv("KEY=value", ...); None for stderr."""
_stderr_is_journal = False
_syslog: Callable[[int, str], object] | None = None
"""syslog.syslog; None for stderr or the journal."""


def setup(use_syslog: bool = False) -> None:
    """Find out where stderr leads.  For a daemon; a command logs to stderr.

    `use_syslog`: log to syslog instead, if something receives it.
    """
    global _send, _stderr_is_journal, _syslog
    if use_syslog and os.path.exists(SYSLOG_SOCKET):
        import syslog

        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_DAEMON)
        _syslog = syslog.syslog
        return
    _stderr_is_journal = _leads_to_journal(os.environ.get("JOURNAL_STREAM", ""))
    if _stderr_is_journal:
        try:
            from systemd.journal import sendv
        except ImportError:
            _send = None
        else:
            _send = sendv


def event(priority: int, text: str, **fields: str) -> None:
    """Log one line.  `fields` are for the journal: uplink, device, operation; empty ones are left
    out."""
    if priority > level:
        return
    line = "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)
    try:
        if _syslog is not None:
            _syslog(priority, line)
            return
        if _send is not None:
            assignments = [f"{key}={value}" for key, value in fields.items() if value]
            _send(
                f"MESSAGE={line}",
                f"PRIORITY={priority}",
                f"SYSLOG_IDENTIFIER={IDENTIFIER}",
                *assignments,
            )
            return
    except (OSError, ValueError):
        pass  # stderr leads to the same journal
    # The journal knows the identifier, and takes a priority before the line: sd-daemon(3).
    prefix = f"<{priority}>" if _stderr_is_journal else f"{IDENTIFIER}: "
    try:
        sys.stderr.write(f"{prefix}{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def _leads_to_journal(stream: str) -> bool:
    """Whether stderr is the stream in JOURNAL_STREAM (systemd.exec(5)).

    The variable is inherited by every child, whose stderr may be another one.
    """
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
