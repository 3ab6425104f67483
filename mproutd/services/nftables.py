"""pin_flows: keeps the nftables table `inet mproutd` as the configuration says.

The table depends on the configuration and the slots only (firewall/ruleset.py), so no pass writes
it.  It is compared with what is there after each change of the configuration, and whenever the
kernel reports that somebody changed it; nft runs in the worker thread.

Invariants: one nft at a time; a table that others remove is restored at the rate of everything
else that others remove; without nft, or without the kernel's part, all the rest works.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer, Worker
from mproutd.firewall import nft
from mproutd.firewall.ruleset import TABLE, connection_marks, overwriting_rules
from mproutd.firewall.table import is_router, pending_change, table_problems, wanted_table
from mproutd.model import NftTable, Operation
from mproutd.netlink.nftables import NETLINK_NETFILTER, RULESET_GROUP, concerns, new_rule
from mproutd.netlink.sockets import Events
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext

if TYPE_CHECKING:
    from mproutd.planning.inspection import Preview
    from mproutd.status.types import Status

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until nft is run again after a failure; doubled each time."""
FORWARDING_INTERVAL = 10.0
"""Seconds between two looks at whether this host has become a router."""
CONFLICT_DELAY, CONFLICT_INTERVAL = 2.0, 30.0
"""Seconds from a change of another table to the search for conflicts, and between two of them."""
_RESTORE = Operation("add", NftTable())


class _Written(NamedTuple):
    """The end of a job in the worker thread."""

    listing: str = ""
    error: nft.NftError | None = None
    conflicts: Sequence[tuple[str, str]] = ()


class PinnedFlows(Service):
    """Keeps the table in place while the configuration asks for it."""

    persistent = True

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._worker = Worker(context.loop)
        self._record = nft.Record(context.runtime_dir)
        self._limiter = RemovalLimiter(context.clock)
        self._config = Config(enabled=False)
        self._planned: object = None
        """What the wanted table follows from, as of the last pass."""
        self._wanted: str | None = None
        """None before the first pass."""
        self._forwards = False
        self._forwards_at = 0.0
        self._busy = self._check_again = False
        """nft is running; and something happened meanwhile."""
        self._in_place = False
        self._error: nft.NftError | None = None
        self._failures = 0
        self._timer: Timer | None = None
        self._events: Events | None = None
        self._marks: frozenset[int] = frozenset()
        self._conflicts: Sequence[tuple[str, str]] = ()
        self._conflict_timer: Timer | None = None

    # -- what is wanted -------------------------------------------------------------------

    def on_configuration(self, config: Config) -> None:
        self._config = config
        self._planned, self._forwards_at = None, 0.0

    def on_pass(self, outcome: Outcome) -> None:
        plan = outcome.plan
        if not self._forwards and self._context.clock() >= self._forwards_at:
            self._forwards_at = self._context.clock() + FORWARDING_INTERVAL
            self._forwards = is_router(outcome.snapshot)
        planned = (
            self._forwards,
            plan.numbers,
            [uplink.config.device for uplink in plan.uplinks],
        )
        if planned == self._planned:
            return
        self._planned = planned
        wanted = wanted_table(self._config, plan, self._forwards)
        if wanted == self._wanted:
            return
        first = self._wanted is None
        self._wanted = wanted
        self._marks = frozenset(connection_marks(self._config, plan.numbers).values())
        if not first:
            self._limiter.expect_removal([NftTable()])
        if wanted or self._record.table:
            self._check()
        else:
            self._unsubscribe()

    # -- reading and writing the table ----------------------------------------------------

    def _check(self) -> None:
        """Compare the table with what is wanted, now or after what is running."""
        self._cancel_timer()
        if self._busy:
            self._check_again = True
            return
        self._busy, self._check_again = True, False
        try:
            self._subscribe()
        except OSError as error:
            self._busy = False
            text = error.strerror or str(error)
            self._fail(nft.NftError("nft-unsupported", text))
            return
        self._worker.submit(_list, self._on_listed)

    def _on_listed(self, result: _Written, error: str) -> None:
        self._busy = False
        if result.error is not None:
            self._fail(result.error)
            return
        wanted, listing = self._wanted or "", result.listing
        change = pending_change(self._record, wanted, listing)
        if change is None:
            self._settle()
            return
        self._in_place = False
        lost = self._record.table == wanted and bool(wanted)
        if lost and not self._limiter.allow(_RESTORE, ()):
            self._limiter.record_pass([NftTable()], [NftTable()])
            at = self._limiter.next_at()
            self._arm((at - self._context.clock()) if at is not None else INITIAL_BACKOFF)
            return
        if lost:
            what = "changed" if listing else "removed"
            text = f"another program {what} the nftables table {TABLE}; restoring it"
            self._context.publish("nftables", log.WARNING, text)
        self._busy = True
        known = self._record.is_as_left(listing)
        self._worker.submit(
            partial(_write, wanted, listing, known), partial(self._on_written, wanted, change)
        )

    def _on_written(self, wanted: str, change: Operation, result: _Written, error: str) -> None:
        self._busy = False
        if result.error is not None:
            self._fail(result.error)
            return
        try:
            self._record.save(wanted, result.listing)
        except OSError:
            pass  # the table is written again at the next start; the state file reports the cause
        done = {"add": "added", "replace": "replaced", "delete": "deleted"}[change.verb]
        self._context.publish("nftables", log.INFO, f"{done} the nftables table {TABLE}")
        self._check_again |= wanted != self._wanted
        self._settle()

    def _settle(self) -> None:
        """The table is as wanted, unless something happened while nft was running."""
        self._error, self._failures = None, 0
        self._in_place = bool(self._wanted)
        self._limiter.record_pass([NftTable()] if self._wanted else [])
        if self._check_again:
            self._check()
        elif self._wanted:
            self._search_conflicts(CONFLICT_DELAY)
        else:
            self._unsubscribe()

    def _fail(self, error: nft.NftError) -> None:
        if self._error is None or str(self._error) != str(error):
            text = f"cannot maintain the nftables table {TABLE}: {error.text}"
            self._context.publish("nftables", log.WARNING, text)
        self._error, self._in_place = error, False
        self._arm(min(INITIAL_BACKOFF * 2 ** min(self._failures, 10), MAX_BACKOFF))
        self._failures += 1

    def _arm(self, delay: float) -> None:
        self._cancel_timer()
        self._timer = self._context.loop.call_later(max(0.0, delay), self._check)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # -- what others do -------------------------------------------------------------------

    def _subscribe(self) -> None:
        """OSError when the kernel has no nf_tables."""
        if self._events is None:
            self._events = Events(NETLINK_NETFILTER, (RULESET_GROUP,))
            self._context.loop.watch(self._events, self._on_events)

    def _unsubscribe(self) -> None:
        if self._events is not None:
            self._context.loop.unwatch(self._events)
            self._events.close()
            self._events = None
        if self._conflict_timer is not None:
            self._conflict_timer.cancel()
        self._conflicts = ()

    def _on_events(self) -> None:
        assert self._events is not None
        messages = self._events.read()
        if messages is None or any(concerns(message, TABLE) for message in messages):
            self._check()
        elif any(new_rule(message) for message in messages):
            self._search_conflicts(CONFLICT_INTERVAL)

    def _search_conflicts(self, delay: float) -> None:
        """Look for rules of others that overwrite our bits, unless that is due already."""
        if self._conflict_timer is None or not self._conflict_timer.active:
            self._conflict_timer = self._context.loop.call_later(delay, self._list_conflicts)

    def _list_conflicts(self) -> None:
        job = partial(_conflicts, self._config.mark_mask, self._marks)
        self._worker.submit(job, self._on_conflicts)

    def _on_conflicts(self, result: _Written, error: str) -> None:
        if result.error is None:
            self._conflicts = result.conflicts

    # -- reports --------------------------------------------------------------------------

    def preview(self, preview: Preview) -> list[Operation]:
        wanted = wanted_table(preview.config, preview.plan, is_router(preview.snapshot))
        if wanted == self._record.table and (self._in_place or not wanted):
            return []
        if not wanted:
            return [Operation("delete", NftTable())]
        return [Operation("replace" if self._record.table else "add", NftTable(wanted))]

    def add_to_status(self, status: Status) -> None:
        status["pins_flows"] = self._in_place if self._wanted else None
        if self._wanted:
            found = table_problems(self._error, self._conflicts, self._limiter)
            status["problems"] += found
            status["degraded"] |= bool(found)

    def close(self) -> None:
        self._cancel_timer()
        self._unsubscribe()
        self._worker.close()


# -- in the worker thread -----------------------------------------------------------------


def _list() -> _Written:
    try:
        return _Written(nft.table_listing())
    except nft.NftError as error:
        return _Written(error=error)


def _write(wanted: str, listing: str, known: bool) -> _Written:
    try:
        return _Written(nft.write(wanted, listing, known))
    except nft.NftError as error:
        return _Written(error=error)


def _conflicts(mask: int, marks: frozenset[int]) -> _Written:
    try:
        return _Written(conflicts=overwriting_rules(nft.whole_listing(), mask, marks))
    except nft.NftError as error:
        return _Written(error=error)
