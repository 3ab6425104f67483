"""Resolvers in the status: the rule, why there is none, and queries that leave elsewhere."""

from __future__ import annotations

from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest

from mproutd.model import Route, Rule
from mproutd.status.render_uplink import uplink_lines
from tests.lab.fake_world import interface
from tests.unit.test_plan import WAN1, WAN2
from tests.unit.test_status import Site

OWN = (
    "config uplink wan1\n list dns 198.51.100.1\n list dns 9.9.9.9\n list dns fe80::53\n"
    "config uplink wan2\n list dns 203.0.113.1\n list dns 9.9.9.9\n list dns 192.168.7.53\n"
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.world.device("lan0", "192.168.7.1/24")
    return made


def run(site: Site, own: str = OWN, network: str = WAN1 + WAN2) -> dict[str, list[dict[str, Any]]]:
    """Uplink → its resolvers."""
    site.write(network, own)
    site.settle()
    return {uplink["name"]: uplink["resolvers"] for uplink in site.status()["uplinks"]}


def test_each_with_its_rule_or_why_there_is_none(site: Site) -> None:
    found = run(site)
    assert found["wan1"] == [
        {
            "address": "198.51.100.1",
            "origin": "configuration",
            "in_use": True,
            "rule": "7899: from all to 198.51.100.1 lookup 7001 protocol 77",
            "no_rule": None,
            "shared_with": [],
        },
        {
            "address": "9.9.9.9",
            "origin": "configuration",
            "in_use": True,
            "rule": None,
            "no_rule": "shared",
            "shared_with": ["wan2"],
        },
        {
            "address": "fe80::53",
            "origin": "configuration",
            "in_use": False,
            "rule": None,
            "no_rule": "link-local",
            "shared_with": [],
        },
    ]
    assert [item["no_rule"] for item in found["wan2"]] == [None, "shared", "local"]
    assert site.problems() == []


def test_ipv6_and_an_uplink_without_any(site: Site) -> None:
    site.world.device("eth3", "2001:db8:3::2/64", gateway6="fe80::1")
    own = "config uplink wan3\n list dns 2001:db8:53::1\n"
    found = run(site, own, WAN1 + WAN2 + interface("wan3", "eth3", "off"))
    assert found["wan1"] == []
    (item,) = found["wan3"]
    assert item["rule"] == "-6 7899: from all to 2001:db8:53::1 lookup 7003 protocol 77"
    assert not item["in_use"], "it is off"


def test_as_people_read_it(site: Site) -> None:
    run(site)
    site.world.set("eth2", carrier=False)
    site.settle()
    status = site.status()
    text = "\n".join(
        line
        for uplink in status["uplinks"]
        for line in uplink_lines(status, uplink, 0.0, "")  # type: ignore[arg-type]
    )
    for line in (
        "  resolver 198.51.100.1 (configured)\n",
        "  resolver 9.9.9.9 (configured): no rule, since wan2 names it too\n",
        "  resolver fe80::53 (configured): link-local, needs no rule\n",
        "  resolver 203.0.113.1 (configured): not asked while the uplink is not usable\n",
        "  resolver 192.168.7.53 (configured): in a local network, needs no rule\n",
    ):
        assert line in text + "\n", text


def test_a_route_in_main_that_comes_first(site: Site) -> None:
    run(site)
    index = site.world.link("eth2").index
    site.world.foreign(Route(AF_INET, 254, "198.51.100.1", index, "10.2.2.1", protocol=4))
    (problem,) = site.problems()
    assert problem["code"] == "resolver-diverted"
    assert problem["text"] == (
        "wan1: queries to its resolver 198.51.100.1 leave through eth2 instead of eth1 "
        "(ip route get 198.51.100.1)"
    )


def test_a_resolver_that_the_carrier_of_other_traffic_does_not_name(site: Site) -> None:
    site.world.device("eth3", "10.3.3.2/24", gateway="10.3.3.1")
    own = "config uplink wan2\n list dns 9.9.9.9\nconfig uplink wan3\n list dns 9.9.9.9\n"
    run(site, own, WAN1 + WAN2 + interface("wan3", "eth3", "on"))
    (problem,) = site.problems()
    assert problem["code"] == "resolver-shared"
    assert problem["text"] == (
        "9.9.9.9: wan2 and wan3 name this resolver, so it has no rule; queries leave through "
        "eth1, which does not name it"
    )
    site.world.set("eth1", carrier=False)
    site.settle()
    assert site.problems() == []


def test_nowhere(site: Site) -> None:
    run(site)
    site.world.foreign(Rule(AF_INET, 100, 99, destination="198.51.100.1", action=7, plain=False))
    site.world.foreign(Rule(AF_INET, 101, 99, destination="203.0.113.1", action=7, plain=False))
    texts = [problem["text"] for problem in site.problems()]
    assert len(texts) == 2
    assert all(" leave through no device instead of eth" in text for text in texts)


def test_no_problem_while_the_plan_is_not_in_the_kernel(site: Site) -> None:
    run(site)
    site.world.rules = [rule for rule in site.world.rules if rule.priority != 7899]
    assert site.problems() == []
    assert any("198.51.100.1" in line for line in site.status()["drift"])
