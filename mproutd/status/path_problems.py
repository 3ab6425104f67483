"""Problems with the ways out of the uplinks: gateways missing or only remembered.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mproutd.format import format_duration
from mproutd.model import FAMILY_NAMES, SCOPE_GLOBAL
from mproutd.planning.addresses import is_ula
from mproutd.planning.inspection import Inspection
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path
from mproutd.status.problems import ADVICE, problem

if TYPE_CHECKING:
    from mproutd.status.types import Problem

MEMORY_UNNAMED = 60.0
"""Seconds for which a remembered gateway is no problem: DHCP clients may restore the route."""

LOSS_NAMED = 24 * 3600.0
"""Seconds for which a family that an uplink lost is missed."""

NO_GATEWAY = "there are addresses, but no gateway"
NO_ADDRESS = "there is a gateway, but no address"
ONLY_LOCAL = "there is a gateway, but only a unique local address"
LOST = "it had an address earlier, and has none now"
"""Causes of family-unusable beside REASONS."""
ULA_ADVICE = "if the provider translates such addresses (NAT66), set `ula` '1' for the uplink"


def path_problems(inspection: Inspection) -> Iterator[Problem]:
    yield from _one_family_only(inspection)
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


def _one_family_only(inspection: Inspection) -> Iterator[Problem]:
    """Uplinks that carry one family, where the other one should be there as well."""
    for observed in inspection.plan.uplinks:
        if observed.config.mode == "off" or not observed.usable:
            continue  # not expected to carry anything, or reported as not usable
        for path in observed.paths:
            cause, advice = _cause(inspection, observed, path)
            if cause:
                found = problem(
                    "family-unusable",
                    uplink=observed.config.name,
                    family=FAMILY_NAMES[path.family],
                    cause=cause,
                )
                if advice:
                    found["advice"] = advice.replace("DEVICE", observed.config.device)
                yield found


def _cause(inspection: Inspection, observed: ObservedUplink, path: Path) -> tuple[str, str]:
    """Why a family is not usable although it should be, and the advice where it is another.

    Nothing for a family of which the device has nothing, and had nothing in the last day.
    """
    assert observed.link
    reason, index = path.reason, observed.link.index
    if reason == "no-gateway" and path.eligible:
        return NO_GATEWAY, ""
    if reason in ("deprecated", "dad-failed"):
        return REASONS[reason], ADVICE[reason]
    if reason != "no-address" or path.prefixes:
        return "", ""
    addresses = [
        address
        for address in inspection.snapshot.addresses
        if address.family == path.family and address.scope == SCOPE_GLOBAL
    ]
    if (index, path.family) in inspection.snapshot.defaults:
        if any(address.link == index and is_ula(address.address) for address in addresses):
            return ONLY_LOCAL, ULA_ADVICE
        uplinks = {uplink.link.index for uplink in inspection.plan.uplinks if uplink.link}
        if all(address.link in uplinks or is_ula(address.address) for address in addresses):
            return NO_ADDRESS, ADVICE[reason]
    lost = inspection.last_changes.lost(observed.config.name, path.family)
    if lost is not None and inspection.time - lost < LOSS_NAMED:
        return LOST, ADVICE[reason]
    return "", ""
