"""Uplinks whose traffic costs money: the quota, and options that have no effect.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mproutd.configuration.options import QUOTA
from mproutd.configuration.sections import ConfigError, OptionValue

STARTS: Mapping[str, tuple[int, int, str]] = {
    "month": (1, 31, "a day of the month"),
    "week": (1, 7, "a day of the week, 1 is Monday"),
    "day": (0, 23, "an hour"),
}
"""Period → the first and the last value of quota_start, and what it is."""
OVERFLOW_MODES = ("backup", "handover")
"""The modes in which an uplink carries only while others cannot."""

Values = Mapping[str, Sequence[OptionValue]]
"""An uplink's values by option, from all of its sections."""


def complete_quota(values: Values) -> tuple[dict[str, Any], list[ConfigError]]:
    """The options of a quota whose default depends on others, and what does not fit together."""
    given = {name: values[name][0] for name in QUOTA if values.get(name)}
    if "quota" not in given:
        return {}, []

    def value(name: str) -> Any:
        return given[name].value if name in given else QUOTA[name].default_value

    hard, errors = value("quota_hard"), []
    first, last, meaning = STARTS[value("quota_period")]
    start, action = value("quota_start"), value("quota_action")
    if start is not None and not first <= start <= last:
        reason = f"{start} is not {meaning}: use {first} to {last}"
        errors.append(given["quota_start"].error(reason))
    if hard and action not in (None, "off"):
        errors.append(
            given["quota_action"].error(
                f"{action} contradicts quota_hard, which switches the uplink off: "
                "remove one of them"
            )
        )
    completed = {
        "quota_start": first if start is None else start,
        "quota_action": action or ("off" if hard else "backup"),
    }
    return completed, errors


def without_effect(values: Values, mode: str) -> Iterator[ConfigError]:
    """Warnings about options of an uplink that do nothing."""

    def first(*names: str) -> OptionValue | None:
        return next((values[name][0] for name in names if values.get(name)), None)

    if not values.get("quota"):
        option = first(*QUOTA, "on_quota")
        if option:
            yield option.error("has no effect without quota")
    overflow = first("overflow")
    if overflow and mode not in OVERFLOW_MODES:
        yield overflow.error(
            f"has no effect with multipath {mode}: use {' or '.join(OVERFLOW_MODES)}"
        )
