"""10,000 address changes in a burst, half of them on a device that is none of ours.

Two figures of one burst: the daemon's processor time beside what the burst itself costs
where nobody listens, and how long after the last change the kernel is as it should be.
And what the daemon has grown to, beside a bare asyncio.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import change
from bench.figure import Figure
from bench.site import Site, until
from mproutd.netlink.sockets import Encode

CHANGES, RUNS = 10_000, 6


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def resident(pid: int) -> float:
    """Resident memory in MB, from smaps_rollup: VmRSS lags behind by some pages."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no Rss of {pid}")


def changes(site: Site) -> list[Encode]:
    """Addresses that come and go, on eth1 and on other1 in turn."""
    rounds = CHANGES // 4
    made: list[Encode] = []
    for n in range(rounds):
        host = 10 + n % 200
        for add in (True, False):
            made.append(change.address(add, site.devices["eth1"], f"10.1.1.{host}"))
            made.append(change.address(add, site.devices["other1"], f"10.99.9.{host}"))
    return made


def right(site: Site) -> bool:
    """Whether the kernel holds what the addresses that are left want, and no more."""
    return {each.address for each in site.endpoints()} == {"10.1.1.2", "10.2.2.2"} and all(
        len(site.rules(table)) == 3 and len(site.routes(table)) == 2 for table in (7001, 7002)
    )


def network(scope: ExitStack) -> Site:
    site = scope.enter_context(Site(2, other=1))
    site.do(site.address(True, 1), site.default_route(True, 1))
    site.do(site.address(True, 2), site.default_route(True, 2))
    return site


def burst(say: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        site, quiet = network(scope), network(scope)
        daemon = scope.enter_context(site.daemon(["master", "on"]))
        assert daemon.process
        pid = daemon.process.pid
        # From here on mproutd knows its gateway, and the address is what is missing.
        site.settle(lambda: right(site), "both uplinks")
        for each in (site, quiet):
            each.do(each.address(False, 2))
        say(f"burst: {RUNS} times 2")
        ours: list[float] = []
        theirs: list[float] = []
        converged: list[float] = []
        for _ in range(RUNS):
            made = changes(site)
            before = cpu(pid)
            site.do(*made)
            last = time.perf_counter()
            site.do(site.address(True, 2))
            converged.append(until(lambda: right(site), last, "the state after the burst"))
            time.sleep(0.2)
            ours.append(cpu(pid) - before)
            site.do(site.address(False, 2))
            site.settle(lambda: not site.endpoint("10.2.2.2"), "the last address gone", 0.1)
            made = changes(quiet)
            before = time.thread_time()
            quiet.do(*made)
            theirs.append(time.thread_time() - before)
        grown = resident(pid)
        asyncio_alone = [asyncio_memory() for _ in range(5)]
    yield Figure(
        "burst-cpu",
        f"{CHANGES:,} address changes in a burst, half on other devices: processor time",
        ours,
        "ms",
        "the burst itself, nobody listening",
        theirs,
    )
    yield Figure(
        "burst-end",
        "… converged after the last one",
        converged,
        "ms",
        most=100,
        aim=20,
    )
    yield Figure(
        "memory",
        "resident memory after the burst",
        [grown] * len(asyncio_alone),
        "MB",
        "python3 -c 'import asyncio'",
        asyncio_alone,
        1.7,
        1.4,
    )


def asyncio_memory() -> float:
    """What a bare asyncio takes."""
    code = "import asyncio, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        taken = resident(child.pid)
        child.stdin.close()
    return taken
