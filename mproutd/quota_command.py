"""`mproutd quota`: how much is used, and the provider's own figure for it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd.commands import INVALID, NOT_RUNNING, CommandError, query_daemon
from mproutd.configuration.parsers import amount
from mproutd.format import aligned, format_bytes, safe

if TYPE_CHECKING:
    from mproutd.status.types import UplinkStatus

_HEADINGS = ("UPLINK", "USED", "QUOTA", "SHARE", "UNTIL", "MODE")


def perform(options: argparse.Namespace) -> list[str]:
    """Do what the options say; the lines to print.  CommandError."""
    used = _used(options)
    if used is not None:
        if options.uplink is None:
            raise CommandError("name the uplink: mproutd quota UPLINK --set AMOUNT", INVALID)
        request = {"command": "quota", "uplink": options.uplink, "used": used}
        if query_daemon(options, request) is None:
            raise _not_running()
    status = query_daemon(options, {"command": "status"})
    if status is None:
        raise _not_running()
    limited = [uplink for uplink in status["uplinks"] if uplink.get("quota")]
    if options.uplink is not None:
        limited = [uplink for uplink in limited if uplink["name"] == options.uplink]
        if not limited:
            raise CommandError(f"no uplink {options.uplink!r} with a quota", INVALID)
    return quota_lines(limited)


def _used(options: argparse.Namespace) -> int | None:
    """The bytes to enter; None for none."""
    if options.reset or options.set == "0":
        return 0
    if options.set is None:
        return None
    try:
        return amount(options.set)
    except ValueError as error:
        raise CommandError(f"--set: {error}", INVALID) from None


def _not_running() -> CommandError:
    return CommandError("mproutd is not running; start it first: mproutd run", NOT_RUNNING)


def quota_lines(uplinks: Sequence[UplinkStatus]) -> list[str]:
    """A table of the quotas."""
    if not uplinks:
        return ["no uplink has a quota"]
    return aligned([_HEADINGS, *map(_row, uplinks)])


def _row(uplink: UplinkStatus) -> tuple[str, ...]:
    quota = uplink["quota"]
    assert quota is not None
    mode = uplink["effective_mode"]
    changed = f" (configured: {uplink['mode']})" if mode != uplink["mode"] else ""
    return (
        safe(uplink["name"]),
        format_bytes(quota["used"]),
        format_bytes(quota["limit"]),
        f"{quota['percent']:.0f} %",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(quota["end"])),
        mode + changed,
    )
