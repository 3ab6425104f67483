"""What is right is left alone: a pass without a difference writes nothing.

Every netlink message and every sysctl that mproutd writes is counted (tests/lab/witness).
"""

from __future__ import annotations

import signal

import pytest

from tests.lab import SERVER, Echo, eventually, subflows
from tests.lab.counting import Witnessed

pytestmark = pytest.mark.kernel

STATE_FILE = "/run/mproutd/state.json"


@pytest.fixture
def daemon(wan):
    with Witnessed(wan.gateway) as daemon:
        assert daemon.written(), "coming up writes"
        yield daemon


def when_written(daemon: Witnessed) -> int:
    """The state file's time of change, in ns."""
    return daemon.node.path(STATE_FILE).stat().st_mtime_ns


def passes(daemon: Witnessed) -> None:
    """Whatever came before has led to a pass that is over now."""
    daemon.status()


def test_the_witness_sees_each_kind_of_write(wan, daemon):
    wan.gateway.ip("rule delete priority 7501", "mptcp endpoint delete id 1")
    daemon.reconcile()
    written = daemon.written()
    assert "write rtnetlink 32" in written
    assert "write generic 1" in written
    wan.gateway.sysctl("net.ipv4.conf.eth1.rp_filter", 1)
    daemon.reconcile()
    assert "write /proc/sys/net/ipv4/conf/eth1/rp_filter" in daemon.written()


def test_reconcile_writes_nothing(wan, daemon):
    before, file = wan.gateway.state(ids=True), when_written(daemon)
    assert daemon.reconcile() == ""
    assert daemon.written() == []
    assert wan.gateway.state(ids=True) == before
    assert when_written(daemon) == file


def test_sighup_writes_nothing(wan, daemon):
    before, file = wan.gateway.state(ids=True), when_written(daemon)
    daemon.process.send_signal(signal.SIGHUP)
    eventually(daemon.has_traffic)
    passes(daemon)
    assert daemon.written() == []
    assert wan.gateway.state(ids=True) == before
    assert when_written(daemon) == file


def test_a_lease_that_is_renewed_writes_nothing(wan, daemon):
    """dhclient and odhcp6c replace the address with the same one and a new lifetime."""

    def lease(lifetime: int) -> None:
        wan.gateway.ip(
            f"address change 10.1.1.2/24 dev eth1 valid_lft {lifetime} preferred_lft {lifetime}",
            f"address change 2001:db8:1::2/64 dev eth1 valid_lft {lifetime} preferred_lft 1800",
            "route replace default via 10.1.1.1 dev eth1 metric 1",
        )
        eventually(daemon.has_traffic)
        passes(daemon)

    # The first lifetime of a permanent IPv6 address lets its subnet's route expire at once, until
    # the next one (seen on Linux 6.18).  A lease's address has one from the beginning.
    lease(3600)
    lease(7200)
    daemon.written()
    file = when_written(daemon)
    lease(3600)
    lease(7200)
    assert daemon.written() == []
    assert when_written(daemon) == file


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_a_restart_writes_nothing_and_keeps_the_connection(wan, daemon, end):
    file = when_written(daemon)
    before = wan.gateway.state(ids=True)
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
        for _ in range(2):
            getattr(daemon, end)()
            assert wan.gateway.state(ids=True) == before
            daemon.start()
        assert daemon.written() == []
        assert wan.gateway.state(ids=True) == before
        assert when_written(daemon) == file
        received = echo.report().received
        eventually(lambda: echo.report().received > received + 10)
        assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports
        assert not echo.report().error


def test_what_does_not_concern_an_uplink_writes_nothing(wan, daemon):
    wan.gateway.ip(
        "route add 198.51.100.0/24 via 10.1.1.1",
        "route add 10.77.0.0/16 via 10.2.2.1 table 300",
        "rule add from 10.77.0.1 priority 900 lookup 300",
        "link set lo mtu 60000",
        "address add 192.168.70.9/24 dev br-lan",
    )
    passes(daemon)
    assert daemon.written() == []
