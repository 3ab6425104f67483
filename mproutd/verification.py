"""Asks the kernel whether packets from endpoints leave through their own uplinks."""

from __future__ import annotations

from mproutd.model import Route
from mproutd.netlink.kernel import Kernel
from mproutd.planning.plan import Plan


def misrouted_addresses(kernel: Kernel, plan: Plan) -> tuple[str, ...]:
    """The addresses of planned endpoints whose packets would not leave as planned."""
    expected: dict[str, tuple[int, tuple[str, ...]]] = {}
    concerned = set(plan.endpoints.values())
    for uplink in plan.uplinks:
        if uplink.config.name not in concerned:
            continue
        for path in uplink.paths:
            if path.usable and path.leads_out and uplink.link:
                for address in path.eligible:
                    gateways = path.gateways(address.address)
                    expected[address.address] = (uplink.link.index, gateways)
    sources = [
        (endpoint.address, endpoint.device)
        for endpoint in plan.endpoints
        if endpoint.address in expected
    ]
    if not sources:
        return ()

    def is_expected(address: str, route: Route | None) -> bool:
        device, gateways = expected[address]
        if route is None or not route.table:
            return False
        return route.device == device and route.gateway in gateways

    return tuple(
        address
        for (address, _), route in zip(sources, kernel.lookups(sources), strict=True)
        if not is_expected(address, route)
    )
