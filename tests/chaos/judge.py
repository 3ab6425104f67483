"""Is everything as it should be?  What a clean start would make, beside what is there.

A clean start is a plan of an empty state, over the kernel as it would be without us: our
endpoints taken out of what was read, limits and settings put back to what others chose.  Where
docs/design.md lets history show, the exception is spelt out here: slots and gateways that are on
file, endpoints that stay while no uplink is usable, and those with a plain TCP connection whose
line is out.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from mproutd.configuration.config import Config, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.model import BACKUP, IMPLICIT, PROTOCOL, Endpoint, Mptcp, Snapshot, family_of
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.passes import snapshot_request
from mproutd.planning.endpoints import active
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan, make_plan
from mproutd.verification import misrouted_addresses
from tests.chaos.configurations import Written
from tests.chaos.site import ENDPOINTS, Site
from tests.lab import RUNTIME_DIR

FILES = {"state.json", "state.json.new", "lock", "control.sock"}
"""What may be in the runtime directory."""
LATELY = {"removed-externally", "rate-limited"}
"""Problems that tell of the past, and so may be named or not."""


class Seen(NamedTuple):
    """One look at the kernel."""

    snapshot: Snapshot
    target: Plan
    """What a clean start would make."""
    misrouted: tuple[str, ...]
    wrong: list[str]
    """Each difference in a line; empty when all is well."""


def config_of(written: Written) -> Config:
    """The configuration that two texts ask for."""
    return build(parse_sections("network", written.network), parse_sections("mproutd", written.own))


def look(site: Site) -> Seen:
    """Compare the kernel with what a clean start would make of the configuration in use."""
    config = config_of(site.in_use)
    history = site.history()
    kernel = site.kernel
    found = kernel.snapshot(snapshot_request(config, history, sweep=False, full=True))
    assert found.mptcp
    others = tuple(each for each in found.mptcp.endpoints if is_others(site, each))
    facts, clean = site.facts(), _without_us(site, found, others)
    misrouted: tuple[str, ...] = ()
    for _ in range(4):  # a handover uplink in place of a misrouted one may be misrouted as well
        facts = facts._replace(withheld=frozenset(misrouted))
        target = make_plan(config, clean, history, facts)
        misrouted = misrouted_addresses(kernel, target)
        if facts.withheld == frozenset(misrouted):
            break
    wrong: list[str] = []

    everything = kernel._requests.dump(lambda n: rtnl_encode.dump_routes(n, 0, protocol=PROTOCOL))
    places = own_tables_of_all(config)
    routes = {
        route
        for body in everything
        for route in rtnl_decode.routes(body)
        if route.protocol == PROTOCOL and route.table in places
    }
    _compare(wrong, "route", routes, set(target.routes))
    ranges = (*Ownership(config, history).priorities, range(7000, 7900), range(12000, 12900))
    rules = {
        rule
        for rule in found.rules
        if rule.protocol == PROTOCOL
        and rule.plain
        and any(rule.priority in each for each in ranges)
    }
    _compare(wrong, "rule", rules, set(target.rules))

    expected = {
        (each.address, each.device, each.flags)
        for each in target.endpoints
        if each.address not in misrouted and each.address not in site.taken
    }
    there = {
        (each.address, each.device, each.flags)
        for each in found.mptcp.endpoints
        if each not in others
    }
    kept = {each for each in there - expected if _may_stay(each, found, target)}
    _compare(wrong, "endpoint", there - kept, expected)
    if found.mptcp.limits != target.limits:
        wrong.append(f"limits {found.mptcp.limits}, not {target.limits}")
    wrong += _settings(site, found, target, {each[1] for each in kept if ":" not in each[0]})
    return Seen(found, target, misrouted, wrong)


def _settings(site: Site, found: Snapshot, target: Plan, kept: set[int]) -> list[str]:
    wrong = []
    wanted = {(each.device, each.key): each.value for each in target.sysctls}
    for index, link in found.links.items():
        if not link.name.startswith("eth"):
            continue
        before = site.filters.get(index, 1)
        loose = 2 if before == 1 and index in kept else before
        for key, otherwise in (("rp_filter", loose), ("arp_ignore", 0), ("arp_announce", 0)):
            right = wanted.get((link.name, key), otherwise)
            if getattr(link, key) != right:
                wrong.append(f"{link.name}: {key} {getattr(link, key)}, not {right}")
    return wrong


def own_tables_of_all(config: Config) -> set[int]:
    """Every table that any configuration drawn here could have used."""
    return {*range(7000, 7256), *range(9000, 9256), *range(121, 124), config.table_base}


def is_others(site: Site, endpoint: Endpoint) -> bool:
    """Whether it is one that somebody else, or the kernel, made."""
    if endpoint.flags & IMPLICIT or endpoint.port:
        return True
    if endpoint.address in site.taken and not endpoint.device:
        return True
    return any(endpoint.address == each.split()[0] for each in ENDPOINTS)


def _without_us(site: Site, found: Snapshot, others: tuple[Endpoint, ...]) -> Snapshot:
    assert found.mptcp
    mptcp: Mptcp = found.mptcp._replace(endpoints=others, limits=site.limits)
    links = {
        index: link._replace(rp_filter=site.filters.get(index, 1), arp_ignore=0, arp_announce=0)
        for index, link in found.links.items()
    }
    return found._replace(links=links, mptcp=mptcp)


def _may_stay(kept: tuple[str, int, int], found: Snapshot, target: Plan) -> bool:
    """design.md: the last path is never closed; nor is a connection's only path."""
    address, device, flags = kept
    held = any((each.address, each.link) == (address, device) for each in found.addresses)
    family = family_of(address)
    carries = any(
        path.usable and path.family == family
        for uplink in active(target.uplinks)
        for path in uplink.paths
    )
    if held and not carries and (flags & BACKUP or not active(target.uplinks)):
        return True
    return held and address in found.sole_path and bool(flags & BACKUP)


def _compare(wrong: list[str], kind: str, found: set[Any], expected: set[Any]) -> None:
    wrong += [f"{kind} too many: {each}" for each in found - expected]
    wrong += [f"{kind} missing: {each}" for each in expected - found]


# -- the status ---------------------------------------------------------------------------


def check_status(site: Site, seen: Seen) -> bool:
    """True: exit status 0, or exactly the reasons why not.  AssertionError."""
    answer = site.daemon.call("status", "--json")
    assert answer.code in (0, 1), answer
    told = json.loads(answer.out)
    assert told["drift"] == [], told["drift"]
    states = {
        entry.config.name: [path.reason for path in entry.paths] for entry in seen.target.uplinks
    }
    shown = {
        uplink["name"]: [family["reason"] or "" for family in uplink["families"]]
        for uplink in told["uplinks"]
    }
    assert shown == states, f"status: {shown}, a clean start: {states}"
    codes = {each["code"] for each in told["problems"]} - LATELY
    expected = {"foreign-endpoint" for each in seen.target.endpoints if each.address in site.taken}
    expected |= {"misrouted" for each in seen.misrouted if each not in site.taken}
    expected |= {"endpoint-limit" for _ in seen.target.over_cap}
    expected |= {"configuration-rejected" for _ in "x" if not site.disk.good}
    expected |= {"no-mark" for place in seen.target.numbers.values() if not place.mask}
    allowed = expected | _explanations(site, seen)
    assert expected <= codes <= allowed, f"{expected} expected: {told['problems']}"
    out = any(not entry.usable and entry.config.mode != "off" for entry in seen.target.uplinks)
    assert told["degraded"] == bool(out or told["problems"]), told["problems"]
    assert answer.code == int(told["degraded"])
    return True


def _explanations(site: Site, seen: Seen) -> set[str]:
    """Problems with a cause that is there; whether they are named depends on details, which tests
    of their own have."""
    causes = {
        "foreign-rule": bool(site.misrouted),
        "address-without-gateway": bool(site.shared),
        "announced-addresses": bool(site.limits.add_addr_accepted),
        "limit-not-lowered": site.limits.subflows > 2,
        "traffic-diverted": "iif" in site.in_use.own,
        "off-has-default": any(uplink.config.mode == "off" for uplink in seen.target.uplinks),
        "family-unusable": any(
            path.reason in ("no-gateway", "no-address")
            for uplink in seen.target.uplinks
            for path in uplink.paths
        ),
    }
    return {code for code, there in causes.items() if there}


# -- the rest -----------------------------------------------------------------------------


def check_others(site: Site) -> None:
    """What is not ours is there, and nothing of ours is anywhere else.  AssertionError."""
    lines = set(site.gateway.state().splitlines())
    assert site.admins_own <= lines, f"gone: {site.admins_own - lines}"
    shown = site.gateway.ip("mptcp endpoint show")
    for address in site.taken:
        assert f"{address} id" in shown, f"somebody else's endpoint {address} is gone:\n{shown}"
    files = {each.name for each in site.gateway.path(RUNTIME_DIR).iterdir()}
    assert files <= FILES, f"left over: {files - FILES}"
    log = site.daemon.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


def check_flushed(site: Site, kept: Collection[str]) -> None:
    """After `mproutd flush` nothing of ours is left but endpoints at `kept`, which connections
    need.  AssertionError."""
    lines = set(site.gateway.state().splitlines())
    assert site.admins_own <= lines, f"gone: {site.admins_own - lines}"
    left = [line for line in lines - site.admins_own if "proto 77" in line]
    files = {each.name for each in site.gateway.path(RUNTIME_DIR).iterdir()}
    left += [name for name in files if name.startswith("state.json") and not kept]
    assert left == []
    with_us = [
        each
        for each in site.kernel.path_manager.read(full=True).endpoints
        if not is_others(site, each) and each.address not in kept
    ]
    assert with_us == []
    found = site.kernel.path_manager.read(full=True)
    assert found.limits == site.limits, found.limits
    for index, name in site.devices().items():
        if name.startswith("eth"):
            now = int(site.gateway.sysctl(f"net.ipv4.conf.{name}.rp_filter"))
            assert now == site.filters.get(index, 1), f"{name}: rp_filter {now}"
