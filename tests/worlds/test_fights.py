"""Worlds where somebody else takes our things away: once, at each event, or in a loop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.test_faults import Prepared
from tests.lab import SERVER, TWO_UPLINKS, Daemon, Echo, Monitor, Wan, eventually, subflows

pytestmark = pytest.mark.kernel

GATEWAYS = "config uplink 'wan1'\n\toption gateway '10.1.1.1'\n" + (
    "config uplink 'wan2'\n\toption gateway '10.2.2.1'\n"
)

LIKE_NETWORKD = """
import select, socket, subprocess
events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
events.bind((0, 1))  # RTMGRP_LINK
print("ready", flush=True)
while select.select([events], [], []):
    while select.select([events], [], [], 0.02)[0]:
        events.recv(65536)
    for family in ("-4", "-6"):
        for protocol in ("static", "boot", "77"):
            subprocess.run(["ip", family, "rule", "flush", "protocol", protocol])
"""
"""What systemd-networkd does since v249 (ManageForeignRoutingPolicyRules): at each link
event, every rule goes that it does not know and that is not the kernel's own."""

IN_A_LOOP = "while :; do ip rule flush protocol 77; sleep 0.02; done"


def rules(wan: Wan) -> list[str]:
    return [line for line in wan.gateway.state().splitlines() if " rule 7" in line]


def ours(wan: Wan) -> list[str]:
    """Routes and rules of mproutd, and the endpoints with their ids."""
    lines = wan.gateway.state(ids=True).splitlines()
    return [line for line in lines if "proto 77" in line or "endpoint" in line]


def ports(wan: Wan, echo: Echo) -> set[int]:
    return {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}


def test_a_networkd_that_removes_foreign_rules_at_each_link_event(wan):
    """Main has no default by eth2, so that nothing but the rules leads there."""
    wan.gateway.ip("route delete default via 10.2.2.1 dev eth2 metric 2")
    with Daemon(wan.gateway, own=GATEWAYS) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(ports(wan, echo)) == 2)
        before, connected = ours(wan), ports(wan, echo)
        assert len(rules(wan)) > 8
        with Monitor(wan.gateway) as monitor:
            networkd = wan.gateway.popen(
                sys.executable, "-c", LIKE_NETWORKD, stdout=subprocess.PIPE, text=True
            )
            assert networkd.stdout
            assert networkd.stdout.readline() == "ready\n"
            for state in ("down", "up"):
                wan.gateway.ip(f"link set lan0 {state}")
                eventually(lambda: any("Deleted 7501:" in line for line in monitor.ours()))
                eventually(lambda: ours(wan) == before)
            networkd.terminate()
        status = daemon.query_status()
        assert status["degraded"]
        named = [
            text
            for problem in status["problems"]
            if problem["code"] == "removed-externally"
            for text in (problem["object"], *problem.get("others", ()))
        ]
        assert any(text.startswith("7501: from 10.1.1.2 lookup 7001") for text in named)
        assert ports(wan, echo) == connected, "no subflow was lost over it"
        assert not echo.report().error


def test_one_that_removes_them_in_a_loop_is_not_fought(wan):
    """RESTORE_BURST times at once, then after growing delays: a few writes a second."""
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(ports(wan, echo)) == 2)
        before = wan.gateway.state()
        with Monitor(wan.gateway) as monitor:
            loop = wan.gateway.popen("sh", "-c", IN_A_LOOP)
            wanted = "7501: from 10.1.1.2 lookup 7001"
            eventually(lambda: any(wanted in text for text in rate_limited(daemon)), timeout=8)
            busy, begun = daemon.query_status()["counts"], time.monotonic()
            time.sleep(1)
            calm = daemon.query_status()["counts"]
            seconds = time.monotonic() - begun
            loop.terminate()
            lines = [line for line in monitor.ours() if "7501:" in line]
        added = [line for line in lines if not line.startswith("Deleted")]
        assert 5 <= len(added) <= 11, added
        assert calm["writes"] - busy["writes"] <= (2 * len(rules(wan)) + 30) * seconds
        assert calm["passes"] - busy["passes"] < 30 * seconds
        eventually(lambda: wan.gateway.state() == before, timeout=8)
        assert not echo.report().error


WG_QUICK_DOWN = """
while ip rule show | grep -q "lookup main suppress_prefixlength 0"; do
    ip rule delete table main suppress_prefixlength 0
done
"""
"""What `wg-quick down` does, and our rule at 32764 looks like its own."""


def test_a_program_that_deletes_until_nothing_is_left(wan):
    """It ends as soon as the rule stays away for a moment, and then the rule is back."""
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        before = wan.gateway.state()
        for _ in range(2):
            wan.gateway.run("sh", "-c", WG_QUICK_DOWN, timeout=10)
            eventually(lambda: wan.gateway.state() == before, timeout=2)


HALTED = "import mproutd.daemon as daemon; daemon.RESYNC_INTERVAL = 1.0; daemon.HALT_SECONDS = {}"


@pytest.mark.parametrize("halt", [0.5, 60.0], ids=["halt", "overtaken"])
def test_removals_by_the_kernel_during_a_halt_are_not_reported(wan, halt):
    """The resync is due when the process goes on, and the events are unread."""
    daemon = Prepared(wan.gateway)
    daemon.lines = HALTED.format(halt)
    with daemon:
        daemon.settle()
        before = wan.gateway.state()
        assert daemon.process
        daemon.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{daemon.process.pid}/stat")
        eventually(lambda: ") T " in stat.read_text())
        wan.admin_down(2)
        wan.admin_up(2)
        wan.address_up(2)
        wan.default_route(2)
        time.sleep(2)
        daemon.process.send_signal(signal.SIGCONT)
        eventually(lambda: wan.gateway.state() == before)
        assert daemon.query_status()["problems"] == []
        wan.gateway.ip("rule delete priority 7502")
        eventually(lambda: wan.gateway.state() == before)
        named = [problem["object"] for problem in daemon.query_status()["problems"]]
        assert [text.partition(":")[0] for text in named] == ["7502"]


def rate_limited(daemon: Daemon) -> list[str]:
    problems = [
        problem
        for problem in daemon.query_status()["problems"]
        if problem["code"] == "rate-limited"
    ]
    return [text for problem in problems for text in (problem["text"], *problem.get("others", ()))]


def test_everything_is_flushed_and_comes_back(wan):
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(ports(wan, echo)) == 2)
        before, connected = ours(wan), ports(wan, echo)
        for family in (4, 6):
            wan.gateway.ip("rule flush", "rule add priority 32766 lookup main", family=family)
            eventually(lambda: ours(wan) == before)
            wan.gateway.ip("route flush table 7001", "route flush table 7000", family=family)
            eventually(lambda: ours(wan) == before)
        assert ports(wan, echo) == connected
        problems = daemon.query_status()["problems"]
        assert len(problems) == 2, "one for the rules, one for the routes"
        named = " ".join(" ".join([problem["text"], *problem["others"]]) for problem in problems)
        for text in ("7501: from 10.1.1.2", "default via 10.1.1.1 dev eth1", "2001:db8:1::/64"):
            assert text in named


SHORT = "import mproutd.planning.pacing as pacing; pacing.RESTORE_INTERVAL = 1.0"


def test_a_withheld_misrouted_endpoint_causes_no_pass(wan):
    """Its time is over, but it waits for the rule in front to go: the daemon sleeps meanwhile."""
    daemon = Prepared(wan.gateway)
    daemon.lines = SHORT
    with daemon:

        def taken_away() -> bool:
            number = daemon.query_status()["uplinks"][0]["endpoints"][0]["id"]
            if number is not None:
                wan.gateway.ip(f"mptcp endpoint delete id {number}")
            return any("10.1.1.2" in text for text in rate_limited(daemon))

        eventually(taken_away)
        wan.gateway.ip(
            "route add unreachable default table 300",
            "rule add priority 10 from 10.1.1.2 table 300",
        )
        eventually(
            lambda: (
                "misrouted" in {problem["code"] for problem in daemon.query_status()["problems"]}
            )
        )
        time.sleep(2)
        before = daemon.query_status()["counts"]["passes"]
        time.sleep(1)
        assert daemon.query_status()["counts"]["passes"] - before < 10
        wan.gateway.ip("rule delete priority 10")
        eventually(lambda: "endpoint 10.1.1.2 " in wan.gateway.state())


def test_limits_that_were_reset_are_restored_by_the_next_resync(wan):
    """No event tells of it: a resync, SIGHUP, reconcile or status finds it."""
    own = "config mproutd 'globals'\n\toption subflows '4'\n"
    with Daemon(wan.gateway, own=own) as daemon:
        four = "add_addr_accepted 0 subflows 4"
        assert four in wan.gateway.ip("mptcp limits show")
        wan.gateway.ip("mptcp limits set subflows 2 add_addr_accepted 0")
        daemon.query_status()
        eventually(lambda: four in wan.gateway.ip("mptcp limits show"))
        wan.gateway.ip("mptcp limits set subflows 2 add_addr_accepted 0")
        assert "ip mptcp limits set" in daemon.reconcile()
        assert four in wan.gateway.ip("mptcp limits show")
    daemon.configure(TWO_UPLINKS.replace("enable", "disable"))
    daemon.reconcile()
    assert "add_addr_accepted 0 subflows 2" in wan.gateway.ip("mptcp limits show")
