"""Not working out again what has not changed.

A pass plans every uplink, and mostly one of them changed.  The functions that plan a single
uplink are pure, so an equal question has the answer it had; and a pass passes on the very
objects of the last one where nothing happened, so asking whether it is equal costs next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MAX_ENTRIES = 512
"""Answers a function keeps, one for each key."""


def cache_last_by(
    key: Callable[P, Hashable],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Answer from the last call with the same key, if its arguments were equal.

    For pure functions whose arguments have an honest `==` and are not changed afterwards;
    the arguments need no hash.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        kept: dict[Hashable, tuple[tuple[object, ...], R]] = {}

        def answer(*args: P.args, **kwargs: P.kwargs) -> R:
            assert not kwargs
            name = key(*args, **kwargs)
            last = kept.get(name)
            if last is not None and last[0] == args:
                return last[1]
            result = function(*args, **kwargs)
            if len(kept) >= MAX_ENTRIES:
                kept.clear()
            kept[name] = (args, result)
            return result

        answer.__doc__ = function.__doc__
        return answer

    return decorate


def cache_last(function: Callable[P, R]) -> Callable[P, R]:
    """Answer from the last call, if its arguments were equal; else as keeps_last_by()."""

    def one_for_all(*args: P.args, **kwargs: P.kwargs) -> Hashable:
        return None

    return cache_last_by(one_for_all)(function)
