"""A gateway with uplinks, controlled and observed without starting programs.

Invariants: changes and polls use sockets that were opened before the measurement, so that no
program start is part of a figure; the poller sleeps between polls, because a busy loop would
keep the daemon off a processor for a whole time slice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from socket import AF_INET, inet_pton

from bench import change
from mproutd.model import Endpoint, Operation, Route, Rule
from mproutd.netlink import mptcp_pm, rtnl_decode, rtnl_encode
from mproutd.netlink.sockets import Encode, Requests
from tests.lab import Daemon, LabError, Namespace

POLL_INTERVAL = 50e-6
"""Seconds between two polls."""
TIMEOUT = 10.0
"""Seconds until a condition that does not come true is an error."""


def until(condition: Callable[[], bool], since: float, what: str) -> float:
    """Seconds from `since` (time.perf_counter) until the condition holds."""
    while not condition():
        if time.perf_counter() - since > TIMEOUT:
            raise LabError(f"not within {TIMEOUT:g} s: {what}")
        time.sleep(POLL_INTERVAL)
    return time.perf_counter() - since


def configuration(
    modes: Sequence[str], gateways: bool = True, ipv6: bool = False
) -> tuple[str, str]:
    """The files network and mproutd for uplinks 1, 2, ... on eth1, eth2, ... in these modes."""
    network = ["config globals 'globals'", "\toption multipath 'enable'"]
    uplinks = []
    for n, mode in enumerate(modes, 1):
        network += [f"config interface 'wan{n}'", f"\toption device 'eth{n}'"]
        network.append(f"\toption multipath '{mode}'")
        if gateways:
            uplinks += [f"config uplink 'wan{n}'", f"\toption gateway '10.{n}.{n}.1'"]
            if ipv6:
                uplinks.append(f"\toption gateway6 '2001:db8:{n}::1'")
    return "\n".join(network) + "\n", "\n".join(uplinks) + "\n" if uplinks else ""


class Site:
    """A gateway with `uplinks` cables (eth1 …) and `other` unmanaged devices (other1 …)."""

    def __init__(self, uplinks: int = 2, other: int = 0) -> None:
        self.gateway, self.far = Namespace("gateway"), Namespace("far")
        try:
            self._build(uplinks, other)
        except BaseException:
            self.close()
            raise

    def _build(self, uplinks: int, other: int) -> None:
        names = [f"eth{n}" for n in range(1, uplinks + 1)]
        names += [f"other{n}" for n in range(1, other + 1)]
        for node in (self.gateway, self.far):
            node.sysctl("net.ipv6.conf.default.accept_dad", 0)
            node.sysctl("net.ipv6.conf.all.accept_dad", 0)
        self.gateway.ip(
            *(
                f"link add {name} index {index} type veth peer name {name} netns {self.far.pid}"
                for index, name in enumerate(names, 1001)  # tests/lab/links.py says why
            )
        )
        for node in (self.far, self.gateway):
            node.ip(*(f"link set {name} up" for name in names))
        with self.far.enter():
            self.far_devices = change.devices()
            self._far_route = Requests(0)
        with self.gateway.enter():
            self.devices = change.devices()
            self._route, self._path_manager = Requests(0), Requests(16)
        reply = self._path_manager.query([mptcp_pm.get_family])[0]
        if isinstance(reply, OSError):
            raise LabError("this kernel has no Multipath TCP")
        self._family = mptcp_pm.family(reply.body).id
        self.settle(lambda: self._carriers() == len(names), "carrier on every cable")

    def _carriers(self) -> int:
        links = map(rtnl_decode.link, self._route.dump(rtnl_encode.dump_links))
        return sum(link is not None and link.name != "lo" and link.carrier for link in links)

    # -- changes --------------------------------------------------------------------------

    def do(self, *changes: Encode, far: bool = False) -> None:
        """Make these changes, at the gateway or at the far end.  LabError if one is refused."""
        failed = (self._far_route if far else self._route).change(changes)
        if failed:
            raise LabError(f"the kernel refused: {failed}")

    def address(self, add: bool, uplink: int, host: int = 2) -> Encode:
        """10.N.N.HOST/24 on an uplink."""
        return change.address(add, self.devices[f"eth{uplink}"], f"10.{uplink}.{uplink}.{host}")

    def default_route(self, add: bool, uplink: int) -> Encode:
        """A default route in main via an uplink, with its number as the metric."""
        device = self.devices[f"eth{uplink}"]
        return change.default_route(add, device, f"10.{uplink}.{uplink}.1", uplink)

    def fill_main(self, count: int) -> None:
        """Add `count` foreign routes to main."""
        import socket

        device = self.devices["other1"]
        with self.gateway.enter():
            raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        with raw:
            for send in change.foreign_routes(count, device):
                raw.send(send)
        with self.gateway.enter(), open("/proc/thread-self/net/fib_triestat") as file:
            routes = sum(int(line.split()[1]) for line in file if "Prefixes:" in line)
        if routes < count:
            raise LabError(f"main took {routes} of {count} routes")

    # -- observations ---------------------------------------------------------------------

    def endpoint(self, address: str) -> bool:
        """Whether this IPv4 address has an endpoint."""
        packed = inet_pton(AF_INET, address)
        bodies = self._path_manager.dump(lambda n: mptcp_pm.dump_endpoints(self._family, n))
        return any(packed in body for body in bodies)

    def endpoints(self) -> list[Endpoint]:
        bodies = self._path_manager.dump(lambda n: mptcp_pm.dump_endpoints(self._family, n))
        return [mptcp_pm.endpoint(body) for body in bodies]

    def remove_endpoint(self, address: str) -> None:
        """Remove the endpoints of this address and wait for the acknowledgement."""
        endpoints = [endpoint for endpoint in self.endpoints() if endpoint.address == address]
        delete = [Operation("delete", endpoint) for endpoint in endpoints]
        if delete:
            self._path_manager.change(
                [lambda n, op=op: mptcp_pm.change(op, self._family, n) for op in delete]  # type: ignore[misc]
            )

    def routes(self, table: int) -> list[Route]:
        bodies = self._route.dump(lambda n: rtnl_encode.dump_routes(n, table))
        return [route for body in bodies for route in rtnl_decode.routes(body)]

    def rules(self, table: int) -> list[Rule]:
        rules = map(rtnl_decode.rule, self._route.dump(rtnl_encode.dump_rules))
        return [rule for rule in rules if rule is not None and rule.table == table]

    def settle(self, condition: Callable[[], bool], what: str, rest: float = 0.02) -> None:
        """Wait for the condition, then `rest` seconds for work that is still going on."""
        until(condition, time.perf_counter(), what)
        time.sleep(rest)

    def daemon(self, modes: Sequence[str], gateways: bool = True, ipv6: bool = False) -> Daemon:
        """An mproutd with uplinks in these modes, not started."""
        return Daemon(self.gateway, *configuration(modes, gateways, ipv6))

    def close(self) -> None:
        for name in ("_route", "_far_route", "_path_manager"):
            if hasattr(self, name):
                getattr(self, name).close()
        self.gateway.close()
        self.far.close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(*argv: str, environment: dict[str, str] | None = None) -> float:
    """Run a program in the calling thread's network namespace; seconds from start to exit.

    Its output is discarded.  LabError if it fails.
    """
    began = time.perf_counter()
    status = os.waitpid(start(*argv, environment=environment), 0)[1]
    took = time.perf_counter() - began
    if status:
        raise LabError(f"{' '.join(argv)}: exit {os.waitstatus_to_exitcode(status)}")
    return took


def start(*argv: str, environment: dict[str, str] | None = None, silent: bool = False) -> int:
    """Start a program in the calling thread's network namespace and return its pid.

    Its output is discarded, and with `silent` its errors too.

    Uses posix_spawn(3): a fork of this process would cost as much as the program itself.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    if silent:
        actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
    return os.posix_spawnp(
        argv[0], argv, {**os.environ, **(environment or {})}, file_actions=actions
    )
