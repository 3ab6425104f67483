"""The resolvers that programs of this system keep in /run, by device.

- systemd-networkd: links/IFINDEX, DNS=, from leases, router advertisements and .network files; the
  file that systemd-resolved reads.
- resolvconf(8), Debian's and openresolv: interface/DEVICE.PROGRAM, from dhclient, dhcpcd, pppd,
  ifupdown and others.
- dhcpcd without resolvconf: hook-state/resolv.conf/DEVICE.PROTOCOL, from leases and router
  advertisements.

They are read at the start, after a pass that saw another link or address, when a hook wakes the
daemon, and with a pass after a minute or more.  These programs write a file shortly after they set
an address, hence the delay.

Invariant: only a regular file that no other user can write to is read, without following links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.environment import RESOLVER_DIRECTORIES
from mproutd.eventloop import Timer
from mproutd.planning.plan import Outcome
from mproutd.planning.resolver_sources import (
    Resolver,
    merge_resolvers,
    parse_nameservers,
    parse_networkd_link,
)
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext

SETTLE_DELAY = 1.0
"""Seconds from a change of an uplink's addresses until the files are read."""
REFRESH_INTERVAL = 60.0
"""Seconds after which any pass causes them to be read again."""
MAX_FILE_BYTES, MAX_FILES = 1 << 16, 1000


class Source(NamedTuple):
    """A directory with a file for each device."""

    path: str
    parse: Callable[[str], tuple[Resolver, ...]]
    by_index: bool = False
    """Whether a file's name is the ifindex, else DEVICE.PROGRAM."""


NETWORKD, RESOLVCONF, DHCPCD = RESOLVER_DIRECTORIES
SOURCES = (
    Source(NETWORKD, parse_networkd_link, by_index=True),
    Source(RESOLVCONF, parse_nameservers),
    Source(DHCPCD, parse_nameservers),
)


class ResolverFiles(Service):
    """What these files name, kept current."""

    def __init__(self, context: ServiceContext, sources: Sequence[Source] = SOURCES) -> None:
        self._context, self._sources = context, sources
        self._resolvers: dict[str, tuple[Resolver, ...]] = {}
        self._devices: list[str] = []
        self._indexes: dict[str, int] = {}
        self._observed: object = None
        self._read_at = 0.0
        self._timer: Timer | None = None

    def on_configuration(self, config: Config) -> None:
        self._devices = [uplink.device for uplink in config.uplinks if uplink.device]
        self._read()

    def on_hint(self) -> None:
        self._read_within(0.0)

    def on_pass(self, outcome: Outcome) -> None:
        observed = [
            (uplink.link and uplink.link[:4], *(path.covered for path in uplink.paths))
            for uplink in outcome.plan.uplinks
        ]
        late = self._context.clock() >= self._read_at + REFRESH_INTERVAL
        if observed != self._observed or late:
            self._observed = observed
            links = [uplink.link for uplink in outcome.plan.uplinks if uplink.link]
            self._indexes = {link.name: link.index for link in links}
            self._read_within(SETTLE_DELAY)

    def add_facts(self, facts: Facts) -> Facts:
        if not self._resolvers:
            return facts
        return facts._replace(resolvers=merge_resolvers(facts.resolvers, self._resolvers))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # -- reading --------------------------------------------------------------------------

    def _read_within(self, delay: float) -> None:
        at = self._context.clock() + delay
        if self._timer is None or not self._timer.active or at < self._timer.at:
            self.close()
            self._timer = self._context.loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        before = self._resolvers
        self._read()
        if self._resolvers != before:
            self._context.request_pass()

    def _read(self) -> None:
        resolvers: dict[str, tuple[Resolver, ...]] = {}
        for source in self._sources:
            for device, text in self._texts(source):
                if named := source.parse(text):
                    resolvers[device] = resolvers.get(device, ()) + named
        self._resolvers, self._read_at = resolvers, self._context.clock()

    def _texts(self, source: Source) -> Iterator[tuple[str, str]]:
        """(device, content) of the files about uplinks."""
        if source.by_index:
            for device in self._devices:
                index = self._indexes.get(device) or _index_of(device)
                if index and (text := _read_text(source.path, str(index))):
                    yield device, text
            return
        try:
            names = sorted(os.listdir(source.path))[:MAX_FILES]
        except OSError:
            return
        for device in self._devices:
            for name in names:
                # A VLAN's name has a dot as well: eth0.300.dhcp is not about eth0.
                if name.rpartition(".")[0] == device and (text := _read_text(source.path, name)):
                    yield device, text


def _index_of(device: str) -> int:
    try:
        with open(f"/sys/class/net/{device}/ifindex") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _read_text(directory: str, name: str) -> str:
    """The content of a file; empty for one that is not there or not trusted."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(directory, name), flags)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return ""
        return os.read(descriptor, MAX_FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
