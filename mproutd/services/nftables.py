"""pin_flows and nat6: keeps the nftables table `inet mproutd` as the configuration says.

The table depends on the configuration and the slots only (firewall/ruleset.py), so no pass writes
it.  It is compared with what is there at the start, after each change of the configuration, and
whenever the kernel reports that somebody changed it.  Both take less than a millisecond and happen
at once, like the routes of a pass: every packet that leaves without the table may end a masqueraded
connection.  The search for conflicts is a child, nft(8).

Invariants: a table that others remove is restored at the rate of everything else that others
remove; without nf_tables in the kernel, all the rest works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer
from mproutd.firewall import nft
from mproutd.firewall.ruleset import TABLE, connection_marks, overwriting_rules, wants_table
from mproutd.firewall.table import (
    NO_TABLE,
    is_router,
    pending_change,
    table_problems,
    translation_problems,
    wanted_table,
)
from mproutd.firewall.translation import translations
from mproutd.model import NftTable, Operation
from mproutd.netlink.nft_events import concerns, is_deleted, new_rule
from mproutd.netlink.nft_values import Table
from mproutd.netlink.sockets import Events
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import ObservedUplink
from mproutd.services.base import Service, ServiceContext
from mproutd.status.problems import add_problems

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
        self._record = nft.Record(context.runtime_dir)
        self._limiter = RemovalLimiter(context.clock)
        self._config = Config(enabled=False)
        self._uplinks: tuple[ObservedUplink, ...] = ()
        self._planned: object = None
        """What the wanted table follows from, as of the last pass."""
        self._wanted: Table | None = None
        """None before the first pass."""
        self._forwards = False
        self._forwards_at = 0.0
        self._in_place = False
        self._error = ""
        self._failures = 0
        self._timer: Timer | None = None
        self._events: Events | None = None
        self._marks: frozenset[int] = frozenset()
        self._conflicts: Sequence[tuple[str, str]] = ()
        self._conflict_timer: Timer | None = None
        """Of the next search or, during one, its timeout."""
        self._listing: nft.Listing | None = None
        """nft, while it is running."""

    # -- what is wanted -------------------------------------------------------------------

    def on_configuration(self, config: Config) -> None:
        self._config = config
        self._planned, self._forwards_at = None, 0.0

    def on_pass(self, outcome: Outcome) -> None:
        plan = outcome.plan
        self._uplinks = plan.uplinks
        if not self._forwards and self._context.clock() >= self._forwards_at:
            self._forwards_at = self._context.clock() + FORWARDING_INTERVAL
            self._forwards = is_router(outcome.snapshot)
        devices = [uplink.config.device for uplink in plan.uplinks]
        listed = translations(plan.uplinks, outcome.snapshot.addresses)
        planned = (self._forwards, plan.numbers, devices, listed)
        if planned == self._planned:
            return
        self._planned = planned
        wanted = wanted_table(self._config, plan, outcome.snapshot, self._forwards)
        if wanted == self._wanted:
            return
        if self._wanted is not None:
            self._limiter.expect_removal([NftTable()])
        self._wanted = wanted
        self._marks = frozenset(connection_marks(self._config, plan.numbers).values())
        if wanted.chains or self._record.script:
            self._check()

    # -- reading and writing the table ----------------------------------------------------

    def _check(self, deleted: bool = False) -> None:
        """Compare the table with what is wanted, and write it if it differs.

        `deleted`: it is known not to be there.
        """
        if self._timer is not None:
            self._timer.cancel()
        wanted = self._wanted or NO_TABLE
        try:
            self._subscribe()
            found = nft.Found() if deleted else nft.read_table()
            change = pending_change(self._record, wanted, found)
            if change is not None and self._may_write(wanted, found):
                found = nft.write_table(wanted, self._record.is_as_left(found))
                self._on_written(wanted, found, change)
            elif change is None:
                self._settle(wanted)
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _may_write(self, wanted: Table, found: nft.Found) -> bool:
        """Whether it may be written now: what others change is restored at a limited rate."""
        self._in_place = False
        if not wanted.chains or not self._record.holds(wanted):
            return True
        if not self._limiter.allow(_RESTORE, ()):
            self._limiter.record_pass([[NftTable()]], [NftTable()])
            at = self._limiter.next_at()
            self._arm(INITIAL_BACKOFF if at is None else at - self._context.clock())
            return False
        what = "changed" if found else "removed"
        text = f"another program {what} the nftables table inet {TABLE}; restoring it"
        self._context.publish("nftables", log.WARNING, text)
        return True

    def _on_written(self, table: Table, found: nft.Found, change: Operation) -> None:
        self._save(table, found)
        done = {"add": "added", "replace": "replaced"}.get(change.verb, "deleted")
        self._context.publish("nftables", log.INFO, f"{done} the nftables table inet {TABLE}")
        self._settle(table)

    def _save(self, table: Table, found: nft.Found) -> None:
        try:
            self._record.save(table, found)
        except OSError:
            pass  # it is written again at the next start; the state file reports the cause

    def _settle(self, table: Table) -> None:
        """The table in the kernel is this one."""
        self._error, self._failures = "", 0
        self._in_place = bool(table.chains)
        self._limiter.record_pass([[NftTable()]] if self._in_place else [])
        if self._in_place:
            self._search_conflicts(CONFLICT_DELAY)
            return
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
            self._events = nft.subscribe()
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
        if messages is None or own:
            self._check(deleted=is_deleted(own))
        elif any(map(new_rule, messages)):
            self._search_conflicts(CONFLICT_INTERVAL)

    def _search_conflicts(self, delay: float) -> None:
        """Look for rules of others that overwrite our bits, unless that is due already."""
        if self._conflict_timer is None or not self._conflict_timer.active:
            self._conflict_timer = self._context.loop.call_later(delay, self._list_conflicts)

    def _list_conflicts(self) -> None:
        program = nft.find_nft()
        if not program or self._listing is not None:
            return
        try:
            listing = self._listing = nft.Listing(program)
        except OSError:
            return  # for example no memory: the table does not depend on it
        self._context.loop.watch(listing, self._on_listed)
        self._conflict_timer = self._context.loop.call_later(nft.TIMEOUT, listing.kill)

    def _on_listed(self) -> None:
        listing, self._listing = self._listing, None
        assert listing is not None
        self._context.loop.unwatch(listing)
        if self._conflict_timer is not None:
            self._conflict_timer.cancel()
        mask = self._config.mark_mask
        self._conflicts = overwriting_rules(listing.finish(), mask, self._marks)

    # -- reports --------------------------------------------------------------------------

    def preview(self, preview: Preview) -> list[Operation]:
        snapshot = preview.snapshot
        wanted = wanted_table(preview.config, preview.plan, snapshot, is_router(snapshot))
        found = self._record.found if self._in_place else nft.Found()
        change = pending_change(self._record, wanted, found)
        return [] if change is None else [change]

    def add_to_status(self, status: Status) -> None:
        wanted = self._wanted is not None and bool(self._wanted.chains)
        status["pins_flows"] = self._in_place if wanted and wants_table(self._config) else None
        add_problems(status, translation_problems(self._uplinks))
        if wanted:
            problems = table_problems(self._config, self._error, self._conflicts, self._limiter)
            add_problems(status, problems)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unsubscribe()
        if self._listing is not None:
            self._listing.kill()
            self._on_listed()
