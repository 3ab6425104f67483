"""Worlds of endpoints: connections that began without one, and endpoints that others made."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows
from tests.lab.kernel_limits import leave_room

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


@pytest.mark.alone
def test_an_initial_subflow_without_endpoint_is_closed_with_its_address(wan):
    with Daemon(wan.gateway, FIRST_OFF) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
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
        both = ["10.1.1.2", "10.2.2.2"]
        eventually(lambda: locals_of(wan, echo) == both)
        ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-carrier")
        daemon.settle()
        assert locals_of(wan, echo) == both
        wan.plug(1)
        eventually(lambda: daemon.uplink("wan1")["usable"])
        daemon.configure(TWO_UPLINKS.replace("'wan1'", "'other'").replace("eth1", "eth7"))
        daemon.reconcile()  # eth1 is not ours any more: nothing of it is touched
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports


def test_first_the_carrier_goes_and_then_the_address(wan):
    with Daemon(wan.gateway, FIRST_OFF) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
        wan.unplug(1)
        eventually(lambda: daemon.uplink("wan1")["families"][0]["reason"] == "no-carrier")
        wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
        eventually(lambda: locals_of(wan, echo) == ["10.2.2.2"])


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
    leave_room(wan.gateway, 1)
    wan.gateway.ip("address delete 2001:db8:1::2/64 dev eth1")
    wan.gateway.ip("address delete 2001:db8:2::2/64 dev eth2")
    with Daemon(wan.gateway) as daemon:
        assert [endpoint["address"] for endpoint in daemon.uplink("wan1")["endpoints"]] == [
            "10.1.1.2"
        ]
        assert daemon.uplink("wan2")["endpoints"] == []
        with Echo(wan.gateway, wan.server, SERVER, bind="10.2.2.2") as echo:
            eventually(lambda: locals_of(wan, echo) == ["10.1.1.2", "10.2.2.2"])
            wan.gateway.ip("address delete 10.2.2.2/24 dev eth2")
            eventually(lambda: locals_of(wan, echo) == ["10.1.1.2"])
            assert not echo.report().error


# -- endpoints that the kernel made, and those that somebody changed -------------------------


def endpoints(wan: Wan) -> list[str]:
    """`ip mptcp endpoint show`; ip(8) of 2022 prints the flag implicit as a number."""
    lines = wan.gateway.ip("mptcp endpoint show").replace("rawflags 10", "implicit").splitlines()
    return sorted(line.strip() for line in lines)


@pytest.fixture
def implicit(wan):
    """The kernel has made an endpoint on 10.2.2.2: the server announced an address, and main
    leads there by eth2."""
    wan.server.ip("address add 10.9.9.10/32 dev lo", "mptcp endpoint add 10.9.9.10 signal")
    wan.gateway.ip(
        "route add 10.9.9.10 via 10.2.2.1 dev eth2",
        "mptcp limits set subflows 8 add_addr_accepted 8",
    )
    with Echo(wan.gateway, wan.server, SERVER, bind="10.1.1.2"):
        eventually(lambda: endpoints(wan) == ["10.2.2.2 id 1 implicit"])
        yield wan


def test_an_implicit_endpoint_gives_way_to_ours(implicit):
    with Daemon(implicit.gateway) as daemon:
        assert "10.2.2.2 id 1 subflow dev eth2" in endpoints(implicit)
        status = daemon.settle()
        assert not status["problems"]
        assert not status["mptcp"]["foreign_endpoints"]
        assert daemon.reconcile() == ""
    assert daemon.call("flush").code == 0
    assert endpoints(implicit) == []


def test_an_implicit_endpoint_goes_with_its_address(implicit):
    """It stays where no endpoint is wanted; with the address gone it would only take a slot."""
    with Daemon(implicit.gateway, TWO_UPLINKS.replace("'on'", "'off'")) as daemon:
        daemon.settle()
        assert "10.2.2.2 id 1 implicit" in endpoints(implicit)
        implicit.gateway.ip("address delete 10.2.2.2/24 dev eth2")
        eventually(
            lambda: not [endpoint for endpoint in endpoints(implicit) if "10.2.2.2" in endpoint]
        )
        assert not daemon.settle()["drift"]


def number(wan: Wan, address: str) -> str:
    """The id of the endpoint on an address."""
    ids = [endpoint.split()[2] for endpoint in endpoints(wan) if endpoint.startswith(f"{address} ")]
    assert len(ids) == 1
    return ids[0]


def test_flags_changed_by_another_program_are_restored_and_no_subflow_ends(wan):
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(locals_of(wan, echo)) == 2)
        before = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        wan.gateway.ip(f"mptcp endpoint change id {number(wan, '10.2.2.2')} backup")
        assert daemon.uplink("wan2")["endpoints"][0]["state"] == "differs"  # asking finds it
        eventually(lambda: daemon.uplink("wan2")["endpoints"][0]["state"] == "ok")
        assert f"10.2.2.2 id {number(wan, '10.2.2.2')} subflow dev eth2" in endpoints(wan)
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == before


@pytest.mark.parametrize(
    ("again", "verbs"),
    [("signal", ["delete", "add"]), ("subflow fullmesh", ["change"]), ("subflow", [])],
)
def test_ours_deleted_and_added_again_otherwise(wan, again, verbs):
    """The kernel can change flags of a live endpoint; its id does not matter."""
    with Daemon(wan.gateway) as daemon:
        wan.gateway.ip(
            f"mptcp endpoint delete id {number(wan, '10.2.2.2')}",
            f"mptcp endpoint add 10.2.2.2 id 77 dev eth2 {again}",
        )
        changes = daemon.reconcile().splitlines()
        assert [change.split()[3] for change in changes] == verbs
        assert daemon.uplink("wan2")["endpoints"][0]["state"] == "ok"
        assert f"10.2.2.2 id {number(wan, '10.2.2.2')} subflow dev eth2" in endpoints(wan)


def test_a_foreign_object_in_place_of_ours_is_kept_and_reported(wan):
    with Daemon(wan.gateway) as daemon:
        wan.gateway.ip(
            f"mptcp endpoint delete id {number(wan, '10.2.2.2')}",
            "mptcp endpoint add 10.2.2.2 id 77 subflow",
        )
        assert daemon.reconcile() == ""
        assert [problem["code"] for problem in daemon.query_status()["problems"]] == [
            "foreign-endpoint"
        ]
        assert "10.2.2.2 id 77 subflow" in endpoints(wan)
        wan.gateway.ip("mptcp endpoint delete id 77")
        assert "ip mptcp endpoint add 10.2.2.2 dev eth2 subflow" in daemon.reconcile()


def test_an_endpoint_deleted_by_hand_comes_back_at_once_where_it_carried_something(wan):
    """Nothing announces it, but the subflows that it closed do."""
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        for address in ("10.2.2.2", "10.1.1.2"):
            eventually(lambda: len(locals_of(wan, echo)) == 2)
            old = number(wan, address)
            wan.gateway.ip(f"mptcp endpoint delete id {old}")
            eventually(lambda address=address, old=old: number(wan, address) != old, timeout=3)
        eventually(lambda: len(locals_of(wan, echo)) == 2)
        assert not echo.report().error
        removed = [problem.get("object", "") for problem in daemon.query_status()["problems"]]
        assert any("10.2.2.2 subflow dev eth2" in text for text in removed)
