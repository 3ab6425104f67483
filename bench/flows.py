"""Forwarded connections: when they move to another uplink, and when `failback` `move` ends them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bench import change
from bench.figure import Figure
from bench.traffic import plug
from bench.turns import losses
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, TWO_UPLINKS, Daemon, Wan, address, eventually
from tests.lab.datagrams import Datagrams
from tests.lab.forwarding import Forwarding

RUNS, WARM = 16, 2
REST = 1.2
"""Seconds between two changes of a carrier: the kernel delays its report of one that follows."""
_TABLE = 7000
_PORT = 7
_INTERVAL = 0.001
"""Seconds between two messages of the connection that ends."""
WEIGHTS = "config uplink 'wan1'\n\toption weight '3'\nconfig uplink 'wan2'\n\toption weight '1'\n"
MOVES = "config uplink 'wan2'\n\toption failback 'move'\n"


class Loser:
    """A gateway, and a flow of the LAN host that leaves via wan1."""

    def __init__(self, scope: ExitStack, own: str) -> None:
        self.wan = scope.enter_context(Wan(ipv6=False, shaped=False)).usual()
        assert self.wan.lan
        daemon = scope.enter_context(Daemon(self.wan.gateway, TWO_UPLINKS, own))
        eventually(lambda: daemon.query_status().get("pins_flows"))
        self.flows = scope.enter_context(Datagrams(self.wan, self.wan.lan))
        uplinks = self.flows.begin(20)
        self.flow = next(flow for flow, uplink in uplinks.items() if uplink == 1)
        self.plug = plug(scope, self.wan, 1)

    def lose(self) -> float:
        """Seconds from the loss of wan1's carrier until the flow arrives by wan2."""
        began = time.perf_counter()
        self.plug(False)
        while not self.flows.arrives(self.flow, 2):
            time.sleep(50e-6)
            if time.perf_counter() - began > 10:
                raise AssertionError("the flow has not moved")
        return time.perf_counter() - began

    def restore(self) -> None:
        time.sleep(REST)
        self.plug(True)
        eventually(lambda: self.flows.arrives(self.flow, 1), what="the flow is back")
        time.sleep(REST)


def moved(log: Callable[[str], None]) -> Iterable[Figure]:
    """A flow of an uplink that is lost: beside others that share, and with a single default."""
    with ExitStack() as scope:
        contenders = [Loser(scope, WEIGHTS), Loser(scope, "")]
        times = losses("moved", contenders, RUNS, WARM, log)
    yield Figure(
        "moved",
        "carrier lost → a forwarded flow arrives by the other uplink, weights 3:1",
        times[0],
        "ms",
        "the same with a single default",
        times[1],
        1.5,
        1.1,
        "a UDP flow that is not translated, with a datagram every 0.1 ms",
    )


class Ender:
    """A gateway whose master returns while a TCP connection of the LAN host is on wan2."""

    def __init__(self, scope: ExitStack) -> None:
        self.world = scope.enter_context(Forwarding())
        self.plug = plug(scope, self.world, 1)
        daemon = scope.enter_context(Daemon(self.world.gateway, TWO_UPLINKS, MOVES))
        eventually(lambda: daemon.query_status().get("pins_flows"))
        with self.world.server.enter():
            self._listener = scope.enter_context(socket.create_server((SERVER, _PORT)))
        with self.world.gateway.enter():
            self._routes, self._devices = Requests(0), change.devices()
        scope.callback(self._routes.close)

    def _default(self) -> int:
        """The number of the uplink that has the default route for other traffic."""
        bodies = self._routes.dump(lambda n: rtnl_encode.dump_routes(n, _TABLE))
        found = {route.device for body in bodies for route in rtnl_decode.routes(body)}
        return next((n for n in self.world.uplinks if self._devices[f"eth{n}"] in found), 0)

    def connect(self) -> tuple[socket.socket, str]:
        """A new connection of the LAN host, and the address with which it arrives."""
        assert self.world.lan
        with self.world.lan.enter():
            client = socket.create_connection((SERVER, _PORT), timeout=10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted, peer = self._listener.accept()
        accepted.detach()  # the peer never closes it
        return client, str(peer[0])

    def end(self) -> tuple[float, float]:
        """Seconds since other traffic moved back: until the connection has ended, and until a new
        one has arrived by the master."""
        self.plug(False)
        eventually(lambda: self._default() == 2)
        client, source = self.connect()
        assert source == address(2), source
        client.setblocking(False)
        time.sleep(REST)
        self.plug(True)
        while self._default() != 1:
            time.sleep(50e-6)
        began = time.perf_counter()
        try:
            while time.perf_counter() < began + 10:
                client.send(b"?")
                time.sleep(_INTERVAL)
        except OSError:
            ended = time.perf_counter() - began
        else:
            raise AssertionError("the connection has not ended")
        client.close()
        client, source = self.connect()
        assert source == address(1), source
        client.close()
        again = time.perf_counter() - began
        time.sleep(REST)
        return ended, again


def ended(log: Callable[[str], None]) -> Iterable[Figure]:
    """failback `move`."""
    with ExitStack() as scope:
        ender = Ender(scope)
        log(f"ended: {RUNS} runs")
        times = [ender.end() for _ in range(WARM + RUNS)][WARM:]
    for what, index in (("its connection has ended", 0), ("a new one arrives by the better", 1)):
        yield Figure(
            "ended",
            f"other traffic leaves an uplink with `failback` `move` → {what}",
            [pair[index] for pair in times],
            "ms",
            limit=100,
            goal=30,
            note="a masqueraded TCP connection with a message every millisecond",
        )
