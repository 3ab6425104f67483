"""`make figures`: the rate over time when an uplink is unplugged, drawn from four real runs.

The network is that of docs/networks/proxy.md, with mproutd and with the classic scripts in
if-up.d and if-post-down.d instead; each with and without a program that watches the carrier
and runs ifdown and ifup.  Everything drawn was measured in this run, one after the other.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.lab import Daemon, eventually
from tests.networks.machine import ROOT, why_not
from tests.networks.run import Run
from tests.networks.two_sites import TwoSites

SECONDS = 30.0
CLASSIC = Path(__file__).with_name("classic")
DRAWN = ROOT / "docs/figures/proxy.svg"


def measure(mproutd: bool, watched: bool) -> Run:
    """One run of 30 s, uplink 2 unplugged for the middle third."""
    with TwoSites(watched) as sites:
        router = sites.router_a
        if not mproutd:
            for name in ("if-up", "if-post-down"):
                router.write(f"/etc/network/{name}.d/mproutd", (CLASSIC / name).read_text())
        with Daemon(router, network=sites.network) if mproutd else nullcontext():
            for device in ("eth1", "eth2"):
                router.ifup(device)
            eventually(lambda: len(router.ip("mptcp endpoint show").splitlines()) == 2)
            run = sites.run(SECONDS, lambda: None, lambda: None)
    if not run.measured.completed:
        raise SystemExit(f"the connection did not survive: {run.measured.error}")
    return run


def draw(runs: dict[str, Run], path: Path) -> None:
    """Draw the runs side by side; the same figures give the same SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "mproutd", "svg.fonttype": "none", "font.size": 10})
    figure, panels = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey=True)
    for axes, (title, run) in zip(panels.flat, runs.items(), strict=True):
        _panel(axes, title, run)
    for row in panels:
        row[0].set_ylabel("Mbit/s at the far host")
    for axes in panels[1]:
        axes.set_xlabel("s")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _panel(axes: Any, title: str, run: Run) -> None:
    intervals = run.measured.intervals[:-1]
    axes.stairs(
        [interval.mbit for interval in intervals],
        [intervals[0].start, *(interval.end for interval in intervals)],
        fill=True,
        alpha=0.75,
        color="#3b6ea5",
    )
    for level, name in ((20, "one uplink"), (40, "both")):
        axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axes.text(SECONDS, level + 0.6, name, ha="right", color="0.4", fontsize=8)
    for moment, name in ((run.unplugged, "unplugged"), (run.plugged, "plugged in")):
        axes.axvline(moment, color="#b03a2e", linewidth=1.2)
        axes.text(moment + 0.3, 47, name, color="#b03a2e", fontsize=9)
    first, one, again = run.rates
    axes.set_title(f"{title}: {first:.1f} / {one:.1f} / {again:.1f}", fontsize=10)
    axes.set_xlim(0, SECONDS)
    axes.set_ylim(0, 51)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> None:
    if why_not():
        raise SystemExit(why_not())
    runs = {}
    for watched in (False, True):
        for name, mproutd in (("mproutd", True), ("classic scripts", False)):
            title = name + (" with a carrier watcher" if watched else "")
            print(f"{title}: a run of {SECONDS:g} s", file=sys.stderr)
            runs[title] = measure(mproutd, watched)
            print(f"{title}\n{runs[title].table()}")
    draw(runs, DRAWN)
    print(DRAWN.relative_to(ROOT))


if __name__ == "__main__":
    main()
