"""flush_conntrack: what this machine forwards leaves an uplink that is lost.

Connection tracking remembers the address that a flow was masqueraded to, and with it the line;
a UDP flow would go on into a dead one for as long as somebody sends.  What must hold: entries
of the addresses that were lost go, and no others; it happens after the pass that moved the
default for other traffic; the loop does not wait, however many entries there are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Worker
from mproutd.model import family_of
from mproutd.netlink.conntrack import NETLINK_NETFILTER, Entry, delete, entry, requests
from mproutd.netlink.sockets import Requests
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext


def flush(addresses: Iterable[str]) -> int:
    """Delete the entries of these addresses, and say how many.  OSError."""
    channel = Requests(NETLINK_NETFILTER)
    try:
        found: set[Entry] = set()
        for address in addresses:
            family = family_of(address)
            for encode in requests(address, family):
                each = (entry(body, address, family) for body in channel.dump(encode))
                found.update(one for one in each if one is not None)
        failed = channel.change([partial(delete, one) for one in found])
        for ack in failed.values():
            if ack.errno != errno.ENOENT:
                raise OSError(ack.errno, ack.text or os.strerror(ack.errno))
        return len(found) - len(failed)
    finally:
        channel.close()


class ConntrackFlusher(Service):
    """Watches for usable addresses that are not usable any more."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._asked: frozenset[str] = frozenset()
        self._usable: dict[str, frozenset[str]] = {}
        """Uplink → the addresses by which it could be used, at the last pass."""
        self._worker = Worker(context.loop)

    def on_configuration(self, config: Config) -> None:
        self._asked = frozenset(each.name for each in config.uplinks if each.flush_conntrack)

    def on_pass(self, outcome: Outcome) -> None:
        before, self._usable = self._usable, {}
        for seen in outcome.plan.uplinks:
            self._usable[seen.config.name] = frozenset(
                address.address for path in seen.paths if path.usable for address in path.covered
            )
        everywhere = frozenset().union(*self._usable.values())
        for name in before.keys() & self._asked:
            lost = before[name] - everywhere
            if lost:
                self._worker.submit(partial(_flushed, sorted(lost)), partial(self._told_of, name))

    def _told_of(self, name: str, result: tuple[int, str], _: str) -> None:
        count, problem = result
        if problem:
            text = f"{name}: its forwarded connections stay in connection tracking: {problem}"
            self._context.publish("conntrack", log.WARNING, text, name)
        elif count:
            ends = "" if count == 1 else "s"
            text = f"{name}: {count} forwarded connection{ends} forgotten (flush_conntrack)"
            self._context.publish("conntrack", log.INFO, text, name)

    def close(self) -> None:
        self._worker.close()


def _flushed(addresses: Iterable[str]) -> tuple[int, str]:
    """How many, and what went wrong."""
    try:
        return flush(addresses), ""
    except (OSError, ValueError) as error:
        return 0, str(error)
