"""Real traffic: how long a connection stalls, when a restored path carries data again, and
how often an idle daemon wakes up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import change
from bench.figure import Figure
from bench.site import Site, configuration, until
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, Daemon, Echo, Iperf, Wan, address, device_bytes, eventually, subflows

STALLS, BACKS, WARM = 10, 10, 1
MINUTE = 60.0


def world(scope: ExitStack) -> Wan:
    return scope.enter_context(Wan(ipv6=False, lan=False)).usual()


def plug(scope: ExitStack, wan: Wan, n: int) -> Callable[[bool], None]:
    """A function that plugs (True) and unplugs an uplink, on a socket that is already open."""
    with wan.routers[n].enter():
        socket, access = Requests(0), change.devices()["access"]
    scope.callback(socket.close)
    return lambda up: socket.change([change.link(access, up)]) and None


class EchoRun:
    """An echo every 20 ms over two paths."""

    def __init__(self, scope: ExitStack, wan: Wan) -> None:
        self.wan = wan
        self.echo = scope.enter_context(Echo(wan.gateway, wan.server, SERVER))
        self.plugs = {n: plug(scope, wan, n) for n in wan.uplinks}

    def both(self) -> bool:
        """Whether both paths have a subflow."""
        existing = subflows(self.wan.gateway, self.echo.port)
        return {subflow.local for subflow in existing} == {address(n) for n in self.wan.uplinks}

    def in_use(self) -> int:
        """The number of the uplink that carries the echo."""
        before = device_bytes(self.wan.gateway)
        time.sleep(0.2)
        after = device_bytes(self.wan.gateway)
        sent = {n: after[f"eth{n}"].sent - before[f"eth{n}"].sent for n in self.wan.uplinks}
        return max(sent, key=lambda n: sent[n])

    def stall(self) -> float:
        """Unplug the active path; the longest round trip of a message then, in seconds."""
        eventually(self.both, what="a subflow on both paths")
        active = self.in_use()
        self.echo.report()
        time.sleep(random.uniform(0, 0.02))  # at any moment between two messages
        self.plugs[active](False)
        time.sleep(0.6)
        report = self.echo.report()
        if report.error or not report.mptcp:
            raise AssertionError(f"the connection did not survive: {report}")
        self.plugs[active](True)
        time.sleep(0.3)
        return report.delay


def stall(log: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        managed, static = world(scope), world(scope)
        scope.enter_context(Daemon(managed.gateway, *configuration(["master", "on"])))
        static.by_hand()
        echoes = [EchoRun(scope, managed), EchoRun(scope, static)]
        log(f"stall: {STALLS} runs of 2")
        times: list[list[float]] = [[], []]
        for turn in range(WARM + STALLS):
            for index, echo in enumerate(echoes):
                took = echo.stall()
                if turn >= WARM:
                    times[index].append(took)
    yield Figure(
        "stall",
        "echo every 20 ms over MPTCP, active path loses its carrier: longest stall",
        times[0],
        "ms",
        "static endpoints",
        times[1],
        0.1,
        0.03,
        "the longest round trip of a message",
    )


def back(log: Callable[[str], None]) -> Iterable[Figure]:
    """A bulk transfer while eth1 is unplugged and plugged in again."""
    with ExitStack() as scope:
        wan = world(scope)
        scope.enter_context(Daemon(wan.gateway, *configuration(["master", "on"])))
        socket = plug(scope, wan, 1)
        seconds = (WARM + BACKS) * 1.2 + 4
        Iperf(wan.gateway, wan.server, SERVER, seconds)
        log(f"back: {BACKS} runs")
        times = []
        eventually(lambda: len(subflows(wan.gateway)) >= 4, what="two subflows of iperf3")
        for turn in range(WARM + BACKS):
            socket(False)
            time.sleep(0.6)
            idle = device_bytes(wan.gateway)["eth1"].sent
            began = time.perf_counter()
            socket(True)
            # A handshake and ARP are a few hundred bytes; five segments are data.
            took = until(
                lambda idle=idle: device_bytes(wan.gateway)["eth1"].sent > idle + 7500,  # type: ignore[misc]
                began,
                "data on eth1",
            )
            if turn >= WARM:
                times.append(took)
            time.sleep(0.4)
    yield Figure(
        "back",
        "carrier restored → the path carries data again",
        times,
        "ms",
        limit=100,
        goal=30,
        note="until five full segments of a bulk transfer were sent on it; two 20 Mbit/s paths",
    )


def wakes(pid: int) -> int:
    """Voluntary context switches of all threads of a process."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


COST = """\
config uplink 'wan1'
\toption download '20000'
\toption upload '20000'

config uplink 'wan2'
\toption overflow '80'
\toption quota '20G'
"""
"""Overflow and a quota, for wan2 as a backup."""
SAMPLED_SECONDS, SAMPLED_RUNS = 5.0, 6
STATUSES = 30


class Quiet:
    """A daemon in a network without events, while the other measurements run elsewhere; and one
    with overflow and a quota."""

    def __init__(self, scope: ExitStack) -> None:
        self._pids = [self._start(scope, "", "on"), self._start(scope, COST, "backup")]
        self._before, self._since = list(map(wakes, self._pids)), time.monotonic()

    @staticmethod
    def _start(scope: ExitStack, own: str, mode: str) -> int:
        site = scope.enter_context(Site(2))
        site.do(*(site.address(True, n) for n in (1, 2)))
        site.do(*(site.default_route(True, n) for n in (1, 2)))
        network, gateways = configuration(["master", mode], gateways=not own)
        daemon = scope.enter_context(Daemon(site.gateway, network, own or gateways))
        assert daemon.process
        site.settle(lambda: len(site.endpoints()) == 2, "both endpoints", rest=2)
        return daemon.process.pid

    def figures(self) -> Iterable[Figure]:
        """Wake-ups per minute since the start; waits for the minute to pass."""
        time.sleep(max(0.0, self._since + MINUTE - time.monotonic()))
        seconds = time.monotonic() - self._since
        what = ("", ", with overflow and a quota")
        for pid, before, text in zip(self._pids, self._before, what, strict=True):
            count = wakes(pid) - before
            yield Figure(
                "quiet",
                f"wake-ups per minute without events{text}",
                [count * MINUTE / seconds],
                "",
                limit=5,
                goal=1,
                note=f"{count} in {seconds:.0f} s",
            )


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process."""
    times = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(line.read_text().split()[0]) for line in times) / 1e9


def sampling(log: Callable[[str], None]) -> Iterable[Figure]:
    """An idle MPTCP connection, for which rates are sampled twice a second."""
    with ExitStack() as scope:
        wan = world(scope)
        network, _ = configuration(["master", "backup"])
        daemon = scope.enter_context(Daemon(wan.gateway, network, COST))
        scope.enter_context(Echo(wan.gateway, wan.server, SERVER, every=1.0))
        eventually(lambda: daemon.uplink("wan2")["overflow"]["measuring"])
        assert daemon.process
        log(f"sampling: {SAMPLED_RUNS} runs")
        times = []
        for _ in range(SAMPLED_RUNS):
            before = cpu_seconds(daemon.process.pid)
            time.sleep(SAMPLED_SECONDS)
            times.append((cpu_seconds(daemon.process.pid) - before) / SAMPLED_SECONDS)
    yield Figure(
        "sampling",
        "rates sampled for overflow: CPU time of a second",
        times,
        "ms",
        limit=5,
        goal=1,
        note="two samples a second, while there are MPTCP connections",
    )


def watched(log: Callable[[str], None]) -> Iterable[Figure]:
    """`mproutd top` asks for the status once a second."""
    with ExitStack() as scope:
        wan = world(scope)
        daemon = scope.enter_context(Daemon(wan.gateway, *configuration(["master", "on"])))
        scope.enter_context(Echo(wan.gateway, wan.server, SERVER, every=1.0))
        daemon.settle(30)
        assert daemon.process
        log(f"watched: {STATUSES} replies")
        times = []
        for turn in range(WARM + STATUSES):
            time.sleep(0.1)
            before = cpu_seconds(daemon.process.pid)
            daemon.query_status()
            time.sleep(0.02)
            if turn >= WARM:
                times.append(cpu_seconds(daemon.process.pid) - before)
    yield Figure(
        "watched",
        "mproutd top is open: CPU time of the daemon in a second",
        times,
        "ms",
        limit=20,
        goal=5,
        note="one status a second, two uplinks",
    )
