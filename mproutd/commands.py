"""What the commands share: where things are, whom to ask, and how a command ends.

Light: what talks to the kernel is imported where there is no daemon to ask.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from mproutd.environment import conflicting_daemons, find_program
from mproutd.format import safe

if TYPE_CHECKING:
    from mproutd.reconciler import Reconciler

OK, FAILED, INVALID, NOT_RUNNING = 0, 1, 2, 3
"""Exit status: as wanted; something failed or is not as wanted; bad input; no daemon."""


class CommandError(Exception):
    """The end of the command: one line, and its exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def warn(text: str) -> None:
    """One line on stderr."""
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


replied: set[str] = set()
"""The sockets that have answered: what is wrong then may be wrong with the answer."""


def query_daemon(options: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any] | None:
    """The daemon's answer; None when none is running.  Stop when it refuses."""
    from mproutd.control import client

    path = control_socket(options)
    try:
        answer = client.call(path, request)
    except client.NotRunning:
        return None
    except OSError as error:
        raise CommandError(no_reply(path, error)) from None
    if "error" in answer:
        raise CommandError(str(answer["error"]))
    replied.add(path)
    return answer


def no_reply(path: str, error: OSError) -> str:
    """Why the daemon did not answer, in one line."""
    if isinstance(error, PermissionError):
        return f"{path}: only root and the group mproutd may ask the daemon; run it as root"
    return f"the daemon at {path} does not answer: {error.strerror or error}; is it stuck?"


LOCK_TIMEOUT = 2.0
"""Seconds that a command waits for another one to end; a daemon does not end by itself."""


def reconciler(options: argparse.Namespace, *, change: bool) -> Reconciler:
    """A keeper of our own.  `change` takes the lock that a daemon would hold."""
    from mproutd.netlink.kernel import NetlinkKernel
    from mproutd.reconciler import Reconciler
    from mproutd.statefile import Lock, StateFile

    runtime = runtime_dir(options)
    if change and not Lock(runtime).acquire(LOCK_TIMEOUT):
        raise CommandError(f"another mproutd is at work with {runtime}; stop it first")
    state = StateFile(runtime)
    state.load()
    if state.problem:
        warn(state.problem)
    own = Reconciler(NetlinkKernel(), state, config_dir(options))
    if find_program("ubus"):
        from mproutd.services import netifd

        own.add_service_facts = netifd.query_once(runtime, keep=change)
    return own


def configure(reconciler: Reconciler) -> None:
    """Read the configuration.  Stop when it is refused."""
    from mproutd.configuration.config import ConfigError

    try:
        reconciler.configure()
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
    for warning in reconciler.config.warnings:
        warn(warning)


def status(options: argparse.Namespace) -> dict[str, Any]:
    """The daemon's, else one of our own making."""
    told = query_daemon(options, {"command": "status"})
    if told is None:
        own = reconciler(options, change=False)
        configure(own)
        told = {**own_status(own), "running": False}
    # Asked here, since the daemon's sandbox hides other processes from it.
    running = conflicting_daemons()
    if running:
        from mproutd.status.problems import with_conflicts

        told = with_conflicts(told, running)
    return told


def own_status(reconciler: Reconciler) -> dict[str, Any]:
    """The status as this process sees it."""
    import time

    from mproutd.status.build import build_status
    from mproutd.status.rates import Rates

    rates = Rates(time.monotonic)
    rates.sample()
    return build_status(reconciler.inspect(), rates.device)


def daemon_status(options: argparse.Namespace) -> tuple[dict[str, Any] | None, int, str]:
    """The daemon's status, and without one the exit status and why."""
    try:
        told = query_daemon(options, {"command": "status"})
    except CommandError as stop:
        return None, stop.status, str(stop)
    return told, *((OK, "") if told else (NOT_RUNNING, "mproutd is not running"))


def reconcile(options: argparse.Namespace) -> dict[str, Any]:
    """What a daemon would answer, done without one."""
    from mproutd.status.changes import changes, planned_changes

    own = reconciler(options, change=not options.dry_run)
    configure(own)
    if options.dry_run:
        return {"changes": planned_changes(own.preview())}
    return {"changes": changes(own.converge())}


def connections(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The MPTCP connections of now: the daemon's answer, else named by uplink where a status
    can be had."""
    from mproutd.netlink.kernel import device_name
    from mproutd.status import connections

    try:
        answer = query_daemon(options, {"command": "connections"})
        if answer is not None:
            return list(answer["connections"])
        where = connections.uplink_names(status(options))
    except CommandError as stop:
        warn(f"{stop}; uplinks are not named")
        where = connections.UplinkNames()
    try:
        from mproutd.netlink.diag_socket import sockets
    except ImportError:
        raise CommandError("connections needs the Python package pyroute2") from None

    try:
        return connections.connections(*sockets(), where, device_name)
    except PermissionError:
        raise CommandError(
            "the kernel hides which subflow belongs to which connection; that needs "
            "CAP_NET_ADMIN: run it as root"
        ) from None
