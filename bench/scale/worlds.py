"""Networks of a given size, and what an event costs the daemon in each.

The event is the same everywhere: the address of wan2 comes and goes.  Costs are processor time of
the daemon, all threads, so that other load on the machine changes them little.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from socket import AF_INET, inet_aton
from typing import NamedTuple, NoReturn

from bench import change
from bench.burst import cpu, resident
from bench.site import Site, configuration, until
from mproutd.model import TABLE_MAIN, UNICAST, Endpoint, Operation
from mproutd.netlink import mptcp_pm
from mproutd.netlink.mptcp_info import IPPROTO_MPTCP
from mproutd.netlink.nlmsg import NLM_F_CREATE, NLM_F_EXCL, put_address, put_u32, request
from mproutd.netlink.rtnl_decode import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTMSG,
)
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, Daemon, LabError, Namespace, Wan

EVENTS, FEW_EVENTS, WARM = 7, 3, 2
"""Of many connections few, since each event is a new subflow for each of them."""
REST = 0.3
"""Seconds after an event until all is done that it causes, and 0.1 ms for each connection."""
WATCHED = 5.0
"""Seconds for which the cost of a second is measured."""
FLAPS = 1000
"""Route events a second: a route is withdrawn, or announced again."""
STEP = 0.01
"""Seconds between two bursts of them."""
GONE = 60.0
"""Seconds in which the endpoint of many connections has to be gone."""
PORT, PER_PROCESS = 7777, 5000
ENDPOINTS = 6
"""Uplinks that may have an endpoint; the kernel has room for eight.  The others are off."""

WIDE_MASK = "config mproutd 'globals'\n\toption mark_mask '0xff000000'\n"
"""Marks for 198 uplinks, which is what mproutd has rules for; the default has marks for 126."""


class Cost(NamedTuple):
    """What one size costs; times in seconds."""

    size: int
    event: float
    """Processor time of an address event, median."""
    latency: float
    """From the event to the endpoint, median."""
    memory: float
    """Resident, in MB."""
    second: float | None = None
    """Processor time of a second in which routes flap."""
    kernel: float | None = None
    """Processor time of the kernel for adding the endpoint alone, part of `event`."""


class Event:
    """A daemon, and the address of wan2 that comes and goes."""

    def __init__(self, pid: int, come: Callable[[], float], go: Callable[[], None], rest: float):
        self.pid, self._come, self._go, self._rest = pid, come, go, rest

    def measure(self, size: int, second: float | None = None, events: int = EVENTS) -> Cost:
        times, delays = [], []
        for turn in range(WARM + events):
            before = cpu(self.pid)
            delay = self._come()
            time.sleep(self._rest)
            spent = cpu(self.pid) - before
            self._go()
            time.sleep(self._rest)
            if turn >= WARM:
                times.append(spent)
                delays.append(delay)
        event, latency = statistics.median(times), statistics.median(delays)
        return Cost(size, event, latency, resident(self.pid), second)


def site_event(scope: ExitStack, site: Site, count: int = 2) -> Event:
    """A daemon for the uplinks of a site."""
    modes = ["master"] + ["on"] * (ENDPOINTS - 1) + ["off"] * count
    interfaces, own = configuration(modes[:count])
    daemon = scope.enter_context(Daemon(site.gateway, interfaces, own + WIDE_MASK))
    site.settle(lambda: site.endpoint("10.1.1.2"), "the endpoint of wan1", REST)
    daemon.settle(60)

    def come() -> float:
        began = time.perf_counter()
        site.do(site.address(True, 2))
        return until(lambda: site.endpoint("10.2.2.2"), began, "the endpoint of wan2")

    def go() -> None:
        site.do(site.address(False, 2))
        site.settle(lambda: not site.endpoint("10.2.2.2"), "no endpoint of wan2", 0)

    assert daemon.process
    return Event(daemon.process.pid, come, go, REST)


def network(scope: ExitStack, count: int = 2) -> Site:
    """Every uplink is up except wan2."""
    site = scope.enter_context(Site(count, other=1))
    present = [n for n in range(1, count + 1) if n != 2]
    site.do(*(site.address(True, n) for n in present))
    site.do(*(site.default_route(True, n) for n in present))
    return site


def uplinks(size: int) -> Cost:
    with ExitStack() as scope:
        return site_event(scope, network(scope, size), size).measure(size)


def addresses(size: int) -> Cost:
    """On a device in the LAN, in subnets of 250."""
    with ExitStack() as scope:
        site = network(scope)
        texts = [f"10.{100 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}" for n in range(size)]
        device = site.devices["other1"]
        site.do(*(change.address(True, device, text) for text in texts))
        return site_event(scope, site).measure(size)


def own_addresses(size: int) -> Cost:
    """On the device of wan1, in one subnet; each has a rule, and a few an endpoint."""
    with ExitStack() as scope:
        site = network(scope)
        texts = [f"10.1.{n // 250 + 2}.{n % 250 + 1}" for n in range(size)]
        device = site.devices["eth1"]
        site.do(*(change.address(True, device, text, 16) for text in texts))
        return site_event(scope, site).measure(size)


# -- routes -------------------------------------------------------------------------------


def routes(size: int) -> Cost:
    """In main, via a gateway in the LAN; a part of them flaps."""
    return _routes(size, gateway=True)


def routes_without_gateway(size: int) -> Cost:
    """The same, as over a point-to-point device."""
    return _routes(size, gateway=False)


def _routes(size: int, gateway: bool) -> Cost:
    with ExitStack() as scope:
        site = network(scope)
        device = site.devices["other1"]
        site.do(change.address(True, device, "10.99.0.1"))
        with site.gateway.enter():
            raw = scope.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        via = "10.99.0.2" if gateway else ""
        for start in range(0, size, FLAPS):
            raw.send(b"".join(route(True, device, n, via) for n in range(start, start + FLAPS)))
        event = site_event(scope, site)
        if not size:
            return event.measure(size)
        with flapping(raw, device, via):
            time.sleep(1)
            before = cpu(event.pid)
            time.sleep(WATCHED)
            second = (cpu(event.pid) - before) / WATCHED
            return event.measure(size, second)


def route(add: bool, device: int, number: int, gateway: str) -> bytes:
    """A request about one of a routing daemon's /24s: 16.0.0.0/24 and on."""
    body = RTMSG.pack(AF_INET, 24, 0, 0, TABLE_MAIN, change.BGP, 0, UNICAST, 0)
    body += put_address(RTA_DST, ((16 << 24) + (number << 8)).to_bytes(4, "big"))
    body += put_u32(RTA_OIF, device)
    if gateway:
        body += put_address(RTA_GATEWAY, inet_aton(gateway))
    if add:
        return request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, 1, body)
    return request(RTM_DELROUTE, 0, 1, body)


@contextmanager
def flapping(raw: socket.socket, device: int, gateway: str) -> Iterator[None]:
    """Withdraw and announce routes in turns, in a thread."""
    burst = round(FLAPS * STEP)
    sends = [
        b"".join(route(add, device, n, gateway) for n in range(burst)) for add in (False, True)
    ]
    stop = threading.Event()

    def flap() -> None:
        turn, due = 0, time.monotonic()
        while not stop.is_set():
            raw.send(sends[turn % 2])
            turn, due = turn + 1, due + STEP
            time.sleep(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# -- connections --------------------------------------------------------------------------


def connections(size: int) -> Cost:
    """Idle MPTCP connections on wan1; each gets a subflow on wan2 with its address.

    The kernel opens those subflows on behalf of the daemon, within its processor time.
    """
    with ExitStack() as scope:
        wan = scope.enter_context(Wan(ipv6=False, shaped=False, lan=False))
        wan.usual()
        wan.address_down(2)
        for node in (wan.gateway, wan.server):
            # Each subflow binds a port of its address, and the kernel searches longer and longer.
            node.sysctl("net.ipv4.tcp_max_tw_buckets", 100)
        wan.gateway.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        daemon = scope.enter_context(Daemon(wan.gateway, *configuration(["master", "on"])))
        daemon.settle(30)
        connect(scope, wan, size)
        with wan.gateway.enter():
            requests, device = Requests(0), change.devices()["eth2"]
        scope.callback(requests.close)
        path_manager = scope.enter_context(closing(Endpoints(wan.gateway)))

        def do(add: bool) -> None:
            if failed := requests.change([change.address(add, device, "10.2.2.2")]):
                raise LabError(f"the kernel refused: {failed}")

        def come() -> float:
            began = time.perf_counter()
            do(True)
            return until(lambda: path_manager.find("10.2.2.2"), began, "the endpoint of wan2")

        def go() -> None:
            do(False)
            deadline = time.monotonic() + GONE
            while path_manager.find("10.2.2.2"):
                time.sleep(0.1)
                if time.monotonic() > deadline:
                    raise LabError(f"the endpoint of wan2 is still there after {GONE:g} s")

        assert daemon.process
        rest = REST + size / 5000
        cost = Event(daemon.process.pid, come, go, rest).measure(size, events=FEW_EVENTS)
        come()
        time.sleep(rest)
        daemon.stop()
        return cost._replace(kernel=path_manager.add_again("10.2.2.2", rest))


class Endpoints:
    """The path manager of a namespace."""

    def __init__(self, node: Namespace) -> None:
        with node.enter():
            self._requests = Requests(16)
        reply = self._requests.query([mptcp_pm.get_family])[0]
        assert not isinstance(reply, OSError)
        self._family = mptcp_pm.family(reply.body).id

    def find(self, address: str) -> Endpoint | None:
        bodies = self._requests.dump(lambda n: mptcp_pm.dump_endpoints(self._family, n))
        found = (mptcp_pm.endpoint(body) for body in bodies)
        return next((endpoint for endpoint in found if endpoint.address == address), None)

    def add_again(self, address: str, rest: float) -> float:
        """Delete an endpoint and add it; processor time of the latter, median."""
        times = []
        for _ in range(FEW_EVENTS):
            endpoint = self.find(address)
            assert endpoint
            self._do(Operation("delete", endpoint))
            time.sleep(rest)
            before = time.thread_time()
            self._do(Operation("add", endpoint._replace(id=0)))
            times.append(time.thread_time() - before)
            time.sleep(rest)
        return statistics.median(times)

    def _do(self, operation: Operation) -> None:
        failed = self._requests.change([lambda n: mptcp_pm.change(operation, self._family, n)])
        if failed:
            raise LabError(f"the kernel refused: {failed}")

    def close(self) -> None:
        self._requests.close()


def connect(scope: ExitStack, wan: Wan, count: int) -> None:
    """Open this many, in processes whose descriptors suffice.  LabError where they fail."""
    for port, start in enumerate(range(0, count, PER_PROCESS), PORT):
        ours, theirs = socket.socketpair()
        scope.enter_context(ours)
        pid = os.fork()
        if not pid:
            ours.close()
            _hold(wan, port, min(PER_PROCESS, count - start), theirs)
        theirs.close()
        scope.callback(os.waitpid, pid, 0)
        scope.callback(ours.close)
        if ours.recv(1) != b"y":
            raise LabError(f"no room for {count} connections")


def _hold(wan: Wan, port: int, count: int, parent: socket.socket) -> NoReturn:
    """In a child: open connections, and keep them until the parent closes its socket."""
    status = 1
    try:
        with ExitStack() as scope:
            _open(scope, wan, port, count)
            parent.send(b"y")
            parent.recv(1)
        status = 0
    finally:
        os._exit(status)


def _open(scope: ExitStack, wan: Wan, port: int, count: int) -> None:
    with wan.server.enter():
        listener = scope.enter_context(mptcp_socket())
    listener.bind((SERVER, port))
    listener.listen(128)
    with wan.gateway.enter():
        for _ in range(count):
            client = scope.enter_context(mptcp_socket())
            client.connect((SERVER, port))
            accepted, _ = listener.accept()
            scope.enter_context(accepted)
            client.send(b"x")
            accepted.recv(1)


def mptcp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
