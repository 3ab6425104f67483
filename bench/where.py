"""Where the time of a pass goes: `make bench ARGS=where`.

Runs the daemon's steps for one event in this process and times each.  Time counts for the
innermost step listed here.  Context switches are not included: compare the total with the
measurement `up`.
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
from mproutd.passes import Pass
from mproutd.planning import decision, diff, plan
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile

RUNS, WARM = 60, 5

STEPS: list[tuple[Any, str, str]] = [
    (Reconciler, "reconcile", "reconciler: bookkeeping"),
    (NetlinkKernel, "snapshot", "snapshot: decode and cache"),
    (PathManager, "read", "snapshot: endpoints and limits"),
    (Reconciler, "_current_facts", "reconciler: facts"),
    (passes, "snapshot_request", "pass: what to read"),
    (passes, "decide", "plan: found, or compared"),
    (decision, "make_plan", "plan: the rest"),
    (plan, "observe", "plan: which paths are usable"),
    (plan, "shared_subnets", "plan: shared subnets"),
    (plan, "plan_routing", "plan: routes and rules"),
    (plan, "plan_endpoints", "plan: endpoints"),
    (plan, "plan_limits", "plan: limits"),
    (plan, "plan_sysctls", "plan: sysctls"),
    (plan, "next_state", "plan: state"),
    (diff, "routing", "diff: routes and rules"),
    (diff, "endpoints", "diff: endpoints"),
    (StateFile, "save", "state file"),
    (Pass, "_permitted", "pass: rate limits"),
    (NetlinkKernel, "apply", "writes: encode"),
    (passes, "misrouted_addresses", "verify routing"),
    (NetlinkKernel, "flush_unreachable_neighbours", "neighbour of the gateway"),
    (Reconciler, "_record", "reconciler: record the outcome"),
    (Requests, "_dump", "netlink: dumps, with framing"),
    (Requests, "_query", "netlink: lookups, with framing"),
    (Requests, "change", "netlink: changes, with framing"),
    (monitor, "decisions", "log: decisions"),
]


class Clock:
    """Adds up the time of each step, excluding the steps inside it."""

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
        """(seconds, calls) of each step since the last call."""
        taken = dict(self.spent), dict(self.calls)
        self.spent.clear()
        self.calls.clear()
        return taken


def where(log_progress: Callable[[str], None], uplinks: int = 2) -> None:
    """Print the profile of a pass after an address was added."""
    clock = Clock()
    log.level = log.ERROR
    with ExitStack() as scope:
        for owner, name, text in STEPS:
            original = getattr(owner, name)
            setattr(owner, name, clock.around(original, text))
            scope.callback(setattr, owner, name, original)
        site, directory = build(scope, uplinks)
        scope.enter_context(site.gateway.enter())
        reconciler = fresh(directory)
        reconciler.converge()
        made = loop.Daemon(reconciler, directory)
        read = clock.around(made._on_kernel_events, "events: read and filter")
        log_progress(f"where: {RUNS} runs")
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
                    made._on_endpoints_deleted()
                    made._pass()
    medians = {name: statistics.median(values) * 1e6 for name, values in samples.items()}
    print(f"\n{'step':<36}{'µs':>7}{'calls':>7}")
    for name, value in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"{name:<36}{value:7.0f}{counts.get(name, 1):7}")
    total = sum(value for name, value in medians.items() if not name.startswith("("))
    print(f"{'total in the daemon':<36}{total:7.0f}")
