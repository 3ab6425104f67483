"""The status, built from an inspection: what is desired beside what is there.  Pure.

build_status() returns the JSON of `mproutd status --json`; status.types has its fields.
VERSION is incremented when a field is removed or changes its meaning, not when one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from socket import AF_INET6
from typing import TYPE_CHECKING, NamedTuple

from mproutd import __version__
from mproutd.iproute2 import DeviceNames, describe, device_names, flag_names, ip_command
from mproutd.model import (
    FALLBACK_DESTINATION,
    FAMILY_NAMES,
    LOOKUP_DESTINATION,
    Endpoint,
    Route,
    Rule,
    family_of,
)
from mproutd.planning.inspection import Inspection, Lookups
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path
from mproutd.status.problems import ADVICE, failed_operations, problem, removed_objects

if TYPE_CHECKING:
    from mproutd.status.types import (
        Comparison,
        Defaults,
        EndpointState,
        EndpointStatus,
        Family,
        FamilyStatus,
        Lookup,
        MptcpStatus,
        Problem,
        Status,
        Traffic,
        UplinkStatus,
    )

VERSION = 1


def _no_traffic(device: str) -> Traffic:
    return {"received": None, "sent": None, "rate": None}


def build_status(
    inspection: Inspection, traffic: Callable[[str], Traffic] = _no_traffic, pid: int | None = None
) -> Status:
    """The whole status; `traffic` returns a device's counters, `pid` is the daemon's."""
    kernel = _kernel(inspection)
    config, plan = inspection.config, inspection.plan
    uplinks = [_uplink(inspection, kernel, uplink, traffic) for uplink in plan.uplinks]
    drift = [ip_command(operation, kernel.name) for operation in inspection.drift]
    problems = list(_problems(inspection, kernel, uplinks))
    unusable = any(uplink["mode"] != "off" and not uplink["usable"] for uplink in uplinks)
    status: Status = {
        "version": VERSION,
        "mproutd": __version__,
        "time": inspection.time,
        "enabled": config.enabled,
        "degraded": bool((config.enabled and unusable) or drift or problems),
        "running": pid is not None,
        "uplinks": uplinks,
        "default": _defaults(inspection, kernel),
        "common": {
            "rules": [
                _describe(rule, kernel.name) for rule, uplink in plan.rules.items() if not uplink
            ]
        },
        "mptcp": _mptcp(inspection, kernel),
        "drift": drift,
        "warnings": list(config.warnings),
        "problems": problems,
        "counts": {"passes": inspection.passes, "writes": inspection.writes},
        "configuration": {
            "directory": inspection.directory,
            "error": inspection.config_error or None,
        },
    }
    if pid is not None:
        status["pid"] = pid
    return status


class _Kernel(NamedTuple):
    """What the kernel has, arranged for the status."""

    name: DeviceNames
    own_routes: tuple[Route, ...]
    own_rules: tuple[Rule, ...]
    """mproutd's, in the kernel's order."""
    endpoints: Mapping[str, Endpoint]
    """By address, without those that have a port."""
    foreign: frozenset[str]
    """Addresses with another program's endpoint."""
    foreign_endpoints: tuple[Endpoint, ...]
    blackholes: Mapping[int, str]
    """Family → default route of table main that discards packets, as ip(8) prints it."""


def _kernel(inspection: Inspection) -> _Kernel:
    snapshot, ownership = inspection.snapshot, Ownership(inspection.config, inspection.state)
    own_routes = ownership.own_routes(snapshot.routes)
    own_rules = ownership.own_rules(snapshot.rules)
    name = device_names(snapshot.links)
    endpoints = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    return _Kernel(
        name,
        tuple(route for route in snapshot.routes if route in own_routes),
        tuple(rule for rule in snapshot.rules if rule in own_rules),
        {endpoint.address: endpoint for endpoint in endpoints if not endpoint.port},
        ownership.foreign_addresses(endpoints),
        tuple(endpoint for endpoint in endpoints if not ownership.owns_endpoint(endpoint)),
        {route.family: describe(route, name) for route in inspection.blackhole_defaults},
    )


def _describe(value: Route | Rule, name: DeviceNames) -> str:
    """As `ip show` prints it, with ip's -6 in front of what would look the same in IPv4."""
    return ("-6 " if value.family == AF_INET6 else "") + describe(value, name)


# -- uplinks ------------------------------------------------------------------------------


def _uplink(
    inspection: Inspection,
    kernel: _Kernel,
    observed: ObservedUplink,
    traffic: Callable[[str], Traffic],
) -> UplinkStatus:
    uplink, link = observed.config, observed.link
    numbers, since = inspection.plan.numbers[uplink.name], inspection.last_changes.of
    counters = traffic(uplink.device)
    return {
        "name": uplink.name,
        "device": uplink.device,
        "ifindex": link.index if link else None,
        "mode": uplink.mode,  # type: ignore[typeddict-item]
        "usable": observed.usable,
        "since": since(uplink.name),
        "slot": numbers.slot,
        "table": numbers.table,
        "mark": f"{numbers.mark:#x}/{numbers.mask:#x}" if numbers.mask else None,
        "families": [
            family_status(
                path,
                link.index if link else -1,
                numbers.table,
                since(uplink.name, path.family),
                inspection.lookups,
                kernel.name,
            )
            for path in observed.paths
        ],
        "routes": _routes(inspection, kernel, observed),
        "rules": _rules(inspection, kernel, observed),
        "endpoints": [
            _endpoint(inspection, kernel, endpoint)
            for endpoint, owner in inspection.plan.endpoints.items()
            if owner == uplink.name
        ],
        "received": counters["received"],
        "sent": counters["sent"],
        "rate": counters["rate"],
    }


def _routes(inspection: Inspection, kernel: _Kernel, observed: ObservedUplink) -> Comparison:
    uplink, plan = observed.config.name, inspection.plan
    table, device = plan.numbers[uplink].table, observed.link.index if observed.link else -1
    return {
        "desired": [
            _describe(route, kernel.name) for route, owner in plan.routes.items() if owner == uplink
        ],
        "actual": [
            _describe(route, kernel.name)
            for route in kernel.own_routes
            if route.table == table or route.device == device
        ],
    }


def _rules(inspection: Inspection, kernel: _Kernel, observed: ObservedUplink) -> Comparison:
    uplink, plan = observed.config.name, inspection.plan
    tables = {plan.numbers[uplink].table, *(path.table for path in observed.paths)}
    return {
        "desired": [
            _describe(rule, kernel.name) for rule, owner in plan.rules.items() if owner == uplink
        ],
        "actual": [
            _describe(rule, kernel.name) for rule in kernel.own_rules if rule.table in tables
        ],
    }


def _endpoint(inspection: Inspection, kernel: _Kernel, desired: Endpoint) -> EndpointStatus:
    existing = kernel.endpoints.get(desired.address)
    return {
        "address": desired.address,
        "id": existing.id if existing else None,
        "flags": flag_names(desired.flags),
        "state": _endpoint_state(inspection, kernel, desired),
        "actual": describe(existing, kernel.name) if existing else None,
    }


def _endpoint_state(inspection: Inspection, kernel: _Kernel, desired: Endpoint) -> EndpointState:
    existing = kernel.endpoints.get(desired.address)
    if desired.address in kernel.foreign:
        return "foreign"
    if desired.address in inspection.misrouted:
        return "misrouted"
    if existing is None:
        return "missing"
    same = (existing.device, existing.flags) == (desired.device, desired.flags)
    return "ok" if same else "differs"


def family_name(family: int) -> Family:
    """AF_INET and AF_INET6 as the JSON has them."""
    return "ipv6" if family == AF_INET6 else "ipv4"


def family_status(
    path: Path,
    device: int,
    table: int,
    since: float | None,
    lookups: Lookups,
    name: DeviceNames,
) -> FamilyStatus:
    """An element of `families`; `device` is the uplink's ifindex, `since` an epoch second."""
    gateway = path.gateway
    return {
        "family": family_name(path.family),
        "usable": path.usable,
        "since": since,
        "reason": path.reason or None,  # type: ignore[typeddict-item]
        "text": REASONS.get(path.reason),
        "advice": ADVICE.get(path.reason),
        "addresses": [address.address for address in path.eligible],
        "sources": [address.address for address in path.covered],
        "prefixes": list(path.prefixes),
        "table": path.table or table,
        "table_from": "netifd" if path.table else None,
        "gateway": gateway.address or None if gateway else None,
        "gateway_from": gateway.origin if gateway else None,
        "lookups": [
            _lookup(path, address.address, device, lookups[address.address], name)
            for address in path.covered
            if address.address in lookups
        ],
    }


def _lookup(path: Path, source: str, device: int, route: Route | None, name: DeviceNames) -> Lookup:
    destination, result, matches = LOOKUP_DESTINATION[path.family], None, False
    if route is not None and route.table:
        if route.destination == FALLBACK_DESTINATION[path.family]:
            destination = route.destination
        via = f"via {route.gateway} " if route.gateway else ""
        result = f"{via}dev {name(route.device)} table {route.table}"
        gateway = path.gateway.address if path.gateway else ""
        matches = (route.device, route.gateway) == (device, gateway)
    return {
        "command": f"ip route get {destination} from {source}",
        "result": result,
        "matches": matches,
    }


# -- what belongs to no single uplink -----------------------------------------------------


def _defaults(inspection: Inspection, kernel: _Kernel) -> Defaults:
    """The uplink of other traffic, unless main discards it before the last rule applies."""
    defaults: Defaults = {}
    for family, uplink in inspection.plan.default.items():
        if family not in kernel.blackholes or _has_route(inspection, uplink, family):
            defaults[family_name(family)] = uplink
    return defaults


def _has_route(inspection: Inspection, uplink: str, family: int) -> bool:
    """Whether the kernel routes packets from any of an uplink's addresses to the internet."""
    return any(
        inspection.lookups.get(address.address) is not None
        for observed in inspection.plan.uplinks
        if observed.config.name == uplink
        for path in observed.paths
        if path.family == family
        for address in path.eligible
    )


def _mptcp(inspection: Inspection, kernel: _Kernel) -> MptcpStatus | None:
    mptcp = inspection.snapshot.mptcp
    if mptcp is None:
        return None
    desired = inspection.plan.limits or mptcp.limits
    return {
        "enabled": mptcp.enabled,
        "path_manager": mptcp.path_manager,
        "limit_max": mptcp.max_limit,
        "endpoints_max": mptcp.max_endpoints,
        "limits": {
            "actual": {
                "subflows": mptcp.limits.subflows,
                "add_addr_accepted": mptcp.limits.add_addr_accepted,
            },
            "desired": {
                "subflows": desired.subflows,
                "add_addr_accepted": desired.add_addr_accepted,
            },
        },
        "foreign_endpoints": [
            describe(endpoint, kernel.name) for endpoint in kernel.foreign_endpoints
        ],
    }


# -- problems -----------------------------------------------------------------------------


def _problems(
    inspection: Inspection, kernel: _Kernel, uplinks: Iterable[UplinkStatus]
) -> Iterator[Problem]:
    yield from _mptcp_problems(inspection)
    yield from _reconciler_problems(inspection, kernel.name)
    yield from _failed_in_use(inspection.plan)
    for uplink in uplinks:
        if uplink["mark"] is None:
            yield problem("no-mark", uplink=uplink["name"])
    for endpoint, uplink_name in inspection.plan.endpoints.items():
        yield from _endpoint_problem(inspection, kernel, endpoint, uplink_name)


def _mptcp_problems(inspection: Inspection) -> Iterator[Problem]:
    config, mptcp = inspection.config, inspection.snapshot.mptcp
    if not config.enabled or not config.uplinks:
        return
    if mptcp is None:
        yield problem("no-mptcp")
        return
    if not mptcp.enabled:
        yield problem("mptcp-disabled")
    if mptcp.path_manager != "kernel":
        yield problem("path-manager", path_manager=mptcp.path_manager)
    if max(config.subflows or 0, config.add_addr_accepted or 0) > mptcp.max_limit:
        yield problem("limits-above-max", limit_max=mptcp.max_limit)
    if not mptcp.laminar:
        for uplink in config.uplinks:
            if uplink.laminar:
                yield problem("laminar-unsupported", uplink=uplink.name)
    limit = mptcp.max_endpoints
    for address, name in inspection.plan.over_cap.items():
        yield problem("endpoint-limit", uplink=name, address=address, endpoints_max=limit)


def _reconciler_problems(inspection: Inspection, name: DeviceNames) -> Iterator[Problem]:
    """Errors of files and services, and conflicts with other programs."""
    errors = {
        "configuration-rejected": inspection.config_error,
        "state-file-error": inspection.state_file_error,
        "hints-ignored": inspection.hints_error,
        "netifd-unreachable": inspection.netifd_error,
    }
    for code, error in errors.items():
        if error:
            yield problem(code, error=error)
    yield from failed_operations(inspection.failed, inspection.now, name)
    yield from removed_objects(inspection.restored, inspection.rate_limited, name)


def _failed_in_use(plan: Plan) -> Iterator[Problem]:
    """Uplinks whose health check failed, and that are in use because no other is usable."""
    failed = set(plan.state.failed)
    for observed in plan.uplinks:
        uplink = observed.config.name
        families = [
            FAMILY_NAMES[path.family]
            for path in observed.paths
            if path.usable and (uplink, path.family) in failed
        ]
        if families:
            yield problem("failed-in-use", uplink=uplink, families=" and ".join(families))


def _endpoint_problem(
    inspection: Inspection, kernel: _Kernel, desired: Endpoint, uplink: str
) -> Iterator[Problem]:
    address, device = desired.address, kernel.name(desired.device)
    state = _endpoint_state(inspection, kernel, desired)
    if state == "foreign":
        endpoint = describe(kernel.endpoints[address], kernel.name)
        yield problem("foreign-endpoint", uplink=uplink, address=address, endpoint=endpoint)
    elif state == "misrouted":
        family = family_of(address)
        about = {"uplink": uplink, "address": address, "device": device}
        in_main = (desired.device, family) in inspection.snapshot.defaults
        if family in kernel.blackholes and not in_main:
            yield problem("blackhole-default", route=kernel.blackholes[family], **about)
        else:
            destination = LOOKUP_DESTINATION[family]
            command = f"ip route get {destination} from {address} oif {device}"
            yield problem("misrouted", command=command, **about)
