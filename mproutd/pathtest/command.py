"""`mproutd test`: from its options to one result.

What must hold: an error of the one who asks is one line and exit status 2; whatever the path or
the peer does is a result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from mproutd.commands import INVALID, CommandError, warn
from mproutd.pathtest import connection
from mproutd.pathtest.client import PathTest, result
from mproutd.pathtest.connection import Deadline
from mproutd.pathtest.render import seen_line
from mproutd.pathtest.select import Peer, endpoint, match, sources
from mproutd.pathtest.server import Listener, listener

TEST_TIMEOUT, LISTEN_TIMEOUT = 10.0, 600.0
"""Seconds: how long a test may take, and how long --listen listens, if not told."""
RESOLVE_TIMEOUT = 3.0
"""Seconds for the resolver, at most."""


def seconds(options: argparse.Namespace) -> float:
    """The option --timeout.  Stop."""
    if options.timeout is None:
        return LISTEN_TIMEOUT if options.listen else TEST_TIMEOUT
    try:
        told = float(options.timeout)
    except ValueError:
        told = 0.0
    if not 0 < told <= 86400:
        raise CommandError(
            f"--timeout wants seconds, more than 0 and up to 86400; not {options.timeout!r}",
            INVALID,
        )
    return told


def check(options: argparse.Namespace) -> None:
    """What argparse cannot see.  Stop."""
    if options.listen and (options.uplink or options.family):
        raise CommandError("--listen goes with no UPLINK, and with neither -4 nor -6", INVALID)
    if options.to and not options.uplink:
        raise CommandError("which uplink? mproutd test UPLINK --to HOST:PORT", INVALID)
    seconds(options)


def serve(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Be the other end, as --listen wants it.  Stop."""
    listening, so_long = _listener(options), seconds(options)
    if not listening.mptcp:
        warn("this kernel has MPTCP switched off; every test will find plain TCP")
    if not options.json:
        say(f"listening at {listening.where} for {so_long:g} s; Ctrl-C ends it")
    line = json.dumps if options.json else seen_line
    listening.serve(so_long, lambda seen: say(line(seen)))
    if listening.others and not options.json:
        say(f"connections that were no tests: {listening.others}")


def _listener(options: argparse.Namespace) -> Listener:
    try:
        return listener(options.listen)
    except ValueError as error:
        raise CommandError(
            f"--listen wants PORT or ADDRESS:PORT, not {options.listen!r}: {error}", INVALID
        ) from None
    except OSError as error:
        raise CommandError(
            f"cannot listen at {options.listen}: {error.strerror or error}"
        ) from None


def test(options: argparse.Namespace, status: Mapping[str, Any]) -> dict[str, Any]:
    """The result of one test.  Stop."""
    deadline = Deadline(seconds(options))
    try:
        host, port = endpoint(options.to)
    except ValueError as error:
        raise CommandError(f"--to wants HOST:PORT, not {options.to!r}: {error}", INVALID) from None
    uplinks = {uplink["name"]: uplink for uplink in status["uplinks"]}
    if options.uplink not in uplinks:
        known = f"there are {', '.join(uplinks)}" if uplinks else "there is none"
        raise CommandError(f"no uplink is called {options.uplink!r}; {known}", INVALID)
    uplink = uplinks[options.uplink]
    where = {"uplink": uplink["name"], "device": uplink["device"]}
    found, why = sources(uplink, options.family)
    if not found:
        return result(None, None, "no-address", error=why, **where)
    try:
        peers = connection.resolve(host, port, deadline.left(RESOLVE_TIMEOUT))
    except OSError as error:
        why = f"{host}: {error.strerror or error}"
        return result(None, None, "no-name", error=why, **where)
    chosen = match(found, peers)
    if chosen is None:
        families = "IPv4" if all(":" not in source.address for source in found) else "IPv6"
        there = ", ".join(dict.fromkeys(peer.address for peer in peers))
        why = f"{host} is {there}, and {uplink['name']} has {families} alone"
        return result(None, None, "no-name", error=why, **where)
    source, peer = chosen
    return PathTest(source, Peer(peer.address, peer.port), status, deadline).run()
