"""A connection whose peer knows no MPTCP has one path, and it is not taken away.

Configuration: wan1 master on eth1, wan2 on on eth2.  World: one MPTCP connection over both,
and one that fell back to plain TCP on eth1; then eth1's cable is out for two seconds.
"""

from __future__ import annotations

import time

import pytest

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, mptcp_counters, subflows

pytestmark = pytest.mark.kernel


def endpoint(wan: Wan, address: str) -> str:
    """The endpoint of an address as ip shows it; empty for none."""
    lines = wan.gateway.ip("mptcp endpoint show").splitlines()
    return next((line for line in lines if line.startswith(f"{address} ")), "")


def test_a_connection_without_a_second_path_outlives_a_carrier_that_comes_back(wan: Wan) -> None:
    with (
        Daemon(wan.gateway),
        Echo(wan.gateway, wan.server, SERVER) as both,
        Echo(wan.gateway, wan.server, SERVER, answers_mptcp=False) as plain,
    ):
        eventually(lambda: len(subflows(wan.gateway, both.port)) == 2)
        assert both.report().mptcp
        assert not plain.report().mptcp
        wan.unplug(1)
        eventually(lambda: "backup" in endpoint(wan, "10.1.1.2"))
        time.sleep(1)
        received = both.report().received
        eventually(lambda: both.report().received > received)  # it moved to eth2
        wan.plug(1)
        eventually(lambda: endpoint(wan, "10.1.1.2") and "backup" not in endpoint(wan, "10.1.1.2"))
        received = plain.report().received
        eventually(lambda: plain.report().received > received + 20)
        assert plain.report().error == ""
        assert both.report().error == ""
        eventually(lambda: len(subflows(wan.gateway, both.port)) == 2)


def test_without_such_a_connection_the_endpoint_goes_at_once(wan: Wan) -> None:
    with Daemon(wan.gateway), Echo(wan.gateway, wan.server, SERVER) as both:
        eventually(lambda: len(subflows(wan.gateway, both.port)) == 2)
        wan.unplug(1)
        eventually(lambda: not endpoint(wan, "10.1.1.2"))
        assert mptcp_counters(wan.gateway)["RmSubflow"] >= 1


def test_the_endpoint_is_deleted_when_its_last_connection_ends(wan: Wan) -> None:
    with Daemon(wan.gateway) as daemon:
        with Echo(wan.gateway, wan.server, SERVER, answers_mptcp=False) as plain:
            assert not plain.report().mptcp
            wan.unplug(1)
            eventually(lambda: "backup" in endpoint(wan, "10.1.1.2"))
        daemon.reconcile()
        eventually(lambda: not endpoint(wan, "10.1.1.2"))
