"""How often the same thing is done again.  Pure: the clock is handed in.

RemovalLimiter: how often an object that somebody else removes is restored.  Two daemons that
undo each other's changes would keep a processor busy and, worse, make every lookup a matter of
chance.  For each object by itself:

- A removal: it was there after the last pass, it is still wanted, and it is gone.
- The first RESTORE_BURST removals are restored immediately.
- The next one is restored after FIRST_DELAY, and each further one after twice the delay of the one
  before, up to RESTORE_INTERVAL.  So what a program removes several times in a row, because it
  deletes everything that looks like its own, is back soon after that program is done.
- An object that nobody removes regains one of the burst every RESTORE_INTERVAL, and with the whole
  burst its FIRST_DELAY.

A route whose device had an event meanwhile does not count: the kernel drops routes along with
addresses and links, without an event of their own.

GracePeriod: how long an endpoint stays while its address is misrouted.  Another program may
remove a rule between our adding it and our lookup, so the endpoint is deleted only when the
address has been misrouted for MISROUTED_GRACE; meanwhile its subflows are bound to their device.

GatewayMemory: how long a gateway is used that no source names any more.  DHCP clients delete main's
route before they add it again, so a deletion counts after WITHDRAWAL_DELAY.  A gateway whose route
the kernel dropped with the link, or that a VPN has replaced, stays in use; status names it.

Retries: when an operation that the kernel refused is tried again, with exponential backoff.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from mproutd.model import Endpoint, Object, Operation, Route

RESTORE_BURST = 5
FIRST_DELAY, RESTORE_INTERVAL = 0.2, 5.0
MISROUTED_GRACE = 1.0
WITHDRAWAL_DELAY = 2.0
INITIAL_BACKOFF, MAX_BACKOFF = 0.1, 30.0
"""Seconds, but for the burst."""


class RemovalLimiter:
    """Counts what others remove, and decides when it may be restored.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wanted: dict[type, Collection[Object]] = {}
        """By kind."""
        self._unsettled: set[Object] = set()
        """Wanted, but it was not there after the last pass, or we are removing it ourselves."""
        self._levels: dict[Object, tuple[float, float]] = {}
        """How much of its burst an object has used, and when that was."""
        self._delays: dict[Object, tuple[float, float]] = {}
        """Of an object that used up its burst: its delay, and when it may be restored."""
        self._counts: dict[Object, int] = {}
        self.total = 0
        """Restored since the start."""
        self._limited: set[Object] = set()
        """Missing because it was removed too often."""
        self._refused: set[Object] = set()
        self._waiting: set[Object] = set()
        """What allow() refused since the last record_pass(), and of that what is still missing."""

    def record_pass(
        self, wanted: Collection[Collection[Object]], missing: Collection[Object] = ()
    ) -> None:
        """A pass is over: what should be there, by kind, and what of it is not there yet.

        A wanted endpoint has no id.
        """
        absent = {_identity(value) for value in missing}
        self._limited &= absent
        self._waiting, self._refused = self._refused & absent, set()
        self._wanted = {type(next(iter(values))): values for values in wanted if values}
        self._unsettled = absent - self._limited
        now = self._clock()
        for value, (level, since) in list(self._levels.items()):
            if level - (now - since) / RESTORE_INTERVAL <= 0:
                del self._levels[value], self._counts[value]
                self._delays.pop(value, None)

    def expect_removal(self, values: Collection[Object]) -> None:
        """mproutd removes these itself: they are not counted."""
        self._unsettled |= {_identity(value) for value in values}

    def allow(self, operation: Operation, touched: Collection[int]) -> bool:
        """Whether it may be done now; if it restores something, that is counted.

        `touched`: the ifindexes with events since the last pass.
        """
        if not self.restores(operation):
            return True
        value = _identity(operation.value)
        if isinstance(value, Route) and any(device in touched for device in value.devices):
            return True
        now = self._clock()
        level, since = self._levels.get(value, (0.0, now))
        level = max(0.0, level - (now - since) / RESTORE_INTERVAL)
        if not self._is_due(value, level, now):
            self._levels[value] = (level, now)
            self._limited.add(value)
            self._refused.add(value)
            return False
        self._limited.discard(value)
        self._levels[value] = (min(level + 1, RESTORE_BURST), now)
        self._counts[value] = self._counts.get(value, 0) + 1
        self.total += 1
        return True

    def restores(self, operation: Operation) -> bool:
        """Whether it adds what was wanted and there after the last pass."""
        if operation.verb == "delete":
            return False
        value = _identity(operation.value)
        return value in self._wanted.get(type(value), ()) and value not in self._unsettled

    def _is_due(self, value: Object, level: float, now: float) -> bool:
        """Whether an object with this much of its burst used may be restored now."""
        known = self._delays.get(value)
        if known is None:
            if level <= RESTORE_BURST - 1:
                return True
            self._delays[value] = (FIRST_DELAY, now + FIRST_DELAY)
            return False
        delay, at = known
        if now < at:
            return False
        delay = min(2 * delay, RESTORE_INTERVAL)
        self._delays[value] = (delay, now + delay)
        return True

    def next_at(self) -> float | None:
        """When something may be restored that the last pass did not restore because of its rate;
        None for nothing.

        What a pass did not restore because its address is misrouted or its routes are missing
        waits for that, and not for its time.
        """
        times = [at for value, (_, at) in self._delays.items() if value in self._waiting]
        return min(times, default=None)

    def restored(self) -> dict[Object, int]:
        """What others remove, and how often it was restored lately."""
        return dict(self._counts)

    def rate_limited(self) -> set[Object]:
        """What is missing now because it was removed too often."""
        return set(self._limited)


def _identity(value: Object) -> Object:
    """An object without what the kernel chose for it.

    The flags of an endpoint stay: a change of those that are wanted is no removal.
    """
    return value._replace(id=0) if isinstance(value, Endpoint) else value


class GatewayMemory:
    """By (device, family)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[tuple[str, int], float] = {}
        self._deleted: dict[tuple[str, int], float] = {}

    def record_pass(
        self, remembered: Collection[tuple[str, int]], deleted: Collection[tuple[str, int]]
    ) -> None:
        """`deleted`: those of `remembered` whose route somebody deleted and nothing replaces."""
        now = self._clock()
        self._since = {key: self._since.get(key, now) for key in remembered}
        self._deleted = {key: self._deleted.get(key, now) for key in deleted}

    def withdrawn(self) -> frozenset[tuple[str, int]]:
        latest = self._clock() - WITHDRAWAL_DELAY
        return frozenset(key for key, since in self._deleted.items() if since <= latest)

    def ages(self) -> dict[tuple[str, int], float]:
        """Seconds for which each gateway has been remembered."""
        now = self._clock()
        return {key: now - since for key, since in self._since.items()}

    def next_at(self) -> float | None:
        """When the next one is withdrawn, on the clock."""
        first = min(self._deleted.values(), default=None)
        return None if first is None else first + WITHDRAWAL_DELAY


class GracePeriod:
    """How long an endpoint stays although its address is misrouted.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._granted: frozenset[str] = frozenset()

    def grant(self, misrouted: Collection[str]) -> frozenset[str]:
        """Of the addresses that are misrouted now, those that were not so for long."""
        now = self._clock()
        self._since = {address: self._since.get(address, now) for address in misrouted}
        self._granted = frozenset(
            address for address, since in self._since.items() if now - since < MISROUTED_GRACE
        )
        return self._granted

    def next_at(self) -> float | None:
        """When the first grace period ends; None for none."""
        ends = [self._since[address] + MISROUTED_GRACE for address in self._granted]
        return min(ends, default=None)


class FailedOperation(NamedTuple):
    """An operation that the kernel refused."""

    operation: Operation
    error: str
    attempts: int
    retry_at: float
    """On the clock of Retries."""


_Key = tuple[str, Object]


class Retries:
    """What failed, how often, and when it is tried again.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[_Key, FailedOperation] = {}
        """In the last pass."""
        self._failed_deletions: dict[_Key, FailedOperation] = {}
        """In the background, which no pass repeats by itself."""

    def record_pass(self, failures: Iterable[tuple[Operation, str]]) -> None:
        """A pass is over, and these are all the operations that failed in it."""
        before, self._failed = self._failed, {}
        for operation, error in failures:
            self._failed[_key(operation)] = self._next(operation, error, before)
        forgotten = self._clock() - 2 * MAX_BACKOFF
        for key, failed in list(self._failed_deletions.items()):
            if failed.retry_at < forgotten:
                del self._failed_deletions[key]

    def deletion_failed(self, operation: Operation, error: str) -> None:
        """An endpoint could not be deleted in the background."""
        failed = self._next(operation, error, self._failed_deletions)
        self._failed_deletions[_key(operation)] = failed

    def _next(
        self, operation: Operation, error: str, before: dict[_Key, FailedOperation]
    ) -> FailedOperation:
        last = before.get(_key(operation))
        attempts = last.attempts + 1 if last else 1
        delay = min(INITIAL_BACKOFF * 2 ** min(attempts - 1, 20), MAX_BACKOFF)
        return FailedOperation(operation, error, attempts, self._clock() + delay)

    def ready(self, operation: Operation) -> bool:
        """Whether it may be tried now: not while a failed deletion has to wait."""
        if not self._failed_deletions:
            return True
        failed = self._failed_deletions.get(_key(operation))
        return failed is None or failed.retry_at <= self._clock()

    def failed(self) -> Collection[FailedOperation]:
        """What the kernel refuses now."""
        now = self._clock()
        waiting = [failed for failed in self._failed_deletions.values() if failed.retry_at > now]
        return [*self._failed.values(), *waiting]

    def still_wanted(self, differences: Iterable[Operation]) -> Collection[FailedOperation]:
        """The same, without additions that are not among the `differences` any more."""
        wanted = {_key(operation) for operation in differences}
        return [
            failed
            for failed in self.failed()
            if failed.operation.verb != "add" or _key(failed.operation) in wanted
        ]

    def next_at(self) -> float | None:
        """When the first failed operation is retried; None for none."""
        return min((failed.retry_at for failed in self.failed()), default=None)


def _key(operation: Operation) -> _Key:
    """The same for the same operation: an endpoint counts by address and device, not by id."""
    value = operation.value
    if isinstance(value, Endpoint):
        value = Endpoint(value.address, value.device)
    return operation.verb, value
