"""Where traffic leaves, as the kernel says, and which foreign rules divert it.  Pure.

A VPN may take other traffic, whatever the plan says: it leaves through a device that is no uplink.
It is a problem if other traffic leaves by the wrong uplink or not at all, and if anything but its
own uplink carries what has the uplink's mark or address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mproutd.iproute2 import describe, selected
from mproutd.model import (
    ANY_DEVICE,
    FAMILIES,
    FAMILY_NAMES,
    LOOKUP_DESTINATION,
    TABLE_MAIN,
    TO_TABLE,
    Packet,
    Route,
    Rule,
    contains,
)
from mproutd.planning.inspection import Inspection
from mproutd.planning.sharing import carries_other_traffic
from mproutd.planning.traffic import Flow
from mproutd.status.problems import problem
from mproutd.status.render_traffic import share_list
from mproutd.status.uplink import KernelView, family_name

if TYPE_CHECKING:
    from mproutd.status.traffic_types import OtherTraffic, Share
    from mproutd.status.types import Problem

_PROTOCOL_KERNEL = 2
"""linux/rtnetlink.h, RTPROT_KERNEL: of the rules that every system has."""
_GOTO = 2
"""linux/fib_rules.h, FR_ACT_GOTO."""


def other_traffic(inspection: Inspection, view: KernelView) -> list[OtherTraffic]:
    """Of this host in each family, and of those LANs that differ from it."""
    names = _uplink_names(inspection)
    listed: list[OtherTraffic] = []
    general: dict[int, Route | None] = {}
    for flow, route in inspection.flows:
        family = flow.packet.family
        if flow.kind == "host":
            general[family] = route
            if route is None and not carries_other_traffic(inspection.config):
                continue
        elif flow.kind not in ("lan", "limited") or _way(route) == _way(general.get(family)):
            continue
        limits = flow.packet.selectors
        shares = _shares(names, view, route)
        listed.append(
            {
                "family": family_name(family),
                "origin": selected(limits) or flow.name or None,
                "uplink": shares[0]["uplink"] if shares else None,
                "device": shares[0]["device"] if shares else None,
                "shares": shares,
                "table": route.table if route else None,
                "barred": [] if route else _barred(inspection, family),
            }
        )
    return listed


def carrier(inspection: Inspection, route: Route) -> str:
    """The first uplink whose device a route leaves through; "" for none."""
    names = _uplink_names(inspection)
    leaving = {names.get(device, "") for device in route.devices}
    return next((name for name in names.values() if name in leaving), "")


def _shares(names: Mapping[int, str], view: KernelView, route: Route | None) -> list[Share]:
    """The devices through which a route leaves: uplinks first, in the order of the file."""
    weights = dict(_way(route))
    devices = [*(index for index in names if index in weights), *(weights.keys() - names.keys())]
    return [
        {"uplink": names.get(index), "device": view.name(index), "weight": weights[index]}
        for index in devices
    ]


def _way(route: Route | None) -> tuple[tuple[int, int], ...]:
    """(ifindex, weight) of each device through which a route leaves."""
    if route is None:
        return ()
    weights: dict[int, int] = {}
    for hop in route.nexthops:
        index = hop.device or route.device
        weights[index] = weights.get(index, 0) + hop.weight
    return tuple(sorted(weights.items())) or ((route.device, 1),)


def _uplink_names(inspection: Inspection) -> dict[int, str]:
    return {
        observed.link.index: observed.config.name
        for observed in inspection.plan.uplinks
        if observed.link
    }


def _barred(inspection: Inspection, family: int) -> list[str]:
    """The uplinks that are `off` and would have a way out."""
    place, barred = FAMILIES.index(family), family in inspection.plan.barred
    return [
        observed.config.name
        for observed in inspection.plan.uplinks
        if barred and observed.config.mode == "off" and observed.paths[place].usable
    ]


# -- problems -----------------------------------------------------------------------------


def traffic_problems(inspection: Inspection, view: KernelView) -> Iterator[Problem]:
    """One for each foreign rule that diverts traffic, or for each kind of traffic without one."""
    if any(isinstance(operation.value, Route | Rule) for operation in inspection.drift):
        return  # the plan is not in the kernel yet
    diverted: dict[Rule, list[tuple[Flow, Route | None]]] = {}
    unexplained: dict[tuple[str, ...], list[tuple[Flow, Route | None]]] = {}
    without_main: set[int] = set()
    for flow, route in inspection.flows:
        if flow.kind == "rule":
            yield from _stuck_mark(inspection, view, flow, route)
        elif _is_diverted(inspection, view, flow, route):
            rule = _responsible(inspection, view, flow.packet, route)
            # Hosts behind a device may have no way out for another reason (rp_filter).
            lost_by_main, family = route is None and not flow.uplinks, flow.packet.family
            if rule is not None:
                diverted.setdefault(rule, []).append((flow, route))
            elif lost_by_main and (flow.kind == "host" or family in without_main):
                without_main.add(family)
            else:
                subject = (flow.kind, flow.name, *flow.uplinks)
                unexplained.setdefault(subject, []).append((flow, route))
    for family in FAMILIES:
        if family in without_main:
            version = "-6 " if family != FAMILIES[0] else ""
            command = f"ip {version}rule add priority 32766 lookup main protocol kernel"
            yield problem("main-not-looked-up", family=FAMILY_NAMES[family], command=command)
    for flows in unexplained.values():
        flow, route = flows[0]
        yield problem(
            "traffic-diverted",
            traffic=_summary(flows),
            actual=_target(inspection, view, route),
            expected=_expected(inspection, flow)
            or ("nothing" if route else "main's default route"),
        )
    yield from _off_in_main(inspection)
    for rule, flows in diverted.items():
        targets = [_target(inspection, view, route) for _, route in flows]
        yield problem(
            "foreign-rule",
            rule=_describe(rule, view),
            traffic=_summary(flows),
            actual=" and ".join(dict.fromkeys(targets)),
        )


def _is_diverted(inspection: Inspection, view: KernelView, flow: Flow, route: Route | None) -> bool:
    family, plan = flow.packet.family, inspection.plan
    names = _uplink_names(inspection)
    if flow.kind in ("limited", "resolver"):
        # An administrator's choice, as its selectors are; resolvers have problems of their own.
        return False
    expected = {index for index, name in names.items() if name in flow.uplinks}
    actual = set(route.devices) if route else set()
    if flow.kind in ("mark", "source"):
        if flow.packet.source in inspection.misrouted or family in view.blackholes:
            return False  # named already
        if flow.kind == "mark" and route is None and not _is_usable(inspection, flow):
            return False  # nor should it leave: the uplink is `strict`
        return bool(expected) and actual != expected
    if route is None:
        return bool(expected or _has_default(inspection, family)) and family not in view.blackholes
    if actual.isdisjoint(names) or (route.table == TABLE_MAIN and route.destination != "default"):
        return False
    if not expected:
        return family in plan.barred
    rule = _responsible(inspection, view, flow.packet, route)
    selective = flow.kind == "lan" and rule is not None and bool(rule.source or rule.iif)
    return actual != expected and not selective


def _is_usable(inspection: Inspection, flow: Flow) -> bool:
    """Whether an uplink of the flow can carry it."""
    place = FAMILIES.index(flow.packet.family)
    return any(
        observed.config.name in flow.uplinks and observed.paths[place].usable
        for observed in inspection.plan.uplinks
    )


def _has_default(inspection: Inspection, family: int) -> bool:
    """Whether main has a default route that could carry other traffic."""
    return family not in inspection.plan.barred and any(
        family == known for _, known in inspection.snapshot.defaults
    )


def _responsible(
    inspection: Inspection, view: KernelView, packet: Packet, route: Route | None
) -> Rule | None:
    """The first foreign rule that may have led the packet to this route.

    Where no rule names the table that replied, or discards, it is one that skips rules (goto).
    """
    skipping = None
    for rule in inspection.snapshot.rules:
        if rule.family != packet.family or rule.protocol == _PROTOCOL_KERNEL:
            continue
        if rule in view.own_rules or not _may_match(inspection, rule, packet):
            continue
        if rule.action == _GOTO:
            skipping = skipping or rule
        elif route.table == rule.table if route else rule.action != TO_TABLE:
            return rule
    return skipping


def _may_match(inspection: Inspection, rule: Rule, packet: Packet) -> bool:
    if rule.inverted:
        return True
    if rule.selectors != packet.selectors:
        return False
    link = inspection.snapshot.links.get(packet.iif)
    return (
        not (packet.mark ^ rule.fwmark) & rule.fwmask
        and not rule.oif
        and (not rule.iif or (link is not None and link.name == rule.iif))
        and (not rule.source or (bool(packet.source) and contains(rule.source, packet.source)))
        and (not rule.destination or contains(rule.destination, LOOKUP_DESTINATION[packet.family]))
    )


def _stuck_mark(
    inspection: Inspection, view: KernelView, flow: Flow, route: Route | None
) -> Iterator[Problem]:
    """A rule that leads marked packets to main, whose default leaves via an uplink that is out."""
    assert flow.rule is not None
    family = flow.packet.family
    if route is not None:
        leaving = [o for o in inspection.plan.uplinks if o.link and o.link.index in route.devices]
        if route.table != TABLE_MAIN or all(
            o.paths[FAMILIES.index(family)].usable and o.config.mode != "off" for o in leaving
        ):
            return
    rule = flow.rule
    mark = f"{rule.fwmark:#x}/{rule.fwmask:#x}"
    version = "-6 " if family != FAMILIES[0] else ""
    yield problem(
        "mark-follows-main",
        rule=_describe(rule, view),
        actual=_target(inspection, view, route),
        expected=_expected(inspection, flow),
        command=f"ip {version}rule add priority {rule.priority - 1} fwmark {mark} "
        f"lookup {inspection.config.table_base}",
    )


def _off_in_main(inspection: Inspection) -> Iterator[Problem]:
    """An uplink that is `off` has main's best default: a VPN that was given a section, perhaps."""
    ranked = {o.link.index for o in inspection.plan.uplinks if o.link and o.config.mode != "off"}
    defaults = inspection.snapshot.defaults
    for observed in inspection.plan.uplinks:
        for family in FAMILIES:
            best = defaults.get((ANY_DEVICE, family))
            if not observed.link or not best or family not in inspection.plan.default:
                continue
            own = [defaults.get((index, family)) for index in ranked]
            better = all(route is None or best.metric < route.metric for route in own)
            if observed.config.mode == "off" and observed.link.index in best.devices and better:
                yield problem(
                    "off-has-default",
                    uplink=observed.config.name,
                    device=observed.config.device,
                    family=FAMILY_NAMES[family],
                    expected=share_list(inspection.plan.shares[family]),
                )


# -- words --------------------------------------------------------------------------------


def _describe(rule: Rule, view: KernelView) -> str:
    return ("-6 " if rule.family != FAMILIES[0] else "") + describe(rule, view.name)


def _traffic(flow: Flow) -> str:
    family = FAMILY_NAMES[flow.packet.family]
    if flow.kind == "lan":
        return f"traffic from {flow.name} ({family})"
    return f"other traffic ({family})"


def _summary(flows: list[tuple[Flow, Route | None]]) -> str:
    """What a rule diverts: each kind once, with the uplinks that it belongs to."""
    words = [_traffic(flow) for flow, _ in flows if flow.kind in ("host", "lan")]
    for kind, text in (("mark", "the mark of"), ("source", "the addresses of")):
        uplinks = dict.fromkeys(
            name for flow, _ in flows if flow.kind == kind for name in flow.uplinks
        )
        if uplinks:
            words.append(f"{text} {', '.join(uplinks)}")
    return "; ".join(dict.fromkeys(words))


def _target(inspection: Inspection, view: KernelView, route: Route | None) -> str:
    if route is None:
        return "nowhere"
    names = _uplink_names(inspection)
    words = []
    for index in dict.fromkeys(route.devices):
        name, device = names.get(index), view.name(index)
        words.append(f"{name} ({device})" if name else device)
    return " and ".join(words)


def _expected(inspection: Inspection, flow: Flow) -> str:
    """The uplinks through which a flow should leave."""
    shares = dict(inspection.plan.shares.get(flow.packet.family, ()))
    return share_list([(uplink, shares.get(uplink, 1)) for uplink in flow.uplinks])
