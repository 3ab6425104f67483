"""The status of quotas and overflow, as types; see status/types.py."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

_Count = Annotated[int, ("minimum", 0)]
_Amount = Annotated[float, ("minimum", 0)]


class QuotaStatus(TypedDict):
    """The quota of an uplink."""

    limit: _Count
    """bytes that a period includes, in and out"""
    used: _Count
    """bytes in this period"""
    percent: _Amount
    """`used` in percent of `limit`"""
    period: Literal["month", "week", "day"]
    """quota_period"""
    start: float
    """when the period began, in epoch seconds"""
    end: float
    """when the next one begins, in epoch seconds"""
    warn: _Count
    """quota_warn, in percent"""
    action: Literal["backup", "handover", "off"]
    """the mode from the limit on"""
    hard: bool
    """whether it is off from the limit on even as the last usable uplink"""
    state: Literal["below", "warned", "reached"]
    """below: less than `warn` is used; warned; reached: the limit is"""


class OverflowStatus(TypedDict):
    """When an uplink with `overflow` carries."""

    threshold: _Count
    """percent of the regular uplinks' capacity above which it carries"""
    carrying: bool
    """whether it carries since they are above it"""
    since: float | None
    """when `carrying` last changed, in epoch seconds; null if not since the start"""
    reason: str | None
    """why it carries; null while it does not"""
    hold: _Amount
    """seconds for which it goes on at least, after it soon had to carry again"""
    measuring: bool
    """whether rates are measured: while there are MPTCP connections"""


class DirectionLoad(TypedDict):
    """The load of an uplink in one direction."""

    capacity: _Amount | None
    """bits per second; null while unknown"""
    learned: bool
    """whether that is the highest rate of the last day, and not configured"""
    rate: _Amount | None
    """bits per second over the last two seconds; null while nothing is measured"""
    percent: _Amount | None
    """`rate` in percent of `capacity`"""


class LoadStatus(TypedDict):
    """How full a regular uplink is."""

    download: DirectionLoad
    """towards us"""
    upload: DirectionLoad
    """away from us"""
