"""When what the kernel refused is tried again.

An operation of a pass is tried again by every pass, and a pass comes after FIRST seconds,
twice as long after each failure, LAST at the most; an event may bring one sooner.

Closing an endpoint in the background is another matter: its end wakes the loop, so what was
refused there waits its time out, or the two would chase each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from mproutd.model import Endpoint, Object, Operation

FIRST, LAST = 0.1, 30.0
"""Seconds."""


class Refusal(NamedTuple):
    """An operation that the kernel refuses."""

    operation: Operation
    text: str
    tries: int
    until: float
    """When it is tried again, on the clock that was given."""


class Retries:
    """What failed, how often, and when it is its turn.  `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[tuple[str, Object], Refusal] = {}
        self._unclosed: dict[tuple[str, Object], Refusal] = {}

    def passed(self, failures: Iterable[tuple[Operation, str]]) -> None:
        """A pass is over, and this is all that failed in it."""
        before, self._failed = self._failed, {}
        for operation, text in failures:
            self._refuse(operation, text, before, self._failed)
        now = self._clock()
        for key, refusal in list(self._unclosed.items()):
            if refusal.until + 2 * LAST < now:
                del self._unclosed[key]

    def unclosed(self, operation: Operation, text: str) -> None:
        """This could not be closed in the background."""
        self._refuse(operation, text, self._unclosed, self._unclosed)

    def _refuse(
        self,
        operation: Operation,
        text: str,
        before: dict[tuple[str, Object], Refusal],
        now: dict[tuple[str, Object], Refusal],
    ) -> None:
        key = _key(operation)
        tries = before[key].tries + 1 if key in before else 1
        delay = min(FIRST * 2 ** min(tries - 1, 20), LAST)
        now[key] = Refusal(operation, text, tries, self._clock() + delay)

    def ready(self, operation: Operation) -> bool:
        """Whether it may be tried now: not while a closing that was refused has to wait."""
        refusal = self._unclosed.get(_key(operation))
        return refusal is None or refusal.until <= self._clock()

    def refusals(self) -> Collection[Refusal]:
        """What is refused now."""
        now = self._clock()
        waiting = [refusal for refusal in self._unclosed.values() if refusal.until > now]
        return [*self._failed.values(), *waiting]

    def standing(self, wanted: Iterable[Operation]) -> Collection[Refusal]:
        """The same, without what is not to be added any more by `wanted`."""
        adding = {_key(operation) for operation in wanted}
        return [
            refusal
            for refusal in self.refusals()
            if refusal.operation.verb != "add" or _key(refusal.operation) in adding
        ]

    def due(self) -> float | None:
        """Seconds until something is to be tried; None for nothing."""
        now = self._clock()
        return min((max(0.0, refusal.until - now) for refusal in self.refusals()), default=None)


def _key(operation: Operation) -> tuple[str, Object]:
    """The same operation again: an endpoint is its address and device, whatever its id is now."""
    value = operation.value
    if isinstance(value, Endpoint):
        value = Endpoint(value.address, value.device)
    return operation.verb, value
