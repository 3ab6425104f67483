"""The status, built from an inspection: what is desired beside what is there.  Pure.

build_status() returns the JSON of `mproutd status --json`; status.types has its fields.
VERSION is incremented when a field is removed or changes its meaning, not when one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mproutd import __version__
from mproutd.iproute2 import DeviceNames, describe, ip_command
from mproutd.model import FAMILY_NAMES, LOOKUP_DESTINATION, Endpoint, Mptcp, family_of
from mproutd.planning.inspection import Inspection
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan
from mproutd.planning.sharing import is_shared
from mproutd.planning.tunables import exposed_uplinks, wanted_announcements
from mproutd.status.path_problems import path_problems
from mproutd.status.problems import failed_operations, merge, problem, removed_objects
from mproutd.status.resolvers import resolver_problems
from mproutd.status.traffic import carrier, other_traffic, traffic_problems
from mproutd.status.uplink import (
    KernelView,
    describe_object,
    endpoint_state,
    family_name,
    uplink_status,
    view_kernel,
)

if TYPE_CHECKING:
    from mproutd.status.mptcp_types import MptcpStatus
    from mproutd.status.policy_types import PolicyStatus
    from mproutd.status.traffic_types import Defaults
    from mproutd.status.types import (
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
    view = view_kernel(inspection)
    config, plan = inspection.config, inspection.plan
    uplinks = [uplink_status(inspection, view, uplink, traffic) for uplink in plan.uplinks]
    drift = [ip_command(operation, view.name) for operation in inspection.drift]
    policies, unusable_policies = _policies(inspection)
    problems = merge([*_problems(inspection, view, uplinks), *unusable_policies])
    unusable = any(uplink["mode"] != "off" and not uplink["usable"] for uplink in uplinks)
    status: Status = {
        "version": VERSION,
        "mproutd": __version__,
        "time": inspection.time,
        "enabled": config.enabled,
        "degraded": bool((config.enabled and unusable) or drift or problems),
        "running": pid is not None,
        "standby": plan.state.standby,
        "uplinks": uplinks,
        "default": _defaults(inspection),
        "other_traffic": other_traffic(inspection, view),
        "policies": policies,
        "common": {
            "rules": [
                describe_object(rule, view.name)
                for rule, uplink in plan.rules.items()
                if not uplink
            ]
        },
        "mptcp": _mptcp(inspection, view),
        "drift": drift,
        "warnings": list(config.warnings),
        "problems": problems,
        "counts": inspection.counts._asdict(),  # type: ignore[typeddict-item]
        "configuration": {
            "directory": inspection.directory,
            "error": inspection.config_error or None,
        },
    }
    if pid is not None:
        status["pid"] = pid
    return status


# -- what belongs to no single uplink -----------------------------------------------------


def _defaults(inspection: Inspection) -> Defaults:
    """The first uplink that carries other traffic beside a master, as the kernel says."""
    defaults: Defaults = {}
    for flow, route in inspection.flows:
        if flow.kind == "host" and flow.uplinks and route is not None:
            name = carrier(inspection, route)
            if name:
                defaults[family_name(flow.packet.family)] = name
    return defaults


def _policies(inspection: Inspection) -> tuple[list[PolicyStatus], list[Problem]]:
    """The policies, and problems of theirs; the module is imported only where there are any."""
    if not inspection.config.policies:
        return [], []
    from mproutd.status.policies import policies, policy_problems

    found = policies(inspection)
    return found, [*policy_problems(inspection, found)]


def _mptcp(inspection: Inspection, view: KernelView) -> MptcpStatus | None:
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
        "foreign_endpoints": [describe(endpoint, view.name) for endpoint in view.foreign_endpoints],
    }


# -- problems -----------------------------------------------------------------------------


def _problems(
    inspection: Inspection, view: KernelView, uplinks: Iterable[UplinkStatus]
) -> Iterator[Problem]:
    yield from _mptcp_problems(inspection)
    yield from _reconciler_problems(inspection, view.name)
    yield from traffic_problems(inspection, view)
    if inspection.snapshot.nexthops is None and is_shared(inspection.config):
        yield problem("no-nexthop-objects")
    if (standby := inspection.plan.state.standby) is not None:
        yield from _pair_problems(inspection, standby)
    yield from resolver_problems(inspection, view.name)
    yield from _failed_in_use(inspection.plan)
    yield from path_problems(inspection)
    for uplink in uplinks:
        if uplink["mark"] is None:
            yield problem("no-mark", uplink=uplink["name"])
    for endpoint, uplink_name in inspection.plan.endpoints.items():
        yield from _endpoint_problem(inspection, view, endpoint, uplink_name)


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
    if inspection.mptcp_paused:
        yield problem("mptcp-paused")
    if not inspection.lists_connections:
        yield problem("no-mptcp-diag")
    if max(config.subflows or 0, config.add_addr_accepted or 0) > mptcp.max_limit:
        yield problem("limits-above-max", limit_max=mptcp.max_limit)
    yield from _limit_problems(inspection, mptcp)
    if not mptcp.laminar:
        for uplink in config.uplinks:
            if uplink.laminar:
                yield problem("laminar-unsupported", uplink=uplink.name)
    limit = mptcp.max_endpoints
    for address, name in inspection.plan.over_cap.items():
        yield problem("endpoint-limit", uplink=name, address=address, endpoints_max=limit)


def _limit_problems(inspection: Inspection, mptcp: Mptcp) -> Iterator[Problem]:
    """Options that do nothing, and uplinks that announced addresses must not use."""
    config, plan = inspection.config, inspection.plan
    original = Ownership(config, inspection.state).original_limits(mptcp.limits)
    for option, limit in original._asdict().items():
        value = getattr(config, option)
        if value is not None and value < limit:
            yield problem("limit-not-lowered", option=option, value=value, limit=limit)
    desired = plan.limits or mptcp.limits
    if wanted_announcements(config, mptcp) or desired.add_addr_accepted:
        families: dict[tuple[str, str], list[str]] = {}
        for uplink, family in exposed_uplinks(
            inspection.snapshot, plan.uplinks, plan.endpoints, plan.shares
        ):
            key = (uplink.config.name, uplink.config.mode)
            families.setdefault(key, []).append(FAMILY_NAMES[family])
        for (name, mode), names in families.items():
            yield problem(
                "announced-addresses",
                uplink=name,
                mode=mode,
                families=" and ".join(names),
                limit=desired.add_addr_accepted,
            )


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
    for address, count in inspection.kept.items():
        yield problem("endpoint-in-use", address=address, count=count)
    yield from failed_operations(inspection.failed, inspection.now, name)
    yield from removed_objects(inspection.restored, inspection.rate_limited, name)


def _pair_problems(inspection: Inspection, standby: bool) -> Iterator[Problem]:
    """Virtual addresses that do not go with standby, or with its end: VRRP has another view."""
    present = {address.address for address in inspection.snapshot.addresses}
    for address in dict.fromkeys(inspection.config.virtual_address):
        if (address in present) == standby:
            code = "standby-with-address" if standby else "active-without-address"
            yield problem(code, address=address)


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
    inspection: Inspection, view: KernelView, desired: Endpoint, uplink: str
) -> Iterator[Problem]:
    address, device = desired.address, view.name(desired.device)
    state = endpoint_state(inspection, view, desired)
    if state == "foreign":
        endpoint = describe(view.endpoints[desired.key], view.name)
        yield problem("foreign-endpoint", uplink=uplink, address=address, endpoint=endpoint)
    elif state == "misrouted":
        family = family_of(address)
        about = {"uplink": uplink, "address": address, "device": device}
        in_main = (desired.device, family) in inspection.snapshot.defaults
        if family in view.blackholes and not in_main:
            yield problem("blackhole-default", route=view.blackholes[family], **about)
        else:
            destination = LOOKUP_DESTINATION[family]
            command = f"ip route get {destination} from {address} oif {device}"
            yield problem("misrouted", command=command, **about)
