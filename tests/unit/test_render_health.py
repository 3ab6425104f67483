"""What health checks found, in the words of `mproutd status`; and amounts, in short."""

from __future__ import annotations

from typing import Any

import pytest

from mproutd import format
from mproutd.status.render import check_lines, check_summaries, failed_checks

HOST = {
    "host": "one.example",
    "address": "192.0.2.1",
    "reachable": True,
    "error": None,
    "latency": 0.0123,
    "loss": 10.0,
    "sent": 10,
    "replies": 9,
}
GOOD = {
    "family": "ipv4",
    "method": "ping",
    "since": 940.0,
    "error": None,
    "running": True,
    "summary": "1 of 1 hosts answers",
    "failed": False,
    "in_use": False,
    "hosts": [HOST],
    "good_rounds": 3,
    "bad_rounds": 0,
    "up": 5,
    "down": 4,
    "hold": 0.0,
    "flaps": 0,
}
DEAD = HOST | {"reachable": False, "error": "no answer", "latency": None, "address": None}
BAD = GOOD | {"failed": True, "summary": "no host answers", "hosts": [DEAD]}


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (GOOD, "1 of 1 hosts answers, 12 ms"),
        (GOOD | {"hosts": [HOST | {"latency": 0.0042}]}, "1 of 1 hosts answers, 4.2 ms"),
        (GOOD | {"bad_rounds": 2}, "1 of 1 hosts answers, 12 ms, 2 of 4 bad rounds"),
        (GOOD | {"summary": "", "hosts": []}, "no answer awaited yet"),
        (GOOD | {"running": False}, "not asked now"),
        (GOOD | {"error": "no permission"}, "nobody could be asked: no permission"),
        (BAD, "no host answers, failed; 3 of 5 good rounds"),
        (BAD | {"in_use": True}, "no host answers, failed, in use since no other line is"),
        (BAD | {"running": False}, "failed when there was a line to ask by"),
        (
            BAD | {"hold": 29.6},
            "no host answers, failed; 3 of 5 good rounds, out for 30 s at least",
        ),
    ],
)
def test_one_family_in_a_line(check: dict[str, Any], words: str) -> None:
    assert check_summaries({"health": [check]}) == [f"check IPv4: {words}"]


def test_without_checks_there_are_no_lines() -> None:
    assert check_summaries({}) == check_summaries({"health": None}) == []
    assert failed_checks({}) == failed_checks({"health": [GOOD]}) == ""


def test_why_an_uplink_is_out() -> None:
    six = BAD | {"family": "ipv6", "hold": 12.0}
    assert failed_checks({"health": [BAD, six]}) == (
        " (no host answers; no host answers, out for 12 s at least)"
    )


def test_everything_about_one_family() -> None:
    assert check_lines(GOOD | {"hosts": [HOST, DEAD]}, 1000.0) == [
        "check by ping, since 1 min: 1 of 1 hosts answers, 12 ms",
        "one.example (192.0.2.1): answers, 12 ms, 10 % lost lately, 9 of 10 in all",
        "one.example: no answer, 10 % lost lately, 9 of 10 in all",
    ]
    new = HOST | {"host": "192.0.2.1", "reachable": None, "latency": None, "sent": 0}
    assert check_lines(GOOD | {"since": None, "flaps": 2, "hosts": [new]}, 1000.0) == [
        "check by ping: 1 of 1 hosts answers, did not stay 2 times",
        "192.0.2.1: not asked yet",
    ]


@pytest.mark.parametrize(
    ("seconds", "words", "in_short"),
    [
        (None, "-", "-"),
        (-1, "0 s", "0 s"),
        (59.9, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (61, "1 min", "1 min"),
        (3720, "1 h 2 min", "1 h"),
        (266_400, "3 d 2 h", "3 d"),
    ],
)
def test_how_long(seconds: float | None, words: str, in_short: str) -> None:
    assert (format.format_duration(seconds), format.format_age(seconds)) == (words, in_short)


def test_how_much() -> None:
    assert format.format_bytes(None) == format.format_rate(None) == "-"
    assert [format.format_bytes(each) for each in (0, 999, 1200, 12_000, 3.4e18)] == [
        "0 B",
        "999 B",
        "1.2 kB",
        "12 kB",
        "3400 PB",
    ]
    assert format.format_rate(1_200_000) == "1.2 Mbit/s"
