"""Configurations for chaos: good ones drawn at random, and bad ones that have to be refused."""

from __future__ import annotations

import random
from typing import NamedTuple

GLOBALS = "config globals 'globals'\n\toption multipath '{}'\n"
MODES = ("on", "on", "backup", "handover", "master")


class Written(NamedTuple):
    """The two files."""

    network: str
    own: str
    good: bool = True


def _interface(n: int, mode: str) -> str:
    return f"config interface 'wan{n}'\n\toption device 'eth{n}'\n\toption multipath '{mode}'\n"


def usual(anchor: int) -> Written:
    """Three uplinks, one of them master."""
    modes = dict.fromkeys((1, 2, 3), "on") | {anchor: "master"}
    return Written(
        GLOBALS.format("enable") + "".join(_interface(*interface) for interface in modes.items()),
        "",
    )


def drawn(dice: random.Random, anchor: int, reserve: bool = True) -> Written:
    """Any good one; the anchor is in it, and carries MPTCP whenever it is the only one left.

    Without `reserve` it is no handover uplink: those wait while another one is usable, and one
    whose addresses do not carry, for others' rules or since they are in another's subnet, counts
    as that without a health check.
    """
    others = [n for n in (1, 2, 3) if n != anchor and dice.random() < 0.8]
    kinds = MODES if reserve else [mode for mode in MODES if mode != "handover"]
    modes = {anchor: dice.choice(kinds)} | {n: dice.choice((*MODES, "off")) for n in others}
    order = dice.sample(list(modes), len(modes))
    network = GLOBALS.format("enable") + "".join(_interface(n, modes[n]) for n in order)
    own = ""
    common = {
        "table_base": "9000",
        "rule_priority": "12000",
        "subflows": "4",
        "main_routes": "0",
        "mark_mask": "0xff00",
    }
    chosen = {key: value for key, value in common.items() if dice.random() < 0.12}
    if chosen:
        own += _section("mproutd 'globals'", chosen)
    for n in order:
        options = {
            "strict": "1",
            "iif": "br-lan",
            "table": str(120 + n),
            "mark": f"{n}/0xff",
        }
        wanted = {key: value for key, value in options.items() if dice.random() < 0.1}
        if "iif" in own:
            wanted.pop("iif", None)
        if wanted.get("mark") and "mark_mask" in chosen:
            del wanted["mark"]
        if wanted:
            own += _section(f"uplink 'wan{n}'", wanted)
    return Written(network, own)


def nothing(dice: random.Random) -> Written:
    """One that wants nothing in the kernel."""
    if dice.random() < 0.5:
        return Written(GLOBALS.format("disable") + _interface(1, "on"), "")
    return Written(GLOBALS.format("enable"), "")


def broken(dice: random.Random, good: Written) -> Written:
    """One that has to be refused."""
    network, own, _ = good
    bad = dice.choice(
        [
            (network + "config interface 'wan1'\n\toption multipath 'sideways'\n", own),
            (
                network
                + "config interface 'other'\n\toption device 'eth1'\n\toption multipath 'off'\n"
                "config interface 'another'\n\toption device 'eth1'\n\toption multipath 'on'\n",
                own,
            ),
            (network + "opshun multipath on\n", own),
            (network + "config interface 'wan9\n", own),
            (network, own + "config mproutd 'globals'\n\toption table_base 'many'\n"),
            (network, own + "config uplink 'wan1'\n\toption gateway '10.1.1.300'\n"),
            ("\x00\x01\x02" * 50, own),
        ]
    )
    return Written(*bad, good=False)


def _section(name: str, options: dict[str, str]) -> str:
    lines = [
        f"\t{'list' if key == 'iif' else 'option'} {key} '{value}'"
        for key, value in options.items()
    ]
    return "\n".join([f"config {name}", *lines, ""])
