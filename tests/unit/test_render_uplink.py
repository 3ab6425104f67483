"""A status in words, with colours and in narrow places."""

from __future__ import annotations

import pathlib
import re
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.iproute2 import ip_command
from mproutd.model import SIGNAL, SUBFLOW, Address, Endpoint, Operation, Route, contains
from mproutd.planning.endpoints import is_client_endpoint
from mproutd.planning.gateways import Gateway
from mproutd.planning.overlaps import subnet_keys
from mproutd.planning.uplinks import Path
from mproutd.status.connections import UplinkNames, uplink_names
from mproutd.status.metrics import samples
from mproutd.status.render import status_lines
from mproutd.status.render_uplink import uplink_lines
from mproutd.status.uplink import family_status
from tests.unit.test_plan import WAN1, WAN2, two_lines
from tests.unit.test_render_health import BAD, GOOD
from tests.unit.test_status import Site

NOW, CLOCK = 1_763_640_000.0, "2026-11-20 12:00:00"


@pytest.fixture
def status(tmp_path: pathlib.Path) -> dict[str, Any]:
    """wan1 works; wan2 has a dead check in IPv4, and a rule of others leads it away."""
    site = Site(tmp_path)
    site.settle()
    site.world.device("eth1", "2001:db8:1::2/64", gateway6="fe80::1")
    site.settle()
    printed: dict[str, Any] = site.status()
    printed["uplinks"][0]["health"] = [GOOD, GOOD | {"family": "ipv6"}]
    printed["uplinks"][1]["health"] = [BAD]
    printed["problems"] = [
        {"code": "x", "text": f"about {name}", "advice": "look", "uplink": name}
        for name in ("wan1", "wan2")
    ]
    return printed


def plain(lines: list[str]) -> list[str]:
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]


def test_colours_change_no_word(status: dict[str, Any]) -> None:
    table = status_lines(status, now=NOW, color=True)
    assert plain(table) == status_lines(status, now=NOW)
    assert any("\x1b[" in line for line in table)
    for uplink in status["uplinks"]:
        lines = uplink_lines(status, uplink, NOW, CLOCK, color=True)
        assert plain(lines) == uplink_lines(status, uplink, NOW, CLOCK)
        assert any("\x1b[" in line for line in lines)


def test_each_family_has_its_own_check_and_each_uplink_its_own_problems(
    status: dict[str, Any],
) -> None:
    one, two = (uplink_lines(status, uplink, NOW, CLOCK) for uplink in status["uplinks"])
    assert sum("check by ping" in line for line in one) == 2
    assert sum("check by ping" in line for line in two) == 1
    assert [line for line in one if "about" in line] == ["! about wan1"]
    assert [line for line in two if "about" in line] == ["! about wan2"]


def test_a_line_that_is_too_long_is_broken_between_its_parts(status: dict[str, Any]) -> None:
    six = status["uplinks"][0]["families"][1]
    six["addresses"] = ["2001:db8:1111:2222:3333:4444:5555:6666"]
    six["gateway"] = "2001:db8:1111:2222:7777:8888:9999:aaaa"
    six["usable"], six["reason"] = False, "no-gateway"
    lines = status_lines(status, now=NOW)
    index = lines.index("    2001:db8:1111:2222:3333:4444:5555:6666")
    assert lines[index + 1 : index + 3] == [
        "        via 2001:db8:1111:2222:7777:8888:9999:aaaa (main), no gateway  no",
        "        endpoint",
    ]


def test_an_uplink_without_a_gateway_shows_a_dash(status: dict[str, Any]) -> None:
    four = status["uplinks"][0]["families"][0]
    four["gateway"] = four["gateway_from"] = None
    lines = status_lines(status, now=NOW)
    assert any(line.split()[:2] == ["10.1.1.2", "-"] for line in lines)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"text": "runs", "duration": None, "output": ""}, ["on_up /bin/tell runs"]),
        (
            {"text": "ended with 1", "duration": 0.25, "output": "no such file"},
            ["on_up /bin/tell ended with 1", "0.2 s", "1 min ago", "no such file"],
        ),
    ],
)
def test_what_became_of_a_program(
    status: dict[str, Any], more: dict[str, Any], words: list[str]
) -> None:
    uplink = status["uplinks"][0]
    uplink["action"] = {"event": "up", "program": "/bin/tell", "started": NOW - 60, **more}
    (line,) = (line for line in uplink_lines(status, uplink, NOW, CLOCK) if "on_up" in line)
    assert [word for word in words if word not in line] == []


def test_an_endpoint_that_is_missing_has_only_what_is_wanted(status: dict[str, Any]) -> None:
    uplink = status["uplinks"][0]
    uplink["endpoints"][0] |= {"state": "missing", "actual": None}
    lines = uplink_lines(status, uplink, NOW, CLOCK)
    index = lines.index("endpoints")
    assert lines[index + 1] == "  + 10.1.1.2 subflow (missing)"
    assert lines[index + 2].startswith("  = ")


def test_a_host_that_did_not_answer_has_no_latency(status: dict[str, Any]) -> None:
    latencies = dict(samples(status)["mproutd_uplink_health_host_latency_seconds"])
    assert [*latencies] == [("wan1", "ipv4", "one.example"), ("wan1", "ipv6", "one.example")]


# -- small parts ----------------------------------------------------------------------------


def test_a_lookup_that_leads_nowhere_or_by_no_gateway() -> None:
    path = Path(AF_INET, True, "", (), (Address(2, "10.1.1.2", 24),), Gateway("", "main"))

    def answer(route: Route | None) -> tuple[str | None, bool]:
        printed = family_status(
            path, 2, 7001, None, {}, {"10.1.1.2": route}, lambda index: f"eth{index}"
        )
        (lookup,) = printed["lookups"]
        return lookup["result"], lookup["matches"]

    assert answer(None) == (None, False)
    assert answer(Route(AF_INET, 0, "default", 2)) == (None, False)
    assert answer(Route(AF_INET, 7001, "default", 2)) == ("dev eth2 table 7001", True)
    assert answer(Route(AF_INET, 7001, "default", 2, "10.1.1.1")) == (
        "via 10.1.1.1 dev eth2 table 7001",
        False,
    )


def test_a_repeated_lookup_reports_the_query_that_was_answered() -> None:
    path = Path(AF_INET, True, "", (), (Address(2, "10.1.1.2", 24),), Gateway("", "main"))
    for destination in ("240.0.0.1", "192.52.193.1"):
        route = Route(AF_INET, 7001, destination, 2)
        printed = family_status(
            path, 2, 7001, None, {}, {"10.1.1.2": route}, lambda index: f"eth{index}"
        )
        assert printed["lookups"][0]["command"] == f"ip route get {destination} from 10.1.1.2"


def test_an_endpoint_without_a_device_as_a_command() -> None:
    step = Operation("add", Endpoint("10.1.1.2", 0, SIGNAL))
    assert ip_command(step, str) == "ip mptcp endpoint add 10.1.1.2 signal"


def test_an_uplink_without_a_device_is_known_by_its_addresses() -> None:
    four = {"addresses": ["10.1.1.2"]}
    status = {"uplinks": [{"name": "wan1", "ifindex": None, "families": [four]}]}
    assert uplink_names(status) == UplinkNames({"10.1.1.2": "wan1"}, {})


def test_a_prefix_never_covers_an_address_of_the_other_family() -> None:
    assert not contains("10.1.1.0/24", "2001:db8::1")
    assert not contains("2001:db8::/32", "10.1.1.2")
    assert contains("default", "2001:db8::1")


def test_only_an_endpoint_that_is_not_announced_joins_and_nothing_else() -> None:
    assert [
        is_client_endpoint(flags) for flags in (SUBFLOW, SUBFLOW | 4, SIGNAL, SIGNAL | SUBFLOW, 0)
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_subnets_of_all_uplinks() -> None:
    world = two_lines()
    world.device("eth2", "2001:db8:2::2/64")
    uplinks = world.run(WAN1 + WAN2).plan.uplinks
    assert subnet_keys(uplinks) == {
        (AF_INET, 24, 0x0A0101),
        (AF_INET, 24, 0x0A0202),
        (AF_INET6, 64, 0x20010DB800020000),
    }


def test_deprecated_prefixes_and_their_announcer(status: dict[str, Any]) -> None:
    before = status_lines(status, now=NOW), uplink_lines(status, status["uplinks"][0], NOW, CLOCK)
    own = [{"address": "2001:db8:a001::1", "device": "br-lan"}]
    status["uplinks"][0]["deprecated"] = own
    status["uplinks"][1]["deprecated"] = []
    status["announcers"] = [{"program": "dnsmasq", "follows": True}]
    text = "deprecated in lan: 2001:db8:a001::1 on br-lan"
    announced = "prefixes announced by: dnsmasq (follows the kernel)"
    table = status_lines(status, now=NOW)
    assert [line for line in table if line not in before[0]] == [f"    {text}", announced]
    page = uplink_lines(status, status["uplinks"][0], NOW, CLOCK)
    assert [line for line in page if line not in before[1]] == [f"  {text}"]
