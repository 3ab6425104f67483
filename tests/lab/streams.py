"""Plain TCP connections from a host behind the gateway to many addresses."""

from __future__ import annotations

import select
import socket

from tests.lab.datagrams import NETWORK, destination
from tests.lab.forwarding import Forwarding
from tests.lab.resources import Closing
from tests.lab.wait import eventually, scaled
from tests.lab.wan import address

PORT = 7778


class Streams(Closing):
    """The server has every address of a network.  A connection is one destination."""

    def __init__(self, world: Forwarding) -> None:
        self._world = world
        world.server.ip(f"route replace local {NETWORK} dev lo")
        for n, router in world.routers.items():
            router.ip(f"route replace {NETWORK} via 10.9.{n}.2")
        with world.server.enter():
            self._listener = socket.create_server(("", PORT), backlog=1024)
        self._ends: dict[str, tuple[socket.socket, socket.socket]] = {}
        """Destination → the client's socket and the server's."""

    def close(self) -> None:
        self._listener.close()
        for ends in self._ends.values():
            for end in ends:
                end.close()

    def begin(self, count: int) -> dict[str, int]:
        """Open so many more; destination → the uplink whose address the server saw."""
        sources = {address(n): n for n in self._world.uplinks}
        uplinks = {}
        first = len(self._ends)
        assert self._world.lan
        with self._world.lan.enter():
            for number in range(first, first + count):
                to = destination(number)
                client = socket.create_connection((to, PORT), timeout=scaled(20))
                accepted, peer = self._listener.accept()
                self._ends[to] = client, accepted
                uplinks[to] = sources[peer[0]]
        return uplinks

    def alive(self) -> set[str]:
        """The destinations that get what is sent now; every other connection has ended.

        AssertionError when some do neither.
        """
        waiting: dict[int, str] = {}
        """File descriptor of an end → destination."""
        poll = select.poll()

        def known(to: str) -> None:
            for end in self._ends[to]:
                if waiting.pop(end.fileno(), None):
                    poll.unregister(end)

        for to, ends in self._ends.items():
            for end in ends:
                waiting[end.fileno()] = to
                poll.register(end, select.POLLIN)
            try:
                ends[0].send(b"?")
            except OSError:
                known(to)
        arrived: set[str] = set()

        def all_known() -> bool:
            for number, _ in poll.poll(200):
                to = waiting.get(number, "")
                if not to:
                    continue
                client, accepted = self._ends[to]
                try:
                    if number == client.fileno():
                        client.recv(100)
                    elif accepted.recv(100):
                        arrived.add(to)
                        known(to)
                except OSError:
                    known(to)
            return not waiting

        eventually(all_known, 60, "what has become of each connection")
        return arrived
