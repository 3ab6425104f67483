"""make longrun: an hour's worth of events in two minutes, and what the daemon grows by.

Invariant: memory, descriptors and threads are after the last burst what they were after the
first ones.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.lab import Daemon, Wan, address, eventually, router_address

BURSTS = (4, 20, 100)
"""How many changes at once: few, and the daemon makes a pass for each; many, and it makes some."""
SETTLED = 0.7
"""Of all the events; what is taken on until then is no growth.  Caches whose keys hold the
kernel's timestamps fill, up to their limit, for some 40,000 events, and take 1.5 MB."""
MEMORY, DESCRIPTORS, THREADS = 256, 0, 0
"""kB and numbers: by how much the end may be above the time when it had settled."""


class Sample(NamedTuple):
    """The daemon after so many events."""

    events: int
    rss: int
    """kB, from smaps_rollup."""
    pss: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"| {self.events:,} | {self.rss / 1024:.2f} MB | {self.pss / 1024:.2f} MB"
            f" | {self.descriptors} | {self.threads} |"
        )


def sample(pid: int, events: int) -> Sample:
    """Read /proc."""
    fields = dict(
        line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return Sample(
        events,
        int(fields["Rss:"]),
        int(fields["Pss:"]),
        min(_descriptors(pid) for _ in range(5)),
        len(os.listdir(f"/proc/{pid}/task")),
    )


def _descriptors(pid: int) -> int:
    """Now; whoever asked for the status a moment ago may still be there."""
    time.sleep(0.02)
    return len(os.listdir(f"/proc/{pid}/fd"))


def burst(dice: random.Random, wan: Wan) -> list[str]:
    """So many changes of addresses, routes, rules and links, as `ip` commands; nothing is left."""
    commands: list[str] = []
    size = dice.choice(BURSTS)
    while len(commands) < size:
        n, host = dice.choice(wan.uplinks), dice.randrange(10, 50)
        more, more6 = f"10.{n}.{n}.{host}/24 dev eth{n}", f"2001:db8:{n}::{host:x}/64 dev eth{n}"
        via = f"default via {router_address(n)} dev eth{n} metric {n}"
        commands += dice.choice(
            [
                [f"address add {more}", f"address delete {more}"],
                [f"address add {more6} nodad", f"address delete {more6}"],
                [f"route delete {via}", f"route add {via}"],
                [f"route flush table {7000 + n}"],
                [f"rule delete from {address(n)} priority {7500 + n}"],
                [
                    f"link set eth{n} down",
                    f"link set eth{n} up",
                    f"address replace {address(n, 6)}/64 dev eth{n} nodad",
                    f"route replace {via}",
                    f"route replace default via {router_address(n, 6)} dev eth{n} metric {n}",
                ],
            ]
        )
    return commands


def run(events: int, seed: int, looks: int = 20) -> Iterator[Sample]:
    """So many samples; the daemon is asked, sent SIGHUP and reconciled in between.
    AssertionError when the kernel does not end as it began."""
    dice = random.Random(seed)
    with Wan(shaped=False, lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.settle()
        before, done, sampled = wan.gateway.state(), 0, 0
        assert daemon.process
        pid = daemon.process.pid
        while done < events:
            commands = burst(dice, wan)
            wan.gateway.run(
                "ip", "-force", "-batch", "-", input="\n".join(commands) + "\n", check=False
            )
            done += len(commands)
            daemon.query_status()
            if dice.random() < 0.1:
                daemon.process.send_signal(signal.SIGHUP)
            if done * looks // events > sampled:
                sampled = done * looks // events
                eventually(lambda: wan.gateway.state() == before, 120)
                yield sample(pid, done)
        assert "Traceback" not in daemon.log()


def grown(samples: list[Sample], settled: float = SETTLED) -> tuple[int, int, int]:
    """By how much the last one is above the first that had settled: kB, descriptors, threads."""
    last = samples[-1]
    first = next(sample for sample in samples if sample.events >= last.events * settled)
    return (
        last.rss - first.rss,
        last.descriptors - first.descriptors,
        last.threads - first.threads,
    )


def main() -> int:
    """Print each sample; 1 when it has grown."""
    parser = argparse.ArgumentParser(prog="make longrun", description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    print("| events | RSS | PSS | descriptors | threads |\n| --- | --- | --- | --- | --- |")
    samples = []
    for sample in run(options.events, options.seed):
        samples.append(sample)
        print(sample, flush=True)
    memory, descriptors, threads = grown(samples)
    print(
        f"\n{time.strftime('%Y-%m-%d')}, seed {options.seed}, {time.monotonic() - begun:.0f} s:"
        f" grown by {memory} kB, {descriptors} descriptors and {threads} threads"
    )
    return memory > MEMORY or descriptors > DESCRIPTORS or threads > THREADS


if __name__ == "__main__":
    sys.exit(main())
