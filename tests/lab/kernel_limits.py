"""What the running kernel's path manager takes, found by trying it in a namespace of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from mproutd.model import LAMINAR, SIGNAL, SUBFLOW, Endpoint, Limits, Operation
from mproutd.netlink import mptcp_pm
from tests.lab.namespace import Namespace
from tests.lab.raw_netlink import NETLINK_GENERIC, Netlink


class RawPathManager:
    """The kernel's path manager in a node, by netlink alone; every change returns its errno."""

    def __init__(self, node: Namespace) -> None:
        with node.enter():
            self.socket = Netlink(NETLINK_GENERIC)
        (reply,), _ = self.socket.ask(mptcp_pm.get_family(1))
        self.family = mptcp_pm.family(reply.body)

    def add(self, endpoint: Endpoint) -> int:
        return self._change(Operation("add", endpoint))

    def set_flags(self, endpoint: Endpoint) -> int:
        return self._change(Operation("change", endpoint))

    def set_limits(self, limit: int) -> int:
        return self._change(Operation("change", Limits(limit, limit)))

    def _change(self, operation: Operation) -> int:
        return self.socket.ask(mptcp_pm.change(operation, self.family.id, 2))[1].errno

    def endpoints(self) -> list[Endpoint]:
        answers, _ = self.socket.ask(mptcp_pm.dump_endpoints(self.family.id, 3))
        return [mptcp_pm.endpoint(message.body) for message in answers]

    def accepts(self, limit: int) -> bool | None:
        """The answer to mproutd's own question."""
        return mptcp_pm.accepted(self.socket.ask(mptcp_pm.probe(self.family.id, 4, limit))[1])

    def add_strangers(self, count: int) -> int:
        """Add up to `count` endpoints that nothing uses; the errno of the first refused one."""
        for number in range(count):
            refused = self.add(Endpoint(f"198.18.{number // 250}.{number % 250 + 1}", 0, SIGNAL))
            if refused:
                return refused
        return 0


@contextmanager
def path_manager() -> Iterator[RawPathManager]:
    """That of a new namespace."""
    with Namespace("tried") as node:
        manager = RawPathManager(node)
        with manager.socket:
            yield manager


@functools.cache
def max_limit() -> int:
    """The highest limit that it accepts."""
    with path_manager() as manager:
        return max(limit for limit in range(256) if not manager.set_limits(limit))


@functools.cache
def max_endpoints() -> int:
    """How many endpoints it takes."""
    with path_manager() as manager:
        manager.add_strangers(300)
        return len(manager.endpoints())


@functools.cache
def keeps_flag(flag: int) -> bool:
    """Whether an endpoint has this flag after it was added with it."""
    with path_manager() as manager:
        assert not manager.add(Endpoint("192.0.2.1", 0, SUBFLOW | flag))
        return bool(manager.endpoints()[0].flags & flag)


def has_laminar() -> bool:
    return keeps_flag(LAMINAR)


def leave_room(node: Namespace, room: int) -> None:
    """Fill the node's path manager with endpoints that nothing uses, but for so many."""
    manager = RawPathManager(node)
    with manager.socket:
        assert not manager.add_strangers(max_endpoints() - room)


def is_stranger(address: str) -> bool:
    """Whether it is one of those that leave_room() has added."""
    return address.startswith("198.18.")
