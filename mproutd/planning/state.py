"""The state file's content: what mproutd must remember because the kernel does not.  Pure.

Endpoints, limits and sysctls carry no mark of ours, so what is done to them is recorded here
first (ownership.py).  Slots and gateways are recorded so that an uplink keeps its table, its
mark and its default route.

The file may be lost or damaged at any time.  Then everything but endpoints, limits and sysctls
is recognized again, and those are treated as somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mproutd.model import TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN, Limits, Metrics, canonical
from mproutd.planning.json_values import integer

VERSION = 2
REMEMBERED_GATEWAYS = 64
"""(device, address) pairs that keep their last gateway; the oldest is dropped first."""


class State(NamedTuple):
    """The state file's content."""

    slots: Mapping[str, int] = {}
    """Uplink → slot, from 1; its table, mark and rule priorities follow from it."""
    tables: frozenset[int] = frozenset()
    """Tables in use, and earlier ones that may still hold routes of ours."""
    priorities: frozenset[int] = frozenset()
    """rule_priority, and earlier ones with rules of ours."""
    gateways: Mapping[tuple[str, str], str] = {}
    """(device, address) → the gateway last known for it."""
    endpoints: frozenset[tuple[str, int]] = frozenset()
    """(address, ifindex) of each endpoint that mproutd has added or is about to add."""
    without_endpoint: frozenset[str] = frozenset()
    """Addresses that were usable without an endpoint: connections may have begun there."""
    limits: tuple[Limits, ...] | None = None
    """(as found, as set by mproutd); a third one was set before and may still be in place."""
    sysctls: Mapping[tuple[int, str], int] = {}
    """(ifindex, key) → the value before ours."""
    failed: tuple[tuple[str, int], ...] = ()
    """(uplink, family) whose health check has failed, in the order in which they failed."""
    attributes: Mapping[tuple[str, str], tuple[str, Metrics]] = {}
    """As in gateways → source and metrics of main's route by that gateway, where it has any."""
    dropped: frozenset[tuple[str, str]] = frozenset()
    """As in gateways, where the kernel itself dropped main's route with the link or address."""
    over_quota: frozenset[str] = frozenset()
    """Uplinks whose quota is used up."""
    overflowing: frozenset[str] = frozenset()
    """Uplinks that carry because the regular ones are full."""
    policies: Mapping[str, int] = {}
    """Policy or sticky rule → number, from 1; its mark and table follow from it."""
    standby: bool | None = None
    """What a gateway of a pair was commanded last; None where it is none, or after a reboot."""
    nexthops: bool = False
    """There may be nexthop objects of ours."""
    ports: frozenset[tuple[str, int, int]] = frozenset()
    """As in endpoints, of those with a port: (address, ifindex, port)."""


def encode(state: State) -> dict[str, Any]:
    """The state as plain values for JSON."""
    return {
        "version": VERSION,
        "slots": dict(state.slots),
        "tables": sorted(state.tables),
        "priorities": sorted(state.priorities),
        "gateways": [[*key, gateway] for key, gateway in state.gateways.items()],
        "attributes": [
            [*key, source, [list(metric) for metric in metrics]]
            for key, (source, metrics) in state.attributes.items()
        ],
        "dropped": sorted(map(list, state.dropped)),
        "endpoints": sorted([address, device] for address, device in state.endpoints),
        "ports": sorted(map(list, state.ports)),
        "without_endpoint": sorted(state.without_endpoint),
        "limits": [list(limits) for limits in state.limits] if state.limits else None,
        "sysctls": [[*key, value] for key, value in sorted(state.sysctls.items())],
        "failed": [list(failure) for failure in state.failed],
        "over_quota": sorted(state.over_quota),
        "overflowing": sorted(state.overflowing),
        "policies": dict(state.policies),
        "standby": state.standby,
        "nexthops": state.nexthops,
    }


def decode(data: object) -> State:
    """The inverse of encode().  ValueError when the data is not a state of mproutd."""
    try:
        return _decode(data)
    except (AttributeError, KeyError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"not a state of mproutd: {error}") from None


def _decode(data: Any) -> State:
    if data["version"] != VERSION:
        raise ValueError(f"version {data['version']!r}, not {VERSION}")
    limits = data["limits"]
    return State(
        slots={_text(name): _number(slot) for name, slot in data["slots"].items()},
        tables=frozenset(_table(table) for table in data["tables"]),
        priorities=frozenset(_number(priority) for priority in data["priorities"]),
        gateways={
            (_text(device), canonical(address)): canonical(gateway) if gateway else ""
            for device, address, gateway in data["gateways"]
        },
        attributes={
            (_text(device), canonical(address)): (
                canonical(source) if source else "",
                tuple((_number(kind), _metric(value)) for kind, value in metrics),
            )
            for device, address, source, metrics in data.get("attributes", ())
        },
        dropped=frozenset(
            (_text(device), canonical(address)) for device, address in data.get("dropped", ())
        ),
        endpoints=frozenset(
            (canonical(address), _number(device)) for address, device in data["endpoints"]
        ),
        ports=frozenset(
            (canonical(address), _number(device), _number(port))
            for address, device, port in data.get("ports", ())
        ),
        without_endpoint=frozenset(canonical(address) for address in data["without_endpoint"]),
        limits=(_limits(limits[0]), *map(_limits, limits[1:])) if limits else None,
        sysctls={
            (_number(device), _text(key)): _number(value) for device, key, value in data["sysctls"]
        },
        failed=tuple((_text(name), _number(family)) for name, family in data.get("failed", ())),
        over_quota=frozenset(map(_text, data.get("over_quota", ()))),
        overflowing=frozenset(map(_text, data.get("overflowing", ()))),
        policies={
            _text(name): _number(number) for name, number in data.get("policies", {}).items()
        },
        standby=_optional_flag(data.get("standby")),
        nexthops=data.get("nexthops", False) is True,
    )


def _limits(pair: Any) -> Limits:
    subflows, add_addr_accepted = pair
    return Limits(_number(subflows), _number(add_addr_accepted))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _optional_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _metric(value: object) -> int | str:
    return value if isinstance(value, str) else _number(value)


def _table(value: object) -> int:
    number = _number(value)
    if number in (0, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL):
        raise ValueError(f"table {number} belongs to the kernel")
    return number


def _number(value: object) -> int:
    return integer(value, 1 << 32)
