"""flush_conntrack: move forwarded flows away from an uplink that is lost.

Connection tracking keeps the address that a flow was masqueraded to, and with it the uplink: a
UDP flow would go on into a dead one for as long as its host sends.  Once the entry is deleted,
the next packet is routed and masqueraded anew.

Invariants: only entries of addresses that were lost are deleted; they are deleted after the
pass that moved the default route for other traffic; the loop does not block, however many
entries there are.
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
    """Delete the entries of these addresses; return how many.  OSError.  Blocks."""
    channel = Requests(NETLINK_NETFILTER)
    try:
        entries: set[Entry] = set()
        for address in addresses:
            family = family_of(address)
            for encode in requests(address, family):
                decoded = (entry(body, address, family) for body in channel.dump(encode))
                entries.update(item for item in decoded if item is not None)
        failed = channel.change([partial(delete, item) for item in entries])
        for ack in failed.values():
            if ack.errno != errno.ENOENT:
                raise OSError(ack.errno, ack.text or os.strerror(ack.errno))
        return len(entries) - len(failed)
    finally:
        channel.close()


class ConntrackFlusher(Service):
    """Flushes the entries of addresses that are no longer usable."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._enabled: frozenset[str] = frozenset()
        """The uplinks with flush_conntrack."""
        self._usable: dict[str, frozenset[str]] = {}
        """Uplink → its usable addresses at the last pass."""
        self._worker = Worker(context.loop)

    def on_configuration(self, config: Config) -> None:
        self._enabled = frozenset(
            uplink.name for uplink in config.uplinks if uplink.flush_conntrack
        )

    def on_pass(self, outcome: Outcome) -> None:
        before, self._usable = self._usable, {}
        for uplink in outcome.plan.uplinks:
            self._usable[uplink.config.name] = frozenset(
                address.address for path in uplink.paths if path.usable for address in path.covered
            )
        usable_anywhere = frozenset().union(*self._usable.values())
        for name in before.keys() & self._enabled:
            lost = before[name] - usable_anywhere
            if lost:
                self._worker.submit(partial(_flush, sorted(lost)), partial(self._report, name))

    def _report(self, name: str, result: tuple[int, str], _: str) -> None:
        count, error = result
        if error:
            text = f"{name}: cannot flush connection tracking: {error}"
            self._context.publish("conntrack", log.WARNING, text, name)
        elif count:
            flows = "1 flow" if count == 1 else f"{count} flows"
            text = f"{name}: removed {flows} from connection tracking (flush_conntrack)"
            self._context.publish("conntrack", log.INFO, text, name)

    def close(self) -> None:
        self._worker.close()


def _flush(addresses: Iterable[str]) -> tuple[int, str]:
    """(entries deleted, error)"""
    try:
        return flush(addresses), ""
    except (OSError, ValueError) as error:
        return 0, str(error)
