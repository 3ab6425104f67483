"""What the status advises where another daemon runs that changes the same things."""

from __future__ import annotations

from typing import Any

import pytest

from mproutd.environment import CONFLICTING_DAEMONS
from mproutd.status.conflicts import CONFLICT_ADVICE, with_conflicts
from mproutd.status.problems import ADVICE, problem

FOREIGN = problem(
    "foreign-endpoint", uplink="wan2", address="10.2.2.2", endpoint="10.2.2.2 id 7 subflow dev eth2"
)
RULE = problem("removed-externally", object="7502: from 10.2.2.2 lookup 7002", count=2, kind="rule")
ENDPOINT = problem("rate-limited", object="10.2.2.2 subflow dev eth2", count=6, kind="endpoint")
NMCLI = '"$(nmcli -g GENERAL.CONNECTION device show eth2)" connection.mptcp-flags disabled'


def advice(reported: dict[str, Any], *running: str) -> str:
    status = {
        "enabled": True,
        "degraded": True,
        "uplinks": [{"name": "wan1", "device": "eth1"}, {"name": "wan2", "device": "eth2"}],
        "problems": [reported],
    }
    return str(with_conflicts(status, running)["problems"][0]["advice"])


@pytest.mark.parametrize(
    ("reported", "running", "words"),
    [
        (FOREIGN, "NetworkManager", NMCLI),
        (FOREIGN, "NetworkManager", "nmcli device reapply eth2"),
        (FOREIGN, "mptcpd", "ip mptcp endpoint delete id 7"),
        (RULE, "systemd-networkd", "ManageForeignRoutingPolicyRules=no"),
    ],
)
def test_the_setting_of_the_one_that_runs(reported: Any, running: str, words: str) -> None:
    assert words in advice(reported, running)


def test_both_where_both_may_have_done_it() -> None:
    assert NMCLI in advice(FOREIGN, "NetworkManager", "mptcpd")
    assert "systemctl disable --now mptcp" in advice(FOREIGN, "NetworkManager", "mptcpd")


@pytest.mark.parametrize(
    ("reported", "running"),
    [(FOREIGN, "systemd-networkd"), (RULE, "NetworkManager"), (ENDPOINT, "systemd-networkd")],
)
def test_no_other_daemon_is_named(reported: dict[str, Any], running: str) -> None:
    assert advice(reported, running) == ADVICE[reported["code"]]


def test_mptcpd_is_a_problem_and_the_others_are_none() -> None:
    calm: dict[str, Any] = {"enabled": True, "degraded": False, "uplinks": [], "problems": []}
    assert with_conflicts(calm, {*CONFLICTING_DAEMONS.values()} - {"mptcpd"}) == calm
    status = with_conflicts(calm, {"mptcpd"})
    assert [reported["code"] for reported in status["problems"]] == ["mptcpd-running"]
    assert status["degraded"] is True
    idle = {**calm, "enabled": False}
    assert with_conflicts(idle, {"mptcpd"}) == idle


@pytest.mark.parametrize(
    ("reason", "sources", "named"),
    [("no-carrier", [], True), ("no-carrier", ["10.2.2.2"], False), ("no-address", [], False)],
)
def test_dhcpcd_where_the_address_went_with_the_carrier(
    reason: str, sources: list[str], named: bool
) -> None:
    family = {"reason": reason, "sources": sources, "advice": ADVICE[reason]}
    uplink = {"name": "wan2", "device": "eth2", "families": [family]}
    status = {"enabled": True, "degraded": True, "uplinks": [uplink], "problems": []}
    [with_conflict] = with_conflicts(status, {"dhcpcd"})["uplinks"]
    assert ("nolink" in with_conflict["families"][0]["advice"]) is named
    assert with_conflict["families"][0]["advice"].startswith(ADVICE[reason])
    assert with_conflicts(status, {"NetworkManager"}) == status


def test_every_daemon_has_its_advice() -> None:
    assert {name for _, name in CONFLICT_ADVICE} == set(CONFLICTING_DAEMONS.values())
