"""The laboratory's traffic: what it measures, and the reference that mproutd has to reach."""

from __future__ import annotations

import pytest

from tests.lab import (
    SERVER,
    Echo,
    Iperf,
    address,
    device_bytes,
    eventually,
    mptcp_counters,
    subflows,
)


def test_echo_measures_a_path_that_stands_still(wan):
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: echo.report().received > 20)
        calm = echo.report()
        assert calm.mptcp
        assert not calm.error
        wan.blackhole(1)
        eventually(lambda: echo.report().gap > 0.3)
        wan.repair(1)
        eventually(
            lambda: (
                (last := echo.report()).received > calm.received + 40
                and last.sent - last.received < 5
            )
        )
        assert not echo.report().error


def test_subflows_and_counters(wan):
    wan.by_hand()
    before = mptcp_counters(wan.gateway)
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        both = eventually(lambda: len(two := subflows(wan.gateway, echo.port)) == 2 and two)
        assert [(s.local, s.device, s.initial, s.backup) for s in both] in (
            [("10.1.1.2", "", True, False), ("10.2.2.2", "eth2", False, False)],
            [("10.2.2.2", "eth2", False, False), ("10.1.1.2", "", True, False)],
        )
        assert both[0].token == both[1].token
    assert mptcp_counters(wan.gateway)["MPJoinSynAckRx"] == before["MPJoinSynAckRx"] + 1


@pytest.mark.alone
def test_two_paths_by_hand_carry_1_7_times_one(wan):
    """The reference for all that mproutd has to reach."""
    one = Iperf(wan.gateway, wan.server, SERVER, 3, mptcp=False, bind=address(1)).result()
    wan.by_hand()
    before = device_bytes(wan.gateway)
    both = Iperf(wan.gateway, wan.server, SERVER, 5).result()
    after = device_bytes(wan.gateway)
    assert one.completed
    assert both.completed
    assert 15 < one.mbit < 20
    assert both.between(1, 5) >= 1.7 * one.between(1, 3)
    for device in ("eth1", "eth2"):
        assert after[device].sent - before[device].sent > 5e6
