"""What is wanted beside what is found, as plain values: the one source of every report.

Pure.  The JSON of `mproutd status --json` is what status() returns; VERSION rises when a
field changes its meaning or goes, not when one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from socket import AF_INET6
from typing import Any

from mproutd import __version__
from mproutd.configuration.config import Config
from mproutd.iproute2 import DeviceNames, describe, device_names, flag_names, ip_command
from mproutd.model import (
    FALLBACK_DESTINATION,
    FAMILY_NAMES,
    LOOKUP_DESTINATION,
    Endpoint,
    Route,
    Rule,
    Snapshot,
    family_of,
)
from mproutd.planning.inspection import Inspection, Lookups
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path
from mproutd.status.problems import ADVICE, failed_operations, problem, removed_objects

VERSION = 1


NO_TRAFFIC: Mapping[str, Any] = {"received": None, "sent": None, "rate": None}


def build_status(
    inspection: Inspection, traffic: Callable[[str], Mapping[str, Any]] = lambda device: NO_TRAFFIC
) -> dict[str, Any]:
    """The whole status.  `traffic` gives a device's `received`, `sent` and `rate`."""
    config, snapshot, memory = inspection.config, inspection.snapshot, inspection.state
    target, lookups = inspection.plan, inspection.lookups
    ownership = Ownership(config, memory)
    name = device_names(snapshot.links)
    thrown = {route.family: describe(route, name) for route in inspection.blackhole_defaults}
    uplinks = [
        _uplink(
            ownership,
            snapshot,
            target,
            entry,
            inspection.misrouted,
            inspection.last_changes.of,
            lookups,
            thrown,
            name,
        )
        for entry in target.uplinks
    ]
    for uplink in uplinks:
        uplink.update(traffic(uplink["device"]))
    found = [*_mptcp_problems(config, snapshot), *_endpoint_limit(target, snapshot)]
    found += _reconciler_problems(inspection, name)
    found += _kept(target)
    found += [each for uplink in uplinks for each in uplink.pop("found_problems")]
    changes = [ip_command(operation, name) for operation in inspection.drift]
    out = [uplink for uplink in uplinks if uplink["mode"] != "off" and not uplink["usable"]]
    mptcp = snapshot.mptcp
    return {
        "version": VERSION,
        "mproutd": __version__,
        "time": inspection.time,
        "enabled": config.enabled,
        "degraded": bool(config.enabled and out) or bool(changes) or bool(found),
        "uplinks": uplinks,
        "default": {
            family_name(family): uplink
            for family, uplink in target.default.items()
            if family not in thrown or leaves_via(target.uplinks, uplink, family, lookups)
        },
        "common": {
            "rules": [_told(rule, name) for rule, uplink in target.rules.items() if not uplink]
        },
        "mptcp": None
        if mptcp is None
        else {
            "enabled": mptcp.enabled,
            "path_manager": mptcp.path_manager,
            "limit_max": mptcp.max_limit,
            "endpoints_max": mptcp.max_endpoints,
            "limits": {
                "actual": mptcp.limits._asdict(),
                "desired": (target.limits or mptcp.limits)._asdict(),
            },
            "foreign_endpoints": [
                describe(endpoint, name)
                for endpoint in mptcp.endpoints
                if not ownership.owns_endpoint(endpoint)
            ],
        },
        "drift": changes,
        "warnings": list(config.warnings),
        "problems": found,
        "counts": {"passes": inspection.passes, "writes": inspection.writes},
        "configuration": {
            "directory": inspection.directory,
            "error": inspection.config_error or None,
        },
    }


def _reconciler_problems(inspection: Inspection, name: DeviceNames) -> list[dict[str, Any]]:
    """What the reconciler could not read, write or keep."""
    errors = {
        "configuration-rejected": inspection.config_error,
        "state-file-error": inspection.state_file_error,
        "hints-ignored": inspection.hints_error,
        "netifd-unreachable": inspection.netifd_error,
    }
    return [
        *(problem(code, error=error) for code, error in errors.items() if error),
        *failed_operations(inspection.failed, inspection.now, name),
        *removed_objects(inspection.restored, inspection.rate_limited, name),
    ]


def _uplink(
    ownership: Ownership,
    snapshot: Snapshot,
    target: Plan,
    entry: ObservedUplink,
    unproved: Sequence[str],
    since: Callable[[str, int], float | None],
    lookups: Lookups,
    thrown: Mapping[int, str],
    name: DeviceNames,
) -> dict[str, Any]:
    uplink, link, numbers = entry.config, entry.link, target.numbers[entry.config.name]
    problems: list[dict[str, Any]] = []
    if not numbers.mask:
        problems.append(problem("no-mark", uplink=uplink.name))
    endpoints = _endpoints(
        ownership, snapshot, target, uplink.name, unproved, thrown, problems, name
    )
    device = link.index if link else -1
    own_routes = ownership.own_routes(snapshot.routes)
    own_rules = ownership.own_rules(snapshot.rules)
    looked_up = {numbers.table, *(path.table for path in entry.paths)}
    return {
        "name": uplink.name,
        "device": uplink.device,
        "ifindex": link.index if link else None,
        "mode": uplink.mode,
        "usable": entry.usable,
        "since": since(uplink.name, 0),
        "slot": numbers.slot,
        "table": numbers.table,
        "mark": f"{numbers.mark:#x}/{numbers.mask:#x}" if numbers.mask else None,
        "families": [
            family_status(
                path, device, numbers.table, since(uplink.name, path.family), lookups, name
            )
            for path in entry.paths
        ],
        "routes": {
            "desired": [
                _told(route, name) for route, owner in target.routes.items() if owner == uplink.name
            ],
            "actual": [
                _told(route, name)
                for route in snapshot.routes
                if route in own_routes and (route.table == numbers.table or route.device == device)
            ],
        },
        "rules": {
            "desired": [
                _told(rule, name) for rule, owner in target.rules.items() if owner == uplink.name
            ],
            "actual": [
                _told(rule, name)
                for rule in snapshot.rules
                if rule in own_rules and rule.table in looked_up
            ],
        },
        "endpoints": endpoints,
        "found_problems": problems,
    }


def _told(value: Route | Rule, name: DeviceNames) -> str:
    """As `ip show` prints it, with ip's own -6 in front of what would look the same in IPv4."""
    return ("-6 " if value.family == AF_INET6 else "") + describe(value, name)


def _endpoints(
    ownership: Ownership,
    snapshot: Snapshot,
    target: Plan,
    uplink: str,
    unproved: Sequence[str],
    thrown: Mapping[int, str],
    problems: list[dict[str, Any]],
    name: DeviceNames,
) -> list[dict[str, Any]]:
    """Wanted endpoints, each with what is found in its place."""
    present: Mapping[str, Endpoint] = {
        endpoint.address: endpoint
        for endpoint in (snapshot.mptcp.endpoints if snapshot.mptcp else ())
        if not endpoint.port
    }
    others = ownership.foreign_addresses(snapshot.mptcp.endpoints if snapshot.mptcp else ())
    listed = []
    for endpoint, owner in target.endpoints.items():
        if owner != uplink:
            continue
        found = present.get(endpoint.address)
        state = "missing"
        if endpoint.address in others:
            state = "foreign"
            problems.append(
                problem(
                    "foreign-endpoint",
                    uplink=uplink,
                    address=endpoint.address,
                    endpoint=describe(present[endpoint.address], name),
                )
            )
        elif endpoint.address in unproved:
            state, number = "misrouted", family_of(endpoint.address)
            get = f"ip route get {LOOKUP_DESTINATION[number]} from {endpoint.address}"
            get += f" oif {name(endpoint.device)}"
            by_main = number in thrown and (endpoint.device, number) not in snapshot.defaults
            problems.append(
                problem(
                    "blackhole-default" if by_main else "misrouted",
                    uplink=uplink,
                    address=endpoint.address,
                    device=name(endpoint.device),
                    **({"route": thrown[number]} if by_main else {"command": get}),
                )
            )
        elif found and (found.device, found.flags) == (endpoint.device, endpoint.flags):
            state = "ok"
        elif found:
            state = "differs"
        listed.append(
            {
                "address": endpoint.address,
                "id": found.id if found else None,
                "flags": flag_names(endpoint.flags),
                "state": state,
                "actual": describe(found, name) if found else None,
            }
        )
    return listed


def _mptcp_problems(config: Config, snapshot: Snapshot) -> list[dict[str, Any]]:
    if not config.enabled or not config.uplinks:
        return []
    mptcp = snapshot.mptcp
    if mptcp is None:
        return [problem("no-mptcp")]
    found = []
    if not mptcp.enabled:
        found.append(problem("mptcp-disabled"))
    if mptcp.path_manager != "kernel":
        found.append(problem("path-manager", path_manager=mptcp.path_manager))
    if max(config.subflows or 0, config.add_addr_accepted or 0) > mptcp.max_limit:
        found.append(problem("limits-above-max", limit_max=mptcp.max_limit))
    if not mptcp.laminar:
        asked = [uplink.name for uplink in config.uplinks if uplink.laminar]
        found += [problem("laminar-unsupported", uplink=name) for name in asked]
    return found


def _kept(target: Plan) -> list[dict[str, Any]]:
    """Uplinks that a health check takes for dead, and that are usable all the same."""
    failed = set(target.state.failed)
    found = []
    for uplink, paths in ((entry.config.name, entry.paths) for entry in target.uplinks):
        kept = [each.family for each in paths if each.usable and (uplink, each.family) in failed]
        if kept:
            families = " and ".join(FAMILY_NAMES[family] for family in kept)
            found.append(problem("failed-in-use", uplink=uplink, families=families))
    return found


def _endpoint_limit(target: Plan, snapshot: Snapshot) -> list[dict[str, Any]]:
    most = snapshot.mptcp.max_endpoints if snapshot.mptcp else 0
    return [
        problem("endpoint-limit", uplink=uplink, address=address, endpoints_max=most)
        for address, uplink in target.over_cap.items()
    ]


def leaves_via(
    uplinks: Sequence[ObservedUplink], uplink: str, number: int, lookups: Lookups
) -> bool:
    """Whether anything from this uplink's addresses of a family finds a way to the world."""
    return any(
        lookups.get(address.address) is not None
        for entry in uplinks
        if entry.config.name == uplink
        for path in entry.paths
        if path.family == number
        for address in path.eligible
    )


def family_name(number: int) -> str:
    return FAMILY_NAMES[number].lower()


def family_status(
    path: Path, ifindex: int, table: int, since: float | None, lookups: Lookups, name: DeviceNames
) -> dict[str, Any]:
    """An element of `families`; `ifindex`, `table` are the uplink's, `since` an epoch second."""
    return {
        "family": family_name(path.family),
        "usable": path.usable,
        "since": since,
        "reason": path.reason or None,
        "text": REASONS.get(path.reason),
        "advice": ADVICE.get(path.reason),
        "addresses": [address.address for address in path.eligible],
        "sources": [address.address for address in path.covered],
        "prefixes": list(path.prefixes),
        "table": path.table or table,
        "table_from": "netifd" if path.table else None,
        "gateway": path.gateway.address or None if path.gateway else None,
        "gateway_from": path.gateway.origin if path.gateway else None,
        "lookups": [
            _lookup(path, address.address, ifindex, lookups[address.address], name)
            for address in path.covered
            if address.address in lookups
        ],
    }


def _lookup(
    path: Path, address: str, ifindex: int, route: Route | None, name: DeviceNames
) -> dict[str, Any]:
    wanted = path.gateway.address if path.gateway else ""
    asked, answer = LOOKUP_DESTINATION[path.family], None
    if route is not None and route.table:
        if route.destination == FALLBACK_DESTINATION[path.family]:
            asked = route.destination
        via = f"via {route.gateway} " if route.gateway else ""
        answer = f"{via}dev {name(route.device)} table {route.table}"
    return {
        "command": f"ip route get {asked} from {address}",
        "result": answer,
        "matches": route is not None
        and bool(route.table)
        and (route.device, route.gateway) == (ifindex, wanted),
    }
