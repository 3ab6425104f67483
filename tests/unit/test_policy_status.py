"""Policies in the status: by which uplinks they leave, what comes next, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mproutd.status.policies import policy_lines
from mproutd.status.render import status_lines
from mproutd.status.render_health import FAMILIES
from tests.unit.test_policies import MEMBERS, NETWORK, policy, rule, world
from tests.unit.test_status import Site


def status_of(root: Path, *sections: str, down: str = "", ipv6: bool = True) -> dict[str, Any]:
    site = Site(root, world(ipv6))
    site.write(NETWORK, MEMBERS + "".join(sections))
    for device in down.split():
        site.world.set(device, carrier=False)
    site.settle()
    return site.status()


def complaints(status: dict[str, Any]) -> list[str]:
    return [one["text"] for one in status["problems"] if one["code"] == "policy-unusable"]


def lines(status: dict[str, Any]) -> list[str]:
    return policy_lines(status, FAMILIES)  # type: ignore[arg-type]


def test_where_a_policy_leads_and_what_comes_next(tmp_path: Path) -> None:
    equal = "config member 'e'\n option interface 'wan3'\n option metric '2'\n option weight '4'\n"
    own = rule("user '0'", name="own", to="wan3")
    status = status_of(tmp_path, equal, policy("m1", "m2", "e"), rule(), own)
    first, second = status["policies"]
    assert first == {
        "name": "p",
        "table": 7257,
        "mark": "0x100/0x3f00",
        "last_resort": "unreachable",
        "rules": ["r"],
        "ways": [
            {
                "family": family,
                "uplinks": [{"uplink": "wan1", "weight": 1}],
                "next": ["wan2", "wan3"],
            }
            for family in ("ipv4", "ipv6")
        ],
    }
    assert (second["name"], second["last_resort"], second["rules"]) == ("wan3", "default", ["own"])
    assert lines(status) == [
        "policy p: IPv4 via wan1, then wan2 and wan3; IPv6 via wan1, then wan2 and wan3",
        "policy wan3: IPv4 via wan3; IPv6 via wan3",
    ]
    assert "policy wan3: IPv4 via wan3; IPv6 via wan3" in "\n".join(status_lines(status))  # type: ignore[arg-type]
    assert complaints(status) == []


@pytest.mark.parametrize(
    ("resort", "fate"),
    [("unreachable", "unreachable"), ("blackhole", "discarded"), ("default", "other traffic")],
)
def test_without_a_usable_member(tmp_path: Path, resort: str, fate: str) -> None:
    status = status_of(tmp_path, policy("m2", resort=resort), rule(), down="eth2")
    assert lines(status) == [f"policy p: IPv4 {fate}; IPv6 {fate}"]
    text = f"policy p (IPv4 and IPv6): no member is usable; its traffic: {fate}"
    assert complaints(status) == [text]
    assert status["degraded"]


def test_a_family_without_addresses_is_no_problem(tmp_path: Path) -> None:
    status = status_of(tmp_path, policy("m2"), rule(), ipv6=False)
    assert complaints(status) == []
    assert lines(status) == ["policy p: IPv4 via wan2; IPv6 unreachable"]


def test_an_uplink_that_a_rule_names_speaks_for_itself(tmp_path: Path) -> None:
    assert complaints(status_of(tmp_path, rule(to="wan2"), down="eth2")) == []


def test_without_devices_every_family_is_concerned(tmp_path: Path) -> None:
    site = Site(tmp_path, world())
    site.write(NETWORK, MEMBERS + policy("m2") + rule())
    site.world.remove("eth2")
    site.settle()
    text = "policy p (IPv4 and IPv6): no member is usable; its traffic: unreachable"
    assert complaints(site.status()) == [text]


def test_a_disabled_configuration_has_none(tmp_path: Path) -> None:
    site = Site(tmp_path, world())
    site.write(NETWORK, MEMBERS + policy("m2") + rule())
    network = (tmp_path / "network").read_text().replace("'enable'", "'disable'")
    (tmp_path / "network").write_text(network)
    site.settle()
    assert site.status()["policies"] == []
