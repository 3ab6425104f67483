"""`make demo`: two uplinks, one MPTCP connection, a cable unplugged and plugged in again.

Takes about 30 s.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.lab import (
    SERVER,
    TWO_UPLINKS,
    Daemon,
    Iperf,
    LabError,
    Measured,
    Wan,
    address,
    device_bytes,
    eventually,
)
from tests.lab.chart import chart, marks, spark, time_axis

STEP = 0.5
UNPLUG, PLUG, END = 7.0, 13.0, 21.0
TARGET = 1.7
"""How many times the rate of one path two paths must reach."""
SETTLE = 2.0
"""Seconds after a change that are not measured: TCP slow start."""

PICTURE = f"""\
   gateway ─┬─ eth1 ── 20 Mbit/s ── router ─┬─ server {SERVER}
            └─ eth2 ── 20 Mbit/s ── router ─┘"""


class Run(NamedTuple):
    """The MPTCP connection: iperf3's report, and what each device sent in each step."""

    measured: Measured
    sent: dict[str, list[float]]
    """Device → Mbit/s in each STEP."""
    while_unplugged: str
    """The output of `mproutd status` while eth1 was unplugged."""


def show(text: str = "") -> None:
    print(text, flush=True)


def heading(text: str) -> None:
    show(f"\n── {text} {'─' * (74 - len(text))}\n")


def indented(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.expandtabs(4).strip("\n").split("\n"))


def show_command(daemon: Daemon, verb: str) -> None:
    """Run a command of mproutd and print it with its output."""
    result = daemon.call(verb)
    show(f"   # mproutd {verb}")
    show(indented(result.out + result.err))


def live(text: str = "") -> None:
    """Print a line that the next one overwrites; nothing unless stdout is a terminal."""
    if sys.stdout.isatty():
        print(f"\r{'':<76}\r   {text}" if text else f"\r{'':<76}\r", end="", flush=True)


def one_path(wan: Wan) -> float:
    """The rate of plain TCP over eth1 alone, in Mbit/s."""
    live("iperf3 over eth1 alone ...")
    measured = Iperf(wan.gateway, wan.server, SERVER, 4, mptcp=False, bind=address(1)).result()
    live()
    return measured.between(1, 4)


def both_paths(wan: Wan, daemon: Daemon) -> Run:
    """One MPTCP connection while eth1 is unplugged and plugged in again."""
    flow = Iperf(wan.gateway, wan.server, SERVER, END, interval=STEP)
    begin = time.monotonic()
    before = device_bytes(wan.gateway)
    sent: dict[str, list[float]] = {"eth1": [], "eth2": []}
    status = ""
    show("     0 s  iperf3 opens one MPTCP connection")
    for step in range(1, round(END / STEP) + 1):
        time.sleep(max(0.0, begin + step * STEP - time.monotonic()))
        now = device_bytes(wan.gateway)
        for device, rates in sent.items():
            rates.append((now[device].sent - before[device].sent) * 8 / STEP / 1e6)
        before = now
        rates_now = "   ".join(f"{device} {rates[-1]:4.1f}" for device, rates in sent.items())
        live(f"{step * STEP:4.1f} s  {rates_now}   {sum(r[-1] for r in sent.values()):5.1f} Mbit/s")
        if step * STEP == UNPLUG:
            wan.unplug(1)
            live()
            show(f"   {UNPLUG:3.0f} s  eth1 unplugged")
        elif step * STEP == PLUG - 1:
            status = daemon.call("status").out
        elif step * STEP == PLUG:
            wan.plug(1)
            live()
            show(f"   {PLUG:3.0f} s  eth1 plugged in again; nobody runs a command")
    live("waiting for iperf3 ...")
    measured = flow.result()
    live()
    return Run(measured, sent, status)


def draw(run: Run, one: float) -> None:
    """Print the rate at the server, the events below it, and what each device sent."""
    values = [interval.mbit for interval in run.measured.intervals][: round(END / STEP)]
    top = 40.0
    show("   Mbit/s received by the server")
    show(indented("\n".join(chart(values, top, levels={one: "one path", 2 * one: "two paths"}))))
    ruler, seconds = time_axis(len(values), STEP, 5)
    show(f"   {ruler}")
    show(f"   {seconds}")
    show(f"          {marks({UNPLUG: 'unplugged', PLUG: 'plugged'}, STEP)}")
    for device, rates in run.sent.items():
        show(f"   {device:>5}  {spark(rates, top / 2)}")


def verdict(one: float, run: Run) -> bool:
    """Print the figures; whether they are as promised."""
    measured = run.measured
    both = measured.between(1, UNPLUG)
    alone = measured.between(UNPLUG + 1, PLUG)
    again = measured.between(PLUG + SETTLE, END)
    rows: Sequence[tuple[str, float, str]] = (
        ("eth1 alone, plain TCP", one, ""),
        ("both paths, MPTCP", both, f"{both / one:.2f} times one path"),
        ("eth1 unplugged", alone, "the connection continues over eth2"),
        ("plugged in again", again, f"{again / one:.2f} times one path"),
    )
    for label, rate, remark in rows:
        show(f"   {label:<24}{rate:6.1f} Mbit/s   {remark}".rstrip())
    failures = []
    if not measured.completed:
        failures.append(f"the connection did not survive: {measured.error or 'iperf3 failed'}")
    if both < TARGET * one:
        failures.append(f"both paths carry {both / one:.2f} times one path; expected {TARGET}")
    if alone < 0.7 * one:
        failures.append(f"with eth1 unplugged, eth2 carried only {alone:.1f} Mbit/s")
    if again < TARGET * one:
        failures.append(f"plugged in again: {again / one:.2f} times one path; expected {TARGET}")
    show()
    for failure in failures:
        show(f"   FAILED: {failure}")
    if not failures:
        show("   It was the same connection all along; it survived.")
    return not failures


def demonstrate() -> bool:
    """Run the demo; whether it went as promised."""
    heading("The laboratory: network namespaces; the host's network is not touched")
    with Wan() as wan:
        wan.usual()
        show(PICTURE)
        heading("Configuration")
        show(indented(TWO_UPLINKS))
        heading("Start mproutd")
        daemon = Daemon(wan.gateway)
        with daemon:
            eventually(lambda: daemon.call("status").code == 0, timeout=5)
            show_command(daemon, "status")
            heading("Baseline: one path")
            one = one_path(wan)
            show(f"   iperf3 over eth1 alone, plain TCP: {one:.1f} Mbit/s")
            heading("Both paths; one is lost and comes back")
            run = both_paths(wan, daemon)
            show(f"   {END:3.0f} s  the transfer ends")
            heading("While eth1 was unplugged")
            show("   # mproutd status")
            show(indented(run.while_unplugged))
            heading("Result")
            draw(run, one)
            show()
            return verdict(one, run)


def main() -> int:
    """Return 0 if all went as promised, 1 if not, 130 if interrupted."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        show("make demo creates network namespaces and needs root.")
        return 1
    if not Path("/proc/sys/net/mptcp").exists():
        show("This kernel has no Multipath TCP (CONFIG_MPTCP).")
        return 1
    try:
        return 0 if demonstrate() else 1
    except KeyboardInterrupt:
        show("\n\n   Interrupted. Nothing is left behind.")
        return 130
    except (LabError, AssertionError) as error:
        show(f"\n   FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
