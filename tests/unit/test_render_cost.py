"""How quotas and overflow are printed, in every state."""

from __future__ import annotations

from typing import Any

import pytest

from mproutd.status.render_cost import cost_summaries, cost_words, load_line

QUOTA = {"limit": 20e9, "used": 12.3e9, "percent": 61.5, "period": "month", "end": 100_000.0}
OVERFLOW = {"threshold": 80, "carrying": False, "since": None, "reason": None, "hold": 0.0}
NOW = 90_000.0


def uplink(**fields: Any) -> Any:
    return {"mode": "on", "effective_mode": "on", **fields}


@pytest.mark.parametrize(
    ("fields", "lines", "words"),
    [
        ({}, [], ""),
        ({"quota": None, "overflow": None}, [], ""),
        (
            {"quota": {**QUOTA, "state": "below"}},
            ["quota: 12 GB of 20 GB (62 %), a new month in 2 h 46 min"],
            "62 % of quota",
        ),
        (
            {"quota": {**QUOTA, "state": "reached"}, "effective_mode": "backup"},
            [
                "quota: 12 GB of 20 GB (62 %), a new month in 2 h 46 min; used up, so its mode is "
                "backup"
            ],
            "62 % of quota",
        ),
        ({"overflow": OVERFLOW}, ["overflow: carries while the others exceed 80 %"], ""),
        (
            {
                "overflow": {
                    **OVERFLOW,
                    "carrying": True,
                    "since": NOW - 5,
                    "reason": "dsl is at 93 % (download)",
                    "hold": 20.0,
                }
            },
            ["overflow: carries for 5 s, because dsl is at 93 % (download); at least 20 s more"],
            "carries: dsl is at 93 % (download)",
        ),
        ({"overflow": {**OVERFLOW, "carrying": True}}, ["overflow: carries"], "carries"),
    ],
)
def test_quota_and_overflow(fields: dict[str, Any], lines: list[str], words: str) -> None:
    assert cost_summaries(uplink(**fields), NOW) == lines
    assert cost_words(uplink(**fields)) == words


def test_the_load_of_a_regular_uplink() -> None:
    full = {"capacity": 20e6, "learned": False, "rate": 19e6, "percent": 95.0}
    learned = {"capacity": 5e6, "learned": True, "rate": None, "percent": None}
    unknown = {"capacity": None, "learned": True, "rate": 1.0, "percent": None}
    assert load_line(uplink()) == ""
    assert (
        load_line(uplink(load={"download": full, "upload": learned}))
        == "load: in 95 % of 20 Mbit/s, out 5.0 Mbit/s (learned)"
    )
    assert (
        load_line(uplink(load={"download": unknown, "upload": full}))
        == "load: in of unknown capacity, out 95 % of 20 Mbit/s"
    )
