"""`make bench-scale`: what many uplinks, addresses, connections and routes cost the daemon."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.__main__ import machine
from bench.change import timer_slack
from bench.compare import PAGE
from bench.figure import columns
from bench.scale import worlds
from bench.scale.chart import Curve, Panel, svg
from bench.scale.worlds import Cost
from tests.lab import LabError
from tests.lab.marked import filled

DRAWING = PAGE.with_name("figures") / "scale.svg"
HEAD = ["what grows", "size", "address event", "endpoint after", "memory", "a second of flaps"]


class Kind(NamedTuple):
    """Something that grows."""

    what: str
    one: str
    """Its unit."""
    measure: Callable[[int], Cost]
    sizes: Sequence[int]


KINDS = {
    "uplinks": Kind("uplinks", "uplink", worlds.uplinks, (2, 8, 32, 64, 128, 198)),
    "addresses": Kind("addresses in the LAN", "address", worlds.addresses, (0, 500, 2000, 5000)),
    "own": Kind("addresses of an uplink", "address", worlds.own_addresses, (1, 100, 300, 1000)),
    "connections": Kind(
        "MPTCP connections", "connection", worlds.connections, (10, 1000, 3000, 10_000)
    ),
    "routes": Kind(
        "BGP routes via a gateway", "route", worlds.routes, (0, 1000, 50_000, 200_000, 1_000_000)
    ),
    "unnumbered": Kind(
        "routes without a gateway",
        "route",
        worlds.routes_without_gateway,
        (0, 1000, 50_000, 200_000),
    ),
}
"""Name → what is measured, in the order of the table."""

Costs = dict[str, list[Cost]]


def slope(costs: Sequence[Cost]) -> float:
    """Processor time of an event for one more, in seconds, by least squares."""
    sizes, times = [cost.size for cost in costs], [cost.event for cost in costs]
    size, event = sum(sizes) / len(sizes), sum(times) / len(times)
    above = sum((one - size) * (other - event) for one, other in zip(sizes, times, strict=True))
    return above / sum((one - size) ** 2 for one in sizes)


def slope_text(kind: Kind, costs: Sequence[Cost]) -> str:
    """As in: 19 µs for each uplink.  With routes that flap, those without them are no base."""
    costs = [cost for cost in costs if cost.second is not None] or costs
    each = slope(costs) if len(costs) > 1 else 0.0
    if each * costs[-1].size < min(cost.event for cost in costs) / 2:
        return "nothing that can be measured"
    text = f"{each * 1e6:.3g} µs for each {kind.one}"
    if costs[-1].kernel is not None:
        kernel = (costs[-1].kernel or 0) / costs[-1].size * 1e6
        text += f"; to open a subflow takes the kernel alone {kernel:.3g} µs"
    return text


def rows(measured: Costs) -> list[list[str]]:
    """Under HEAD."""
    return [
        [
            KINDS[name].what if index == 0 else "",
            f"{cost.size:,}",
            f"{cost.event * 1e3:.2f} ms",
            f"{cost.latency * 1e3:.2f} ms",
            f"{cost.memory:.1f} MB",
            "" if cost.second is None else f"{cost.second * 1e3:.2f} ms",
        ]
        for name, costs in measured.items()
        for index, cost in enumerate(costs)
    ]


def table(measured: Costs) -> str:
    slopes = [f"{KINDS[name].what}: {slope_text(KINDS[name], measured[name])}" for name in measured]
    return "\n".join([columns([HEAD, *rows(measured)]), "", *slopes])


def markdown(measured: Costs) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *rows(measured)]
    slopes = [
        f"- **{KINDS[name].what}**: {slope_text(KINDS[name], costs)}."
        for name, costs in measured.items()
    ]
    cells = [f"| {' | '.join(line)} |" for line in lines]
    parts = [f"Measured {machine()}", "", *cells, "", "The slope, by least squares:", "", *slopes]
    return "\n".join(parts)


def drawing(measured: Costs) -> str:
    """Processor time of an address event, against every size."""
    panels = [
        Panel(
            KINDS[name].what,
            f"{KINDS[name].what}; ms of processor time for an address event",
            _curves(costs),
        )
        for name, costs in measured.items()
    ]
    return svg(panels)


def _curves(costs: Sequence[Cost]) -> list[Curve]:
    event = Curve("all of it", [(cost.size, cost.event * 1e3) for cost in costs])
    if costs[0].kernel is None:
        return [event]
    kernel = [(cost.size, (cost.kernel or 0) * 1e3) for cost in costs]
    return [event, Curve("the kernel alone", kernel)]


def write(measured: Costs) -> None:
    """Put the table and the drawing into the documentation."""
    PAGE.write_text(filled(PAGE.read_text(), {"scale": markdown(measured)}))
    DRAWING.write_text(drawing(measured))


def measure(names: Sequence[str], largest: int) -> tuple[Costs, bool]:
    """The costs, and whether everything was measured."""
    measured: Costs = {}
    complete = True
    for name in names:
        for size in KINDS[name].sizes:
            if size > largest:
                continue
            began = time.monotonic()
            try:
                cost = KINDS[name].measure(size)
            except (LabError, AssertionError, OSError) as error:
                print(f"{name} {size:,} FAILED: {error}", file=sys.stderr, flush=True)
                complete = False
                continue
            measured.setdefault(name, []).append(cost)
            text = f"{name} {size:,}: {cost.event * 1e3:.2f} ms ({time.monotonic() - began:.0f} s)"
            print(text, file=sys.stderr, flush=True)
    return measured, complete


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-scale ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(KINDS)}")
    parser.add_argument("--largest", type=int, default=10**9, help="no size above this")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in KINDS]:
        print(f"unknown: {', '.join(unknown)}; choose from {', '.join(KINDS)}")
        return 1
    if os.geteuid() != 0:
        print("make bench-scale creates network namespaces and needs root")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    timer_slack()
    measured, complete = measure(options.names or list(KINDS), options.largest)
    print(f"\n{table(measured)}\n\n{machine()}\n")
    if options.write and complete and set(measured) == set(KINDS):
        write(measured)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
