"""`mproutd check`: whether the configuration is valid, and fits that of the other gateway."""

from __future__ import annotations

import argparse

from mproutd.commands import FAILED, OK, config_dir, load_config, warn


def perform(options: argparse.Namespace) -> tuple[list[str], int]:
    """(the lines to print, the exit status).  CommandError."""
    directory = options.directory or config_dir(options)
    config = load_config(directory)
    if options.pair:
        from mproutd.planning.pair import differences

        found = differences(config, load_config(options.pair))
        lines = [difference.text(directory, options.pair) for difference in found]
        if not lines:
            return [f"{directory} and {options.pair}: equal in all that a pair needs"], OK
        return lines, FAILED
    if options.enabled and config.enabled:
        return [], OK
    for warning in config.warnings:
        warn(warning)
    modes = ", ".join(f"{uplink.name} {uplink.mode}" for uplink in config.uplinks) or "no uplink"
    line = f"{directory}: {modes}{'' if config.enabled else '; multipath is not enabled'}"
    return [line], FAILED if options.enabled else OK
