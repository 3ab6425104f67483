"""When connections are scanned and failed subflows retried."""

from __future__ import annotations

from collections.abc import Iterable
from errno import ECONNREFUSED, ENOBUFS
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.model import BACKUP, FULLMESH, SUBFLOW, Address, Endpoint, Mptcp, Operation
from mproutd.netlink.bpf import subflow_event_filter
from mproutd.netlink.nlmsg import U32, DecodeError, put
from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.planning.state import State
from mproutd.subflows.policy import INITIAL_BACKOFF
from mproutd.subflows.retry import (
    INITIAL_SCAN_DELAY,
    QUERY_TIME_SHARE,
    SCAN_INTERVAL,
    SCAN_TIME_SHARE,
    SubflowRetrier,
)
from tests.unit.test_pacing import Clock

HERE = Endpoint("10.2.2.2", 3, SUBFLOW, 1)
GENTLY = [("change", SUBFLOW | FULLMESH), ("change", SUBFLOW)]
ANEW = [("delete", SUBFLOW)]
WITHOUT_CLOSING = [("add", SUBFLOW), ("delete", SUBFLOW)]


def connection(token: int, *others: Subflow, **more: Any) -> tuple[Connection, list[Subflow]]:
    """It began at 10.1.1.2, here."""
    first = Subflow(token, "10.1.1.2", initial=True, initiated_locally=True)
    made = Connection("10.1.1.2", len(others), False, True, token=token, max_extra_subflows=8)
    return made._replace(**more), [first, *others]


def joined(token: int) -> Subflow:
    return Subflow(token, HERE.address, initial=False, initiated_locally=True)


class Kernel:
    """Says which connections there are, and takes its time for it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.takes, self.queries = clock, 0.0, 0
        self.fails: Exception | None = None
        self.there: list[tuple[Connection, list[Subflow]]] = []

    def subflows(self, addresses: Iterable[str]) -> tuple[list[Connection], list[Subflow]]:
        assert list(addresses) == [HERE.address]
        if self.fails:
            raise self.fails
        self.queries += 1
        self.clock.now += self.takes
        return [connection[0] for connection in self.there], [
            one for connection in self.there for one in connection[1]
        ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


class World:
    def __init__(self, clock: Clock) -> None:
        self.clock, self.kernel = clock, Kernel(clock)
        self.done: list[Operation] = []
        self.unexplained = 0
        self.published: list[str] = []
        self.messages: list[bytes] | None = None
        """What events there are; None for some lost."""
        self.filters: list[Any] = []
        self.endpoints: tuple[Endpoint, ...] = (HERE,)
        events = SimpleNamespace(
            attach=self.filters.append,
            read=lambda: (
                self.messages and [SimpleNamespace(body=message) for message in self.messages]
            ),
        )
        state = State(endpoints=frozenset({(HERE.address, HERE.device)}))
        self.reconciler: Any = SimpleNamespace(
            kernel=self.kernel,
            last=SimpleNamespace(
                done=(),
                plan=SimpleNamespace(
                    endpoints={HERE: "wan2"},
                    uplinks=[
                        SimpleNamespace(
                            config=SimpleNamespace(name=f"wan{n}", default_route=True),
                            link=SimpleNamespace(index=n),
                        )
                        for n in (2, 3)
                    ],
                ),
                snapshot=SimpleNamespace(
                    addresses=[
                        Address(link, address, 24)
                        for link, address in (
                            (2, "10.1.1.2"),
                            (3, HERE.address),
                            (5, "192.168.70.1"),
                        )
                    ]
                ),
            ),
            config=Config(),
            state_file=SimpleNamespace(state=state, save=self._save),
            removals=SimpleNamespace(expect_removal=lambda endpoints: None),
        )
        path_manager: Any = SimpleNamespace(
            events=lambda: events, read=lambda full: Mptcp(self.endpoints)
        )
        self.deleter: Any = SimpleNamespace(busy=False, start=self.done.extend)
        self.loop = Loop(clock)
        self.retrier = SubflowRetrier(
            self.reconciler, path_manager, self.deleter, self.loop, self._publish, self._count
        )
        self.retrier.on_pass()

    def _publish(self, kind: str, priority: int, text: str) -> None:
        self.published.append(text)

    def _count(self) -> None:
        self.unexplained += 1

    def _save(self, state: State) -> None:
        assert not self.deleter.busy
        self.reconciler.state_file.state = state

    def wait(self) -> float | None:
        """Seconds until the loop would wake up."""
        at = self.loop.next_at()
        return None if at is None else at - self.clock.now

    def turns(self, seconds: float) -> list[tuple[str, int]]:
        """What is done in so much time, with a resync at its end: (verb, flags)."""
        end = self.clock.now + seconds
        before = len(self.done)
        while (at := self.loop.next_at()) is not None and at <= end:
            self.clock.now = max(self.clock.now, at)
            self.loop.run_timers()
        self.clock.now = max(self.clock.now, end)
        self.retrier.on_pass()
        return [
            (operation.verb, operation.value.flags)
            for operation in self.done[before:]
            if isinstance(operation.value, Endpoint)
        ]


def test_the_first_look_and_one_try_in_each_way(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [connection(7)]
    assert world.wait() == INITIAL_SCAN_DELAY
    assert world.turns(INITIAL_SCAN_DELAY - 0.1) == []
    assert world.kernel.queries == 0
    assert world.turns(5) == GENTLY + ANEW
    for _ in range(5):  # it is refused again: the kernel tells, or it stays as it is
        assert world.turns(SCAN_INTERVAL) == []
    world.kernel.there = [connection(7), connection(8, joined(8)), connection(9)]
    assert world.turns(SCAN_INTERVAL) + world.turns(5) == GENTLY + ANEW
    world.kernel.there = [connection(7, joined(7)), connection(9)]
    assert world.turns(SCAN_INTERVAL) == []
    world.kernel.there = [connection(7), connection(9)]
    assert world.turns(SCAN_INTERVAL) + world.turns(5) == GENTLY + ANEW, "it had one in between"


def test_what_a_peer_refused_is_tried_again_once_it_may_have_room(clock: Clock) -> None:
    """The peer accepts two subflows beside the initial one; 10.2.2.2 came last."""
    world = World(clock)
    third, fourth = (
        Subflow(7, address, initial=False, initiated_locally=True)
        for address in ("10.3.3.2", "10.4.4.2")
    )
    world.kernel.there = [connection(7, third, fourth)]
    assert world.turns(9) == GENTLY + ANEW
    assert world.turns(3 * SCAN_INTERVAL) == []
    world.kernel.there = [connection(7, third)]
    world.messages = [failed(7, 0, "10.4.4.2")]  # its endpoint is deleted: no error
    world.retrier.on_events()
    assert world.turns(INITIAL_SCAN_DELAY) + world.turns(9) == GENTLY + ANEW
    for others in ((third,), (third, fourth), (third, fourth)):
        world.kernel.there = [connection(7, *others)]
        assert world.turns(SCAN_INTERVAL) == [], "there are not fewer"
    world.kernel.there = [connection(7, fourth)]  # without an event
    assert world.turns(SCAN_INTERVAL) + world.turns(9) == GENTLY + ANEW
    world.kernel.there = [connection(7, fourth, joined(7))]
    assert world.turns(SCAN_INTERVAL) == []


def test_the_end_of_a_subflow_of_another_connection_is_no_reason(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [connection(7)]
    world.turns(9)
    queries = world.kernel.queries
    world.messages = [failed(8, 0, "10.4.4.2")]
    world.retrier.on_events()
    assert world.turns(9) == []
    assert world.kernel.queries == queries


def test_what_goes_to_the_lan_is_no_reason(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [connection(7, address="192.168.70.1")]
    assert world.turns(5) == []
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(5) == []


def test_the_only_subflow_of_another_is_not_closed(clock: Clock) -> None:
    """8 has the initial subflow at 10.2.2.2 and no other; its peer may accept none."""
    world = World(clock)
    world.turns(2)
    here = Subflow(8, HERE.address, initial=True, initiated_locally=True)
    world.kernel.there = [connection(7), (connection(8, max_extra_subflows=0)[0], [here])]
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(1) == WITHOUT_CLOSING * 2, "and less and less often"
    wildcard = world.done[-1].value
    assert isinstance(wildcard, Endpoint)
    assert (wildcard.address, wildcard.device, wildcard.id) == ("0.0.0.0", HERE.device, 2)
    assert ("0.0.0.0", HERE.device) in world.reconciler.state_file.state.endpoints
    assert world.turns(20) == WITHOUT_CLOSING * 4
    world.messages = [failed(8)]  # 8 has its subflow there, and got a second one refused
    world.retrier.on_events()
    world.kernel.there = [connection(7, joined(7)), world.kernel.there[1]]
    assert world.turns(200) == [], "7 has its subflow again"
    world.kernel.there = [connection(7)]
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(60)[:2] == GENTLY


@pytest.mark.parametrize(
    "hindrance",
    ["two addresses on the device", "no free endpoint"],
)
def test_where_a_wildcard_endpoint_cannot_help_the_failed_one_waits(
    clock: Clock, hindrance: str
) -> None:
    world = World(clock)
    here = Subflow(8, HERE.address, initial=True, initiated_locally=True)
    world.kernel.there = [connection(7), (connection(8, max_extra_subflows=0)[0], [here])]
    if hindrance == "no free endpoint":
        others = (Endpoint(f"192.0.2.{n}", id=n) for n in range(2, 9))
        world.endpoints = (HERE, *others)
    else:
        world.reconciler.last.snapshot.addresses.append(Address(3, "10.2.2.77", 24))
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(20) == []


def test_the_endpoint_of_another_program_is_left_alone_and_its_subflows_come_back(
    clock: Clock,
) -> None:
    world = World(clock)
    world.reconciler.state_file.state = State()
    world.endpoints = (HERE._replace(device=0, flags=SUBFLOW | BACKUP),)
    world.kernel.there = [connection(7)]
    assert world.turns(5) == [(verb, SUBFLOW | BACKUP) for verb, _ in WITHOUT_CLOSING] * 2
    assert all(operation.value.device == HERE.device for operation in world.done)  # type: ignore[union-attr]
    world.endpoints = (Endpoint("10.9.9.2", 0, SUBFLOW),)
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(5) == [], "none is there"


def test_what_began_at_an_address_that_is_gone_is_closed(clock: Clock) -> None:
    """A second after an endpoint was deleted; unless it is the connection's only path."""
    world = World(clock)
    world.turns(INITIAL_SCAN_DELAY)
    gone = Subflow(7, "10.1.1.77", initial=True, initiated_locally=True)
    made = connection(7, joined(7))[0]._replace(address="10.1.1.77")
    world.kernel.there = [(made, [gone, joined(7)])]
    last = world.reconciler.last
    last.done = (Operation("delete", Endpoint("10.1.1.77", 2, SUBFLOW, 5)),)
    world.retrier.on_pass()
    last.done = ()
    assert world.turns(INITIAL_SCAN_DELAY) == [("delete", 0)]
    assert world.done[-1].value == Endpoint("10.1.1.77"), "with id 0"
    world.kernel.there = [(made, [gone])]
    assert world.turns(3 * SCAN_INTERVAL)[:1] != [("delete", 0)]


def test_what_the_peer_closed_is_looked_at_soon(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [connection(7, joined(7))]
    assert world.turns(SCAN_INTERVAL) == []
    world.messages = [failed(7, 0)]
    world.retrier.on_events()
    assert world.unexplained == 1
    assert world.turns(INITIAL_BACKOFF) == [], "it is there"
    world.kernel.there = [connection(7)]
    world.retrier.on_events()
    assert world.turns(4 * INITIAL_BACKOFF)[:2] == GENTLY


def test_with_many_connections_it_looks_less_often(clock: Clock) -> None:
    world = World(clock)
    world.kernel.takes = 0.25
    world.turns(INITIAL_SCAN_DELAY)
    assert world.wait() is None, "that alone wakes nobody"
    world.turns(0.25 / SCAN_TIME_SHARE - 1)
    assert world.kernel.queries == 1
    world.turns(1.1)
    assert world.kernel.queries == 2


def test_lost_events_bring_a_look_soon(clock: Clock) -> None:
    world = World(clock)
    world.turns(INITIAL_SCAN_DELAY)
    world.retrier.on_events()
    assert world.wait() == INITIAL_SCAN_DELAY


@pytest.mark.parametrize("error", [OSError(ENOBUFS, "No buffer space"), DecodeError("too short")])
def test_a_query_without_a_reply_is_repeated(clock: Clock, error: Exception) -> None:
    world = World(clock)
    world.kernel.there, world.kernel.fails = [connection(7)], error
    assert world.turns(2.5) == []
    assert [text for text in world.published if str(error) in text]
    assert len(world.published) <= 3
    world.kernel.fails = None
    assert world.turns(4)[:2] == GENTLY


def test_before_the_first_pass_it_waits(clock: Clock) -> None:
    world = World(clock)
    world.reconciler.last = None
    world.kernel.there = [connection(7)]
    assert world.turns(9) == []
    assert world.kernel.queries == 0
    assert world.wait() is None


def test_what_has_ended_gets_no_try(clock: Clock) -> None:
    """The end came before the filter let such events through."""
    world = World(clock)
    world.turns(2)
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.turns(60) == []
    assert world.filters == [FAILED, JOINED, FAILED]


def test_a_busy_deleter_is_waited_for(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [connection(7)]
    world.deleter.busy = True
    clock.now += 9
    world.turns(0)
    assert world.kernel.queries == 0
    world.deleter.busy = False
    world.retrier.on_pass()
    assert world.turns(1)[:2] == GENTLY


FAILED, JOINED = (subflow_event_filter(everything=everything) for everything in (False, True))


def failed(token: int, error: int = ECONNREFUSED, source: str = HERE.address) -> bytes:
    """MPTCP_EVENT_SUB_CLOSED as the kernel writes it: refused from 10.2.2.2."""
    ends = put(5, IPv4Address(source).packed) + put(7, bytes([10, 9, 9, 9]))
    why = put(12, bytes([error])) if error else b""
    return bytes([11, 1, 0, 0]) + put(1, U32.pack(token)) + ends + why


def taken(token: int) -> tuple[Connection, list[Subflow]]:
    """A connection that the peer began."""
    made, (first, *_) = connection(token)
    return made, [first._replace(initiated_locally=False)]


def test_what_the_peer_began_is_dropped_and_the_filter_follows(clock: Clock) -> None:
    world = World(clock)
    world.kernel.there = [taken(7)]
    assert world.turns(5) == []
    world.messages = [failed(7)]
    world.retrier.on_events()
    assert world.filters == [FAILED, JOINED]
    assert world.turns(5) == []
    assert world.filters == [FAILED, JOINED, FAILED]
    world.messages = [failed(7), failed(8)]
    world.kernel.there = [taken(7), connection(8)]
    world.retrier.on_events()
    assert world.turns(INITIAL_BACKOFF + 0.01) == GENTLY, "for 8"
    world.messages = [failed(9)]
    world.kernel.there = [(connection(9)[0], [])]
    world.retrier.on_events()
    assert world.turns(2)[:1] == ANEW, "of 9 there is no subflow left: it may be ours"


def test_asking_who_began_it_takes_little_of_the_time(clock: Clock) -> None:
    """A busy server: each connection that comes in brings a failure."""
    world = World(clock)
    world.turns(INITIAL_SCAN_DELAY)
    world.kernel.takes, queries = 0.05, world.kernel.queries
    began = clock.now
    for token in range(1000):
        world.messages = [failed(token)]
        world.kernel.there.append(taken(token))
        world.retrier.on_events()
        clock.now += 0.05
        world.turns(0)
    queries = world.kernel.queries - queries
    assert queries >= 3
    assert queries * world.kernel.takes <= 1.2 * QUERY_TIME_SHARE * (clock.now - began)
    assert world.done == []
    world.messages = [failed(7)]
    world.retrier.on_events()
    wait = world.wait()
    assert wait is not None
    assert INITIAL_BACKOFF < wait <= world.kernel.takes / QUERY_TIME_SHARE
