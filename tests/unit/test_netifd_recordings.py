"""Recordings of a router's netifd, read by the real reader and planned on the fake kernel.

tests/fixtures/netifd/README.md says what they are.  `kernel` of a scenario has what netifd and
mproutd had in the kernel at that moment; netifd's part is the world, mproutd's part is expected.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

import pytest

from mproutd.configuration.config import Config
from mproutd.configuration.netifd import resolve_devices
from mproutd.model import (
    PROTOCOL,
    SCOPE_GLOBAL,
    SCOPE_LINK,
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    UNREACHABLE,
    Address,
    Object,
    Route,
    Rule,
)
from mproutd.planning.netifd import add_netifd_facts, parse_dump
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from tests.lab.fake_world import Store, World, uci
from tests.unit.test_status import Site

RECORDED = Path(__file__).parents[1] / "fixtures" / "netifd"
SCENARIOS = sorted(path.parent for path in RECORDED.glob("*/*/dump.json"))
TABLES = {"local": TABLE_LOCAL, "main": TABLE_MAIN, "default": TABLE_DEFAULT}
PROTOCOLS = {"kernel": 2, "static": 4, "ra": 9, "77": PROTOCOL}
POINT_TO_POINT = ("pppoe-", "wwan")
HOPLIMIT = 10
"""RTAX_HOPLIMIT."""


class Recording(NamedTuple):
    world: World
    config: Config
    facts: Facts
    rules: set[str]
    """Of mproutd, as all that follows."""
    endpoints: set[str]
    ways: set[tuple[object, ...]]
    """Its routes; see decision()."""


def words_of(line: str) -> dict[str, str]:
    """The pairs of words of a line of ip(8)."""
    words = line.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def rule(line: str, family: int) -> Rule:
    priority, text = line.split(": ", 1)
    words = words_of(text)
    mark, _, mask = words.get("fwmark", "0/0").partition("/")
    to = words.get("to", "")
    if "/" in to:  # ip prints the address with its host bits
        to = Address(0, *to.split("/")[:1], int(to.split("/")[1])).network
    return Rule(
        family,
        int(priority),
        TABLES.get(words["lookup"]) or int(words["lookup"]),
        "" if words["from"] == "all" else words["from"],
        to,
        words.get("iif", ""),
        words.get("oif", ""),
        int(mark, 16),
        int(mask, 16),
        int(words.get("suppress_prefixlength", -1)),
        PROTOCOLS.get(words.get("proto", ""), 0),
    )


def route(line: str, family: int, world: World) -> Route:
    kind, _, rest = line.partition(" ")
    unreachable = kind == "unreachable"
    destination, _, text = (rest if unreachable else line).partition(" ")
    words = words_of(text)
    return Route(
        family,
        TABLES.get(words.get("table", "main")) or int(words["table"]),
        destination,
        world.link(words["dev"]).index,
        words.get("via", ""),
        words.get("src", ""),
        int(words.get("metric", 0)),
        SCOPE_LINK if words.get("scope") == "link" else SCOPE_GLOBAL,
        **{"type": UNREACHABLE} if unreachable else {},
        protocol=PROTOCOLS[words["proto"]],
        metrics=((HOPLIMIT, int(words["hoplimit"])),) if "hoplimit" in words else (),
        from_prefix=words.get("from", ""),
    )


def addresses(dump: str, world: World) -> list[Address]:
    addresses = []
    for interface in json.loads(dump)["interface"]:
        for item in (*interface.get("ipv4-address", ()), *interface.get("ipv6-address", ())):
            link = world.link(interface["l3_device"])
            peer = item.get("ptpaddress", "")
            addresses.append(Address(link.index, item["address"], item["mask"], peer))
    return addresses


def decision(route: Route) -> tuple[object, ...]:
    """What a route decides.  Source and metrics are main's; the recorded mproutd had its own."""
    return route.family, route.table, route.destination, route.gateway, route.device


def foreign(world: World) -> set[Object]:
    return {value for value in (*world.rules, *world.routes) if value.protocol != PROTOCOL}


def load(scenario: Path) -> Recording:
    lines = (scenario / "kernel").read_text().splitlines()
    dump = (scenario / "dump.json").read_text()
    world = World()
    for name in sorted({line.split(" dev ")[1].split()[0] for line in lines if " dev " in line}):
        world.create(name, pointopoint=name.startswith(POINT_TO_POINT))
    if not world.has("lan4"):
        world.create("lan4", up=False)
    world.addresses = addresses(dump, world)
    rules, endpoints, ways = set(), set(), set()
    world.rules = []
    for line in lines:
        family, text = (AF_INET6, line[3:]) if line.startswith("-6 ") else (AF_INET, line)
        if text.startswith("endpoint "):
            endpoints.add(text.removeprefix("endpoint "))
        elif text.split()[0].endswith(":"):
            known = rule(text, family)
            if known.protocol == PROTOCOL:
                rules.add(line.replace(" proto 77", ""))
            else:
                world.rules.append(known)
        else:
            known_route = route(text, family, world)
            if known_route.protocol == PROTOCOL:
                ways.add(decision(known_route))
            else:
                world.routes.append(known_route)
    # mproutd ran through the scenarios one after the other
    world.store = Store(State(slots={"wan": 1, "wanb": 2}))
    facts = add_netifd_facts(parse_dump(dump), Facts())
    config = resolve_devices(uci((scenario / "network").read_text(), enabled=False), facts.devices)
    return Recording(world, config, facts, rules, endpoints, ways)


def resolver_rules(scenario: Path, rules: set[str]) -> set[str]:
    """What netifd's resolvers add; the recorded mproutd had no rules for them.

    The firewall's mark leads to an uplink as long as it is usable.
    """
    tables = {int(line[:4]) - 7100: line.split()[-1] for line in rules if line[:3] == "710"}
    slots = {"wan": 1, "wanb": 2, "wanb_4": 2}
    return {
        f"7899: from all to {address} lookup {tables[slots[interface['interface']]]}"
        for interface in json.loads((scenario / "dump.json").read_text())["interface"]
        if slots.get(interface["interface"]) in tables
        for address in interface.get("dns-server", ())
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: f"{path.parent.name} {path.name}")
def test_a_recorded_router(scenario: Path) -> None:
    recorded = load(scenario)
    world = recorded.world
    netifds = foreign(world)
    world.run(recorded.config, recorded.facts)
    lines = world.ours().splitlines()
    assert {line for line in lines if " lookup " in line} == recorded.rules | resolver_rules(
        scenario, recorded.rules
    )
    assert {line for line in lines if " subflow " in line} == recorded.endpoints
    ours = [route for route in world.routes if route.protocol == PROTOCOL]
    assert {decision(route) for route in ours if not route.from_prefix} == recorded.ways
    assert foreign(world) == netifds


def test_there_are_nine_of_each_release() -> None:
    assert [len(list((RECORDED / release).iterdir())) for release in ("24.10", "25.12")] == [9, 9]


@pytest.fixture(params=["24.10", "25.12"])
def release(request: pytest.FixtureRequest) -> Path:
    return RECORDED / str(request.param)


def status(root: Path, scenario: Path, unknown: str = "") -> dict[str, Any]:
    """Each uplink of the status; `unknown` is an interface that netifd has not read."""
    site = Site(root, load(scenario).world)
    interfaces = parse_dump((scenario / "dump.json").read_text())
    interfaces.pop(unknown, None)
    site.reconciler.add_service_facts = partial(add_netifd_facts, interfaces)
    (root / "network").write_text((scenario / "network").read_text())
    site.settle()
    return {uplink["name"]: uplink for uplink in site.status()["uplinks"]}


@pytest.mark.parametrize(
    ("scenario", "unknown", "reason", "advice"),
    [
        ("wanb-down", "", "link-down", "ifup wanb; details: ifstatus wanb"),
        ("ppp-like-down", "", "awaiting-device", "ifup wanb; details: ifstatus wanb"),
        (
            "wanb-down",
            "wanb",
            "link-down",
            "netifd has not read the interface wanb yet: reload_config",
        ),
    ],
)
def test_the_advice_is_what_netifd_knows(
    tmp_path: Path, release: Path, scenario: str, unknown: str, reason: str, advice: str
) -> None:
    uplinks = status(tmp_path, release / scenario, unknown)
    assert [family["reason"] for family in uplinks["wan"]["families"]] == [None, None]
    reasons = [(family["reason"], family["advice"]) for family in uplinks["wanb"]["families"]]
    assert reasons == [(reason, advice)] * 2


def test_a_disabled_interface_is_no_uplink(tmp_path: Path, release: Path) -> None:
    assert list(status(tmp_path, release / "disabled")) == ["wan"]
