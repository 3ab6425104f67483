"""Connection tracking: connections move away from an uplink, and are counted by uplink.

Connection tracking keeps the address that a flow was masqueraded to, and with it the uplink: a
UDP flow would go on into a dead one for as long as its host sends.  Once the entry is deleted,
the next packet is routed and masqueraded anew.  Entries are deleted in three cases:

- an address is no longer usable, and its uplink has `flush_conntrack`;
- other traffic has moved back to a better uplink: connections of those with `failback` move;
- an uplink is lost: connections that a flowtable forwards past rules and routes.

Invariants: they are deleted after the pass that moved the default route for other traffic; the
loop does not block, however many entries there are.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Worker
from mproutd.firewall.flows import (
    Hosts,
    UplinkFamily,
    default_uplinks,
    failing_back,
    hosts,
    lost,
)
from mproutd.firewall.ruleset import connection_marks, wants_table
from mproutd.model import family_of
from mproutd.netlink.conntrack import (
    NETLINK_NETFILTER,
    OFFLOADED,
    Entry,
    all_request,
    delete,
    entry,
    flow,
    mark_of,
    marked_requests,
    requests,
)
from mproutd.netlink.sockets import Requests
from mproutd.planning.numbering import Numbers
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext
from mproutd.status.problems import add_problems, problem

if TYPE_CHECKING:
    from mproutd.status.types import Status

COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
MAX_AT_ONCE = 1000
"""Entries that a status counts at once; more are counted in the worker thread, for the next."""


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
        return _delete(channel, entries)
    finally:
        channel.close()


def forget(family: int, mark: int, mask: int, behind: Hosts, status: int = 0) -> int:
    """Delete the entries with this mark that may move; return how many.  OSError.  Blocks.

    With `status`, only those with one of its bits.
    """
    channel = Requests(NETLINK_NETFILTER)
    try:
        entries: set[Entry] = set()
        for encode in marked_requests([mark], mask, family, status):
            for body in channel.dump(encode):
                decoded = flow(body)
                if decoded is None or decoded.entry.family != family or decoded.mark & mask != mark:
                    continue
                if (not status or decoded.status & status) and behind.may_move(decoded):
                    entries.add(decoded.entry)
        return _delete(channel, entries)
    finally:
        channel.close()


def count(mask: int) -> Counter[int]:
    """How many entries have each value in the bits of `mask`.  OSError.  Blocks."""
    channel = Requests(NETLINK_NETFILTER)
    try:
        return Counter(mark_of(body) & mask for body in channel.dump(all_request))
    finally:
        channel.close()


def _delete(channel: Requests, entries: Iterable[Entry]) -> int:
    listed = list(entries)
    failed = channel.change([partial(delete, item) for item in listed])
    for ack in failed.values():
        if ack.errno != errno.ENOENT:
            raise OSError(ack.errno, ack.text or os.strerror(ack.errno))
    return len(listed) - len(failed)


def _tracked() -> int:
    """How many connections are tracked; 0 where there is no connection tracking."""
    try:
        with open(COUNT, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


class ConntrackFlusher(Service):
    """Deletes the entries of connections that have to move, and counts the others."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._config = Config(enabled=False)
        self._enabled: frozenset[str] = frozenset()
        """The uplinks with flush_conntrack."""
        self._addresses: dict[str, frozenset[str]] = {}
        """Uplink → its usable addresses at the last pass."""
        self._usable: frozenset[UplinkFamily] = frozenset()
        self._defaults: dict[int, str] | None = None
        """Family → the uplink that carries other traffic; None before the first pass."""
        self._numbers: dict[str, Numbers] = {}
        """What the marks follow from, as of the last pass."""
        self._marks: dict[str, int] = {}
        self._counts: Counter[int] | None = None
        self._counting = False
        self._error = ""
        """Why connections cannot be counted."""
        self._worker = Worker(context.loop)

    def on_configuration(self, config: Config) -> None:
        self._config, self._numbers = config, {}
        self._enabled = frozenset(
            uplink.name for uplink in config.uplinks if uplink.flush_conntrack
        )

    def on_pass(self, outcome: Outcome) -> None:
        if self._enabled:
            self._flush_addresses(outcome)
        if wants_table(self._config):
            self._move_marked(outcome)

    # -- flush_conntrack ------------------------------------------------------------------

    def _flush_addresses(self, outcome: Outcome) -> None:
        before, self._addresses = self._addresses, {}
        for uplink in outcome.plan.uplinks:
            self._addresses[uplink.config.name] = frozenset(
                address.address for path in uplink.paths if path.usable for address in path.covered
            )
        usable_anywhere = frozenset().union(*self._addresses.values())
        for name in before.keys() & self._enabled:
            lost_addresses = before[name] - usable_anywhere
            if lost_addresses:
                self._submit(partial(flush, sorted(lost_addresses)), name, "flush_conntrack")

    # -- by the marks of pin_flows --------------------------------------------------------

    def _move_marked(self, outcome: Outcome) -> None:
        plan = outcome.plan
        usable, no_longer_usable = lost(self._usable, plan.uplinks)
        self._usable = usable
        before, self._defaults = self._defaults, plan.default
        if before is None:
            table = self._config.table_base
            before = default_uplinks(outcome.snapshot.routes, table, plan.uplinks)
        back = failing_back(plan.uplinks, before, plan.shares) if before != plan.default else []
        self._marks = connection_marks(self._config, plan.numbers)
        if no_longer_usable or back:
            behind = hosts(outcome.snapshot.addresses, plan.uplinks)
            self._forget(back, behind, "failback")
            self._forget(no_longer_usable, behind, "flowtable", OFFLOADED)

    def _forget(
        self, uplinks: Sequence[UplinkFamily], behind: Hosts, reason: str, status: int = 0
    ) -> None:
        mask = self._config.mark_mask
        for name, family in uplinks:
            if name in self._marks:
                job = partial(forget, family, self._marks[name], mask, behind, status)
                self._submit(job, name, reason)

    # -- the end of a job -----------------------------------------------------------------

    def _submit(self, job: Callable[[], int], uplink: str, reason: str) -> None:
        self._worker.submit(job, partial(self._report, uplink, reason))

    def _report(self, name: str, reason: str, count: int | None, error: str) -> None:
        if error:
            text = f"{name}: cannot flush connection tracking: {error}"
            self._context.publish("conntrack", log.WARNING, text, name)
        elif count:
            flows = "1 flow" if count == 1 else f"{count} flows"
            text = f"{name}: removed {flows} from connection tracking ({reason})"
            self._context.publish("conntrack", log.INFO, text, name)

    # -- counting -------------------------------------------------------------------------

    def add_to_status(self, status: Status) -> None:
        if not wants_table(self._config):
            return
        if _tracked() <= MAX_AT_ONCE:
            try:
                self._on_counted(count(self._config.mark_mask), "")
            except (OSError, ValueError) as error:
                self._on_counted(None, str(getattr(error, "strerror", "") or error))
        elif not self._counting:
            self._counting = True
            self._worker.submit(partial(count, self._config.mark_mask), self._on_counted)
        for uplink in status["uplinks"]:
            mark = self._marks.get(uplink["name"])
            known = self._counts is not None and mark is not None
            uplink["flows"] = self._counts[mark] if known else None  # type: ignore[index]
        moves = [uplink.name for uplink in self._config.uplinks if uplink.failback == "move"]
        if self._error and (moves or self._enabled):
            add_problems(status, [problem("no-conntrack-netlink", error=self._error)])

    def _on_counted(self, counts: Counter[int] | None, error: str) -> None:
        self._counting = False
        self._counts, self._error = counts, error

    def close(self) -> None:
        self._worker.close()
