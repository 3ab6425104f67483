"""The status of one uplink: what is desired beside what the kernel has.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import AF_INET6
from typing import TYPE_CHECKING, NamedTuple

from mproutd.configuration.config import UplinkConfig
from mproutd.iproute2 import DeviceNames, describe, device_names, flag_names
from mproutd.model import FALLBACK_DESTINATION, LOOKUP_DESTINATION, Endpoint, Route, Rule
from mproutd.planning.inspection import Inspection, Lookups
from mproutd.planning.ownership import Ownership
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path
from mproutd.status.problems import (
    ADVERTISEMENTS_IGNORED,
    ADVICE,
    DEFAULT_ELSEWHERE,
    NETIFD_DOWN,
    NETIFD_REASONS,
    NETIFD_UNKNOWN,
)
from mproutd.status.resolvers import resolver_status

if TYPE_CHECKING:
    from mproutd.status.types import (
        Comparison,
        EndpointState,
        EndpointStatus,
        Family,
        FamilyStatus,
        Lookup,
        Traffic,
        UplinkStatus,
    )


class KernelView(NamedTuple):
    """What the kernel has, arranged for the status."""

    name: DeviceNames
    own_routes: tuple[Route, ...]
    own_rules: tuple[Rule, ...]
    """mproutd's, in the kernel's order."""
    endpoints: Mapping[tuple[str, int], Endpoint]
    """By address and port."""
    foreign: frozenset[tuple[str, int]]
    """Address and port of other programs' endpoints."""
    foreign_endpoints: tuple[Endpoint, ...]
    blackholes: Mapping[int, str]
    """Family → default route of table main that discards packets, as ip(8) prints it."""


def view_kernel(inspection: Inspection) -> KernelView:
    snapshot, ownership = inspection.snapshot, Ownership(inspection.config, inspection.state)
    own_routes = ownership.own_routes(snapshot.routes)
    own_rules = ownership.own_rules(snapshot.rules)
    name = device_names(snapshot.links)
    endpoints = snapshot.mptcp.endpoints if snapshot.mptcp else ()
    return KernelView(
        name,
        tuple(route for route in snapshot.routes if route in own_routes),
        tuple(rule for rule in snapshot.rules if rule in own_rules),
        {endpoint.key: endpoint for endpoint in endpoints},
        ownership.foreign_keys(endpoints),
        tuple(endpoint for endpoint in endpoints if not ownership.owns_endpoint(endpoint)),
        {route.family: describe(route, name) for route in inspection.blackhole_defaults},
    )


def describe_object(value: Route | Rule, name: DeviceNames) -> str:
    """As `ip show` prints it, with ip's -6 in front of what would look the same in IPv4."""
    return ("-6 " if value.family == AF_INET6 else "") + describe(value, name)


def uplink_status(
    inspection: Inspection,
    view: KernelView,
    observed: ObservedUplink,
    traffic: Callable[[str], Traffic],
) -> UplinkStatus:
    uplink, link = observed.config, observed.link
    numbers, changes = inspection.plan.numbers[uplink.name], inspection.last_changes
    counters = traffic(uplink.device)
    return {
        "name": uplink.name,
        "device": uplink.device,
        "ifindex": link.index if link else None,
        "mode": _configured_mode(inspection, uplink.name),  # type: ignore[typeddict-item]
        "effective_mode": uplink.mode,  # type: ignore[typeddict-item]
        "usable": observed.usable,
        "since": changes.of(uplink.name),
        "slot": numbers.slot,
        "table": numbers.table,
        "mark": f"{numbers.mark:#x}/{numbers.mask:#x}" if numbers.mask else None,
        "families": [
            _with_specific_advice(
                inspection,
                uplink,
                path,
                family_status(
                    path,
                    link.index if link else -1,
                    numbers.table,
                    changes.of(uplink.name, path.family),
                    changes.outages(uplink.name, path.family),
                    inspection.lookups,
                    view.name,
                ),
            )
            for path in observed.paths
        ],
        "routes": _routes(inspection, view, observed),
        "rules": _rules(inspection, view, observed),
        "endpoints": [
            _endpoint(inspection, view, endpoint)
            for endpoint, owner in inspection.plan.endpoints.items()
            if owner == uplink.name
        ],
        "resolvers": resolver_status(inspection, uplink.name, view.name),
        "received": counters["received"],
        "sent": counters["sent"],
        "rate": counters["rate"],
    }


def _configured_mode(inspection: Inspection, name: str) -> str:
    return next(uplink.mode for uplink in inspection.config.uplinks if uplink.name == name)


def _routes(inspection: Inspection, view: KernelView, observed: ObservedUplink) -> Comparison:
    uplink, plan = observed.config.name, inspection.plan
    table, device = plan.numbers[uplink].table, observed.link.index if observed.link else -1
    return {
        "desired": [
            describe_object(route, view.name)
            for route, owner in plan.routes.items()
            if owner == uplink
        ],
        "actual": [
            describe_object(route, view.name)
            for route in view.own_routes
            if route.table == table or route.device == device
        ],
    }


def _rules(inspection: Inspection, view: KernelView, observed: ObservedUplink) -> Comparison:
    uplink, plan = observed.config.name, inspection.plan
    tables = {plan.numbers[uplink].table, *(path.table for path in observed.paths)}
    return {
        "desired": [
            describe_object(rule, view.name)
            for rule, owner in plan.rules.items()
            if owner == uplink
        ],
        "actual": [
            describe_object(rule, view.name) for rule in view.own_rules if rule.table in tables
        ],
    }


def _endpoint(inspection: Inspection, view: KernelView, desired: Endpoint) -> EndpointStatus:
    existing = view.endpoints.get(desired.key)
    return {
        "address": desired.address,
        "port": desired.port or None,
        "id": existing.id if existing else None,
        "flags": flag_names(desired.flags),
        "state": endpoint_state(inspection, view, desired),
        "actual": describe(existing, view.name) if existing else None,
    }


def endpoint_state(inspection: Inspection, view: KernelView, desired: Endpoint) -> EndpointState:
    existing = view.endpoints.get(desired.key)
    if desired.key in view.foreign:
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
    outages: dict[str, int],
    lookups: Lookups,
    name: DeviceNames,
) -> FamilyStatus:
    """An element of `families`; `device` is the uplink's ifindex, `since` an epoch second."""
    gateway = path.gateway
    return {
        "family": family_name(path.family),
        "usable": path.usable,
        "since": since,
        "outages": outages,
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


def _with_specific_advice(
    inspection: Inspection, uplink: UplinkConfig, path: Path, status: FamilyStatus
) -> FamilyStatus:
    """The advice for what is the matter on this device, where that is known."""
    device, interface = uplink.device, uplink.netifd_interface
    if path.reason in NETIFD_REASONS and inspection.netifd is not None and interface:
        known = interface in inspection.netifd
        advice = (NETIFD_DOWN if known else NETIFD_UNKNOWN).format(interface=interface)
        return {**status, "advice": advice}
    if path.reason == "no-gateway":
        tables = inspection.default_tables.get((device, path.family), ())
        if tables:
            advice = DEFAULT_ELSEWHERE.format(device=device, table=tables[0])
            return {**status, "advice": advice}
    if path.family == AF_INET6 and device in inspection.ignores_advertisements:
        return {**status, "advice": ADVERTISEMENTS_IGNORED.format(device=device)}
    return status


def _lookup(path: Path, source: str, device: int, route: Route | None, name: DeviceNames) -> Lookup:
    destination, result, matches = LOOKUP_DESTINATION[path.family], None, False
    if route is not None and route.table:
        if route.destination == FALLBACK_DESTINATION[path.family]:
            destination = route.destination
        via = f"via {route.gateway} " if route.gateway else ""
        result = f"{via}dev {name(route.device)} table {route.table}"
        gateways = path.gateways(source) or ("",)
        matches = route.device == device and route.gateway in gateways
    return {
        "command": f"ip route get {destination} from {source}",
        "result": result,
        "matches": matches,
    }
