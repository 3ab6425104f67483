"""The command line: what is asked, where from, and what the exit status says.

The one module that prints.  Beside a daemon, status and reconcile only ask it: then nothing
is imported here that talks to the kernel.  Whatever goes wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mproutd import __version__

if TYPE_CHECKING:
    from mproutd.keeper import Keeper

DONE, FAILED, REFUSED, NOT_RUNNING = 0, 1, 2, 3
"""Exit status: as wanted; something failed or is not as wanted; bad input; no daemon."""


class Stop(Exception):
    """The end of the command: one line, and its exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        status = command(options)
        sys.stdout.flush()
        return status
    except Stop as stop:
        complain(str(stop))
        return stop.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return 130
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror}; mproutd needs CAP_NET_ADMIN: run it as root")
        return FAILED
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED


def complain(text: str) -> None:
    """One line on stderr."""
    from mproutd.report import safe

    print(f"mproutd: {safe(text)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mproutd",
        description="Keep routing tables, rules and MPTCP endpoints as the configuration says.",
        epilog="See mproutd COMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"mproutd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command)
        sub.add_argument("--config-dir", metavar="DIR", help="where the configuration is")
        sub.add_argument("--runtime-dir", metavar="DIR", help="where state and socket are")
        return sub

    run = add("run", _run, "the daemon, in the foreground")
    run.add_argument("--verbose", action="store_true", help="say every change of the kernel")
    status = add("status", _status, "show what is wanted beside what is found")
    status.add_argument("--json", action="store_true", help="as JSON, see docs/status.md")
    reconcile = add("reconcile", _reconcile, "read the configuration again, bring the kernel there")
    reconcile.add_argument("--dry-run", action="store_true", help="only print the changes")
    reconcile.add_argument("--json", action="store_true", help="print the changes as JSON")
    check = add("check", _check, "check the configuration alone")
    check.add_argument("directory", metavar="DIR", nargs="?", help="same as --config-dir")
    add("flush", _flush, "remove everything of mproutd's from the kernel")
    return parser


# -- where things are ---------------------------------------------------------------------


def _config_dir(options: argparse.Namespace) -> str:
    told = options.config_dir or os.environ.get("MPROUTD_CONFIG_DIR")
    if told:
        return str(told)
    return "/etc/config" if os.path.exists("/etc/openwrt_release") else "/etc/mproutd"


def _runtime_dir(options: argparse.Namespace) -> str:
    environment = os.environ.get
    told = options.runtime_dir or environment("MPROUTD_RUNTIME_DIR")
    return str(told or environment("RUNTIME_DIRECTORY") or "/run/mproutd")


def _ask(options: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any] | None:
    """The daemon's answer; None when none is running."""
    from mproutd.control import NotRunning, ask

    path = os.path.join(_runtime_dir(options), "control.sock")
    try:
        answer = ask(path, request)
    except NotRunning:
        return None
    except PermissionError:
        raise Stop(f"{path}: only root and the group mproutd may ask the daemon") from None
    except OSError as error:
        raise Stop(f"the daemon at {path} does not answer: {error}") from None
    if "error" in answer:
        raise Stop(str(answer["error"]))
    return answer


def _keeper(options: argparse.Namespace, *, change: bool) -> Keeper:
    """A keeper of our own.  `change` takes the lock that a daemon would hold."""
    from mproutd.keeper import Keeper
    from mproutd.kernel import NetlinkKernel
    from mproutd.state import Lock, StateFile

    runtime = _runtime_dir(options)
    if change and not Lock(runtime).take():
        raise Stop(f"another mproutd is at work with {runtime}; stop it first")
    state = StateFile(runtime)
    state.load()
    if state.problem:
        complain(state.problem)
    return Keeper(NetlinkKernel(), state, _config_dir(options))


def _configure(keeper: Keeper) -> None:
    """Read the configuration.  Stop when it is refused."""
    from mproutd.config import ConfigError

    try:
        keeper.configure()
    except ConfigError as error:
        raise Stop(str(error), REFUSED) from None
    for warning in keeper.config.warnings:
        complain(warning)


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


# -- commands -----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from mproutd import log
    from mproutd.daemon import Daemon

    if options.verbose:
        log.level = log.DEBUG
    keeper = _keeper(options, change=True)
    _configure(keeper)
    Daemon(keeper, _runtime_dir(options)).run()
    return DONE


def _status(options: argparse.Namespace) -> int:
    from mproutd.report import status_lines

    status = _ask(options, {"command": "status"})
    running = status is not None
    if status is None:
        keeper = _keeper(options, change=False)
        _configure(keeper)
        status = {**keeper.status(), "running": False}
    if options.json:
        _print_json(status)
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        if not running:
            print("mproutd is not running; this is what it would find")
        print("\n".join(status_lines(status, colour)))
    if not running:
        return NOT_RUNNING
    return FAILED if status["degraded"] else DONE


def _reconcile(options: argparse.Namespace) -> int:
    from mproutd.report import change_lines

    request = {"command": "reconcile", "dry_run": options.dry_run}
    if options.config_dir:
        request["directory"] = os.path.realpath(options.config_dir)
    answer = _ask(options, request)
    if answer is None:
        answer = _reconcile_alone(options)
    if "refused" in answer:
        raise Stop(answer["refused"], REFUSED)
    changes = answer["changes"]
    failed = any(change["error"] for change in changes)
    if options.json:
        told = {"version": 1, "dry_run": options.dry_run, "failed": failed, "changes": changes}
        _print_json(told)
    elif changes:
        print("\n".join(change_lines(changes)))
    return FAILED if failed else DONE


def _reconcile_alone(options: argparse.Namespace) -> dict[str, Any]:
    keeper = _keeper(options, change=not options.dry_run)
    _configure(keeper)
    if options.dry_run:
        return {"changes": keeper.preview()}
    return {"changes": keeper.changes(keeper.converge())}


def _check(options: argparse.Namespace) -> int:
    from mproutd.config import ConfigError
    from mproutd.uci import load

    directory = options.directory or _config_dir(options)
    try:
        config = load(directory)
    except ConfigError as error:
        raise Stop(str(error), REFUSED) from None
    for warning in config.warnings:
        complain(warning)
    modes = ", ".join(f"{uplink.name} {uplink.mode}" for uplink in config.uplinks) or "no uplink"
    print(f"{directory}: {modes}{'' if config.enabled else '; multipath is not enabled'}")
    return DONE


def _flush(options: argparse.Namespace) -> int:
    from mproutd.config import ConfigError
    from mproutd.report import change_lines

    keeper = _keeper(options, change=True)
    try:
        keeper.configure()
    except ConfigError:
        pass  # what is ours is known without it
    changes = keeper.changes(keeper.flush())
    if changes:
        print("\n".join(change_lines(changes)))
    return FAILED if any(change["error"] for change in changes) else DONE
