"""The MPTCP path manager of the real kernel: endpoints, limits, cap and events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, SOCK_STREAM, socket
from struct import pack

import pytest

from mproutd.model import (
    BACKUP,
    FULLMESH,
    SIGNAL,
    SUBFLOW,
    Endpoint,
    Limits,
    Operation,
)
from mproutd.netlink import mptcp_pm
from mproutd.netlink.nlmsg import put, put_u32
from mproutd.netlink.path_manager import EndpointDeleter
from tests.lab import Namespace, eventually
from tests.lab.kernel_limits import max_endpoints, max_limit, path_manager
from tests.lab.machine import Machine, machine_in
from tests.lab.raw_netlink import NETLINK_GENERIC, Netlink


@pytest.fixture
def machine(node: Namespace) -> Iterator[Machine]:
    with machine_in(node) as machine:
        yield machine


def test_endpoints_limits_and_the_cap(machine: Machine) -> None:
    machine.node.ip(
        "mptcp endpoint add 10.1.1.2 dev eth1 subflow backup",
        "mptcp endpoint add 2001:db8:1::2 id 9 signal port 5555",
        "mptcp endpoint add 10.1.1.3 subflow fullmesh",
    )
    first, second = Endpoint("10.1.1.2", 11, SUBFLOW | BACKUP, 1), Endpoint("10.1.1.3", id=10)
    assert sorted(machine.endpoints()) == sorted(
        [
            first,
            Endpoint("2001:db8:1::2", 0, SIGNAL, 9, 5555),
            second._replace(flags=SUBFLOW | FULLMESH),
        ]
    )
    assert machine.write("add", first._replace(id=0)) in (17, 22)  # 22 on Linux 6.1
    assert machine.write("change", first._replace(flags=SUBFLOW)) == 0
    assert machine.write("delete", second) == 0
    assert machine.write("delete", second) == 22
    assert machine.write("delete", Endpoint("10.1.1.99")) == 0  # an address' initial subflows
    assert machine.write("add", Endpoint("10.1.1.4", 11, SUBFLOW | FULLMESH)) == 0
    assert machine.write("change", Limits(5, 3)) == 0
    printed = machine.node.ip("mptcp endpoint show", "mptcp limits show")
    assert "10.1.1.2 id 1 subflow dev eth1" in printed
    assert "10.1.1.4 id 10 subflow fullmesh dev eth1" in printed
    assert "add_addr_accepted 3 subflows 5" in printed

    def accepts(candidate: int) -> bool | None:
        _, ack = machine.generic.ask(mptcp_pm.probe(machine.family, 9, candidate))
        assert ack.errno == 22
        return mptcp_pm.accepted(ack)

    cap = mptcp_pm.max_limit(accepts)
    answers, _ = machine.generic.ask(mptcp_pm.get_limits(machine.family, 9))
    assert mptcp_pm.limits(answers[0].body) == Limits(5, 3)
    assert machine.write("change", Limits(cap, cap)) == 0
    assert machine.write("change", Limits(cap + 1, cap)) == 22


def test_endpoints_and_limits_have_a_maximum_of_their_own() -> None:
    """What mproutd concludes from the kernel's answers is what the kernel does."""
    with path_manager() as manager:
        assert mptcp_pm.max_limit(manager.accepts) == max_limit()
        assert mptcp_pm.max_endpoints(max_limit()) == max_endpoints()
        assert manager.add_strangers(max_endpoints()) == 0
        assert manager.add(Endpoint("192.0.2.1", 0, SIGNAL)) in (34, 22)  # 22 on Linux 6.1


def test_a_missing_family_is_enoent(machine: Machine) -> None:
    assert machine.generic.ask(mptcp_pm.get_family(9, "no_such_family"))[1].errno == 2


IPPROTO_MPTCP = 262


def test_a_connection_a_second_path_and_their_end(
    machine: Machine, nodes: Callable[[str], Namespace]
) -> None:
    """The server has its own node, since both ends in one namespace would share the endpoints."""
    node, far = machine.node, nodes("server")
    node.ip(f"link set eth2 netns {far.pid}", "address add 10.1.1.3/24 dev eth1")
    # Before socket(2): a socket made while there is no endpoint at all never looks for one.
    node.ip("mptcp endpoint add 10.1.1.3 dev eth1 subflow")
    far.ip("address add 10.1.1.1/24 dev eth2", "link set eth2 up")
    (reply,), _ = machine.generic.ask(mptcp_pm.get_family(1))
    with node.enter():
        monitor, client = Netlink(NETLINK_GENERIC), socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)
    with far.enter():
        beyond, server = Netlink(NETLINK_GENERIC), socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)
    for events_socket in (monitor, beyond):
        events_socket.join(mptcp_pm.family(reply.body).groups[mptcp_pm.EVENTS_GROUP])
    seen: list[mptcp_pm.Event] = []

    def happened(kind: str) -> mptcp_pm.Event:
        """The one event of a kind, possibly received already."""

        def arrived() -> list[mptcp_pm.Event]:
            seen.extend(mptcp_pm.event(message.body) for message in monitor.pending())
            return [event for event in seen if event.kind == kind]

        (event,) = eventually(arrived, what=kind)
        return event

    def priority_changes() -> list[mptcp_pm.Event]:
        """MP_PRIO causes an event at its receiver."""
        events = [mptcp_pm.event(message.body) for message in beyond.pending()]
        return [event for event in events if event.kind == "sub-priority"]

    with monitor, beyond, server, client:
        server.bind(("10.1.1.1", 5001))
        server.listen()
        client.connect(("10.1.1.1", 5001))
        peer, (_, port) = server.accept()
        with peer:
            peer.send(b"x")
            client.recv(1)
            token = happened("created").token
            joined = happened("sub-established")
            node.ip("mptcp endpoint change id 1 backup")
            (changed,) = eventually(priority_changes)
            shown = node.run("ss", "-tniM", "src", "10.1.1.3")
            node.ip("mptcp endpoint delete id 1")
            happened("sub-closed")
            client.close()
        happened("closed")

    first = mptcp_pm.Event("created", token, 0, 0, "10.1.1.2", "10.1.1.1", port, 5001)
    second = mptcp_pm.Event(
        "sub-established", token, 1, 0, "10.1.1.3", "10.1.1.1", joined.sport, 5001, 11
    )
    assert seen == [
        first,
        first._replace(kind="established"),
        second,
        second._replace(kind="sub-closed"),
        mptcp_pm.Event("closed", token),
    ]
    assert token
    assert (changed.destination, changed.dport, changed.backup) == ("10.1.1.3", joined.sport, True)
    assert f":{joined.sport}" in shown


def test_an_event_with_all_attributes() -> None:
    """A subflow closed by a reset, and an event of a later kernel."""
    body = bytes((11, 1, 0, 0)) + b"".join(
        (
            put_u32(1, 0xA4CC31D),
            put(2, pack("=H", AF_INET6)),
            put(3, b"\x02"),
            put(4, b"\x03"),
            put(6, bytes(15) + b"\x01"),
            put(8, bytes(15) + b"\x02"),
            put(9, pack("!H", 5001)),
            put(10, pack("!H", 80)),
            put(11, b"\x01"),
            put(12, bytes((104,))),
            put(13, pack("=H", 1)),
            put_u32(14, 7),
            put_u32(15, 11),
            put_u32(16, 3),
            put(18, b"\x01"),
        )
    )
    event = mptcp_pm.Event(
        "sub-closed", 0xA4CC31D, 2, 3, "::1", "::2", 5001, 80, 11, True, 104, 1, 7, 3, True
    )
    assert mptcp_pm.event(body) == event
    assert mptcp_pm.event(bytes((99,)) + body[1:]) == event._replace(kind="99")


def test_the_thread_that_deletes_gets_the_interpreter_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although the caller has nothing to wait for, and keeps it for a second.

    Once more after a batch that the thread took too late.
    """
    seen: list[Operation] = []
    monkeypatch.setattr(EndpointDeleter, "_apply", lambda _, operations: seen.extend(operations))
    interval = sys.getswitchinterval()
    deleter = EndpointDeleter(0)
    try:
        sys.setswitchinterval(1.0)
        for number, timeout in enumerate((9.0, 9.0, 0.0, 9.0, 9.0), 1):
            monkeypatch.setattr("mproutd.netlink.path_manager._HANDOVER_TIMEOUT", timeout)
            deleter.start([Operation("delete", Endpoint("10.1.1.2", id=number))])
            taken = len(seen)
            deleter.collect()
            assert taken == number or not timeout
    finally:
        sys.setswitchinterval(interval)
        deleter.close()
