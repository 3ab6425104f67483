"""`mproutd test`: from its options to one result.

Invariant: a mistake of the caller is one line and exit status 2; whatever the path or the peer
does is a result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mproutd.commands import INVALID, CommandError, warn
from mproutd.pathtest.client import PathTest, result
from mproutd.pathtest.connection import Deadline, resolve
from mproutd.pathtest.render import view_text
from mproutd.pathtest.select import match, parse_host_port, sources
from mproutd.pathtest.server import Listener, listen

if TYPE_CHECKING:
    from mproutd.pathtest.types import PathTestResult

TEST_TIMEOUT, LISTEN_TIMEOUT = 10.0, 600.0
"""Seconds without --timeout: for a test, and for --listen."""
_MAX_TIMEOUT = 86400
_RESOLVE_TIMEOUT = 3.0


def timeout(options: argparse.Namespace) -> float:
    """The option --timeout, in seconds.  CommandError."""
    if options.timeout is None:
        return LISTEN_TIMEOUT if options.listen else TEST_TIMEOUT
    try:
        seconds = float(options.timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_TIMEOUT:
        raise CommandError(
            f"--timeout: expected a number of seconds up to {_MAX_TIMEOUT}, "
            f"got {options.timeout!r}",
            INVALID,
        )
    return seconds


def check(options: argparse.Namespace) -> None:
    """Reject combinations that argparse cannot express.  CommandError."""
    if options.listen and (options.uplink or options.family):
        raise CommandError("--listen cannot be combined with UPLINK, -4 or -6", INVALID)
    if options.to and not options.uplink:
        raise CommandError("UPLINK is missing: mproutd test UPLINK --to HOST:PORT", INVALID)
    timeout(options)


def serve(options: argparse.Namespace, output: Callable[[str], None]) -> None:
    """Be the peer of tests (--listen).  CommandError."""
    listener, seconds = _listen(options), timeout(options)
    if not listener.mptcp_enabled:
        warn("MPTCP is disabled here (net.mptcp.enabled): every test will find plain TCP")
    if not options.json:
        output(f"listening on {listener.local} for {seconds:g} s; stop with Ctrl-C")
    encode = json.dumps if options.json else view_text
    listener.serve(seconds, lambda view: output(encode(view)))
    if listener.strangers and not options.json:
        output(f"connections that were not tests: {listener.strangers}")


def _listen(options: argparse.Namespace) -> Listener:
    try:
        return listen(options.listen)
    except ValueError as error:
        raise CommandError(
            f"--listen: expected [ADDRESS:]PORT, got {options.listen!r}: {error}", INVALID
        ) from None
    except OSError as error:
        raise CommandError(
            f"cannot listen on {options.listen}: {error.strerror or error}"
        ) from None


def test(options: argparse.Namespace, status: Mapping[str, Any]) -> PathTestResult:
    """The result of one test.  CommandError."""
    deadline = Deadline(timeout(options))
    try:
        host, port = parse_host_port(options.to)
    except ValueError as error:
        raise CommandError(
            f"--to: expected HOST:PORT, got {options.to!r}: {error}", INVALID
        ) from None
    uplinks = {uplink["name"]: uplink for uplink in status["uplinks"]}
    if options.uplink not in uplinks:
        known = f"configured: {', '.join(uplinks)}" if uplinks else "none is configured"
        raise CommandError(f"unknown uplink {options.uplink!r}; {known}", INVALID)
    uplink = uplinks[options.uplink]

    def untested(code: str, error: str) -> PathTestResult:
        names = {"uplink": uplink["name"], "device": uplink["device"]}
        return result(None, None, code, error=error, **names)

    candidates, reason = sources(uplink, options.family)
    if not candidates:
        return untested("uplink-unusable", reason)
    try:
        peers = resolve(host, port, deadline.left(_RESOLVE_TIMEOUT))
    except OSError as error:
        return untested("no-name", f"{host}: {error.strerror or error}")
    selected = match(candidates, peers)
    if selected is None:
        family = "IPv4" if all(":" not in source.address for source in candidates) else "IPv6"
        addresses = ", ".join(dict.fromkeys(peer.address for peer in peers))
        return untested("no-name", f"{host} has no {family} address, only {addresses}")
    source, peer = selected
    return PathTest(source, peer, status, deadline).run()
