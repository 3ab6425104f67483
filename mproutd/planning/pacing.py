"""How often what somebody else removes is put back.

Two daemons that undo each other would burn a processor and, worse, make every lookup a
coin toss.  The rule, for each object by itself:

    it was there after the last pass, it is still wanted, and it is gone    -> a removal
    the first RESTORE_BURST removals are made good at once
    after that, one every RESTORE_INTERVAL seconds
    an object that nobody touches regains one of the burst every RESTORE_INTERVAL seconds

The same other program may remove a rule between our adding it and our asking where it
leads.  So an endpoint is not closed the first time that a lookup goes astray, but when it
has done so for MISROUTED_GRACE seconds: its subflows are bound to their device meanwhile.

A route whose device had an event in the meantime does not count: the kernel drops routes
with addresses and links, and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from mproutd.model import Endpoint, Object, Operation, Route

RESTORE_BURST = 5
RESTORE_INTERVAL = 5.0
MISROUTED_GRACE = 1.0
"""Seconds."""


class RemovalLimiter:
    """Remembers what was removed, and when it may come back.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wanted: Collection[Object] = ()
        self._unsettled: set[Object] = set()
        self._known: set[Object] | None = None
        self._taken: dict[Object, tuple[float, float]] = {}
        self._counts: dict[Object, int] = {}
        self._waiting: set[Object] = set()
        """Missing because it was removed too often."""
        self._refused: set[Object] = set()
        self._timed: set[Object] = set()
        """What allow() refused since the last record_pass(), and what it refused before that."""

    def record_pass(self, wanted: Collection[Object], missing: Collection[Object] = ()) -> None:
        """What should be there when the pass is over, and what of it is not there yet."""
        absent = {identity(value) for value in missing}
        self._waiting &= absent
        self._timed, self._refused = self._refused & absent, set()
        self._wanted, self._unsettled = wanted, absent - self._waiting
        self._known = None
        now = self._clock()
        for value, (level, since) in list(self._taken.items()):
            if level - (now - since) / RESTORE_INTERVAL <= 0:
                del self._taken[value], self._counts[value]

    def expect_removal(self, values: Collection[Object]) -> None:
        """We take these away ourselves: their return is not to be counted."""
        self._unsettled |= {identity(value) for value in values}
        self._known = None

    def allow(self, operation: Operation, touched: Collection[int]) -> bool:
        """Whether it may be done now.  `touched`: the ifindexes with events since the last pass."""
        value = identity(operation.value)
        if operation.verb == "delete" or value not in self._settled():
            return True
        if isinstance(value, Route) and value.device in touched:
            return True
        now = self._clock()
        level, since = self._taken.get(value, (0.0, now))
        level = max(0.0, level - (now - since) / RESTORE_INTERVAL)
        if level > RESTORE_BURST - 1:
            self._taken[value] = (level, now)
            self._waiting.add(value)
            self._refused.add(value)
            return False
        self._waiting.discard(value)
        self._taken[value] = (level + 1, now)
        self._counts[value] = self._counts.get(value, 0) + 1
        return True

    def _settled(self) -> set[Object]:
        """What was there after the last pass; worked out when something is missing."""
        if self._known is None:
            self._known = {identity(value) for value in self._wanted} - self._unsettled
        return self._known

    def next_at(self) -> float | None:
        """When something may be restored that the last pass did not restore because of its rate;
        None for nothing.

        What a pass did not restore because its address is misrouted or its routes are missing
        waits for that, and not for its time.
        """
        times = [
            since + (level - RESTORE_BURST + 1) * RESTORE_INTERVAL
            for value, (level, since) in self._taken.items()
            if value in self._timed
        ]
        return min(times, default=None)

    def restored(self) -> dict[Object, int]:
        """What somebody removes, and how often it was put back lately."""
        return dict(self._counts)

    def rate_limited(self) -> set[Object]:
        """What is missing now because it was removed too often."""
        return set(self._waiting)


def identity(value: Object) -> Object:
    """An object without what the kernel chose for it.

    The flags of an endpoint stay: those that are wanted anew are no removal.
    """
    return value._replace(id=0) if isinstance(value, Endpoint) else value


class GracePeriod:
    """How long an endpoint stays although its address is led away.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._granted: frozenset[str] = frozenset()

    def grant(self, misrouted: Collection[str]) -> frozenset[str]:
        """Of all the addresses that are led away now, those that were not so for long."""
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


INITIAL_BACKOFF, MAX_BACKOFF = 0.1, 30.0
"""Seconds."""


class FailedOperation(NamedTuple):
    """An operation that the kernel refuses."""

    operation: Operation
    error: str
    attempts: int
    retry_at: float
    """When it is tried again, on the clock that was given."""


class Retries:
    """What failed, how often, and when it is its turn.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[tuple[str, Object], FailedOperation] = {}
        self._unclosed: dict[tuple[str, Object], FailedOperation] = {}

    def record_pass(self, failures: Iterable[tuple[Operation, str]]) -> None:
        """A pass is over, and this is all that failed in it."""
        before, self._failed = self._failed, {}
        for operation, text in failures:
            self._refuse(operation, text, before, self._failed)
        now = self._clock()
        for key, refusal in list(self._unclosed.items()):
            if refusal.retry_at + 2 * MAX_BACKOFF < now:
                del self._unclosed[key]

    def deletion_failed(self, operation: Operation, text: str) -> None:
        """This could not be closed in the background."""
        self._refuse(operation, text, self._unclosed, self._unclosed)

    def _refuse(
        self,
        operation: Operation,
        text: str,
        before: dict[tuple[str, Object], FailedOperation],
        now: dict[tuple[str, Object], FailedOperation],
    ) -> None:
        key = _key(operation)
        tries = before[key].attempts + 1 if key in before else 1
        delay = min(INITIAL_BACKOFF * 2 ** min(tries - 1, 20), MAX_BACKOFF)
        now[key] = FailedOperation(operation, text, tries, self._clock() + delay)

    def ready(self, operation: Operation) -> bool:
        """Whether it may be tried now: not while a closing that was refused has to wait."""
        refusal = self._unclosed.get(_key(operation))
        return refusal is None or refusal.retry_at <= self._clock()

    def failed(self) -> Collection[FailedOperation]:
        """What is refused now."""
        now = self._clock()
        waiting = [refusal for refusal in self._unclosed.values() if refusal.retry_at > now]
        return [*self._failed.values(), *waiting]

    def still_wanted(self, wanted: Iterable[Operation]) -> Collection[FailedOperation]:
        """The same, without what is not to be added any more by `wanted`."""
        adding = {_key(operation) for operation in wanted}
        return [
            refusal
            for refusal in self.failed()
            if refusal.operation.verb != "add" or _key(refusal.operation) in adding
        ]

    def next_at(self) -> float | None:
        """When the first failed operation is retried; None for none."""
        return min((refusal.retry_at for refusal in self.failed()), default=None)


def _key(operation: Operation) -> tuple[str, Object]:
    """The same operation again: an endpoint is its address and device, whatever its id is now."""
    value = operation.value
    if isinstance(value, Endpoint):
        value = Endpoint(value.address, value.device)
    return operation.verb, value
