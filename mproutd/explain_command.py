"""`mproutd explain`: where one flow goes, and why.  It changes nothing."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from mproutd import commands
from mproutd.commands import INVALID, NOT_RUNNING, CommandError
from mproutd.configuration.config import ConfigError
from mproutd.configuration.parsers import quoted
from mproutd.explain.request import Request, parse_request

if TYPE_CHECKING:
    from mproutd.explain.types import Explanation


def perform(options: argparse.Namespace) -> Explanation:
    """The explanation.  CommandError."""
    request = _request(options)
    from mproutd.explain.decide import UnknownDeviceError, explain
    from mproutd.explain.kernel import FlowKernel
    from mproutd.explain.world import read_world

    kernel = FlowKernel()
    try:
        own = commands.reconciler(options, change=False)
        world = read_world(own.preview(), commands.runtime_dir(options), kernel)
        return explain(request, world, kernel)
    except CommandError as error:
        if error.status != NOT_RUNNING:
            raise
        file = f"{commands.runtime_dir(options)}/state.json"
        raise CommandError(f"{file}: only root may read it; run this as root") from None
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
    except UnknownDeviceError as error:
        text = f"--iif: there is no device {quoted(str(error))}; see: ip link"
        raise CommandError(text, INVALID) from None


def _request(options: argparse.Namespace) -> Request:
    """The request; what this host sends is sent by whoever asks, unless a user is named."""
    given = dict(vars(options))
    if options.user is not None:
        given["uid"] = str(_uid(options.user))
    elif options.uid is None and options.iif is None:
        given["uid"] = str(os.getuid())
    try:
        return parse_request(given)
    except ValueError as error:
        raise CommandError(str(error), INVALID) from None


def _uid(name: str) -> int:
    from pwd import getpwnam

    try:
        return getpwnam(name).pw_uid
    except KeyError:
        raise CommandError(f"--user: there is no user {quoted(name)}", INVALID) from None
