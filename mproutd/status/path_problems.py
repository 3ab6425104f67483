"""Problems with the ways out of the uplinks: gateways missing or only remembered.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mproutd.format import format_duration
from mproutd.model import FAMILY_NAMES
from mproutd.planning.inspection import Inspection
from mproutd.planning.plan import Plan
from mproutd.status.problems import problem

if TYPE_CHECKING:
    from mproutd.status.types import Problem

MEMORY_UNNAMED = 60.0
"""Seconds for which a remembered gateway is no problem: DHCP clients may restore the route."""


def path_problems(inspection: Inspection) -> Iterator[Problem]:
    yield from _one_family_only(inspection.plan)
    for observed in inspection.plan.uplinks:
        uplink = observed.config
        for path in observed.paths:
            family = FAMILY_NAMES[path.family]
            age = inspection.remembered.get((uplink.device, path.family), 0.0)
            if path.gateway and path.gateway.origin == "remembered" and age >= MEMORY_UNNAMED:
                yield problem(
                    "gateway-remembered",
                    uplink=uplink.name,
                    gateway=path.gateway.address or uplink.device,
                    device=uplink.device,
                    families=family,
                    duration=format_duration(age),
                )
            for address in path.without_gateway:
                yield problem(
                    "address-without-gateway",
                    uplink=uplink.name,
                    address=address.address,
                    device=uplink.device,
                    gateway=path.gateway.address if path.gateway else "",
                )


def _one_family_only(plan: Plan) -> Iterator[Problem]:
    """Uplinks that carry one family and have addresses of the other without a way out."""
    for observed in plan.uplinks:
        if observed.config.mode == "off" or not observed.usable:
            continue  # not expected to carry anything, or reported as not usable
        for path in observed.paths:
            if path.reason == "no-gateway" and path.eligible:
                family = FAMILY_NAMES[path.family]
                yield problem("family-unusable", uplink=observed.config.name, family=family)
