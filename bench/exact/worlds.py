"""Networks with the mproutd of a revision, and what happens to them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from bench import change
from bench.exact import probes
from bench.site import Site, configuration, until
from mproutd.netlink.mptcp_info import IPPROTO_MPTCP
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, Daemon, LabError, Namespace, Wan, address, subflows

REST = 0.3
"""Seconds after an event in which everything happens that it causes."""
PYTHON = "/usr/bin/python3"
"""As the package for Debian uses it, without the paths of a virtual environment."""
PORT = 7777


class Result(NamedTuple):
    """One event's cost, in seconds and counts."""

    reactions: dict[str, float]
    """Probe → seconds from the event to it."""

    processor: float
    """Of the daemon, for everything that the event caused."""

    calls: dict[str, int]
    """System call → how often; only where they were recorded."""


def environment(tree: str) -> dict[str, str]:
    """In which a program of a revision runs: with the same order of its sets every time, and
    without the package in the current directory."""
    variables = {"PYTHONPATH": tree, "PYTHONHASHSEED": "0"}
    return {**variables, "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}


class Revision(Daemon):
    """The mproutd of a revision, whose package is in `tree`."""

    def __init__(self, tree: str, node: Namespace, network: str, own: str) -> None:
        self.tree = tree
        super().__init__(node, network, own)

    def command(self, verb: str, *arguments: str) -> list[str]:
        words = super().command(verb, *arguments)
        start = words.index("-m")
        variables = [f"{name}={value}" for name, value in environment(self.tree).items()]
        return ["env", *variables, PYTHON, *words[start:]]

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def spent(self) -> float:
        """Processor time of all of its threads so far, in seconds."""
        return time.clock_gettime(~self.pid << 3 | 2)


def observe(
    daemon: Revision, event: Callable[[], object], awaited: Sequence[str], count_calls: bool
) -> Result:
    """Let `event` happen; what the daemon does about it, and when."""
    time.sleep(REST)
    threads = os.listdir(f"/proc/{daemon.pid}/task")
    with ExitStack() as scope:
        if count_calls:
            scope.enter_context(probes.system_calls(threads))
        before = daemon.spent()
        probes.clear()
        began = time.monotonic()
        event()
        time.sleep(REST)
        spent = daemon.spent() - before
        found = probes.hits(daemon.pid)
    reactions = {name: probes.first(found, name, began) for name in awaited}
    return Result(reactions, spent, dict(probes.calls(found)))


class Uplinks:
    """Uplinks without a peer; wan2 comes and goes."""

    def __init__(self, scope: ExitStack, tree: str, uplinks: int = 2, gateways: bool = True):
        self._site = site = scope.enter_context(Site(uplinks, other=1))
        present = [n for n in range(1, uplinks + 1) if n != 2]
        site.do(*(site.address(True, n) for n in present))
        site.do(*(site.default_route(True, n) for n in present))
        modes = ["master", "on"] + ["off"] * (uplinks - 2)
        files = configuration(modes, gateways=gateways)
        self.daemon = scope.enter_context(Revision(tree, site.gateway, *files))
        site.settle(lambda: site.endpoint("10.1.1.2"), "the endpoint of wan1")
        self._host = 2

    def _require(self, present: bool) -> None:
        """LabError unless wan2 has all that it needs, or nothing of it."""
        site = self._site
        endpoint = site.endpoint(f"10.2.2.{self._host}")
        have = (endpoint, len(site.routes(7002)), len(site.rules(7002)))
        if have != ((True, 2, 3) if present else (False, 0, 0)):
            raise LabError(f"endpoint, routes and rules of wan2: {have}")

    def address(self, count_calls: bool) -> dict[str, Result]:
        """The address comes, and goes."""
        site, results = self._site, {}
        for add, probe, name in ((True, "endpoint", "address"), (False, "deletion", "no-address")):
            event = site.address(add, 2)
            results[name] = observe(
                self.daemon, lambda event=event: site.do(event), [probe], count_calls
            )
            self._require(add)
        return results

    def route(self, count_calls: bool) -> dict[str, Result]:
        """The default route comes, for an address whose gateway is not known yet."""
        site = self._site
        self._host = self._host % 250 + 1
        site.do(site.address(True, 2, self._host))
        event = site.default_route(True, 2)
        result = observe(self.daemon, lambda: site.do(event), ["endpoint"], count_calls)
        self._require(True)
        site.do(site.default_route(False, 2))
        site.do(site.address(False, 2, self._host))
        site.settle(lambda: not site.rules(7002), "nothing left of wan2", REST)
        return {"route": result}


class Connected:
    """Two uplinks and an idle MPTCP connection over both; wan1 loses its carrier."""

    def __init__(self, scope: ExitStack, tree: str) -> None:
        wan = scope.enter_context(Wan(ipv6=False, shaped=False, lan=False)).usual()
        self.gateway = wan.gateway
        self.manage(scope, tree)
        self._connect(scope, wan)
        with wan.routers[1].enter():
            self._far, self._access = Requests(0), change.devices()["access"]
        scope.callback(self._far.close)
        self.await_subflows({address(1), address(2)})

    def manage(self, scope: ExitStack, tree: str) -> None:
        files = configuration(["master", "on"])
        self.daemon = scope.enter_context(Revision(tree, self.gateway, *files))

    @staticmethod
    def _connect(scope: ExitStack, wan: Wan) -> None:
        with wan.server.enter():
            listener = scope.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
            )
        listener.bind((SERVER, PORT))
        listener.listen()
        with wan.gateway.enter():
            client = scope.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
            )
        client.connect((SERVER, PORT))
        accepted, _ = listener.accept()
        scope.enter_context(accepted)
        client.send(b"x")
        accepted.recv(1)

    def change_carrier(self, up: bool) -> None:
        """The far end of wan1's cable goes up or down."""
        self._far.change([change.link(self._access, up)])

    def await_subflows(self, addresses: set[str]) -> None:
        """Until the connection's subflows are from these addresses."""

        def settled() -> bool:
            return {subflow.local for subflow in subflows(self.gateway, PORT)} == addresses

        until(settled, time.perf_counter(), f"subflows from {addresses}")

    def carrier(self, count_calls: bool) -> dict[str, Result]:
        """The carrier goes, and comes back."""
        results = {}
        for name, up, awaited in (
            ("carrier-lost", False, ["closed", "route"]),
            ("carrier-back", True, ["endpoint"]),
        ):
            results[name] = observe(
                self.daemon, lambda up=up: self.change_carrier(up), awaited, count_calls
            )
            self.await_subflows({address(1), address(2)} if up else {address(2)})
        return results
