"""`mproutd check`: whether the configuration is valid, and fits that of the other gateway."""

from __future__ import annotations

import argparse

from mproutd.commands import FAILED, INVALID, OK, CommandError, config_dir, warn
from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.uci import load


def perform(options: argparse.Namespace) -> tuple[list[str], int]:
    """(the lines to print, the exit status).  CommandError."""
    directory = options.directory or config_dir(options)
    config = _load(directory)
    if options.pair:
        from mproutd.planning.pair import differences

        found = differences(config, _load(options.pair))
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


def _load(directory: str) -> Config:
    try:
        return load(directory)
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
