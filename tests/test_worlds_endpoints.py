"""Worlds of endpoints: connections that began without one, and endpoints that others made."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows

pytestmark = pytest.mark.kernel

FIRST_OFF = TWO_UPLINKS.replace("'master'", "'off'")
"""wan1 off on eth1, where main's default leads; wan2 on on eth2."""

PLAIN_ECHO = """
import socket
listener = socket.create_server((%r, 7007))
print("ready", flush=True)
connection, _ = listener.accept()
while data := connection.recv(100):
    connection.sendall(data)
"""


def locals_of(wan: Wan, echo: Echo) -> list[str]:
    """The gateway's addresses of the connection's subflows."""
    return sorted(subflow.local for subflow in subflows(wan.gateway, echo.port))


@contextmanager
def fallen_back(wan: Wan) -> Iterator[socket.socket]:
    """An MPTCP socket of the gateway, connected to a server that knows TCP alone."""
    server = wan.server.popen(
        sys.executable, "-c", PLAIN_ECHO % SERVER, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    with wan.gateway.enter():
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    with connection:
        connection.settimeout(3)
        connection.connect((SERVER, 7007))
        assert answers(connection)
        yield connection


def answers(connection: socket.socket) -> bool:
    """Whether a message still comes back."""
    connection.sendall(b"still there?")
    return connection.recv(100) == b"still there?"


# -- connections that began at an address without an endpoint --------------------------------


def test_an_initial_subflow_without_endpoint_is_closed_with_its_address(wan):
    with Daemon(wan.gateway, FIRST_OFF) as daemon:
        with Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
            assert daemon.uplink("wan1")["endpoints"] == []
            echo.report()
            wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
            eventually(lambda: locals_of(wan, echo) == ["10.2.2.2"])
            report = echo.report()
            assert not report.error
            assert report.gap < 0.15, "a subflow that nobody closed is found out by retransmission"
            assert not daemon.settle()["drift"]


def test_it_is_not_closed_while_the_address_is_there(wan):
    with Daemon(wan.gateway, FIRST_OFF) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
        before = subflows(wan.gateway, echo.port)[0].token
        ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-carrier")
        daemon.settle()
        assert locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"]
        wan.plug(1)
        daemon.configure(TWO_UPLINKS.replace("'wan1'", "'other'").replace("eth1", "eth7"))
        daemon.reconcile()  # eth1 is not ours any more: nothing of it is touched
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports
        assert subflows(wan.gateway, echo.port)[0].token == before


def test_no_connection_loses_its_only_path_to_save_another_one_time(wan):
    """Deleting id 0 would end a connection that fell back to TCP; the address may come back."""
    with Daemon(wan.gateway, FIRST_OFF) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
        with fallen_back(wan) as connection:
            wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
            eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-address")
            assert not daemon.settle()["drift"]
            wan.address_up(1)
            wan.default_route(1)
            assert answers(connection)
            wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
            daemon.settle()
        # With the only one that needed it gone, a look finds that the rest can be closed.
        eventually(lambda: daemon.settle() and locals_of(wan, echo) == ["10.2.2.2"])
        assert not echo.report().error


def test_an_address_that_the_cap_left_without_endpoint(wan):
    strangers = [f"192.0.2.{n}" for n in range(1, 8)]
    wan.gateway.ip(*(f"mptcp endpoint add {address} signal" for address in strangers))
    wan.gateway.ip("address delete 2001:db8:1::2/64 dev eth1")
    wan.gateway.ip("address delete 2001:db8:2::2/64 dev eth2")
    with Daemon(wan.gateway) as daemon:
        assert [each["address"] for each in daemon.uplink("wan1")["endpoints"]] == ["10.1.1.2"]
        assert daemon.uplink("wan2")["endpoints"] == []
        with Echo(wan.gateway, wan.server, SERVER, bind="10.2.2.2") as echo:
            eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
            wan.gateway.ip("address delete 10.2.2.2/24 dev eth2")
            eventually(lambda: locals_of(wan, echo) == ["10.1.1.2"])
            assert not echo.report().error
