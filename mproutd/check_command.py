"""`mproutd check`: whether the configuration is valid, and fits that of the other gateway."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from mproutd.commands import FAILED, INVALID, OK, CommandError, config_dir, load_config, warn

if TYPE_CHECKING:
    from mproutd.configuration.config import Config


def perform(options: argparse.Namespace) -> tuple[list[str], int]:
    """(the lines to print, the exit status).  CommandError."""
    directory = options.directory or config_dir(options)
    config = load_config(directory)
    if options.pair is not None:
        return _compare(config, directory, options.pair)
    if options.enabled and config.enabled:
        return [], OK
    for warning in config.warnings:
        warn(warning)
    modes = ", ".join(f"{uplink.name} {uplink.mode}" for uplink in config.uplinks) or "no uplink"
    line = f"{directory}: {modes}{'' if config.enabled else '; multipath is not enabled'}"
    return [line], FAILED if options.enabled else OK


def _compare(config: Config, directory: str, other: str) -> tuple[list[str], int]:
    """The same for `--pair`."""
    from mproutd.planning.pair import differences

    if not other or (os.path.isdir(other) and os.path.samefile(directory, other)):
        reason = "is the same directory" if other else "is empty"
        raise CommandError(
            f"--pair {other!r} {reason}: copy the files of the other gateway, and name their "
            "directory",
            INVALID,
        )
    found = differences(config, load_config(other))
    lines = [difference.text(directory, other) for difference in found]
    if not lines:
        return [f"{directory} and {other}: equal in all that a pair needs"], OK
    return lines, FAILED
