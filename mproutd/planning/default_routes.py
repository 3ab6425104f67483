"""An uplink's default routes, for its own table, for other traffic and for policies.  Pure."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import Any

from mproutd.model import PROTOCOL, SCOPE_LINK, Route
from mproutd.planning.uplinks import Path

METRIC: dict[int, int] = {AF_INET: 0, AF_INET6: 1024}
"""IPv6 stores 0 as 1024, IP6_RT_PRIO_USER (include/net/ip6_route.h)."""
STRICT_METRIC = 4278198272
"""Behind every other route: the metric of the kernel's own unreachable routes."""


def default_routes(path: Path, table: int, device: int) -> list[Route]:
    """The defaults of a path; what main says about them is copied with every attribute.

    Where main has defaults for some sources only, and all by one router, that one gets the rest as
    well: what the firewall marks for the uplink, and packets that have no source yet.
    """
    assert path.gateway is not None
    sourced = [copy_route(route, table) for route in path.sourced]
    if path.default is not None:
        if path.only_for_sources:
            return sourced
        return [*sourced, copy_route(path.default, table, onlink=path.onlink, from_prefix="")]
    scope = SCOPE_LINK if path.family == AF_INET and not path.gateway.address else 0
    metric, gateway = METRIC[path.family], path.gateway.address
    route = Route(path.family, table, "default", device, gateway, path.source, metric, scope)
    return [*sourced, route._replace(onlink=True) if path.onlink else route]


def copy_route(route: Route, table: int, **changes: Any) -> Route:
    """Another program's route as one of ours, with these changes."""
    metric = METRIC[route.family]
    return route._replace(table=table, metric=metric, protocol=PROTOCOL, **changes)
