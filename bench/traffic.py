"""Real traffic: how long a connection stands still, when a path is used again; and a daemon
that has nothing to do meanwhile.
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
    """A function that plugs (True) and unplugs an uplink, by a socket that is open already."""
    with wan.routers[n].enter():
        socket, access = Requests(0), change.devices()["access"]
    scope.callback(socket.close)
    return lambda up: socket.change([change.link(access, up)]) and None


class Talk:
    """An echo every 20 ms over two paths."""

    def __init__(self, scope: ExitStack, wan: Wan) -> None:
        self.wan = wan
        self.echo = scope.enter_context(Echo(wan.gateway, wan.server, SERVER))
        self.plugs = {n: plug(scope, wan, n) for n in wan.uplinks}

    def both(self) -> bool:
        found = subflows(self.wan.gateway, self.echo.port)
        return {each.local for each in found} == {address(n) for n in self.wan.uplinks}

    def in_use(self) -> int:
        """The uplink that carries the echo now."""
        before = device_bytes(self.wan.gateway)
        time.sleep(0.2)
        after = device_bytes(self.wan.gateway)
        sent = {n: after[f"eth{n}"].sent - before[f"eth{n}"].sent for n in self.wan.uplinks}
        return max(sent, key=lambda n: sent[n])

    def stall(self) -> float:
        """Unplug what is in use: the longest time that a message then took, in seconds."""
        eventually(self.both, what="a subflow on both paths")
        using = self.in_use()
        self.echo.report()
        time.sleep(random.uniform(0, 0.02))  # at any moment between two messages
        self.plugs[using](False)
        time.sleep(0.6)
        report = self.echo.report()
        if report.error or not report.mptcp:
            raise AssertionError(f"the connection did not survive: {report}")
        self.plugs[using](True)
        time.sleep(0.3)
        return report.delay


def stall(say: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        kept, static = world(scope), world(scope)
        scope.enter_context(Daemon(kept.gateway, *configuration(["master", "on"])))
        static.by_hand()
        talks = [Talk(scope, kept), Talk(scope, static)]
        say(f"stall: {STALLS} times 2")
        times: list[list[float]] = [[], []]
        for turn in range(WARM + STALLS):
            for place, talk in enumerate(talks):
                took = talk.stall()
                if turn >= WARM:
                    times[place].append(took)
    yield Figure(
        "stall",
        "echo every 20 ms over MPTCP, the path in use loses carrier: longest stall",
        times[0],
        "ms",
        "static endpoints",
        times[1],
        0.1,
        0.03,
        "the longest time from a message's sending to its return",
    )


def back(say: Callable[[str], None]) -> Iterable[Figure]:
    """A bulk transfer; eth1 is unplugged, and plugged in again."""
    with ExitStack() as scope:
        wan = world(scope)
        scope.enter_context(Daemon(wan.gateway, *configuration(["master", "on"])))
        socket = plug(scope, wan, 1)
        seconds = (WARM + BACKS) * 1.2 + 4
        Iperf(wan.gateway, wan.server, SERVER, seconds)
        say(f"back: {BACKS} times")
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
                "data by eth1",
            )
            if turn >= WARM:
                times.append(took)
            time.sleep(0.4)
    yield Figure(
        "back",
        "path back (carrier) → its subflow carries data again",
        times,
        "ms",
        most=100,
        aim=30,
        note="until five full segments have left by it, in a bulk transfer; two 20 Mbit/s paths",
    )


def wakes(pid: int) -> int:
    """How often the process went to sleep of its own will, all its threads."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


class Quiet:
    """A daemon whose own network is quiet, while other figures are measured elsewhere."""

    def __init__(self, scope: ExitStack) -> None:
        site = scope.enter_context(Site(2))
        site.do(*(site.address(True, n) for n in (1, 2)))
        site.do(*(site.default_route(True, n) for n in (1, 2)))
        daemon = scope.enter_context(site.daemon(["master", "on"]))
        assert daemon.process
        self.pid = daemon.process.pid
        site.settle(lambda: len(site.endpoints()) == 2, "both endpoints", rest=2)
        self.before, self.since = wakes(self.pid), time.monotonic()

    def figure(self) -> Figure:
        """Wake-ups a minute since then; waits until it is one minute."""
        time.sleep(max(0.0, self.since + MINUTE - time.monotonic()))
        count, seconds = wakes(self.pid) - self.before, time.monotonic() - self.since
        note = f"{count} in {seconds:.0f} s, while the other figures were measured"
        rate = count * MINUTE / seconds
        return Figure("quiet", "wake-ups in a quiet minute", [rate], "", most=5, aim=1, note=note)
