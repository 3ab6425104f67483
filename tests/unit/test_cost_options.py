"""Options of overflow, quotas and capacities: what they accept, and what does not fit together."""

from __future__ import annotations

import pytest

from mproutd.configuration.config import Config, ConfigError, build
from mproutd.configuration.parsers import amount
from mproutd.configuration.uci_parser import parse_sections

LTE = "config interface lte\n option device wwan0\n option multipath {}\n"


def parse(options: str, mode: str = "backup") -> Config:
    lines = "".join(f" option {line.strip()}\n" for line in options.split(";") if line)
    own = f"config uplink lte\n{lines}"
    switch = "config globals globals\n option multipath enable\n"
    return build(
        parse_sections("network", switch + LTE.format(mode)), parse_sections("mproutd", own)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("20G", 20 * 10**9),
        ("20g", 20 * 10**9),
        ("20GB", 20 * 10**9),
        ("12.34G", 12_340_000_000),
        ("0.5T", 5 * 10**11),
        ("500M", 5 * 10**8),
        ("64k", 64_000),
        ("1Gi", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("2Ki", 2048),
        ("1 G", 10**9),
    ],
)
def test_amounts(text: str, expected: int) -> None:
    assert amount(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an amount"),
        ("G", "not an amount"),
        ("20X", "not an amount"),
        ("20GG", "not an amount"),
        ("1i", "not an amount"),
        ("-1G", "not an amount"),
        (".5G", "not an amount"),
        ("5.G", "not an amount"),
        ("1e9", "not an amount"),
        ("1,5G", "not an amount"),
        ("²G", "not an amount"),
        ("1" * 30, "not an amount"),
        ("0", "out of range"),
        ("0.0001k", "out of range"),
        ("9999999T", "out of range"),
    ],
)
def test_what_is_no_amount(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        amount(text)


def test_a_quota_with_its_defaults() -> None:
    (lte,) = parse("quota 20G").uplinks
    assert lte.quota == 20 * 10**9
    assert (lte.quota_period, lte.quota_start, lte.quota_warn) == ("month", 1, 80)
    assert (lte.quota_action, lte.quota_hard) == ("backup", False)


@pytest.mark.parametrize(
    ("options", "start", "action"),
    [
        ("quota 1G; quota_period day", 0, "backup"),
        ("quota 1G; quota_period week", 1, "backup"),
        ("quota 1G; quota_period week; quota_start 7", 7, "backup"),
        ("quota 1G; quota_start 31; quota_action off", 31, "off"),
        ("quota 1G; quota_hard 1", 1, "off"),
        ("quota 1G; quota_hard 1; quota_action off", 1, "off"),
    ],
)
def test_defaults_that_depend_on_others(options: str, start: int, action: str) -> None:
    (lte,) = parse(options).uplinks
    assert (lte.quota_start, lte.quota_action) == (start, action)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            "quota 20X",
            "mproutd:2: uplink 'lte', option 'quota': '20X' is not an amount of data, such as 20G "
            "or 500M",
        ),
        (
            "quota 1G; quota_start 0",
            "mproutd:3: uplink 'lte', option 'quota_start': 0 is not a day of the month: use 1 "
            "to 31",
        ),
        (
            "quota 1G; quota_period week; quota_start 8",
            "mproutd:4: uplink 'lte', option 'quota_start': 8 is not a day of the week, 1 is "
            "Monday: use 1 to 7",
        ),
        (
            "quota 1G; quota_period day; quota_start 24",
            "mproutd:4: uplink 'lte', option 'quota_start': 24 is not an hour: use 0 to 23",
        ),
        (
            "quota 1G; quota_hard 1; quota_action backup",
            "mproutd:4: uplink 'lte', option 'quota_action': backup contradicts quota_hard, which "
            "switches the uplink off: remove one of them",
        ),
        (
            "quota 1G; quota_action on",
            "mproutd:3: uplink 'lte', option 'quota_action': 'on' is not a quota action: use "
            "backup, handover or off",
        ),
        (
            "overflow 101",
            "mproutd:2: uplink 'lte', option 'overflow': '101' is out of range: 1 to 100",
        ),
        (
            "download 0",
            "mproutd:2: uplink 'lte', option 'download': '0' is out of range: 1 to 1000000000",
        ),
    ],
)
def test_mistakes(options: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(options)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("options", "mode", "warnings"),
    [
        ("quota 1G; on_quota /bin/true", "on", []),
        ("overflow 80", "backup", []),
        ("overflow 80", "handover", []),
        (
            "quota_warn 50",
            "on",
            ["mproutd:2: uplink 'lte', option 'quota_warn': has no effect without quota"],
        ),
        (
            "on_quota /bin/true",
            "on",
            ["mproutd:2: uplink 'lte', option 'on_quota': has no effect without quota"],
        ),
        (
            "overflow 80",
            "master",
            [
                "mproutd:2: uplink 'lte', option 'overflow': has no effect with multipath master: "
                "use backup or handover"
            ],
        ),
    ],
)
def test_warnings(options: str, mode: str, warnings: list[str]) -> None:
    assert list(parse(options, mode).warnings) == warnings
