"""`make demo`: two lines, one connection, a plug that is pulled and put back.  About 30 s."""

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
"""Two paths have to carry this many times as much as one."""
SETTLE = 2.0
"""Seconds after each change before we measure: TCP starts slowly."""

PICTURE = f"""\
   gateway ─┬─ eth1 ── 20 Mbit/s ── router ─┬─ server {SERVER}
            └─ eth2 ── 20 Mbit/s ── router ─┘"""


class Run(NamedTuple):
    """The long connection: what iperf3 saw, and what went out by each device, step by step."""

    measured: Measured
    sent: dict[str, list[float]]
    """Device -> Mbit/s in each STEP."""
    while_unplugged: str
    """What `mproutd status` printed then."""


def say(text: str = "") -> None:
    print(text, flush=True)


def heading(text: str) -> None:
    say(f"\n── {text} {'─' * (74 - len(text))}\n")


def indented(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.expandtabs(4).strip("\n").split("\n"))


def show(daemon: Daemon, verb: str) -> None:
    """Run one command of mproutd and show it as one would have seen it."""
    answer = daemon.call(verb)
    say(f"   # mproutd {verb}")
    say(indented(answer.out + answer.err))


def live(text: str = "") -> None:
    """A line that the next one overwrites; nothing where there is no terminal."""
    if sys.stdout.isatty():
        print(f"\r{'':<76}\r   {text}" if text else f"\r{'':<76}\r", end="", flush=True)


def one_path(wan: Wan) -> float:
    """The rate of plain TCP by eth1 alone, in Mbit/s."""
    live("iperf3 by eth1 alone ...")
    measured = Iperf(wan.gateway, wan.server, SERVER, 4, mptcp=False, bind=address(1)).result()
    live()
    return measured.between(1, 4)


def both_paths(wan: Wan, daemon: Daemon) -> Run:
    """One MPTCP connection while eth1 is unplugged and plugged again."""
    flow = Iperf(wan.gateway, wan.server, SERVER, END, interval=STEP)
    begin = time.monotonic()
    before = device_bytes(wan.gateway)
    sent: dict[str, list[float]] = {"eth1": [], "eth2": []}
    status = ""
    say("     0 s  one iperf3 connection begins, over Multipath TCP")
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
            say(f"   {UNPLUG:3.0f} s  eth1 unplugged")
        elif step * STEP == PLUG - 1:
            status = daemon.call("status").out
        elif step * STEP == PLUG:
            wan.plug(1)
            live()
            say(f"   {PLUG:3.0f} s  eth1 plugged in again; no command is given")
    live("the connection ends ...")
    measured = flow.result()
    live()
    return Run(measured, sent, status)


def draw(run: Run, one: float) -> None:
    """The picture: the rate that arrived, the events under it, and what each device sent."""
    values = [interval.mbit for interval in run.measured.intervals][: round(END / STEP)]
    top = 40.0
    say("   Mbit/s that arrive at the server")
    say(indented("\n".join(chart(values, top, levels={one: "one path", 2 * one: "twice that"}))))
    ruler, seconds = time_axis(len(values), STEP, 5)
    say(f"   {ruler}")
    say(f"   {seconds}")
    say(f"          {marks({UNPLUG: 'unplugged', PLUG: 'plugged'}, STEP)}")
    for device, rates in run.sent.items():
        say(f"   {device:>5}  {spark(rates, top / 2)}")


def verdict(one: float, run: Run) -> bool:
    """The figures, and whether they are what was promised."""
    measured = run.measured
    both = measured.between(1, UNPLUG)
    alone = measured.between(UNPLUG + 1, PLUG)
    again = measured.between(PLUG + SETTLE, END)
    rows: Sequence[tuple[str, float, str]] = (
        ("eth1 alone, plain TCP", one, ""),
        ("both paths", both, f"{both / one:.2f} times one path"),
        ("eth1 unplugged", alone, "the connection goes on over eth2"),
        ("plugged in again", again, f"{again / one:.2f} times one path"),
    )
    for what, rate, remark in rows:
        say(f"   {what:<24}{rate:6.1f} Mbit/s   {remark}".rstrip())
    failures = []
    if not measured.completed:
        failures.append(f"the connection did not survive: {measured.error or 'iperf3 failed'}")
    if both < TARGET * one:
        failures.append(f"both paths carry {both / one:.2f} times one path, not {TARGET}")
    if alone < 0.7 * one:
        failures.append("with one path lost, the other one did not carry on")
    if again < TARGET * one:
        failures.append(f"plugged in again: {again / one:.2f} times one path, not {TARGET}")
    say()
    for failure in failures:
        say(f"   FAILED: {failure}")
    if not failures:
        say("   It was one and the same connection all the time. It survived.")
    return not failures


def demonstrate() -> bool:
    """Everything, in order; whether it went as promised."""
    heading("The laboratory: network namespaces; nothing of this machine changes")
    with Wan() as wan:
        wan.usual()
        say(PICTURE)
        heading("The configuration")
        say(indented(TWO_UPLINKS))
        heading("mproutd runs")
        daemon = Daemon(wan.gateway)
        with daemon:
            eventually(lambda: daemon.call("status").code == 0, timeout=5)
            show(daemon, "status")
            heading("One path, to compare with")
            one = one_path(wan)
            say(f"   iperf3 by eth1 alone, plain TCP: {one:.1f} Mbit/s")
            heading("Both paths, one lost, both again")
            run = both_paths(wan, daemon)
            say(f"   {END:3.0f} s  the connection ends")
            heading("While eth1 was unplugged")
            say("   # mproutd status")
            say(indented(run.while_unplugged))
            heading("What was measured")
            draw(run, one)
            say()
            return verdict(one, run)


def main() -> int:
    """0 as promised, 1 not, 130 interrupted."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        say("The demonstration makes network namespaces, so it needs root.")
        return 1
    if not Path("/proc/sys/net/mptcp").exists():
        say("This kernel has no Multipath TCP (CONFIG_MPTCP).")
        return 1
    try:
        return 0 if demonstrate() else 1
    except KeyboardInterrupt:
        say("\n\n   Stopped. Nothing is left behind.")
        return 130
    except (LabError, AssertionError) as error:
        say(f"\n   FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
