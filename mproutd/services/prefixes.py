"""deprecate_prefixes: hosts in the LAN leave the prefix of an uplink that carries no traffic.

planning/prefixes.py decides.  The addresses of the LAN are read when the uplinks' IPv6 has changed
and, while something is or may have to be deprecated, whenever one of them has: a DHCP client that
renews a lease sets the lifetimes again.

Invariant: what others undo is done again at the rate of everything else that others remove.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.eventloop import Timer
from mproutd.lan_address import LanAddress
from mproutd.model import Operation
from mproutd.netlink.lifetimes import address_events, concern_others
from mproutd.netlink.sockets import Events
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Outcome
from mproutd.planning.prefixes import Changes, identity, out
from mproutd.planning.uplinks import ObservedUplink
from mproutd.services.base import Service, ServiceContext
from mproutd.services.lan_prefixes import RecordFile, apply, pending_changes, wants_deprecation
from mproutd.status.prefixes import add_deprecated, deprecated_addresses
from mproutd.status.problems import add_problems, problem, removed_objects

if TYPE_CHECKING:
    from mproutd.planning.inspection import Preview
    from mproutd.status.types import Status

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until the next attempt after a failure; doubled each time."""
SETTLE_DELAY = 0.05
"""Seconds from an event to the check: a DHCP client changes several addresses at once."""


class PrefixDeprecator(Service):
    """Keeps the lifetimes of the LAN's addresses as the uplinks are."""

    persistent = True

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._file = RecordFile(context.runtime_dir)
        self._limiter = RemovalLimiter(context.clock)
        self._config = Config(enabled=False)
        self._uplinks: tuple[ObservedUplink, ...] = ()
        self._observed: object = None
        """What the last check followed from, of the uplinks."""
        self._networks: Collection[object] = ()
        """Of the LAN, for nat6."""
        self._devices: list[int] = []
        """ifindexes of the uplinks."""
        self._addresses: list[LanAddress] = []
        """As last read, of those on record."""
        self._error = self._file.error
        if self._error:
            context.publish("prefix", log.WARNING, self._error)
        self._failures = 0
        self._timer: Timer | None = None
        self._events: Events | None = None

    def on_configuration(self, config: Config) -> None:
        self._config, self._observed = config, None

    def on_pass(self, outcome: Outcome) -> None:
        uplinks = outcome.plan.uplinks
        observed = [
            (
                uplink.config,
                uplink.link and uplink.link.index,
                [(path.reason, path.leads_out) for path in uplink.paths],
                uplink.paths[1].prefixes,
            )
            for uplink in uplinks
        ]
        if observed == self._observed:
            return
        self._observed, self._uplinks = observed, uplinks
        self._devices = [uplink.link.index for uplink in uplinks if uplink.link]
        self._check()

    # -- reading and writing lifetimes ----------------------------------------------------

    def _check(self) -> None:
        """Compare the lifetimes with what is wanted, and change them."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._watch(self._is_worth_watching())
            changes, addresses = pending_changes(self._config, self._uplinks, self._file.record)
            self._report_networks(addresses)
            self._change(changes)
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        keys = self._file.record.addresses
        self._addresses = [address for address in addresses if address.key in keys]
        self._watch(self._is_worth_watching())

    def _change(self, changes: Changes) -> None:
        """Make the changes that may be made now.  OSError."""
        permitted = [
            operation
            for address, operation in changes.operations
            if not _deprecates(operation)
            or self._limiter.allow(Operation("change", identity(address)), ())
        ]
        errors = apply(self._file, changes, permitted)
        for operation, error in zip(permitted, errors, strict=True):
            if not error:
                self._report(operation)
        waiting = [
            identity(address)
            for address, operation in changes.operations
            if operation not in permitted
        ]
        failed = [error for error in errors if error]
        missing = list(changes.deprecated) if failed else waiting
        self._limiter.record_pass([changes.deprecated], missing)
        if failed:
            self._fail(failed[0])
            return
        self._error, self._failures = "", 0
        if waiting:
            at = self._limiter.next_at()
            self._arm(INITIAL_BACKOFF if at is None else at - self._context.clock())

    def _report(self, operation: Operation) -> None:
        value = operation.value
        assert isinstance(value, LanAddress)
        done = "deprecated" if _deprecates(operation) else "preferred again"
        text = f"{operation.uplink}: {value.address} on {value.device} is {done}"
        self._context.publish("prefix", log.INFO, text, operation.uplink, value.device)

    def _fail(self, error: str) -> None:
        if error != self._error:
            text = f"cannot change the lifetimes of addresses in the LAN: {error}"
            self._context.publish("prefix", log.WARNING, text)
        self._error = error
        self._arm(min(INITIAL_BACKOFF * 2 ** min(self._failures, 10), MAX_BACKOFF))
        self._failures += 1

    def _arm(self, delay: float) -> None:
        self._timer = self._context.loop.call_later(max(0.0, delay), self._check)

    # -- what others do -------------------------------------------------------------------

    def _is_worth_watching(self) -> bool:
        """Whether a change of an address in the LAN would matter."""
        if any(uplink.config.nat6 for uplink in self._uplinks):
            return True
        record = self._file.record
        return bool(record.addresses) or (
            wants_deprecation(self._config) and out(self._uplinks, record)
        )

    def _watch(self, wanted: bool) -> None:
        if wanted and self._events is None:
            self._events = address_events()
            self._context.loop.watch(self._events, self._on_events)
        elif not wanted and self._events is not None:
            self._context.loop.unwatch(self._events)
            self._events.close()
            self._events = None

    def _on_events(self) -> None:
        assert self._events is not None
        idle = self._timer is None or not self._timer.active
        if concern_others(self._events.read(), self._devices) and idle:
            self._arm(SETTLE_DELAY)

    def _report_networks(self, addresses: list[LanAddress]) -> None:
        """Have a pass made when the networks of the LAN have changed: nat6 translates them."""
        if not any(uplink.config.nat6 for uplink in self._uplinks):
            return
        networks = {(address.key, address.prefixlen) for address in addresses}
        if networks != self._networks:
            self._networks = networks
            self._context.request_pass()

    # -- reports --------------------------------------------------------------------------

    def preview(self, preview: Preview) -> list[Operation]:
        try:
            changes, _ = pending_changes(preview.config, preview.plan.uplinks, self._file.record)
        except OSError:
            return []  # the status says why
        return [operation for _, operation in changes.operations]

    def add_to_status(self, status: Status) -> None:
        add_deprecated(status, deprecated_addresses(self._file.record, self._addresses))
        problems = [problem("prefix-not-deprecated", error=self._error)] if self._error else []
        problems += removed_objects(self._limiter.restored(), self._limiter.rate_limited(), str)
        add_problems(status, problems)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._watch(False)


def _deprecates(operation: Operation) -> bool:
    return isinstance(operation.value, LanAddress) and not operation.value.preferred
