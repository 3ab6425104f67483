"""Where the time of a pass goes: `make bench ARGS=where`.

The daemon's own steps for one event, done in this process with a clock around each.  Time
spent in a step counts for the innermost one that is named here.  Process switches are not
in it: compare the sum with the figure `up`.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.passes import build, fresh
from mproutd import daemon as loop
from mproutd import log, monitor, passes
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.netlink.path_manager import PathManager
from mproutd.netlink.sockets import Requests
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile

RUNS, WARM = 60, 5

STEPS: list[tuple[Any, str, str]] = [
    (Reconciler, "reconcile", "the pass' own bookkeeping"),
    (NetlinkKernel, "snapshot", "snapshot: decode and keep"),
    (PathManager, "read", "snapshot: endpoints and limits"),
    (passes, "make_plan", "plan"),
    (passes.diff, "routing", "difference: routes and rules"),
    (passes.diff, "endpoints", "difference: endpoints"),
    (StateFile, "save", "state file"),
    (NetlinkKernel, "apply", "writes: encode"),
    (passes, "misrouted_addresses", "verify routing by lookup"),
    (NetlinkKernel, "flush_unreachable_neighbours", "neighbour of the gateway"),
    (Reconciler, "_note", "remember what was done"),
    (Requests, "_dump", "netlink: dumps, with framing"),
    (Requests, "_ask", "netlink: questions, with framing"),
    (Requests, "change", "netlink: changes, with framing"),
    (monitor, "decisions", "log: what was decided"),
]


class Clock:
    """Adds up the time of each step, without that of the steps inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner: list[float] = []

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, with a clock around it."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                took = time.perf_counter() - began
                self.spent[name] += took - self._inner.pop()
                self.calls[name] += 1
                if self._inner:
                    self._inner[-1] += took

        return timed

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """What was added up since the last take."""
        taken = dict(self.spent), dict(self.calls)
        self.spent.clear()
        self.calls.clear()
        return taken


def where(say: Callable[[str], None]) -> None:
    """Print the table for an address that arrives, two uplinks."""
    clock = Clock()
    log.level = log.ERROR
    with ExitStack() as scope:
        for owner, name, text in STEPS:
            original = getattr(owner, name)
            setattr(owner, name, clock.around(original, text))
            scope.callback(setattr, owner, name, original)
        site, directory = build(scope, 2)
        scope.enter_context(site.gateway.enter())
        reconciler = fresh(directory)
        reconciler.converge()
        made = loop.Daemon(reconciler, directory)
        read = clock.around(made._kernel_events, "events: read, sort out")
        say(f"where: {RUNS} times")
        samples: dict[str, list[float]] = defaultdict(list)
        counts: dict[str, int] = {}
        for turn in range(WARM + RUNS):
            for add in (False, True):
                time.sleep(0.02)
                made._events.read()
                clock.take()
                began = time.perf_counter()
                site.do(site.address(add, 2))
                changed = time.perf_counter()
                clock.take()
                read()
                made._pass()
                spent, calls = clock.take()
                spent["(the change itself, in the kernel)"] = changed - began
                if add and turn >= WARM:
                    counts = calls
                    for name, value in spent.items():
                        samples[name].append(value)
                while made._deleter and made._deleter.busy:
                    made._closed()
                    made._pass()
    medians = {name: statistics.median(values) * 1e6 for name, values in samples.items()}
    print(f"\n{'step':<36}{'µs':>7}{'calls':>7}")
    for name, value in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"{name:<36}{value:7.0f}{counts.get(name, 1):7}")
    total = sum(value for name, value in medians.items() if not name.startswith("("))
    print(f"{'the daemon in all':<36}{total:7.0f}")
