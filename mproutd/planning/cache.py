"""Reuses the results of planning where nothing changed.

A pass plans every uplink, and mostly at most one of them changed.  The planning functions are
pure, so equal arguments give an equal result; and a snapshot holds the very objects of the
last one where nothing happened, so comparing the arguments costs next to nothing.

Planning and comparing with 2, 8 and 34 dual-stack uplinks and no change takes 0.08, 0.15 and
0.43 ms with these caches, 0.15, 0.33 and 1.2 ms without any.  Each use saves at least 5 % of
that with 34 uplinks, or with 2; what saved less is not cached.  The plan itself is cached whole
for passes that find nothing changed: with 8 uplinks such a pass takes half as long.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MAX_ENTRIES = 512
"""Results that a function keeps, one for each key."""


def cache_last_by(
    key: Callable[P, Hashable],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the result of the last call with the same key if its arguments were equal.

    For pure functions whose arguments compare by value and are not changed afterwards; the
    arguments need not be hashable and must be positional.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        entries: dict[Hashable, tuple[tuple[object, ...], R]] = {}

        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            assert not kwargs
            name = key(*args, **kwargs)
            last = entries.get(name)
            if last is not None and last[0] == args:
                return last[1]
            result = function(*args, **kwargs)
            if len(entries) >= MAX_ENTRIES:
                entries.clear()
            entries[name] = (args, result)
            return result

        cached.__doc__ = function.__doc__
        return cached

    return decorate


def cache_last(function: Callable[P, R]) -> Callable[P, R]:
    """Return the result of the last call if its arguments were equal; see cache_last_by()."""

    def same_key(*args: P.args, **kwargs: P.kwargs) -> Hashable:
        return None

    return cache_last_by(same_key)(function)


def cache_recent(count: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the result of one of the last `count` calls if its arguments were equal.

    For pure functions as in cache_last_by().
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        entries: list[tuple[tuple[object, ...], R]] = []
        """The most recently used first."""

        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            assert not kwargs
            for index, entry in enumerate(entries):
                if entry[0] == args:
                    if index:
                        entries.insert(0, entries.pop(index))
                    return entry[1]
            result = function(*args, **kwargs)
            entries.insert(0, (args, result))
            del entries[count:]
            return result

        cached.__doc__ = function.__doc__
        return cached

    return decorate
