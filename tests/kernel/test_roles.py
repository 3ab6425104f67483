"""role, fullmesh and laminar on the real kernel, mproutd at both ends of the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.lab import (
    Daemon,
    Echo,
    Namespace,
    eventually,
    join_attempts,
    mptcp_counters,
    subflows,
)
from tests.lab.in_process import InProcess
from tests.lab.kernel_limits import has_laminar, leave_room
from tests.lab.modes import crossing, endpoints, network, own

pytestmark = pytest.mark.kernel

C1, C2, S1, S2 = "10.1.1.2", "10.2.2.2", "10.3.3.2", "10.4.4.2"
ONE, TWO = network(eth1="master"), network(eth1="master", eth2="on")
SERVER = own("server")
ACCEPT = "\nconfig mproutd 'globals'\n\toption add_addr_accepted '2'\n"


class Ends(NamedTuple):
    """Two machines, and mproutd on each when begin() was called."""

    client: Namespace
    server: Namespace
    scope: ExitStack

    def begin(self, client: str, server: str, at_client: str = "", at_server: str = "") -> None:
        self.scope.enter_context(Daemon(self.client, client, at_client))
        self.scope.enter_context(Daemon(self.server, server, at_server))

    def connect(self, listen: str = "0.0.0.0") -> Echo:
        """A connection to the server's first address; by default it listens on all."""
        return self.scope.enter_context(Echo(self.client, self.server, S1, listen=listen))

    def paths(self, echo: Echo) -> set[tuple[str, str]]:
        """The connection's subflows as (client's address, server's address)."""
        return {(flow.local, flow.remote) for flow in subflows(self.client, echo.port)}


@pytest.fixture
def ends(nodes: Callable[[str], Namespace]) -> Iterator[Ends]:
    with ExitStack() as scope:
        yield Ends(*crossing(nodes), scope)


def lives(echo: Echo, messages: int = 5) -> None:
    """Some more messages come back, the connection is the same, and it is MPTCP."""
    begun = echo.report().received
    eventually(lambda: echo.report().received >= begun + messages)
    seen = echo.report()
    assert (seen.error, seen.mptcp) == ("", True)


def test_a_server_announces_and_a_client_with_one_uplink_gets_its_second_subflow(ends):
    ends.begin(ONE, TWO, own(wan1="fullmesh"), SERVER)
    assert endpoints(ends.client) == {C1: "subflow fullmesh dev eth1"}
    assert endpoints(ends.server) == {S1: "signal dev eth1", S2: "signal dev eth2"}
    echo = ends.connect()
    eventually(lambda: ends.paths(echo) == {(C1, S1), (C1, S2)})
    ends.server.ip("link set eth2 down")  # the server takes it back: REMOVE_ADDR
    eventually(lambda: ends.paths(echo) == {(C1, S1)})
    lives(echo)


def test_an_end_that_is_both_announces_and_joins(ends):
    ends.begin(TWO, TWO, own("both") + ACCEPT, own("both"))
    assert endpoints(ends.client) == {C1: "signal subflow dev eth1", C2: "signal subflow dev eth2"}
    echo = ends.connect()
    eventually(lambda: {(C1, S1), (C1, S2), (C2, S1)} <= ends.paths(echo))
    lives(echo)


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, {(C1, S1), (C2, S1)}),
        ({"wan2": "fullmesh"}, {(C1, S1), (C2, S1), (C2, S2)}),
        ({"wan1": "fullmesh", "wan2": "fullmesh"}, {(C1, S1), (C2, S1), (C1, S2), (C2, S2)}),
    ],
    ids=["none", "one", "all"],
)
def test_fullmesh_joins_every_address_of_the_server(ends, options, paths):
    ends.begin(TWO, TWO, own(**options), SERVER)
    for n, at in ((1, C1), (2, C2)):
        flags = "subflow fullmesh" if f"wan{n}" in options else "subflow"
        assert endpoints(ends.client)[at] == f"{flags} dev eth{n}"
    echo = ends.connect()
    eventually(lambda: ends.paths(echo) == paths)
    lives(echo, 20)
    assert ends.paths(echo) == paths


def test_fullmesh_is_not_requested_with_signal_which_the_kernel_refuses(ends):
    ends.begin(TWO, TWO, own("both", wan1="fullmesh"), own("server", wan1="fullmesh"))
    assert endpoints(ends.client)[C1] == "signal subflow dev eth1"
    assert endpoints(ends.server)[S1] == "signal dev eth1"


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_announced_address_that_refuses_does_not_cost_the_path_that_works(ends, role):
    """The server listens on its first address only: a join to the second one is refused.

    Where the client announces as well, nobody listens there at all.
    """
    ends.begin(ONE if role == "client" else TWO, TWO, own(role) + ACCEPT, SERVER)
    echo = ends.connect(listen=S1)
    (before,) = [flow for flow in subflows(ends.client, echo.port) if flow.initial]
    eventually(lambda: join_attempts(ends.client) >= 1)
    lives(echo, 40)  # 0.8 s: longer than the first tries to bring back what failed
    (after,) = subflows(ends.client, echo.port)
    assert after[:4] == before[:4]
    for end in (ends.client, ends.server):
        assert mptcp_counters(end)["RmSubflow"] == 0


def test_a_server_does_not_reopen_what_its_clients_use(ends):
    """One client's subflow is reset: the others', at the same address, are not touched."""
    ends.begin(TWO, ONE, at_server=SERVER)
    echo = ends.connect()
    eventually(lambda: ends.paths(echo) == {(C1, S1), (C2, S1)})
    (stays,) = [flow for flow in subflows(ends.client, echo.port) if flow.local == C2]
    ends.client.run("ss", "-K", "src", C1, "dst", S1)
    lives(echo, 40)
    assert stays[:4] in [flow[:4] for flow in subflows(ends.client, echo.port)]
    assert mptcp_counters(ends.server)["RmSubflow"] == 0


# -- laminar ------------------------------------------------------------------------------


def flags(in_process: InProcess) -> dict[str, int]:
    """Address -> flags, by netlink: iproute2 6.1 cannot print laminar."""
    return {endpoint.address: endpoint.flags for endpoint in in_process.existing().endpoints}


def test_laminar_answers_the_announced_address_from_its_own(ends):
    """Without the flag, the kernel joins an announced address from wherever routing says."""
    if not has_laminar():
        pytest.skip("this kernel does not know laminar")
    with InProcess(ends.client, TWO, own(wan2="laminar")) as in_process:
        in_process.settle()
        assert flags(in_process) == {C1: 0x2, C2: 0x22}
        ends.scope.enter_context(Daemon(ends.server, TWO, SERVER))
        echo = ends.connect()
        eventually(lambda: ends.paths(echo) == {(C1, S1), (C2, S2)})
        lives(echo, 20)
        assert ends.paths(echo) == {(C1, S1), (C2, S2)}
        assert in_process.settle() == []


def test_laminar_is_not_requested_from_a_kernel_without_it(ends):
    with InProcess(
        ends.client, TWO, own(wan2="laminar"), laminar=False if has_laminar() else None
    ) as in_process:
        in_process.settle()
        assert flags(in_process) == {C1: 0x2, C2: 0x2}
        assert in_process.settle() == []
        assert in_process.problems() == ["laminar-unsupported"]


def test_the_question_about_laminar_leaves_nothing_and_changes_no_id(ends):
    """It is asked by an endpoint that is deleted at once, and only where the option is set."""
    with InProcess(ends.client, TWO, own()) as in_process:
        in_process.settle()
        assert in_process.manager._laminar is None
        before = in_process.existing().endpoints
        assert in_process.manager.read(full=True, probe_laminar=True).endpoints == before
        assert in_process.manager._laminar is has_laminar()
        assert in_process.existing().endpoints == before
        ends.client.ip("mptcp endpoint add 192.0.2.9 signal")
        assert in_process.existing().endpoints[-1].id == before[-1].id + 1


def test_where_there_is_no_room_for_the_question_laminar_is_tried(ends):
    leave_room(ends.client, 0)
    with InProcess(ends.client, TWO, own(wan2="laminar")) as in_process:
        in_process.settle()
        assert in_process.manager._laminar is None
        assert in_process.problems() == ["endpoint-limit"] * 2
