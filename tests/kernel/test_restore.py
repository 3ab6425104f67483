"""What somebody else takes away comes back, and what cannot be done stops nothing else."""

from __future__ import annotations

import time

import pytest

from tests.lab import TWO_UPLINKS, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


@pytest.fixture
def daemon(world):
    with Daemon(world.gateway) as daemon:
        yield daemon


REMOVALS = {
    "a rule": ["rule delete priority 7501"],
    "every rule but the kernel's": [
        "rule flush",
        "rule add priority 32766 lookup main",
        "rule add priority 32767 lookup default",
    ],
    "a default route": ["route delete default table 7001"],
    "a table": ["route flush table 7001"],
    "all our routes": ["route flush table all proto 77"],
}


def removals(daemon: Daemon) -> set[tuple[str, str]]:
    """(code, object) of what status says that others remove."""
    return {
        (problem["code"], text)
        for problem in daemon.query_status()["problems"]
        if problem["code"] in ("removed-externally", "rate-limited")
        for text in (problem["object"], *problem.get("others", ()))
    }


@pytest.mark.parametrize("what", REMOVALS)
def test_it_comes_back_by_itself_and_status_names_it(world, daemon, what):
    before = world.gateway.state(ids=True)
    world.gateway.ip(*REMOVALS[what], family=4)
    eventually(lambda: world.gateway.state(ids=True) == before)
    assert daemon.call("status").code == 1
    assert "removed-externally" in {code for code, _ in removals(daemon)}


def test_endpoints_and_limits_come_back_at_reconcile(world, daemon):
    before = world.gateway.state()
    world.gateway.ip("mptcp endpoint flush", "mptcp limits set subflows 2 add_addr_accepted 0")
    assert daemon.status()["drift"]
    # Whoever lowers a limit means it: no limit is brought back up against an admin.
    daemon.reconcile()
    now = world.gateway.state()
    assert now.count("endpoint") == before.count("endpoint")
    assert daemon.reconcile() == ""


def test_endpoints_come_back_by_themselves_after_a_status(world, daemon):
    before = world.gateway.state()
    world.gateway.ip("mptcp endpoint flush")
    assert daemon.status()["drift"]
    eventually(lambda: world.gateway.state() == before)


def test_repeated_removals_are_not_fought(world, daemon):
    """A loop that deletes one rule: it comes back five times at once, then after 0.2 s, 0.4 s …"""
    script = (
        "n=0; end=$(($(date +%s) + 3));"
        "while [ $(date +%s) -lt $end ]; do"
        " ip rule del priority 7502 2>/dev/null && n=$((n + 1)); sleep 0.02; done; echo $n"
    )
    removed = int(world.gateway.run("sh", "-c", script))
    assert 5 <= removed <= 11
    assert ("rate-limited", "7502: from 10.2.2.2 lookup 7002 protocol 77") in removals(daemon)
    # Nothing else suffers meanwhile.
    world.gateway.ip("rule delete priority 7501")
    eventually(lambda: "7501 from 10.1.1.2 lookup 7001 proto 77" in world.gateway.state())
    eventually(lambda: "7502 from 10.2.2.2" in world.gateway.state(), timeout=8)


def test_an_operation_that_fails_stops_no_other_and_is_tried_again(world):
    """Somebody else's default in our table: it has the key that ours would have."""
    world.gateway.ip("route add default via 10.1.1.9 dev eth1 table 7001 proto static")
    with Daemon(world.gateway) as daemon:
        state = world.gateway.state()
        assert "default via 10.1.1.9 dev eth1 table 7001 proto static" in state
        assert "default via 10.2.2.1 dev eth2 table 7002 proto 77" in state
        assert "endpoint 10.2.2.2" in state
        result = daemon.call("status")
        assert result.code == 1
        assert "ip route add default via 10.1.1.1 dev eth1 table 7001 proto 77" in result.words
        assert "attempt " in result.words
        tries = daemon.log().count("ip route add default via 10.1.1.1 dev eth1 table 7001")
        assert 1 <= tries <= 4

        def refused() -> int:
            (problem,) = [p for p in daemon.status()["problems"] if p["code"] == "operation-failed"]
            return int(problem["attempts"])

        eventually(lambda: refused() >= 4)
        world.gateway.ip("route delete default table 7001")
        ours = "default via 10.1.1.1 dev eth1 table 7001 proto 77"
        eventually(lambda: ours in world.gateway.state(), timeout=2)
        eventually(lambda: daemon.call("status").code == 0)


def test_the_delay_between_tries_grows(world):
    world.gateway.ip("route add default via 10.1.1.9 dev eth1 table 7001 proto static")
    with Daemon(
        world.gateway,
    ) as daemon:
        time.sleep(2)  # what is counted is how seldom it happens in a stretch of time
        text = "ip route add default via 10.1.1.1 dev eth1 table 7001"
        assert 3 <= daemon.log().count(text) <= 6


def test_a_rule_in_front_that_leads_elsewhere_takes_the_endpoint_away(world, daemon):
    rule = "priority 5000 from 10.1.1.2 lookup 300"
    assert daemon.call("status").code == 0
    world.gateway.ip("route add blackhole default table 300", f"rule add {rule}")
    eventually(lambda: "endpoint 10.1.1.2" not in world.gateway.state())
    assert "endpoint 2001:db8:1::2" in world.gateway.state()
    result = daemon.call("status")
    assert result.code == 1
    assert "wan1: routed through another device than eth1: 10.1.1.2 (" in result.words
    world.gateway.ip(f"rule delete {rule}")
    eventually(lambda: "endpoint 10.1.1.2 subflow dev eth1" in world.gateway.state())
    assert daemon.call("status").code == 0


def test_a_rule_in_front_before_the_start(world):
    world.gateway.ip("rule add priority 5000 from 10.1.1.2 unreachable")
    with Daemon(world.gateway) as daemon:
        assert "endpoint 10.1.1.2" not in world.gateway.state()
        assert "endpoint 10.2.2.2" in world.gateway.state()
        assert "another device than eth1" in daemon.call("status").words
        world.gateway.ip("rule delete priority 5000")
        eventually(lambda: "endpoint 10.1.1.2" in world.gateway.state())


@pytest.mark.parametrize(
    ("setting", "off", "on", "message"),
    [
        ("net.mptcp.enabled", 0, 1, "net.mptcp.enabled is 0"),
        ("net.mptcp.pm_type", 1, 0, "the path manager is 'userspace'"),
    ],
)
def test_without_working_mptcp_routing_works_and_one_line_reports_it(
    world, setting, off, on, message
):
    world.gateway.sysctl(setting, off)
    with Daemon(world.gateway) as daemon:
        assert "7501 from 10.1.1.2 lookup 7001 proto 77" in world.gateway.state()
        result = daemon.call("status")
        assert result.code == 1
        assert result.words.count(message) == 1
        world.gateway.run("ping", "-c1", "-W2", "-I", "10.2.2.2", "10.9.9.9")
        world.gateway.sysctl(setting, on)
        assert daemon.call("status").code == 0


def test_a_mode_that_is_off_has_its_table_and_no_endpoint(world):
    with Daemon(world.gateway, TWO_UPLINKS.replace("'on'", "'off'")) as daemon:
        assert "endpoint 10.2.2.2" not in world.gateway.state()
        assert "7502 from 10.2.2.2 lookup 7002 proto 77" in world.gateway.state()
        world.unplug(2)
        eventually(lambda: daemon.status()["uplinks"][1]["usable"] is False)
        assert daemon.call("status").code == 0
