"""When the kernel does what a program asked for, by tracefs; and which system calls it made.

Invariant: a probe takes no time of the program's that the same program without a change would not
take too, so that it cancels out in a ratio.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.lab import LabError

TRACING = Path("/sys/kernel/tracing")
FUNCTIONS = {
    "endpoint": ("r", "mptcp_pm_nl_add_addr_doit", "mptcp_nl_cmd_add_addr"),
    "deletion": ("p", "mptcp_pm_nl_del_addr_doit", "mptcp_nl_cmd_del_addr"),
    "closed": ("r", "mptcp_close_ssk"),
    "route": ("r", "fib_table_insert"),
}
"""Probe → "p" for the call of a kernel function or "r" for its return, and the function's names,
the newest first."""

LINE = re.compile(r"^\s*.+-(?P<thread>\d+)\s+\[\d+\].*?\s(?P<time>\d+\.\d+): (?P<name>\w+)\b")


class Hit(NamedTuple):
    """A probe, and when a thread came by it."""

    name: str
    time: float
    """On the clock of time.monotonic(), to a microsecond."""

    thread: int


def prepare() -> None:
    """Set the probes.  LabError where this kernel lacks them."""
    if not (TRACING / "trace").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=True)
    (TRACING / "trace_clock").write_text("mono")
    with open("/proc/kallsyms", encoding="ascii") as file:
        symbols = {line.split()[2] for line in file}
    probes = []
    for name, (kind, *functions) in FUNCTIONS.items():
        function = next((function for function in functions if function in symbols), None)
        if function is None:
            raise LabError(f"this kernel has none of the functions {', '.join(functions)}")
        probes.append(f"{kind}:{name} {function}\n")
    enable = TRACING / "events/kprobes/enable"
    if enable.exists():
        enable.write_text("0")
    (TRACING / "kprobe_events").write_text("".join(probes))
    enable.write_text("1")


def clear() -> None:
    """Forget what was recorded."""
    (TRACING / "trace").write_text("")


def hits(process: int) -> list[Hit]:
    """What this process did since clear(), in order."""
    threads = {int(name) for name in os.listdir(f"/proc/{process}/task")}
    return [hit for hit in _recorded() if hit.thread in threads]


def of_others() -> list[Hit]:
    """What programs other than this one did since clear(), in order, also those that have ended."""
    own = {int(name) for name in os.listdir("/proc/self/task")}
    return [hit for hit in _recorded() if hit.thread not in own]


def first(found: Iterable[Hit], name: str, since: float) -> float:
    """Seconds from `since` to the first of these hits; LabError if there is none."""
    for hit in found:
        if hit.name == name and hit.time >= since:
            return hit.time - since
    raise LabError(f"the program never came to {FUNCTIONS[name][1]}()")


def _recorded() -> Iterator[Hit]:
    for line in (TRACING / "trace").read_text().splitlines():
        match = LINE.match(line)
        if match and not line.startswith("#"):
            yield Hit(match["name"], float(match["time"]), int(match["thread"]))


@contextmanager
def system_calls(threads: Collection[str]) -> Iterator[None]:
    """Record the system calls of these threads; calls() counts them."""
    (TRACING / "set_event_pid").write_text(" ".join(threads))
    enable = sorted((TRACING / "events/syscalls").glob("sys_enter_*/enable"))
    try:
        for file in enable:
            file.write_text("1")
        clear()
        yield
    finally:
        for file in enable:
            file.write_text("0")
        (TRACING / "set_event_pid").write_text("")


def calls(found: Iterable[Hit]) -> Counter[str]:
    """How many of each system call there are."""
    return Counter(hit.name.removeprefix("sys_") for hit in found if hit.name.startswith("sys_"))
