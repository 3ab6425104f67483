"""pin_flows: keeps the nftables table `inet mproutd` as the configuration says.

The table depends on the configuration and the slots only (firewall/ruleset.py), so no pass writes
it.  It is compared with what is there at the start, after each change of the configuration, and
whenever the kernel reports that somebody changed it; all of that in the worker thread.  Only a
table that was deleted is added at once, as a pass does with routes: that takes less than a
millisecond, and every packet that leaves meanwhile may end a masqueraded connection.

Invariants: one job at a time; a table that others remove is restored at the rate of everything
else that others remove; without nf_tables in the kernel, all the rest works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer, Worker
from mproutd.firewall import nft
from mproutd.firewall.ruleset import TABLE, connection_marks, overwriting_rules
from mproutd.firewall.table import (
    NO_TABLE,
    is_router,
    pending_change,
    table_problems,
    wanted_table,
)
from mproutd.model import NftTable, Operation
from mproutd.netlink.nftables import (
    NETLINK_NETFILTER,
    RULESET_GROUP,
    Table,
    concerns,
    is_deleted,
    new_rule,
)
from mproutd.netlink.sockets import Events
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Outcome
from mproutd.services.base import Service, ServiceContext

if TYPE_CHECKING:
    from mproutd.planning.inspection import Preview
    from mproutd.status.types import Status

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until the next attempt after a failure; doubled each time."""
FORWARDING_INTERVAL = 10.0
"""Seconds between two looks at whether this host has become a router."""
CONFLICT_DELAY, CONFLICT_INTERVAL = 2.0, 30.0
"""Seconds until the search for conflicts: after our own write, and after a rule of others."""
_RESTORE = Operation("add", NftTable())


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
        self._wanted: Table | None = None
        """None before the first pass."""
        self._forwards = False
        self._forwards_at = 0.0
        self._busy = self._check_again = False
        """A job is running; and something happened meanwhile."""
        self._in_place = False
        self._error = ""
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
        devices = [uplink.config.device for uplink in plan.uplinks]
        planned = (self._forwards, plan.numbers, devices)
        if planned == self._planned:
            return
        self._planned = planned
        wanted = wanted_table(self._config, plan, self._forwards)
        if wanted == self._wanted:
            return
        if self._wanted is not None:
            self._limiter.expect_removal([NftTable()])
        self._wanted = wanted
        self._marks = frozenset(connection_marks(self._config, plan.numbers).values())
        if wanted.chains or self._record.script:
            self._check()

    # -- reading and writing the table ----------------------------------------------------

    def _check(self) -> None:
        """Compare the table with what is wanted, now or after the job that is running."""
        if self._timer is not None:
            self._timer.cancel()
        if self._busy:
            self._check_again = True
            return
        try:
            self._subscribe()
        except OSError as error:
            self._fail(f"the kernel has no nf_tables: {error.strerror or error}")
            return
        self._busy, self._check_again = True, False
        self._worker.submit(nft.read_table, self._on_read)

    def _on_read(self, found: nft.Found | None, error: str, urgent: bool = False) -> None:
        self._busy = False
        if found is None:
            self._fail(error)
            return
        wanted = self._wanted or NO_TABLE
        change = pending_change(self._record, wanted, found)
        if change is None:
            self._settle(wanted)
            return
        self._in_place = False
        lost = bool(wanted.chains) and self._record.holds(wanted)
        if lost and not self._limiter.allow(_RESTORE, ()):
            self._limiter.record_pass([NftTable()], [NftTable()])
            at = self._limiter.next_at()
            self._arm(INITIAL_BACKOFF if at is None else at - self._context.clock())
            return
        if lost:
            what = "changed" if found else "removed"
            text = f"another program {what} the nftables table inet {TABLE}; restoring it"
            self._context.publish("nftables", log.WARNING, text)
        job = partial(nft.write_table, wanted, self._record.is_as_left(found))
        if urgent:
            self._write_now(job, wanted, change)
            return
        self._busy = True
        self._worker.submit(job, partial(self._on_written, wanted, change))

    def _write_now(self, job: Callable[[], nft.Found], wanted: Table, change: Operation) -> None:
        try:
            written, error = job(), ""
        except OSError as problem:
            written, error = None, problem.strerror or str(problem)
        self._on_written(wanted, change, written, error)

    def _on_written(
        self, wanted: Table, change: Operation, found: nft.Found | None, error: str
    ) -> None:
        self._busy = False
        if found is None:
            self._fail(error)
            return
        self._save(wanted, found)
        done = {"add": "added", "replace": "replaced"}.get(change.verb, "deleted")
        self._context.publish("nftables", log.INFO, f"{done} the nftables table inet {TABLE}")
        self._settle(wanted)

    def _save(self, table: Table, found: nft.Found) -> None:
        try:
            self._record.save(table, found)
        except OSError:
            pass  # it is written again at the next start; the state file reports the cause

    def _settle(self, table: Table) -> None:
        """The table in the kernel is this one, unless something happened meanwhile."""
        self._error, self._failures = "", 0
        self._in_place = bool(table.chains)
        self._limiter.record_pass([NftTable()] if self._in_place else [])
        if self._check_again or table != self._wanted:
            self._check()
        elif self._in_place:
            self._search_conflicts(CONFLICT_DELAY)
        else:
            self._unsubscribe()
            if self._record.script:
                self._save(NO_TABLE, nft.Found())

    def _fail(self, error: str) -> None:
        if error != self._error:
            text = f"cannot maintain the nftables table inet {TABLE}: {error}"
            self._context.publish("nftables", log.WARNING, text)
        self._error, self._in_place = error, False
        self._arm(min(INITIAL_BACKOFF * 2 ** min(self._failures, 10), MAX_BACKOFF))
        self._failures += 1

    def _arm(self, delay: float) -> None:
        self._timer = self._context.loop.call_later(max(0.0, delay), self._check)

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
        own = [message for message in messages or () if concerns(message, TABLE)]
        if is_deleted(own) and self._in_place and not self._busy:
            self._on_read(nft.Found(), "", urgent=True)
        elif messages is None or own:
            self._check()
        elif any(map(new_rule, messages)):
            self._search_conflicts(CONFLICT_INTERVAL)

    def _search_conflicts(self, delay: float) -> None:
        """Look for rules of others that overwrite our bits, unless that is due already."""
        if self._conflict_timer is None or not self._conflict_timer.active:
            self._conflict_timer = self._context.loop.call_later(delay, self._list_conflicts)

    def _list_conflicts(self) -> None:
        job = partial(_conflicts, self._config.mark_mask, self._marks)
        self._worker.submit(job, self._on_conflicts)

    def _on_conflicts(self, conflicts: Sequence[tuple[str, str]] | None, error: str) -> None:
        self._conflicts = conflicts or ()

    # -- reports --------------------------------------------------------------------------

    def preview(self, preview: Preview) -> list[Operation]:
        wanted = wanted_table(preview.config, preview.plan, is_router(preview.snapshot))
        found = self._record.found if self._in_place else nft.Found()
        change = pending_change(self._record, wanted, found)
        return [] if change is None else [change]

    def add_to_status(self, status: Status) -> None:
        wanted = self._wanted is not None and bool(self._wanted.chains)
        status["pins_flows"] = self._in_place if wanted else None
        if wanted:
            problems = table_problems(self._error, self._conflicts, self._limiter)
            status["problems"] += problems
            status["degraded"] |= bool(problems)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unsubscribe()
        self._worker.close()


def _conflicts(mask: int, marks: frozenset[int]) -> list[tuple[str, str]]:
    return overwriting_rules(nft.whole_listing(), mask, marks)
