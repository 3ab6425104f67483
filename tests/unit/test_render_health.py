"""How `mproutd status` prints health checks, and amounts."""

from __future__ import annotations

from typing import Any

import pytest

from mproutd import format
from mproutd.status.render_health import check_lines, check_summaries, failed_checks

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


def check_of(check: dict[str, Any]) -> str:
    (line,) = check_summaries({"health": [check]})
    assert line.startswith("check IPv4: ")
    return line


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (GOOD, ["1 of 1 hosts answers", "12 ms"]),
        (GOOD | {"hosts": [HOST | {"latency": 0.0042}]}, ["1 of 1 hosts answers", "4.2 ms"]),
        (GOOD | {"bad_rounds": 2}, ["1 of 1 hosts answers", "12 ms", "2 of 4 failed"]),
        (GOOD | {"summary": "", "hosts": []}, ["no result"]),
        (GOOD | {"running": False}, ["not running"]),
        (GOOD | {"error": "no permission"}, ["no permission"]),
        (BAD, ["no host answers", "failed", "3 of 5"]),
        (BAD | {"in_use": True}, ["no host answers", "failed", "in use"]),
        (BAD | {"running": False}, ["failed", "not running"]),
        (BAD | {"hold": 29.6}, ["no host answers", "failed", "3 of 5", "30 s"]),
    ],
)
def test_one_family_in_a_line(check: dict[str, Any], words: list[str]) -> None:
    line = check_of(check)
    assert [word for word in words if word not in line] == []
    for fact in ("failed", "12 ms", "in use", "30 s", "not running", " of 5", " of 4"):
        assert (fact in line) == any(fact in word for word in words), fact


def test_without_checks_there_are_no_lines() -> None:
    assert check_summaries({}) == check_summaries({"health": None}) == []
    assert failed_checks({}) == failed_checks({"health": [GOOD]}) == ""


def test_the_reason_of_each_failed_family() -> None:
    six = BAD | {"family": "ipv6", "hold": 12.0}
    text = failed_checks({"health": [BAD, GOOD, six]})
    assert (text.count("no host answers"), text.count("12 s")) == (2, 1)
    assert "1 of 1" not in text


def test_everything_about_one_family() -> None:
    first, alive, dead = check_lines(GOOD | {"hosts": [HOST, DEAD]}, 1000.0)
    assert first.startswith("check by ping, for 1 min: 1 of 1 hosts answers")
    assert alive.startswith("one.example (192.0.2.1): ")
    for facts in ("12 ms", "10 % loss", "9 ", "10 probes"):
        assert facts in alive
    assert dead.startswith("one.example: no answer")
    assert " ms" not in dead
    new = HOST | {"host": "192.0.2.1", "reachable": None, "latency": None, "sent": 0}
    first, host = check_lines(GOOD | {"since": None, "flaps": 2, "hosts": [new]}, 1000.0)
    assert first.startswith("check by ping: 1 of 1 hosts answers")
    assert "2 times" in first
    assert host.startswith("192.0.2.1: ")
    assert not any(fact in host for fact in (" ms", "%", "probes"))


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
    assert [format.format_bytes(count) for count in (0, 999, 1200, 12_000, 3.4e18)] == [
        "0 B",
        "999 B",
        "1.2 kB",
        "12 kB",
        "3400 PB",
    ]
    assert format.format_rate(1_200_000) == "1.2 Mbit/s"
