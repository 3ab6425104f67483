"""Checks after a round: what a clean start would make, compared with what exists.

A clean start is a plan of an empty state, over the kernel as it would be without us: our
endpoints taken out of what was read, limits and settings put back to what others chose.  Where
docs/design.md lets history show, the exception is spelt out here: slots and gateways that are on
file, endpoints that stay while no uplink is usable, and those with a plain TCP connection whose
uplink has failed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from mproutd.configuration.config import Config, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.model import BACKUP, IMPLICIT, PROTOCOL, Endpoint, Mptcp, Snapshot, family_of
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.planning.decision import expected_routes
from mproutd.planning.endpoints import active
from mproutd.planning.ownership import OUR_SYSCTLS, Ownership
from mproutd.planning.plan import Plan, make_plan
from mproutd.snapshot_request import snapshot_request
from mproutd.verification import misrouted_addresses
from tests.chaos.configurations import Written
from tests.chaos.site import ENDPOINTS, UPLINKS, Site
from tests.lab import RUNTIME_DIR, address, router_address

FILES = {"state.json", "state.json.new", "lock", "control.sock", "nftables"}
"""What may be in the runtime directory."""
HISTORICAL = {"removed-externally", "rate-limited"}
"""Problems that tell of the past, and so may be named or not."""


BY_COMMAND = 4
"""One of so many looks at the status is by the command, which takes a processor far longer."""


class Comparison(NamedTuple):
    """One comparison with the kernel."""

    snapshot: Snapshot
    target: Plan
    """What a clean start would make."""
    misrouted: tuple[str, ...]
    wrong: list[str]
    """Each difference in a line; empty when all is well."""


def config_of(written: Written) -> Config:
    """The configuration that two texts ask for."""
    return build(parse_sections("network", written.network), parse_sections("mproutd", written.own))


def compare(site: Site) -> Comparison:
    """Compare the kernel with what a clean start would make of the configuration in use."""
    config = config_of(site.in_use)
    history = site.history()
    kernel = site.kernel
    snapshot = kernel.snapshot(snapshot_request(config, history, sweep=False, full=True))
    assert snapshot.mptcp
    foreign = tuple(endpoint for endpoint in snapshot.mptcp.endpoints if is_foreign(site, endpoint))
    facts, clean = site.facts(), _without_us(site, snapshot, foreign)
    misrouted: tuple[str, ...] = ()
    for _ in range(6):  # a handover uplink in place of a misrouted one may be misrouted as well
        facts = facts._replace(withheld=frozenset(misrouted))
        target = make_plan(config, clean, history, facts)
        misrouted = misrouted_addresses(kernel, expected_routes(target))
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
    kept_tables = {rule.table for rule in snapshot.rules if rule.source in site.kept}
    routes = {route for route in routes if route.table not in kept_tables}
    _compare(wrong, "route", routes, set(target.routes))
    rules = set(Ownership(config, history).own_rules(snapshot.rules))
    rules |= {
        rule
        for rule in snapshot.rules
        if rule.protocol == PROTOCOL
        and rule.plain
        and not any(rule.selectors)
        and any(rule.priority in span for span in (range(7000, 8900), range(12000, 13900)))
    }
    rules = {rule for rule in rules if rule.source not in site.kept}
    _compare(wrong, "rule", rules, set(target.rules))

    expected = {
        (endpoint.address, endpoint.device, endpoint.flags)
        for endpoint in target.endpoints
        if endpoint.address not in misrouted and endpoint.address not in site.taken
    }
    there = {
        (endpoint.address, endpoint.device, endpoint.flags)
        for endpoint in snapshot.mptcp.endpoints
        if endpoint not in foreign
    }
    kept = {
        endpoint
        for endpoint in there - expected
        if endpoint[0] in site.kept or _may_stay(endpoint, snapshot, target)
    }
    _compare(wrong, "endpoint", there - kept, expected)
    if snapshot.mptcp.limits != target.limits:
        wrong.append(f"limits {snapshot.mptcp.limits}, not {target.limits}")
    wrong += _settings(
        site, snapshot, target, {device for address, device, _ in kept if ":" not in address}
    )
    return Comparison(snapshot, target, misrouted, wrong)


def _settings(site: Site, snapshot: Snapshot, target: Plan, kept: set[int]) -> list[str]:
    wrong = []
    wanted = {(sysctl.device, sysctl.key): sysctl.value for sysctl in target.sysctls}
    for index, link in snapshot.links.items():
        if not link.name.startswith("eth"):
            continue
        before = site.filters.get(index, 1)
        loose = 2 if before == 1 and index in kept else before
        for key, otherwise in (("rp_filter", loose), ("arp_ignore", 0), ("arp_announce", 0)):
            right = wanted.get((link.name, key), otherwise)
            if index in kept and getattr(link, key) == OUR_SYSCTLS[key]:
                continue  # stays with the endpoint
            if getattr(link, key) != right:
                wrong.append(f"{link.name}: {key} {getattr(link, key)}, not {right}")
    return wrong


def own_tables_of_all(config: Config) -> set[int]:
    """Every table that any configuration drawn here could have used."""
    return {*range(7000, 7512), *range(9000, 9512), *range(121, 124), config.table_base}


def is_foreign(site: Site, endpoint: Endpoint) -> bool:
    """Whether it is one that somebody else, or the kernel, made."""
    if endpoint.flags & IMPLICIT or endpoint.port:
        return True
    if endpoint.address in site.taken and not endpoint.device:
        return True
    return any(endpoint.address == foreign.split()[0] for foreign in ENDPOINTS)


def _without_us(site: Site, snapshot: Snapshot, foreign: tuple[Endpoint, ...]) -> Snapshot:
    assert snapshot.mptcp
    mptcp: Mptcp = snapshot.mptcp._replace(endpoints=foreign, limits=site.limits)
    links = {
        index: link._replace(rp_filter=site.filters.get(index, 1), arp_ignore=0, arp_announce=0)
        for index, link in snapshot.links.items()
    }
    return snapshot._replace(links=links, mptcp=mptcp)


def _may_stay(kept: tuple[str, int, int], snapshot: Snapshot, target: Plan) -> bool:
    """design.md: the last path is never closed; nor is a connection's only path."""
    address, device, flags = kept
    is_assigned = any(
        (assigned.address, assigned.link) == (address, device) for assigned in snapshot.addresses
    )
    family = family_of(address)
    carries = any(
        path.usable and path.family == family
        for uplink in active(target.uplinks)
        for path in uplink.paths
    )
    if is_assigned and not carries and (flags & BACKUP or not active(target.uplinks)):
        return True
    return is_assigned and address in snapshot.sole_path and bool(flags & BACKUP)


def _compare(wrong: list[str], kind: str, existing: set[Any], expected: set[Any]) -> None:
    wrong += [f"{kind} too many: {item}" for item in existing - expected]
    wrong += [f"{kind} missing: {item}" for item in expected - existing]


# -- the status ---------------------------------------------------------------------------


def check_status(site: Site, seen: Comparison) -> bool:
    """True: exit status 0, or exactly the reasons why not.  AssertionError."""
    site.looks += 1
    if site.looks % BY_COMMAND:
        status = site.daemon.query_status()
    else:
        result = site.daemon.call("status", "--json")
        status = json.loads(result.out)
        assert result.code == int(status["degraded"]), result
    assert status["drift"] == [], status["drift"]
    states = {
        observed.config.name: [path.reason for path in observed.paths]
        for observed in seen.target.uplinks
    }
    shown = {
        uplink["name"]: [family["reason"] or "" for family in uplink["families"]]
        for uplink in status["uplinks"]
    }
    assert shown == states, f"status: {shown}, a clean start: {states}"
    codes = {problem["code"] for problem in status["problems"]} - HISTORICAL
    expected = {
        "foreign-endpoint" for endpoint in seen.target.endpoints if endpoint.address in site.taken
    }
    expected |= {"misrouted" for source in seen.misrouted if source not in site.taken}
    expected |= {"endpoint-limit" for _ in seen.target.over_cap}
    expected |= {"configuration-rejected" for _ in "x" if not site.disk.good}
    expected |= {"no-mark" for numbers in seen.target.numbers.values() if not numbers.mask}
    allowed = expected | _explanations(site, seen)
    assert expected <= codes <= allowed, f"{expected} expected: {status['problems']}"
    out = any(
        not observed.usable and observed.config.mode != "off" for observed in seen.target.uplinks
    )
    assert status["degraded"] == bool(out or status["problems"]), status["problems"]
    return True


def _explanations(site: Site, seen: Comparison) -> set[str]:
    """Problems with a cause that is there; whether they are named depends on details, which tests
    of their own have."""
    causes = {
        "foreign-rule": bool(site.misrouted),
        "address-without-gateway": bool(site.shared),
        "announced-addresses": bool(site.limits.add_addr_accepted),
        "limit-not-lowered": site.limits.subflows > 2,
        "mark-follows-main": site.mesh,
        "traffic-diverted": "iif" in site.in_use.own or _has_unreachable_lan(site, seen),
        "off-has-default": any(uplink.config.mode == "off" for uplink in seen.target.uplinks),
        "family-unusable": any(
            path.reason in ("no-gateway", "no-address", "deprecated", "dad-failed")
            for uplink in seen.target.uplinks
            for path in uplink.paths
        ),
    }
    return {code for code, there in causes.items() if there}


def _has_unreachable_lan(site: Site, seen: Comparison) -> bool:
    """Whether main leads to the subnet of a device that is no uplink through another device, or
    not at all: rp_filter drops what arrives from there."""
    uplinks = {observed.config.device for observed in seen.target.uplinks}
    return any(
        f" dev eth{n} "
        not in site.gateway.run("ip", "route", "get", router_address(n), check=False)
        for n in UPLINKS
        if f"eth{n}" not in uplinks
    )


def table_is_right(site: Site) -> bool:
    """Whether the table that pins flows exists exactly when it should."""
    config = config_of(site.in_use)
    tables = site.gateway.run("nft", "list", "tables").splitlines()
    return ("table inet mproutd" in tables) == bool(config.enabled and config.uplinks)


# -- the rest -----------------------------------------------------------------------------


def check_foreign_objects(site: Site) -> None:
    """What is not ours is there, and nothing of ours is anywhere else.  AssertionError."""
    lines = set(site.gateway.state().splitlines())
    assert site.admins_own <= lines, f"gone: {site.admins_own - lines}"
    shown = site.gateway.ip("mptcp endpoint show")
    for taken in site.taken:
        assert f"{taken} id" in shown, f"somebody else's endpoint {taken} is gone:\n{shown}"
    files = {file.name for file in site.gateway.path(RUNTIME_DIR).iterdir()}
    assert files <= FILES, f"left over: {files - FILES}"
    log = site.daemon.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


def check_flushed(site: Site, kept: Collection[str]) -> None:
    """After `mproutd flush` nothing of ours is left but endpoints at `kept`, which connections
    need.  AssertionError."""
    lines = set(site.gateway.state().splitlines())
    assert site.admins_own <= lines, f"gone: {site.admins_own - lines}"
    leftovers = [line for line in lines - site.admins_own if "proto 77" in line]
    tables = {line.split(" lookup ")[1].split()[0] for line in leftovers if _is_of(line, kept)}
    leftovers = [
        line
        for line in leftovers
        if not _is_of(line, kept) and not any(f"table {table} " in line for table in tables)
    ]
    files = {file.name for file in site.gateway.path(RUNTIME_DIR).iterdir()}
    leftovers += [name for name in files if name.startswith("state.json") and not kept]
    assert leftovers == []
    with_us = [
        endpoint
        for endpoint in site.kernel.path_manager.read(full=True).endpoints
        if not is_foreign(site, endpoint) and endpoint.address not in kept
    ]
    assert with_us == []
    mptcp = site.kernel.path_manager.read(full=True)
    assert mptcp.limits == site.limits, mptcp.limits
    for index, name in site.devices().items():
        if name.startswith("eth"):
            if any(address(int(name[3:])) == own for own in kept):
                continue
            now = int(site.gateway.sysctl(f"net.ipv4.conf.{name}.rp_filter"))
            assert now == site.filters.get(index, 1), f"{name}: rp_filter {now}"


def _is_of(line: str, kept: Collection[str]) -> bool:
    """Whether it is the source rule of one of these addresses."""
    return " rule " in line and any(f" from {own} " in line for own in kept)
