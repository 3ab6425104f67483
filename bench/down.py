"""An uplink loses its carrier: until its subflow is closed and other traffic is rerouted.

The clock starts just before the far end goes down.  The endpoint counts as deleted when the
kernel reports that the subflow of an open connection was closed.  Listing the endpoints
would block on a global lock until the deletion's RCU grace period ends; connections do not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench import change
from bench.figure import Figure
from bench.site import configuration, start, until
from bench.turns import losses
from mproutd.netlink import mptcp_pm, rtnl_decode, rtnl_encode
from mproutd.netlink.path_manager import PathManager
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, Daemon, Echo, Wan, address, eventually, subflows

RUNS, WARM = 16, 2
TABLE = 7000
"""Holds the default route for other traffic."""

DOWN = """\
#!/bin/sh
ip route replace default via 10.2.2.1 dev eth2 src 10.2.2.2 table 7000 protocol 77
ip mptcp endpoint delete id 1
ip rule delete fwmark 0x1000000/0x7f000000 lookup 7001 priority 7101 protocol 77
"""
"""The classic if-post-down script: what mproutd does, in the order that is best for a script."""

UP = """\
#!/bin/sh
ip rule add fwmark 0x1000000/0x7f000000 lookup 7001 priority 7101 protocol 77
ip mptcp endpoint add 10.1.1.2 id 1 dev eth1 subflow
ip route replace default via 10.1.1.1 dev eth1 src 10.1.1.2 table 7000 protocol 77
"""


class Contender:
    """Two uplinks to a server, an open connection, and mproutd."""

    def __init__(self, scope: ExitStack) -> None:
        self.wan = scope.enter_context(Wan(ipv6=False, shaped=False, lan=False)).usual()
        self.gateway = self.wan.gateway
        self.manage(scope, Daemon(self.gateway, *configuration(["master", "on"])))
        self.echo = scope.enter_context(Echo(self.gateway, self.wan.server, SERVER))
        with self.gateway.enter():
            manager = PathManager()
            self.events = manager.events()
            manager.close()
            self.route = Requests(0)
            self.eth2 = change.devices()["eth2"]
        with self.wan.routers[1].enter():
            self.far, self.access = Requests(0), change.devices()["access"]
        scope.callback(self.route.close)
        scope.callback(self.far.close)
        scope.callback(self.events.close)

    def manage(self, scope: ExitStack, daemon: Daemon) -> None:
        scope.enter_context(daemon)

    def both(self) -> bool:
        """Whether both paths have a subflow."""
        return {subflow.local for subflow in subflows(self.gateway, self.echo.port)} == {
            address(1),
            address(2),
        }

    def moved(self) -> bool:
        """Whether other traffic leaves via eth2."""
        bodies = self.route.dump(lambda n: rtnl_encode.dump_routes(n, TABLE))
        return any(
            route.device == self.eth2 for body in bodies for route in rtnl_decode.routes(body)
        )

    def closed(self) -> bool:
        """Whether a subflow from eth1's address was closed since the last call."""
        events = [mptcp_pm.event(message.body) for message in self.events.read() or ()]
        return any(event.kind == "sub-closed" and event.source == address(1) for event in events)

    def lose(self) -> float:
        """Seconds from the loss until the subflow is closed and the default route moved."""
        eventually(self.both, what="a subflow on both paths")
        time.sleep(0.05)
        self.events.read()
        closed = moved = False

        def done() -> bool:
            nonlocal closed, moved
            closed, moved = closed or self.closed(), moved or self.moved()
            return closed and moved

        began = time.perf_counter()
        self.far.change([change.link(self.access, False)])
        self.react()
        return until(done, began, "subflow closed and default route moved")

    def react(self) -> None:
        """Start what does not see the event itself."""

    def restore(self) -> None:
        time.sleep(0.05)
        self.far.change([change.link(self.access, True)])


class Script(Contender):
    """The same initial state; then only the script, started when the carrier is lost."""

    def manage(self, scope: ExitStack, daemon: Daemon) -> None:
        daemon.reconcile()
        self.paths = {}
        for name, text in (("down", DOWN), ("up", UP)):
            path = self.gateway.path(f"/run/{name}")
            Path(path).write_text(text)
            self.paths[name] = str(path)

    def lose(self) -> float:
        with self.gateway.enter():
            took = super().lose()
            os.waitpid(self.pid, 0)
        return took

    def react(self) -> None:
        self.pid = start("sh", self.paths["down"])

    def restore(self) -> None:
        super().restore()
        time.sleep(0.01)
        with self.gateway.enter():
            os.waitpid(start("sh", self.paths["up"]), 0)


def down(log: Callable[[str], None]) -> Iterable[Figure]:
    """mproutd and the script, in turns."""
    with ExitStack() as scope:
        contenders = [Contender(scope), Script(scope)]
        times = losses("down", contenders, RUNS, WARM, log)
    yield Figure(
        "down",
        "carrier lost → subflow closed and other traffic rerouted",
        times[0],
        "ms",
        "if-post-down script",
        times[1],
        0.3,
        0.1,
        "until the kernel reports the subflow as closed; it acknowledges the deletion of the "
        "endpoint an RCU grace period (6 to 18 ms) later",
    )
