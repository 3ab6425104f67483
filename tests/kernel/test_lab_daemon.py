"""The laboratory's grip on mproutd: start, ask, kill, stop."""

from __future__ import annotations

import pytest

from tests.lab import TWO_UPLINKS, Daemon, LabError, eventually


def test_a_daemon_from_its_start_to_its_end(wan):
    with Daemon(wan.gateway) as daemon:
        assert {"wan1", "wan2"} <= {uplink["name"] for uplink in daemon.status()["uplinks"]}
        before = wan.gateway.state(ids=True)
        assert "-4 endpoint 10.1.1.2 id 1 subflow dev eth1" in before
        assert daemon.reconcile() == ""
        daemon.kill9()
        assert daemon.call("status").code == 3
        daemon.start()
        assert wan.gateway.state(ids=True) == before
        assert daemon.stop() == 0
    assert wan.gateway.state(ids=True) == before


def test_a_daemon_that_exits_at_once_shows_its_output(wan):
    daemon = Daemon(wan.gateway, network=TWO_UPLINKS.replace("'master'", "'sideways'"))
    with pytest.raises(AssertionError, match=r"ended with 2:\n[^\n]*sideways"):
        daemon.start()
    daemon.close()


def test_commands_work_without_a_daemon(wan):
    daemon = Daemon(wan.gateway)
    daemon.reconcile()
    eventually(lambda: "10.1.1.2" in wan.gateway.ip("mptcp endpoint show"))
    assert daemon.call("flush").code == 0
    assert wan.gateway.ip("mptcp endpoint show") == ""
    with pytest.raises(LabError):
        wan.gateway.run("test", "-S", "/run/mproutd/control.sock")
    daemon.close()
