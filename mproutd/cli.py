"""The command line: what is asked, where from, and what the exit status says.

The one module that prints.  Beside a daemon, status and reconcile only ask it: then nothing
is imported here that talks to the kernel.  Whatever goes wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mproutd import __version__, commands
from mproutd.commands import FAILED, INVALID, NOT_RUNNING, OK, CommandError, warn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names are bytes to the kernel
    try:
        perform: Callable[[argparse.Namespace], int] = options.perform
        status = perform(options)
        sys.stdout.flush()
        return status
    except CommandError as stop:
        warn(str(stop))
        return stop.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        warn(f"this needs {error.name}, which is not installed")
        return FAILED
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename else ""
        warn(f"{where}{error.strerror}; mproutd needs CAP_NET_ADMIN: run it as root")
        return FAILED
    except OSError as error:
        warn(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        if not commands.replied:
            raise
        warn("the daemon's answer makes no sense; it is of another version: restart it")
        return FAILED


class _Help(argparse.HelpFormatter):
    """Asks the environment for the width: argparse would import shutil, and that takes 7 ms."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        super().__init__(prog, width=(int(columns) if columns.isdecimal() else 80) - 2)

    def _set_color(self, color: bool, **_: Any) -> None:
        """Called by Python 3.14 and later, whose own imports dataclasses, even for no colour."""
        self._theme, self._decolor = _NoColours(), str


class _NoColours:
    """A theme of argparse."""

    def __getattr__(self, name: str) -> str:
        return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mproutd",
        description="Keep routing tables, rules and MPTCP endpoints as the configuration says.",
        epilog="See mproutd COMMAND --help.",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"mproutd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, perform: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            formatter_class=_Help,
        )
        sub.set_defaults(perform=perform)
        sub.add_argument("--config-dir", metavar="DIR", help="where the configuration is")
        sub.add_argument("--runtime-dir", metavar="DIR", help="where state and socket are")
        return sub

    run = add("run", _run, "the daemon, in the foreground")
    run.add_argument("--verbose", action="store_true", help="say every change of the kernel")
    status = add("status", _status, "show what is wanted beside what is found")
    status.add_argument("uplink", metavar="UPLINK", nargs="?", help="everything about this one")
    status.add_argument("--json", action="store_true", help="as JSON, see docs/status.md")
    reconcile = add("reconcile", _reconcile, "read the configuration again, bring the kernel there")
    reconcile.add_argument("--dry-run", action="store_true", help="only print the changes")
    reconcile.add_argument("--json", action="store_true", help="print the changes as JSON")
    listing = add("connections", _connections, "list MPTCP connections and subflows, by uplink")
    listing.add_argument("--json", action="store_true", help="as JSON, see docs/connections.md")
    monitor = add("monitor", _monitor, "tell decisions and MPTCP events as they happen")
    monitor.add_argument("--json", action="store_true", help="a JSON object a line")
    add("top", _top, "a live screen: rates, state and subflows of each uplink")
    metrics = add("metrics", _metrics, "the status as metrics for Prometheus, see docs/metrics.md")
    where = metrics.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help="write there; else on standard output")
    where.add_argument("--listen", metavar="ADDRESS:PORT", help="answer scrapes there by HTTP")
    test = add("test", _test, "say whether MPTCP survives by an uplink, and else who loses it")
    test.add_argument("uplink", metavar="UPLINK", nargs="?", help="the uplink to go by")
    ends = test.add_mutually_exclusive_group(required=True)
    ends.add_argument("--to", metavar="HOST:PORT", help="the peer to connect to")
    ends.add_argument("--listen", metavar="PORT", help="be the other end, at [ADDRESS:]PORT")
    family = test.add_mutually_exclusive_group()
    for number in "46":
        family.add_argument(
            f"-{number}",
            dest="family",
            action="store_const",
            const=f"ipv{number}",
            help=f"IPv{number} alone",
        )
    test.add_argument("--timeout", metavar="SECONDS", help="10 for a test, 600 for --listen")
    test.add_argument("--json", action="store_true", help="as JSON, see docs/test.md")
    check = add("check", _check, "check the configuration alone")
    check.add_argument("directory", metavar="DIR", nargs="?", help="same as --config-dir")
    check.add_argument("--enabled", action="store_true", help="fail unless multipath is enabled")
    add("flush", _flush, "remove everything of mproutd's from the kernel")
    return parser


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


# -- commands -----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from mproutd import log
    from mproutd.daemon import Daemon

    if options.verbose:
        log.level = log.DEBUG
    log.begin()
    reconciler = commands.reconciler(options, change=True)
    commands.configure(reconciler)
    Daemon(reconciler, commands.runtime_dir(options)).run()
    return OK


def _status(options: argparse.Namespace) -> int:
    status = commands.status(options)
    uplinks = {uplink["name"]: uplink for uplink in status["uplinks"]}
    if options.uplink is not None and options.uplink not in uplinks:
        known = f"there are {', '.join(uplinks)}" if uplinks else "there is none"
        raise CommandError(f"no uplink is called {options.uplink!r}; {known}", INVALID)
    if options.json:
        _print_json(uplinks[options.uplink] if options.uplink is not None else status)
    else:
        _print_status(options, status, uplinks.get(options.uplink))
    if not status["running"]:
        return NOT_RUNNING
    return FAILED if status["degraded"] else OK


def _print_status(
    options: argparse.Namespace, status: dict[str, Any], uplink: dict[str, Any] | None
) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if not status["running"]:
        print("mproutd is not running; this is what it would find")
    if uplink is not None:
        from mproutd.status.render_uplink import uplink_lines

        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(uplink["since"] or 0))
        print("\n".join(uplink_lines(status, uplink, time.time(), clock, colour)))
    else:
        from mproutd.status.render import status_lines

        print("\n".join(status_lines(status, colour, time.time())))


def _connections(options: argparse.Namespace) -> int:
    from mproutd.status.connections import VERSION
    from mproutd.status.render import connection_lines

    found = commands.connections(options)
    if options.json:
        _print_json({"version": VERSION, "connections": found})
    else:
        print("\n".join(connection_lines(found)))
    return OK


def _monitor(options: argparse.Namespace) -> int:
    import json

    from mproutd.control import client
    from mproutd.status.render import event_line

    path = commands.control_socket(options)
    try:
        for told in client.listen(path, sys.stdout.fileno()):
            if options.json:
                line = json.dumps(told, ensure_ascii=False)
                shown = (c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
                print("".join(shown), flush=True)
            else:
                clock = time.strftime("%H:%M:%S", time.localtime(told["time"]))
                millis = int(told["time"] % 1 * 1000)
                print(event_line(told, f"{clock}.{millis:03}"), flush=True)
    except client.NotRunning:
        raise CommandError(
            "mproutd is not running; start it first: mproutd run", NOT_RUNNING
        ) from None
    except client.ConnectionLost:
        raise CommandError(
            "the daemon went away without a word; see its log", NOT_RUNNING
        ) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(commands.no_reply(path, error)) from None
    return OK


def _top(options: argparse.Namespace) -> int:
    from mproutd.status.top import show

    return show(commands.control_socket(options))


def _metrics(options: argparse.Namespace) -> int:
    import mproutd.status.exporter as exporter

    if options.listen:
        exporter.serve(options.listen, lambda: commands.daemon_status(options)[0])
        return OK
    status, code, why = commands.daemon_status(options)
    if options.output:
        exporter.write_file(options.output, lambda: status)
    else:
        print(exporter.metrics_text(lambda: status), end="")
    if why:
        warn(why)
    return code


def _reconcile(options: argparse.Namespace) -> int:
    from mproutd.status.render import change_lines

    request = {"command": "reconcile", "dry_run": options.dry_run}
    if options.config_dir:
        request["directory"] = os.path.realpath(options.config_dir)
    answer = commands.query_daemon(options, request)
    if answer is None:
        answer = commands.reconcile(options)
    if "refused" in answer:
        raise CommandError(answer["refused"], INVALID)
    changes = answer["changes"]
    failed = any(change["error"] for change in changes)
    if options.json:
        told = {"version": 1, "dry_run": options.dry_run, "failed": failed, "changes": changes}
        _print_json(told)
    elif changes:
        print("\n".join(change_lines(changes)))
    return FAILED if failed else OK


def _test(options: argparse.Namespace) -> int:
    from mproutd.pathtest import command, render, verdict

    command.check(options)
    if options.listen:
        command.serve(options, lambda line: print(line, flush=True))
        return OK
    told = command.test(options, commands.status(options))
    if options.json:
        _print_json(told)
    else:
        print("\n".join(render.result_lines(told)))
    return verdict.exit_status(told["verdict"])


def _check(options: argparse.Namespace) -> int:
    from mproutd.configuration.config import ConfigError
    from mproutd.configuration.uci import load

    directory = options.directory or commands.config_dir(options)
    try:
        config = load(directory)
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
    if options.enabled and config.enabled:
        return OK
    for warning in config.warnings:
        warn(warning)
    modes = ", ".join(f"{uplink.name} {uplink.mode}" for uplink in config.uplinks) or "no uplink"
    print(f"{directory}: {modes}{'' if config.enabled else '; multipath is not enabled'}")
    return FAILED if options.enabled else OK


def _flush(options: argparse.Namespace) -> int:
    from mproutd.configuration.config import ConfigError
    from mproutd.services import scripts
    from mproutd.status.changes import changes
    from mproutd.status.render import change_lines

    reconciler = commands.reconciler(options, change=True)
    try:
        reconciler.configure()
    except ConfigError:
        pass  # what is ours is known without it
    made = changes(reconciler.flush())
    if made:
        print("\n".join(change_lines(made)))
    scripts.forget(commands.runtime_dir(options))
    return FAILED if any(change["error"] for change in made) else OK
