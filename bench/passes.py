"""Passes in this process: from an empty kernel with many uplinks, and without changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import change
from bench.figure import Figure
from bench.site import Site, configuration, run
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.netlink.nlmsg import Message
from mproutd.netlink.rtnl_decode import IFF_UP, IFINFO, RTM_NEWLINK
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile
from mproutd.status.changes import changes
from tests.lab import LabError
from tests.lab.daemon import REPOSITORY

COLD_RUNS, IDLE_RUNS, WARM = 12, 60, 2
UPLINKS = 64


def build(scope: ExitStack, uplinks: int) -> tuple[Site, str]:
    """Dual-stack uplinks, and a directory with configuration and state."""
    site = scope.enter_context(Site(uplinks))
    numbers = range(1, uplinks + 1)
    site.do(*(site.address(True, n) for n in numbers))
    index = site.devices
    site.do(*(change.address(True, index[f"eth{n}"], f"2001:db8:{n}::2", 64) for n in numbers))
    path = site.gateway.path("/run/bench")  # a tmpfs, as on every system
    path.mkdir()
    directory = str(path)
    modes = ["master"] + ["on"] * (uplinks - 1)
    network, own = configuration(modes, ipv6=True)
    (Path(directory) / "network").write_text(network)
    (Path(directory) / "mproutd").write_text(own)
    return site, directory


def fresh(directory: str) -> Reconciler:
    """The reconciler of a new process, its sockets in the calling thread's namespace."""
    state = StateFile(directory)
    state.load()
    reconciler = Reconciler(NetlinkKernel(), state, directory)
    reconciler.configure()
    return reconciler


def emptied(site: Site, directory: str) -> None:
    """Remove what mproutd or the batch added, and reset the limits to the kernel's defaults."""
    reconciler = fresh(directory)
    reconciler.flush()
    reconciler.kernel.close()
    site.gateway.ip("mptcp endpoint flush", "mptcp limits set subflows 2 add_addr_accepted 0")
    time.sleep(0.02)


def cold(log: Callable[[str], None]) -> Iterable[Figure]:
    """converge() without state, and the commands it reports, given to `ip -batch`."""
    with ExitStack() as scope:
        site, directory = build(scope, UPLINKS)
        scope.enter_context(site.gateway.enter())
        log(f"cold: {UPLINKS} uplinks, {COLD_RUNS} runs of 3")
        ours: list[float] = []
        theirs: list[float] = []
        process: list[float] = []
        passes: list[float] = []
        batches: dict[str, str] = {}
        operations = 0
        for turn in range(WARM + COLD_RUNS):
            emptied(site, directory)
            reconciler = fresh(directory)
            began = time.perf_counter()
            outcomes = reconciler.converge()
            took = time.perf_counter() - began
            changed = changes(outcomes)
            if turn == 0:
                operations = len(changed)
                batches = written(directory, [change["command"] for change in changed])
                state = site.gateway.state()
            began = time.perf_counter()
            reconciler.reconcile(full=False)
            again = time.perf_counter() - began
            reconciler.kernel.close()
            emptied(site, directory)
            batch = sum(run("ip", f"-{family}", "-batch", path) for family, path in batches.items())
            if turn == 0 and state != site.gateway.state():
                raise LabError("the batch leads to another kernel state")
            emptied(site, directory)
            alone = run(
                sys.executable, "-m", "mproutd", "reconcile", "--config-dir", directory,
                "--runtime-dir", directory, environment={"PYTHONPATH": str(REPOSITORY)},
            )  # fmt: skip
            if turn >= WARM:
                ours.append(took)
                theirs.append(batch)
                process.append(alone)
                passes.append(again)
    middle = sorted(process)[len(process) // 2] * 1000
    idle = sorted(passes)[len(passes) // 2] * 1000
    yield Figure(
        "cold",
        f"{UPLINKS} dual-stack uplinks from an empty kernel",
        ours,
        "ms",
        "ip -batch, same operations",
        theirs,
        3,
        1.5,
        f"all passes until converged, in this process, {operations} operations; "
        f"`mproutd reconcile` as a process: {middle:.0f} ms; "
        f"a pass without changes: {idle:.1f} ms",
    )


def written(directory: str, commands: list[str]) -> dict[str, str]:
    """One batch file for each family, since -6 is not allowed inside a batch."""
    texts: dict[str, list[str]] = {"4": [], "6": []}
    for text in commands:
        words = text.split()
        if words[0] != "ip":
            raise LabError(f"not an ip command: {text}")
        family = "6" if words[1] == "-6" else "4"
        texts[family].append(" ".join(word for word in words[1:] if word != "-6"))
    paths = {}
    for family, lines in texts.items():
        path = Path(directory) / f"batch-{family}"
        path.write_text("\n".join(lines) + "\n")
        paths[family] = str(path)
    return paths


def idle(log: Callable[[str], None]) -> Iterable[Figure]:
    """A pass after an event that requires no change, compared with one `ip rule show`."""
    with ExitStack() as scope:
        site, directory = build(scope, 8)
        scope.enter_context(site.gateway.enter())
        log(f"idle: {IDLE_RUNS} runs of 2")
        reconciler = fresh(directory)
        reconciler.converge()
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(WARM + IDLE_RUNS):
            time.sleep(0.005)
            began = time.perf_counter()
            outcome = reconciler.reconcile(full=False)
            took = time.perf_counter() - began
            if outcome.done or outcome.failures:
                raise LabError(f"the pass made changes: {outcome.done}")
            other = run("ip", "rule", "show")
            if turn >= WARM:
                ours.append(took)
                theirs.append(other)
        reconciler.kernel.close()
    yield Figure(
        "idle",
        "pass without changes, 8 dual-stack uplinks",
        ours,
        "ms",
        "ip rule show",
        theirs,
        3,
        1,
    )


def groups(log: Callable[[str], None]) -> Iterable[Figure]:
    """Uplinks that share other traffic, and without."""
    weight = "\toption weight '3'\n"
    yield _beside(log, "groups", "that share by weight", "weights", lambda n: weight)


def resolvers(log: Callable[[str], None]) -> Iterable[Figure]:
    """Uplinks whose providers have two resolvers each, and without."""
    yield _beside(
        log,
        "resolvers",
        "with two resolvers each",
        "resolvers",
        lambda n: f"\tlist dns '192.0.2.{n}'\n\tlist dns '2001:db8:53::{n}'\n",
    )


def prefixes(log: Callable[[str], None]) -> Iterable[Figure]:
    """Uplinks with a delegated prefix and nat6 each, and without."""
    yield _beside(
        log,
        "prefixes",
        "with a delegated prefix and nat6 each",
        "prefixes",
        lambda n: f"\tlist prefix '2001:db8:{n}00::/56'\n\toption nat6 'prefix'\n",
    )


def _beside(
    log: Callable[[str], None], name: str, what: str, lacking: str, options: Callable[[int], str]
) -> Figure:
    """A pass after a link event that requires no change, with the options of uplink n and not."""
    with ExitStack() as scope:
        site, directory = build(scope, 8)
        scope.enter_context(site.gateway.enter())
        log(f"{name}: {IDLE_RUNS} runs of 2")
        file = Path(directory) / "mproutd"
        plain = file.read_text()
        more = plain
        for n in range(1, 9):
            head = f"config uplink 'wan{n}'\n"
            more = more.replace(head, head + options(n))
        reconciler = fresh(directory)
        samples: dict[str, list[float]] = {plain: [], more: []}
        for turn in range(WARM + IDLE_RUNS):
            for own, found in samples.items():
                file.write_text(own)
                reconciler.configure()
                reconciler.converge()
                for _ in range(WARM + 1):
                    time.sleep(0.005)
                    took = after_link_event(reconciler, site.devices["eth1"])
                if turn >= WARM:
                    found.append(took)
        reconciler.kernel.close()
    return Figure(
        name,
        f"pass after a link event, 8 dual-stack uplinks {what}",
        samples[more],
        "ms",
        f"the same without {lacking}",
        samples[plain],
        1.5,
        1.25,
    )


def after_link_event(reconciler: Reconciler, index: int) -> float:
    """Seconds of a pass that reads what may have changed with a link, and changes nothing."""
    event = Message(RTM_NEWLINK, 0, 0, 0, IFINFO.pack(0, 0, index, IFF_UP, 0))
    reconciler.kernel.on_events([event])
    began = time.perf_counter()
    outcome = reconciler.reconcile(full=False)
    took = time.perf_counter() - began
    if outcome.done or outcome.failures:
        raise LabError(f"the pass made changes: {outcome.done}")
    return took
