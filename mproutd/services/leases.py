"""Delegated prefixes from the lease files of DHCPv6 clients, where there is no netifd.

The directories are looked at with a pass, but not more often than every few seconds, and when a
hook has woken the daemon; a file is read again when it has changed.
"""

from __future__ import annotations

import os
import time
from glob import glob

from mproutd.configuration.config import Config
from mproutd.planning.leases import dhclient_prefixes, dhcpcd_prefixes
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.safefile import read_file
from mproutd.services.base import Service, ServiceContext

DHCLIENT_FILES = "/var/lib/dhcp/dhclient6*.leases"
DHCPCD_FILES = "/var/lib/dhcpcd/*.lease6"
MAX_BYTES = 1 << 20
"""dhclient appends to its file, and rewrites it at the start."""
INTERVAL = 5.0
"""Seconds between two looks without a hint."""
REFRESH_INTERVAL = 60.0
"""Seconds after which files are read again that have not changed: a lease may have ended."""
Prefixes = dict[str, tuple[str, ...]]


class Leases(Service):
    """What the files say."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._versions: list[tuple[str, int, int]] = []
        """Of the files as they were read."""
        self._prefixes: Prefixes = {}
        self._read_at = self._looked_at = -REFRESH_INTERVAL

    def on_configuration(self, config: Config) -> None:
        self._read(_versions())

    def on_hint(self) -> None:
        self._look()

    def on_pass(self, outcome: Outcome) -> None:
        if self._context.clock() - self._looked_at >= INTERVAL:
            self._look()

    def add_facts(self, facts: Facts) -> Facts:
        return with_prefixes(facts, self._prefixes)

    def _look(self) -> None:
        self._looked_at = self._context.clock()
        versions = _versions()
        if versions == self._versions and self._looked_at - self._read_at < REFRESH_INTERVAL:
            return
        before = self._prefixes
        self._read(versions)
        if self._prefixes != before:
            self._context.request_pass()

    def _read(self, versions: list[tuple[str, int, int]]) -> None:
        self._read_at = self._looked_at = self._context.clock()
        self._versions, self._prefixes = versions, read_leases()


def add_lease_facts(facts: Facts) -> Facts:
    """The same for a command."""
    return with_prefixes(facts, read_leases())


def with_prefixes(facts: Facts, known: Prefixes) -> Facts:
    """The facts with these prefixes, after those of others."""
    if not known:
        return facts
    prefixes = dict(facts.prefixes)
    for device, more in known.items():
        prefixes[device] = tuple(dict.fromkeys((*prefixes.get(device, ()), *more)))
    return facts._replace(prefixes=prefixes)


def _versions() -> list[tuple[str, int, int]]:
    """(path, when it was written, size) of each file."""
    versions = []
    for path in (*glob(DHCLIENT_FILES), *glob(DHCPCD_FILES)):
        try:
            status = os.stat(path)
        except OSError:
            continue
        versions.append((path, status.st_mtime_ns, status.st_size))
    return sorted(versions)


def read_leases() -> Prefixes:
    """Device → the prefixes that a client was delegated through it.  Files that cannot be read
    say nothing."""
    found: Prefixes = {}
    now = time.time()
    for path in sorted(glob(DHCLIENT_FILES)):
        try:
            text = read_file(path, MAX_BYTES).decode("ascii", "replace")
        except OSError:
            continue
        for device, known in dhclient_prefixes(text, now).items():
            found[device] = tuple(dict.fromkeys((*found.get(device, ()), *known)))
    for path in sorted(glob(DHCPCD_FILES)):
        try:
            age = now - os.stat(path).st_mtime
            known = dhcpcd_prefixes(read_file(path, MAX_BYTES), age)
        except OSError:
            continue
        device = os.path.basename(path).removesuffix(".lease6")
        if known:
            found[device] = tuple(dict.fromkeys((*found.get(device, ()), *known)))
    return found
