"""Checks of numbers that come from a file of ours, which may be damaged.  Pure."""

from __future__ import annotations

MAX_REAL = 1 << 53
"""Below it a float is exact to the second."""


def integer(value: object, limit: int, what: str = "number") -> int:
    """An integer from 0 to below `limit`.  ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < limit:
        raise ValueError(f"{value!r} is not a {what}")
    return value


def real(value: object, what: str = "number") -> float:
    """A finite number, positive or negative, below MAX_REAL.  ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_REAL:
        raise ValueError(f"{value!r} is not a {what}")
    return float(value)
