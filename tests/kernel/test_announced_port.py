"""`option port` on the real kernel: it listens there, and a client joins by that port."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.lab import Daemon, Echo, Namespace, eventually, subflows
from tests.lab.modes import crossing, network, own

pytestmark = pytest.mark.kernel

S1 = "10.3.3.2"
ONE = network(eth1="master")
PORT, OTHER = 5300, 5301


def announces(port: int) -> str:
    """Mproutd's own file of a server that announces its address with this port; 0 for none."""
    line = f"\toption port '{port}'\n" if port else ""
    return own("server") + f"\nconfig uplink 'wan1'\n{line}"


class Ends(NamedTuple):
    """A client and a server, each with one uplink and mproutd; the server's daemon is apart."""

    client: Namespace
    server: Namespace
    daemon: Daemon
    scope: ExitStack

    def connect(self) -> Echo:
        return self.scope.enter_context(Echo(self.client, self.server, S1, listen="0.0.0.0"))

    def ports(self, echo: Echo) -> list[int]:
        """The server's ports of the connection's subflows."""
        found = {(flow.token, flow.remote_port) for flow in subflows(self.client)}
        (token,) = {token for token, port in found if port == echo.port}
        return sorted(port for other, port in found if other == token)


@pytest.fixture
def ends(nodes: Callable[[str], Namespace]) -> Iterator[Ends]:
    with ExitStack() as scope:
        client, server = crossing(nodes)
        scope.enter_context(Daemon(client, ONE, own(wan1="fullmesh")))
        daemon = scope.enter_context(Daemon(server, ONE, announces(PORT), verbose=True))
        yield Ends(client, server, daemon, scope)


def listens(node: Namespace) -> set[int]:
    """The ports at which the kernel or a program listens."""
    return {
        int(line.split()[3].rpartition(":")[2]) for line in node.run("ss", "-Hltn").splitlines()
    }


def announced(node: Namespace) -> list[str]:
    """The node's endpoints, as `ip mptcp endpoint show` prints them, without ids."""
    lines = node.ip("mptcp endpoint show").splitlines()
    return sorted(re.sub(r" id \d+", "", line).strip() for line in lines)


def at(port: int) -> list[str]:
    """As announced() has it, of the server's address with this port."""
    return [f"{S1} port {port} signal dev eth1"] if port else [f"{S1} signal dev eth1"]


def test_a_client_joins_by_the_port_and_a_reload_changes_it(ends):
    assert announced(ends.server) == at(PORT)
    echo = ends.connect()
    eventually(lambda: ends.ports(echo) == sorted([PORT, echo.port]))
    status = ends.daemon.call("status")
    assert f"endpoint 1 signal port {PORT}" in status.words
    assert "!" not in status.out
    ends.daemon.configure(own=announces(OTHER))
    ends.daemon.reconcile()
    assert announced(ends.server) == at(OTHER)
    assert PORT not in listens(ends.server)
    # The kernel leaves the subflow that joined at the connection's own address.
    eventually(lambda: ends.ports(echo) == sorted([PORT, OTHER, echo.port]))
    begun = echo.report().received
    eventually(lambda: echo.report().received > begun)
    assert echo.report().error == ""


def test_the_option_comes_and_goes(ends):
    """Without a connection at the endpoint, which would keep it until it ends."""
    ends.daemon.configure(own=announces(0))
    ends.daemon.reconcile()
    assert announced(ends.server) == at(0)
    assert PORT not in listens(ends.server)
    ends.daemon.configure(own=announces(PORT))
    ends.daemon.reconcile()
    assert announced(ends.server) == at(PORT)
    ends.daemon.stop()
    assert ends.daemon.call("flush").code == 0
    assert announced(ends.server) == []
    assert PORT not in listens(ends.server)


@pytest.mark.parametrize("how", ["kill -9", "stop"])
def test_a_restart_keeps_it(ends, how):
    echo = ends.connect()
    eventually(lambda: ends.ports(echo) == sorted([PORT, echo.port]))
    before = ends.server.ip("mptcp endpoint show")
    ends.daemon.kill9() if how == "kill -9" else ends.daemon.stop()
    ends.daemon.start()
    ends.daemon.settle()
    assert ends.server.ip("mptcp endpoint show") == before
    assert ends.ports(echo) == sorted([PORT, echo.port])
    # It is still known as ours, or this would leave it.
    ends.daemon.configure(own=announces(OTHER))
    ends.daemon.reconcile()
    assert announced(ends.server) == at(OTHER)


def test_a_port_that_a_program_uses_is_explained_and_taken_when_free(ends):
    with ends.server.enter():
        program = socket.create_server(("0.0.0.0", OTHER))
    with program:
        ends.daemon.configure(own=announces(OTHER))
        assert ends.daemon.call("reconcile").code == 1
        (found,) = ends.daemon.query_status()["problems"]
        assert found["code"] == "operation-failed"
        assert f"port {OTHER}" in found["command"]
        assert "listens on the port" in found["advice"]
    eventually(lambda: announced(ends.server) == at(OTHER))
    eventually(lambda: not ends.daemon.query_status()["problems"])


def test_another_programs_endpoint_without_a_port_is_beside_it(ends):
    ends.daemon.stop()
    ends.server.ip(f"mptcp endpoint add {S1} dev eth1 id 9 signal")
    ends.daemon.start()
    ends.daemon.settle()
    assert announced(ends.server) == sorted(at(PORT) + at(0))
    assert ends.daemon.query_status()["problems"] == []
    ends.daemon.stop()
    ends.daemon.call("flush")
    assert announced(ends.server) == at(0)
