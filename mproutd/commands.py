"""What the commands share: directories, requests to the daemon, and the end of a command.

Light: modules that talk to the kernel are imported only where no daemon answers.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from mproutd.environment import (
    announcers,
    conflicting_daemons,
    find_program,
    has_lease_files,
    network_namespace,
)
from mproutd.format import safe

if TYPE_CHECKING:
    from mproutd.configuration.config import Config
    from mproutd.reconciler import Reconciler
    from mproutd.services.base import StateDirectory
    from mproutd.status.change_types import Change
    from mproutd.status.connection_types import ConnectionStatus
    from mproutd.status.types import Status

OK, FAILED, INVALID, NOT_RUNNING = 0, 1, 2, 3
"""Exit statuses: success; failed or degraded; invalid input; the daemon is not running."""
LOCK_TIMEOUT = 2.0
"""Seconds that a command waits for another command; a daemon holds the lock until it stops."""
REPLY_TIMEOUT = 30.0
"""Seconds that a command waits for the daemon's reply."""


class CommandError(Exception):
    """Ends the command with one line on stderr and an exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def warn(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"mproutd: {safe(text)}\n")


_OPENWRT_PACKAGES = {"mproutd.status.top": "mproutd-top", "mproutd.pathtest": "mproutd-test"}
"""Module → the package that has it where modules are packaged separately."""


def not_installed(module: str) -> str:
    """What is missing, for a module that cannot be imported."""
    if module in _OPENWRT_PACKAGES:
        return f"this command's package, {_OPENWRT_PACKAGES[module]}, is not installed"
    if module.startswith("mproutd."):
        return f"this command is not packaged here: {module} is not installed"
    return f"the Python package {module} is not installed"


# -- directories --------------------------------------------------------------------------


def config_dir(options: argparse.Namespace) -> str:
    """The directory of the two configuration files."""
    directory = options.config_dir or os.environ.get("MPROUTD_CONFIG_DIR")
    if directory:
        return str(directory)
    return "/etc/config" if _is_openwrt() else "/etc/mproutd"


def runtime_dir(options: argparse.Namespace) -> str:
    """The directory of the state file, the lock and the control socket.

    On OpenWrt /run does not exist; if it is created there, it lies on the flash and survives a
    reboot.
    """
    environment = os.environ.get
    directory = options.runtime_dir or environment("MPROUTD_RUNTIME_DIR")
    default = "/var/run/mproutd" if _is_openwrt() else "/run/mproutd"
    return str(directory or environment("RUNTIME_DIRECTORY") or default)


def state_dir(options: argparse.Namespace) -> StateDirectory:
    """The directory of what outlives a reboot: the ledger of quotas.

    On OpenWrt, /var is in memory.
    """
    from mproutd.services.base import StateDirectory

    environment, on_flash = os.environ.get, _is_openwrt()
    directory = options.state_dir or environment("MPROUTD_STATE_DIR")
    default = "/etc/mproutd" if on_flash else "/var/lib/mproutd"
    return StateDirectory(directory or environment("STATE_DIRECTORY") or default, on_flash)


def _is_openwrt() -> bool:
    return os.path.exists("/etc/openwrt_release")


def control_socket(options: argparse.Namespace) -> str:
    return os.path.join(runtime_dir(options), "control.sock")


# -- the daemon ---------------------------------------------------------------------------

replied: set[str] = set()
"""Control sockets that have replied: an error after that may be due to the reply."""


def query_daemon(
    options: argparse.Namespace, request: dict[str, Any], timeout: float = REPLY_TIMEOUT
) -> dict[str, Any] | None:
    """The daemon's reply; None when no daemon is running.  CommandError for an error reply."""
    from mproutd.control import client

    path = control_socket(options)
    try:
        reply = client.call(path, request, timeout)
    except client.NotRunning:
        return None
    except OSError as error:
        raise CommandError(no_reply(path, error)) from None
    if "error" in reply:
        raise CommandError(str(reply["error"]))
    replied.add(path)
    return reply


def no_reply(path: str, error: OSError) -> str:
    """Why the daemon did not reply, in one line."""
    if isinstance(error, PermissionError):
        return f"{path}: permission denied; use root, or a member of the group mproutd"
    if error.errno == errno.EPROTO:
        return f"{path}: {error.strerror}; restart mproutd"
    return f"{path}: the daemon does not reply: {error.strerror or error}; see its log"


def daemon_status(options: argparse.Namespace) -> tuple[Status | None, int, str]:
    """(the daemon's status, exit status, error); the status is None where there is an error."""
    try:
        reply = query_daemon(options, {"command": "status"})
    except CommandError as error:
        return None, error.status, str(error)
    if reply is None:
        return None, NOT_RUNNING, "mproutd is not running"
    return cast("Status", reply), OK, ""


# -- without a daemon ---------------------------------------------------------------------


def reconciler(options: argparse.Namespace, *, change: bool) -> Reconciler:
    """A reconciler of this process; `change` takes the lock that a daemon would hold."""
    from mproutd.netlink.kernel import NetlinkKernel, UnsupportedKernel
    from mproutd.reconciler import Reconciler
    from mproutd.statefile import Lock, OtherNamespaceError, StateFile

    runtime = runtime_dir(options)
    if change:
        lock = Lock(runtime)
        if not lock.acquire(LOCK_TIMEOUT):
            raise CommandError(f"{runtime}/lock: held by another mproutd; stop it first")
        atexit.register(lock.release)
    state = StateFile(runtime)
    try:
        state.load()
    except OtherNamespaceError as error:
        raise CommandError(str(error)) from None
    if state.denied:
        # What mproutd has made would look like another program's.
        raise CommandError(
            f"mproutd is not running, and only root may read {runtime}/state.json, which says "
            "what mproutd has made; run this as root",
            NOT_RUNNING,
        )
    if state.error:
        warn(state.error)
    try:
        kernel = NetlinkKernel()
    except UnsupportedKernel as error:
        raise CommandError(str(error), INVALID) from None
    own = Reconciler(kernel, state, config_dir(options))
    if find_program("ubus"):
        from mproutd.services import netifd

        own.add_service_facts = netifd.query_once(runtime, cache=change)
    elif has_lease_files():
        from mproutd.services.leases import add_lease_facts

        own.add_service_facts = add_lease_facts
    return own


def load_config(directory: str) -> Config:
    """The configuration in a directory.  CommandError when it is invalid."""
    from mproutd.configuration.config import ConfigError
    from mproutd.configuration.uci import load

    try:
        return load(directory)
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None


def configure(reconciler: Reconciler, warn: Callable[[str], None] = warn) -> None:
    """Read the configuration.  CommandError when it is invalid; `warn` gets its warnings."""
    from mproutd.configuration.config import ConfigError

    try:
        reconciler.configure()
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
    for warning in reconciler.config.warnings:
        warn(warning)


def status(options: argparse.Namespace) -> Status:
    """The daemon's status, or one that this process builds."""
    reply = query_daemon(options, {"command": "status"})
    if reply is not None:
        status = cast("Status", reply)
        if reply.get("namespace", network_namespace()) != network_namespace():
            raise CommandError(
                f"{control_socket(options)}: the daemon runs in another network namespace, "
                f"net:[{reply['namespace']}]; run this there"
            )
    else:
        own = reconciler(options, change=False)
        configure(own)
        status = own_status(own)
    # Here and not in the daemon, whose sandbox hides other processes.
    if any("deprecated" in uplink for uplink in status["uplinks"]):
        from mproutd.status.prefixes import add_announcers

        add_announcers(status, announcers())
    running = conflicting_daemons()
    if running:
        from mproutd.status.conflicts import with_conflicts

        return with_conflicts(status, running)
    return status


def own_status(reconciler: Reconciler) -> Status:
    """The status as this process sees it."""
    import time

    from mproutd.firewall.table import add_to_own_status
    from mproutd.services import lan_prefixes
    from mproutd.status.build import build_status
    from mproutd.status.rates import Rates

    rates = Rates(time.monotonic)
    rates.sample()
    inspection = reconciler.inspect()
    status = build_status(inspection, rates.device)
    add_to_own_status(status, reconciler.state_file.directory, inspection)
    lan_prefixes.add_to_own_status(status, reconciler.state_file.directory, inspection.plan)
    return status


def reconcile(options: argparse.Namespace) -> dict[str, Any]:
    """What a daemon would reply, done by this process."""
    from mproutd.services import at_once
    from mproutd.status.changes import changes, planned_changes, table_changes

    own = reconciler(options, change=not options.dry_run)
    configure(own)
    runtime = runtime_dir(options)
    if options.dry_run:
        preview = own.preview()
        made = at_once.change(runtime, preview.config, preview.plan, preview.snapshot, dry_run=True)
        return {"changes": [*planned_changes(preview), *table_changes(made)]}
    outcomes = own.converge()
    last = outcomes[-1]
    for error in at_once.update_resolvers(runtime, own.config, last.plan):
        warn(error)
    made = at_once.change(runtime, own.config, last.plan, last.snapshot)
    return {"changes": [*changes(outcomes), *table_changes(made)]}


def flush(options: argparse.Namespace) -> tuple[list[Change], Mapping[str, int]]:
    """Remove everything of ours; (the changes, endpoints that stay and their connections)."""
    from mproutd.configuration.config import ConfigError
    from mproutd.services import at_once, scripts
    from mproutd.status.changes import changes, table_changes

    own, runtime = reconciler(options, change=True), runtime_dir(options)
    try:
        own.configure()
    except ConfigError:
        pass  # what mproutd installed is known without it
    outcomes = own.flush(force=options.force)
    last = outcomes[-1]
    made = at_once.change(runtime, own.config, last.plan, last.snapshot)
    scripts.forget(runtime)
    for error in at_once.update_resolvers(runtime, own.config, last.plan):
        warn(error)
    return [*changes(outcomes), *table_changes(made)], last.kept


def connections(options: argparse.Namespace) -> list[ConnectionStatus]:
    """The daemon's list of MPTCP connections, or one that this process reads.

    Uplinks are named where a status can be read.
    """
    from mproutd.netlink.kernel import device_name
    from mproutd.status import connections

    try:
        reply = query_daemon(options, {"command": "connections"})
        if reply is not None:
            return cast("list[ConnectionStatus]", reply["connections"])
        uplinks = connections.uplink_names(status(options))
    except CommandError as error:
        warn(f"{error}; connections are listed without uplinks")
        uplinks = connections.UplinkNames()
    try:
        from mproutd.netlink.diag_socket import sockets
    except ImportError:
        raise CommandError(
            "without a daemon, connections needs the Python package pyroute2 "
            "(OpenWrt: mproutd-connections)"
        ) from None

    try:
        return connections.connections(*sockets(), uplinks, device_name)
    except PermissionError:
        raise CommandError(
            "the kernel shows which subflow belongs to which connection only to CAP_NET_ADMIN; "
            "run it as root"
        ) from None
