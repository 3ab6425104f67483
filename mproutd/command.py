"""What the commands share: where things are, whom to ask, and how a command ends.

Light: what talks to the kernel is imported where there is no daemon to ask.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mproutd.keeper import Keeper

DONE, FAILED, REFUSED, NOT_RUNNING = 0, 1, 2, 3
"""Exit status: as wanted; something failed or is not as wanted; bad input; no daemon."""


class Stop(Exception):
    """The end of the command: one line, and its exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def complain(text: str) -> None:
    """One line on stderr."""
    from mproutd.reports.units import safe

    sys.stderr.write(f"mproutd: {safe(text)}\n")


def config_dir(options: argparse.Namespace) -> str:
    """The directory of the two configuration files."""
    told = options.config_dir or os.environ.get("MPROUTD_CONFIG_DIR")
    if told:
        return str(told)
    return "/etc/config" if _openwrt() else "/etc/mproutd"


def runtime_dir(options: argparse.Namespace) -> str:
    """The directory of the state file, the lock and the control socket.

    Not /run on OpenWrt: it has none, and one that is made lies on the flash and outlives a boot.
    """
    environment = os.environ.get
    told = options.runtime_dir or environment("MPROUTD_RUNTIME_DIR")
    usual = "/var/run/mproutd" if _openwrt() else "/run/mproutd"
    return str(told or environment("RUNTIME_DIRECTORY") or usual)


def _openwrt() -> bool:
    return os.path.exists("/etc/openwrt_release")


def control_socket(options: argparse.Namespace) -> str:
    return os.path.join(runtime_dir(options), "control.sock")


def ask(options: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any] | None:
    """The daemon's answer; None when none is running.  Stop when it refuses."""
    from mproutd import control

    path = control_socket(options)
    try:
        answer = control.ask(path, request)
    except control.NotRunning:
        return None
    except OSError as error:
        raise Stop(unanswered(path, error)) from None
    if "error" in answer:
        raise Stop(str(answer["error"]))
    return answer


def unanswered(path: str, error: OSError) -> str:
    """Why the daemon did not answer, in one line."""
    if isinstance(error, PermissionError):
        return f"{path}: only root and the group mproutd may ask the daemon; run it as root"
    return f"the daemon at {path} does not answer: {error.strerror or error}; is it stuck?"


PATIENCE = 2.0
"""Seconds that a command waits for another one to end; a daemon does not end by itself."""


def keeper(options: argparse.Namespace, *, change: bool) -> Keeper:
    """A keeper of our own.  `change` takes the lock that a daemon would hold."""
    from mproutd.keeper import Keeper
    from mproutd.netlink.kernel import NetlinkKernel
    from mproutd.state import Lock, StateFile

    runtime = runtime_dir(options)
    if change and not Lock(runtime).take(PATIENCE):
        raise Stop(f"another mproutd is at work with {runtime}; stop it first")
    state = StateFile(runtime)
    state.load()
    if state.problem:
        complain(state.problem)
    return Keeper(NetlinkKernel(), state, config_dir(options))


def configure(keeper: Keeper) -> None:
    """Read the configuration.  Stop when it is refused."""
    from mproutd.configuration.config import ConfigError

    try:
        keeper.configure()
    except ConfigError as error:
        raise Stop(str(error), REFUSED) from None
    for warning in keeper.config.warnings:
        complain(warning)
