"""What keepalived's scripts call on a gateway of a pair: `standby` and `status --usable`.

`status --usable` runs every second, so nothing is imported that it does not need.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from mproutd.commands import (
    FAILED,
    INVALID,
    NOT_RUNNING,
    OK,
    CommandError,
    config_dir,
    load_config,
    query_daemon,
    runtime_dir,
)

if TYPE_CHECKING:
    from mproutd.statefile import StateFile

LOCK_TIMEOUT, RETRY_INTERVAL = 10.0, 0.1
"""Seconds for which `standby` waits for a daemon that is starting or stopping."""
USABLE_TIMEOUT = 2.0
"""Seconds after which `status --usable` fails: a daemon that hangs keeps no gateway usable."""
NO_PAIR = (
    "standby needs option pair '1' in a section of type mproutd (file mproutd): without it, a "
    "restart would make the gateway active again"
)
_TEXTS = {True: "standby", False: "active", None: "no gateway of a pair: option pair is not set"}


def usable(options: argparse.Namespace) -> tuple[str, int]:
    """(a line of text, the exit status: whether an uplink is usable).  CommandError."""
    if options.json or options.uplink is not None:
        raise CommandError("--usable covers all uplinks and excludes --json", INVALID)
    reply = query_daemon(options, {"command": "usable"}, USABLE_TIMEOUT)
    if reply is None:
        raise CommandError("mproutd is not running", NOT_RUNNING)
    names, reasons = reply["usable"], reply["reasons"]
    if names:
        return f"usable: {', '.join(names)}", OK
    listed = ", ".join(f"{name} ({reason.replace('-', ' ')})" for name, reason in reasons.items())
    nothing = "none is configured" if reply["enabled"] else "multipath is not enabled"
    return f"no uplink is usable: {listed or nothing}", FAILED


def standby(options: argparse.Namespace) -> str:
    """Enter or leave standby, or only say which it is; the line to print.  CommandError."""
    wanted = {"on": True, "off": False, None: None}[options.state]
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        reply = query_daemon(options, {"command": "usable"})
        if reply is not None:
            return _ask_daemon(options, reply["standby"], wanted)
        recorded = _without_daemon(options, wanted)
        if recorded is not None:
            return recorded
        if time.monotonic() >= deadline:
            raise CommandError(f"{runtime_dir(options)}/lock: held by another mproutd; try again")
        time.sleep(RETRY_INTERVAL)


def _ask_daemon(options: argparse.Namespace, current: bool | None, wanted: bool | None) -> str:
    if wanted is None:
        return _TEXTS[current]
    if current is None:
        raise CommandError(NO_PAIR, INVALID)
    # The pass comes before the next reply, which has what the state file is to say.
    done = query_daemon(options, {"command": "standby", "standby": wanted})
    reply = done and query_daemon(options, {"command": "usable"})
    if not reply:
        raise CommandError("mproutd is stopping; try again", NOT_RUNNING)
    if reply["standby"] is not wanted:
        raise CommandError(f"not {_TEXTS[wanted]} yet: the last pass failed; see the daemon's log")
    if reply["state_file_error"]:
        reason = reply["state_file_error"].partition(";")[0]
        raise CommandError(f"{_TEXTS[wanted]}, until mproutd restarts: {reason}")
    return _TEXTS[wanted]


def _without_daemon(options: argparse.Namespace, wanted: bool | None) -> str | None:
    """The same where no daemon runs, by its state file; None where another process has the lock."""
    from mproutd.planning.modes import is_standby
    from mproutd.planning.uplinks import Facts
    from mproutd.statefile import Lock

    config = load_config(config_dir(options))
    if not config.pair:
        if wanted is None:
            return _TEXTS[None]
        raise CommandError(NO_PAIR, INVALID)
    if wanted is None:
        return _TEXTS[is_standby(config, _state_file(options).state, Facts())]
    lock = Lock(runtime_dir(options))
    if not lock.acquire():
        return None
    try:
        file = _state_file(options)
        file.save(file.state._replace(standby=wanted))
        if file.error:
            raise CommandError(file.error)
    finally:
        lock.release()
    return f"{_TEXTS[wanted]}, once mproutd runs"


def _state_file(options: argparse.Namespace) -> StateFile:
    from mproutd.statefile import OtherNamespaceError, StateFile

    file = StateFile(runtime_dir(options))
    try:
        file.load()
    except OtherNamespaceError as error:
        raise CommandError(str(error)) from None
    if file.denied:
        raise CommandError(f"{file.error.partition(';')[0]}; run this as root", NOT_RUNNING)
    return file
