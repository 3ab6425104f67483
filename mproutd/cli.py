"""The command line.

This is the only module that prints.  Where a daemon is running, `status` and `reconcile` only
ask it, and nothing that talks to the kernel is imported.  Every error is one line on stderr.
Exit statuses are those of commands.py; mproutd(8) explains them.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from mproutd import __version__, arguments, commands
from mproutd.commands import FAILED, INVALID, NOT_RUNNING, OK, CommandError, warn
from mproutd.help_formatter import HelpFormatter

if TYPE_CHECKING:
    from mproutd.status.event_types import MonitorEvent
    from mproutd.status.types import Status, UplinkStatus

Command = Callable[[argparse.Namespace], int]


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parse(sys.argv[1:] if words is None else words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # device names are bytes
    try:
        perform: Command = options.perform
        status = perform(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        warn(str(error))
        return error.status
    except BrokenPipeError:
        _discard_output()
        return OK
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        warn(commands.not_installed(error.name or ""))
        return FAILED
    except PermissionError as error:
        file = f"{error.filename}: " if error.filename else ""
        warn(f"{file}{error.strerror}; this needs CAP_NET_ADMIN, run it as root")
        return FAILED
    except OSError as error:
        what = error.strerror or str(error)
        warn(f"{error.filename}: {what}" if error.filename else what)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return FAILED
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        if not commands.replied:
            raise
        warn("cannot parse the daemon's reply (version mismatch?); restart mproutd")
        return FAILED


def _discard_output() -> None:
    """Leave nothing to write that the interpreter would complain about as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line.  Of 16 parsers it makes one, unless the command is unknown."""
    if words and words[0] in COMMANDS:
        parser = argparse.ArgumentParser(prog=f"mproutd {words[0]}", formatter_class=HelpFormatter)
        _add_arguments(words[0], parser)
        return parser.parse_args(words[1:])
    return _parser().parse_args(words)


def _parser() -> argparse.ArgumentParser:
    """All commands."""
    parser = argparse.ArgumentParser(
        prog="mproutd",
        description="Maintain routing tables, rules and MPTCP endpoints for several uplinks.",
        epilog="`mproutd COMMAND --help` describes a command.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mproutd {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, prog="mproutd")
    for name, (_, text, _) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, formatter_class=HelpFormatter)
        _add_arguments(name, sub)
    return parser


def _add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    perform, text, add_arguments = COMMANDS[name]
    parser.description = f"{text[0].upper()}{text[1:]}."
    parser.set_defaults(perform=perform)
    parser.add_argument("--config-dir", metavar="DIR", help="directory of the configuration")
    parser.add_argument("--runtime-dir", metavar="DIR", help="directory of state and socket")
    add_arguments(parser)


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


# -- commands -----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from mproutd import log
    from mproutd.daemon import Daemon

    if options.verbose:
        log.level = log.DEBUG
    log.setup(options.syslog)
    reconciler = commands.reconciler(options, change=True)
    commands.configure(reconciler, lambda text: log.event(log.WARNING, text))
    Daemon(reconciler, commands.runtime_dir(options), commands.state_dir(options)).run()
    return OK


def _status(options: argparse.Namespace) -> int:
    if options.usable:
        from mproutd.pair_command import usable

        line, code = usable(options)
        print(line)
        return code
    status = commands.status(options)
    uplinks = {uplink["name"]: uplink for uplink in status["uplinks"]}
    if options.uplink is not None and options.uplink not in uplinks:
        known = f"configured: {', '.join(uplinks)}" if uplinks else "none is configured"
        raise CommandError(f"unknown uplink {options.uplink!r}; {known}", INVALID)
    if options.json:
        _print_json(uplinks[options.uplink] if options.uplink is not None else status)
    else:
        _print_status(status, uplinks.get(options.uplink))
    if not status["running"]:
        return NOT_RUNNING
    return FAILED if status["degraded"] else OK


def _print_status(status: Status, uplink: UplinkStatus | None) -> None:
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if not status["running"]:
        print("mproutd is not running; this is the kernel's current state")
    if uplink is not None:
        from mproutd.status.render_uplink import uplink_lines

        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(uplink["since"] or 0))
        print("\n".join(uplink_lines(status, uplink, time.time(), clock, color)))
    else:
        from mproutd.status.render import status_lines

        print("\n".join(status_lines(status, color, time.time())))


def _connections(options: argparse.Namespace) -> int:
    from mproutd import connections_command

    print(connections_command.perform(options))
    return OK


def _monitor(options: argparse.Namespace) -> int:
    from mproutd.control import client

    path = commands.control_socket(options)
    try:
        for event in client.listen(path, sys.stdout.fileno()):
            _print_event(cast("MonitorEvent", event), options.json)
    except client.NotRunning:
        raise CommandError(
            "mproutd is not running; start it first: mproutd run", NOT_RUNNING
        ) from None
    except client.ConnectionLost:
        raise CommandError(
            "the connection to the daemon was lost; see its log", NOT_RUNNING
        ) from None
    except client.Refused as error:
        raise CommandError(f"{path}: {error}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(commands.no_reply(path, error)) from None
    return OK


def _print_event(event: MonitorEvent, as_json: bool) -> None:
    if as_json:
        import json

        line = json.dumps(event, ensure_ascii=False)
        print("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line), flush=True)
    else:
        from mproutd.status.render import event_line

        clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        millis = int(event["time"] % 1 * 1000)
        print(event_line(event, f"{clock}.{millis:03}"), flush=True)


def _top(options: argparse.Namespace) -> int:
    from mproutd.status.top import show

    return show(commands.control_socket(options))


def _metrics(options: argparse.Namespace) -> int:
    import mproutd.status.exporter as exporter

    if options.listen:
        exporter.serve(options.listen, lambda: commands.daemon_status(options)[0])
        return OK
    status, code, error = commands.daemon_status(options)
    if options.output:
        exporter.write_file(options.output, lambda: status)
    else:
        print(exporter.metrics_text(lambda: status), end="")
    if error:
        warn(error)
    return code


def _reconcile(options: argparse.Namespace) -> int:
    from mproutd.status.render import change_lines

    request = {"command": "reconcile", "dry_run": options.dry_run}
    if options.config_dir:
        request["directory"] = os.path.realpath(options.config_dir)
    reply = commands.query_daemon(options, request)
    if reply is None:
        reply = commands.reconcile(options)
    if "refused" in reply:
        raise CommandError(reply["refused"], INVALID)
    changes = reply["changes"]
    failed = any(change["error"] for change in changes)
    if options.json:
        _print_json(
            {"version": 1, "dry_run": options.dry_run, "failed": failed, "changes": changes}
        )
    elif changes:
        print("\n".join(change_lines(changes)))
    return FAILED if failed else OK


def _test(options: argparse.Namespace) -> int:
    from mproutd.pathtest import command, render, verdict

    command.check(options)
    if options.listen:
        command.serve(options, lambda line: print(line, flush=True))
        return OK
    result = command.test(options, commands.status(options))
    if options.json:
        _print_json(result)
    else:
        print("\n".join(render.result_lines(result)))
    return verdict.exit_status(result["verdict"])


def _check(options: argparse.Namespace) -> int:
    from mproutd import check_command

    lines, status = check_command.perform(options)
    print(*lines, sep="\n", end="\n" if lines else "")
    return status


def _standby(options: argparse.Namespace) -> int:
    from mproutd.pair_command import standby as perform

    print(perform(options))
    return OK


def _quota(options: argparse.Namespace) -> int:
    from mproutd import quota_command

    print("\n".join(quota_command.perform(options)))
    return OK


def _flush(options: argparse.Namespace) -> int:
    from mproutd.status.render import change_lines

    made, kept = commands.flush(options)
    if made:
        print("\n".join(change_lines(made)))
    for address, count in kept.items():
        ends = "1 connection ends" if count == 1 else f"{count} connections end"
        warn(f"{address}: its endpoint stays, since {ends} with it; repeat later, or use --force")
    return FAILED if kept or any(change["error"] for change in made) else OK


def _explain(options: argparse.Namespace) -> int:
    from mproutd import explain_command
    from mproutd.explain.render import explanation_lines

    explanation = explain_command.perform(options)
    if options.json:
        _print_json(explanation)
    else:
        print("\n".join(explanation_lines(explanation)))
    return FAILED if explanation["error"] else OK


def _import(options: argparse.Namespace) -> int:
    from mproutd import import_command

    print(import_command.perform(options), end="")
    return OK


def _files(options: argparse.Namespace) -> int:
    from mproutd import files

    listed = files.find_files(options.root)
    if options.remove:
        for path in files.remove_files(listed):
            print(f"removed {path}")
        return OK
    if not options.install:
        for file in listed:
            print(f"{file.state:10} {file.target}")
        return FAILED if any(file.state in ("missing", "differs") for file in listed) else OK
    hidden = files.hidden_program() if options.root == "/" else ""
    if hidden:
        raise CommandError(
            f"the service cannot see {hidden} (ProtectHome=yes); install mproutd elsewhere, "
            "for example in a virtual environment below /opt"
        )
    for path in files.install_files(listed):
        print(f"installed {path}")
    if options.root == "/":
        print(
            "next: systemd-sysusers && systemctl daemon-reload; then enable multipath in "
            "/etc/mproutd/network, and: systemctl enable --now mproutd"
        )
    return OK


COMMANDS: dict[str, tuple[Command, str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": (_run, "run the daemon in the foreground", arguments.add_run),
    "status": (_status, "show the uplinks, and what needs attention", arguments.add_status),
    "reconcile": (_reconcile, "reload the configuration and apply it", arguments.add_reconcile),
    "connections": (
        _connections,
        "list MPTCP connections and their subflows",
        arguments.add_connections,
    ),
    "monitor": (_monitor, "print decisions and MPTCP events as they happen", arguments.add_monitor),
    "top": (_top, "show rates, state and subflows of each uplink live", arguments.none),
    "metrics": (_metrics, "print the status as metrics for Prometheus", arguments.add_metrics),
    "explain": (_explain, "show which way a flow leaves, and why", arguments.add_explain),
    "test": (
        _test,
        "test whether MPTCP works via an uplink, and what breaks it",
        arguments.add_test,
    ),
    "check": (_check, "check the configuration", arguments.add_check),
    "standby": (
        _standby,
        "enter or leave standby, in a pair of gateways",
        arguments.add_standby,
    ),
    "quota": (_quota, "show how much of the quotas is used, or correct it", arguments.add_quota),
    "import": (
        _import,
        "convert the configuration of mwan3, pbr or OpenMPTCProuter",
        arguments.add_import,
    ),
    "flush": (
        _flush,
        "remove everything that mproutd installed in the kernel",
        arguments.add_flush,
    ),
    "files": (_files, "list the files that pip cannot put in place", arguments.add_files),
}
"""Name → what performs it, its text in --help and what adds its arguments, in order."""
