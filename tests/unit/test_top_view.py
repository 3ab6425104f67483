"""The picture of `mproutd top`: what is drawn from what is known, at any size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mproutd.status.top_view import (
    BAD,
    GOOD,
    History,
    Rates,
    View,
    graph,
    ordered,
    scale,
    screen_lines,
)


def uplink(name: str, device: str, mode: str = "on", **more: Any) -> dict[str, Any]:
    family = {
        "family": "ipv4",
        "usable": True,
        "reason": None,
        "addresses": [f"10.{device[-1]}.1.2"],
        "gateway": f"10.{device[-1]}.1.1",
    }
    common = {"usable": True, "since": 1000.0, "families": [family]}
    return {"name": name, "device": device, "mode": mode, "effective_mode": mode, **common, **more}


LOST = {
    "usable": False,
    "families": [
        {
            "family": "ipv4",
            "usable": False,
            "reason": "no-carrier",
            "addresses": [],
            "gateway": None,
        }
    ],
}


def other_traffic(shares: Iterable[tuple[str, int]]) -> dict[str, Any]:
    listed = [{"uplink": name, "device": "", "weight": weight} for name, weight in shares]
    return {"family": "ipv4", "origin": None, "shares": listed}


def view(*uplinks: dict[str, Any], **more: Any) -> View:
    status = {
        "enabled": True,
        "degraded": any(not shown["usable"] for shown in uplinks),
        "uplinks": list(uplinks),
        "default": {"ipv4": uplinks[0]["name"]} if uplinks else {},
        "other_traffic": [other_traffic((shown["name"], 1) for shown in uplinks[:1])],
        "problems": [],
        "drift": [],
    }
    given: dict[str, Any] = {"rates": {}, "subflows": None, "now": 8200.0, "clock": "12:00:00"}
    return View(status, **{**given, **more})


def text(shown: View, columns: int = 80, rows: int = 24) -> list[str]:
    drawn = ["".join(piece.text for piece in line) for line in screen_lines(shown, columns, rows)]
    return [line.rstrip() for line in drawn]


TWO = (uplink("wan1", "eth1", "master"), uplink("wan2", "eth2", **LOST))
RATES = {"eth1": [Rates(5e6, 1e6), Rates(None, None), Rates(0, 0), Rates(10e6, 1e5)]}


def test_two_uplinks_in_a_small_terminal() -> None:
    shown = view(*TWO, rates=RATES, subflows={"wan1": 3})
    assert text(shown, rows=12) == [
        "mproutd  12:00:00  1 of 2 not usable; see: mproutd status",
        "wan1  master    eth1  up 2 h        3 subflows  default IPv4",
        "  10.1.1.2 via 10.1.1.1",
        f"  in     10 Mbit/s {'▄ ·█':>48}    10 Mbit/s",
        f"  out   100 kbit/s {'█ ·▁':>48}   1.0 Mbit/s",
        "",
        "wan2  on        eth2  no carrier 2 h  0 subflows",
        "  no address",
        f"  in             - {'':48}    10 kbit/s",
        f"  out            - {'':48}    10 kbit/s",
        "",
        "q quit   s sort   space pause   sorted by name",
    ]


def test_shares_of_other_traffic() -> None:
    shown = view(*TWO)
    shown.status["other_traffic"] = [other_traffic([("wan1", 3), ("wan2", 1)])]
    assert text(shown, rows=9)[1].endswith("default IPv4 75%")
    assert text(shown, rows=9)[4].endswith("default IPv4 25%")


def test_a_taller_terminal_has_taller_graphs() -> None:
    drawn = text(view(*TWO, rates=RATES), rows=16)
    assert drawn[3:5] == [
        f"  in     10 Mbit/s {'   █':>48}    10 Mbit/s",
        f"                   {'█ ·█':>48}",
    ]


def test_colors_show_which_is_out() -> None:
    styles = {
        piece.text.strip(): piece.style
        for line in screen_lines(view(*TWO), 80, 24)
        for piece in line
    }
    assert styles["up 2 h"] == GOOD
    assert styles["no carrier 2 h"] == BAD


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 8, 10, 24, 60])
@pytest.mark.parametrize("columns", [1, 20, 31, 32, 80, 200])
@pytest.mark.parametrize("count", [0, 1, 2, 8, 40])
def test_it_fits_whatever_the_size(columns: int, rows: int, count: int) -> None:
    many = [uplink(f"wan{n}", f"ppp{n}", **(LOST if n % 3 else {})) for n in range(count)]
    rates = {shown["device"]: [Rates(n * 1e6, n) for n in range(300)] for shown in many}
    drawn = text(view(*many, rates=rates, note="x" * 300), columns, rows)
    assert len(drawn) <= rows
    assert all(len(line) <= columns for line in drawn)
    if columns >= 80 and rows >= count + 2:
        names = [line.split()[0] for line in drawn if line.startswith("wan")]
        assert names == sorted(shown["name"] for shown in many)


def test_what_does_not_fit_is_counted() -> None:
    many = [uplink(f"wan{n}", f"ppp{n}") for n in range(8)]
    assert text(view(*many), rows=6)[4] == "… and 5 more; make the window taller"


def test_sorting() -> None:
    rates = {"eth1": [Rates(9e9, 9e9), Rates(1e6, 3e6)], "eth2": [Rates(2e6, 2e6)]}
    three = uplink("wan2", "eth2"), uplink("wan1", "eth1"), uplink("wan3", "eth3")

    def names(order: str) -> list[str]:
        shown = view(*three, rates=rates, order=order)
        assert text(shown)[-1].endswith(
            {"name": "by name", "received": "by rate in", "sent": "by rate out"}[order]
        )
        return [shown["name"] for shown in ordered(shown)]

    assert names("name") == ["wan1", "wan2", "wan3"]
    assert names("received") == ["wan2", "wan1", "wan3"]
    assert names("sent") == ["wan1", "wan2", "wan3"]


def test_nothing_from_outside_commands_the_terminal() -> None:
    drawn = "".join(text(view(uplink("a\x1b[2J", "e\nth1"))))
    assert drawn.isprintable()


def test_rates_are_between_two_samples() -> None:
    history = History(length=3)
    history.add(10.0, {"eth1": (1000, 0), "lo": (5, 5)}, ["eth1", "eth2"])
    assert history.rates() == {"eth1": [], "eth2": []}
    history.add(12.0, {"eth1": (2000, 500)}, ["eth1", "eth2"])
    assert history.rates() == {"eth1": [Rates(4000, 2000)], "eth2": [Rates()]}
    history.add(13.0, {"eth1": (0, 0)}, ["eth1"])  # made again
    history.add(14.0, {}, ["eth1"])  # gone
    history.add(15.0, {"eth1": (0, 0)}, ["eth1"])
    assert history.rates() == {"eth1": [Rates(), Rates(), Rates()]}


def test_scales_are_round_and_hold_the_peak() -> None:
    assert scale([]) == scale([None, 0, 10_000]) == 10_000
    assert scale([10_001]) == 20_000
    assert [scale([bits]) for bits in (21e6, 50e6, 51e6, 4e9)] == [50e6, 50e6, 100e6, 5e9]


def test_graphs_by_their_eighths() -> None:
    assert graph([None, 0, 1e-9, 50, 100], 5, 1, 100) == [" ·▁▄█"]
    assert graph([None, 0, 1e-9, 50, 62.5, 100], 6, 2, 100) == ["    ▂█", " ·▁███"]
    assert graph([1, 2, 4], 2, 1, 4) == ["▄█"]
    assert graph([4], 3, 1, 4) == ["  █"]
    assert graph([4], 0, 1, 4) == [""]
