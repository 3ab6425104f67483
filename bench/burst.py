"""10,000 address changes in a burst, half of them on an unmanaged device.

Measures the daemon's CPU time, compared with that of the changes themselves without a
listener; the time from the last change until the kernel is in the desired state; and the
daemon's memory afterwards, compared with a process that only imports asyncio.
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
    """CPU time of a process, in seconds (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def resident(pid: int) -> float:
    """Resident memory in MB, from smaps_rollup: VmRSS lags behind by some pages."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no Rss of {pid}")


def changes(site: Site) -> list[Encode]:
    """Addresses added and removed on eth1 and other1 alternately."""
    rounds = CHANGES // 4
    requests: list[Encode] = []
    for n in range(rounds):
        host = 10 + n % 200
        for add in (True, False):
            requests.append(change.address(add, site.devices["eth1"], f"10.1.1.{host}"))
            requests.append(change.address(add, site.devices["other1"], f"10.99.9.{host}"))
    return requests


def converged(site: Site) -> bool:
    """Whether the kernel has exactly what the remaining addresses require."""
    return {endpoint.address for endpoint in site.endpoints()} == {"10.1.1.2", "10.2.2.2"} and all(
        len(site.rules(table)) == 3 and len(site.routes(table)) == 2 for table in (7001, 7002)
    )


def network(scope: ExitStack) -> Site:
    site = scope.enter_context(Site(2, other=1))
    site.do(site.address(True, 1), site.default_route(True, 1))
    site.do(site.address(True, 2), site.default_route(True, 2))
    return site


def burst(log: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        site, quiet = network(scope), network(scope)
        daemon = scope.enter_context(site.daemon(["master", "on"]))
        assert daemon.process
        pid = daemon.process.pid
        # From here on mproutd remembers the gateway; only the address is missing.
        site.settle(lambda: converged(site), "both uplinks")
        for network_site in (site, quiet):
            network_site.do(network_site.address(False, 2))
        log(f"burst: {RUNS} runs of 2")
        ours: list[float] = []
        theirs: list[float] = []
        delays: list[float] = []
        for _ in range(RUNS):
            requests = changes(site)
            before = cpu(pid)
            site.do(*requests)
            last = time.perf_counter()
            site.do(site.address(True, 2))
            delays.append(until(lambda: converged(site), last, "the state after the burst"))
            time.sleep(0.2)
            ours.append(cpu(pid) - before)
            site.do(site.address(False, 2))
            site.settle(lambda: not site.endpoint("10.2.2.2"), "the last address gone", 0.1)
            requests = changes(quiet)
            before = time.thread_time()
            quiet.do(*requests)
            theirs.append(time.thread_time() - before)
        grown = resident(pid)
        asyncio_alone = [asyncio_memory() for _ in range(5)]
    yield Figure(
        "burst-cpu",
        f"{CHANGES:,} address changes, half on unmanaged devices: CPU time",
        ours,
        "ms",
        "the changes alone, no listener",
        theirs,
    )
    yield Figure(
        "burst-end",
        f"{CHANGES:,} address changes: last change → converged",
        delays,
        "ms",
        limit=100,
        goal=20,
    )
    yield Figure(
        "memory",
        f"resident memory after {CHANGES:,} address changes",
        [grown] * len(asyncio_alone),
        "MB",
        "python3 -c 'import asyncio'",
        asyncio_alone,
        1.7,
        1.4,
    )


def asyncio_memory() -> float:
    """Resident memory of a process that imports asyncio, in MB."""
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
