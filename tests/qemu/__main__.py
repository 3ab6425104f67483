"""make kernels: the demo and the tests on Debian's own kernels in qemu, and docs/kernels.md.

ARGS is empty (the chosen tests), `all` (every kernel test), `chaos` or `chaos ROUNDS` (100 rounds),
`smoke` (a few minutes; skipped where there can be no guests), `features` (what each kernel can do),
`page` (write the page again), or what pytest gets: ARGS='tests/kernel/test_modes.py -k handover'.
KERNELS has versions or Debian suites, or `host`: KERNELS='6.1 sid host'.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.qemu.archive import CACHE, CHECKOUT, ArchiveError, Kernel, kernels
from tests.qemu.guest import MEMORY_MB, QEMU, Guest, GuestError, Host
from tests.qemu.initrd import InitrdError
from tests.qemu.results import HOST, Results, write_page
from tests.qemu.runner import run

FREE_MEMORY_MB, FREE_DISK_MB = MEMORY_MB + 768, 3072
"""qemu needs its translation cache besides; the disk holds a Debian root and one initrd."""


def lacking() -> list[str]:
    """What this machine lacks for guests, and how one gets it."""
    needed = []
    if os.geteuid() != 0:
        needed.append("root (debootstrap makes files for all users)")
    if platform.machine() != "x86_64":
        needed.append(f"an x86-64 machine (this is {platform.machine()})")
    programs = {QEMU: "qemu-system-x86", "debootstrap": "debootstrap", "cpio": "cpio"}
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        needed.append(f"packages (apt-get install --no-install-recommends {' '.join(missing)})")
    with open("/proc/meminfo", encoding="ascii") as file:
        sizes = dict(line.split(":", 1) for line in file)
    available = int(sizes["MemAvailable"].split()[0]) // 1024
    if available < FREE_MEMORY_MB:
        needed.append(f"{FREE_MEMORY_MB} MB of free memory (there are {available})")
    free = shutil.disk_usage(CHECKOUT).free >> 20
    if free < FREE_DISK_MB:
        needed.append(f"{FREE_DISK_MB} MB of free disk (there are {free})")
    return needed


@contextmanager
def alone() -> Iterator[None]:
    """One run at a time in a checkout: they share the cache and the processors."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def host() -> Results:
    release = platform.release()
    return Results(HOST, release, release.split("-")[0])


def of(kernel: Kernel) -> Results:
    return Results(kernel.suite, kernel.release, kernel.package_version)


def columns() -> list[Results]:
    """The page's kernels, the oldest first: Debian's, and the host's if anything ran on it."""
    every = [of(kernel) for kernel in kernels([])]
    if "features" in host().data:
        every.append(host())
    return sorted(every, key=lambda result: [int(n) for n in result.data["version"].split(".")[:2]])


def run_all(
    wanted: Sequence[str], with_host: bool, what: str, arguments: Sequence[str]
) -> Iterator[int]:
    """Each kernel's status, when its run is over."""
    machines: list[tuple[Results, Guest | Host]] = []
    if wanted or not with_host:
        machines += [(of(kernel), Guest(kernel)) for kernel in kernels(wanted)]
    if with_host:
        machines.append((host(), Host()))
    for results, machine in machines:
        try:
            yield run(results, machine, what, arguments)
        except GuestError as error:
            print(f"make kernels: {error}", file=sys.stderr, flush=True)
            yield 1


def not_run(why: str, what: str) -> int:
    """Say why no guest runs; a smoke test is skipped then, anything else fails."""
    if what == "smoke":
        print(f"make kernels-smoke: skipped: {why}", flush=True)
        return 0
    print(f"make kernels: {why}", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make kernels", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernels", default="", help="versions, suites or `host`; else Debian's")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="see above")
    options = parser.parse_args()
    what, *arguments = options.words or ["chosen"]
    if what not in ("chosen", "all", "chaos", "smoke", "features", "page"):
        what, arguments = "pytest", options.words
    wanted = shlex.split(options.kernels.replace(",", " "))
    lacks = lacking()
    if lacks:
        return not_run(f"this machine lacks {'; '.join(lacks)}", what)
    with alone():
        try:
            failed = 0
            if what != "page":
                debian = [word for word in wanted if word != "host"]
                failed = max(run_all(debian, "host" in wanted, what, arguments))
            if what not in ("smoke", "pytest"):
                write_page(columns())
        except (ArchiveError, InitrdError) as error:
            return not_run(str(error), what)
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
