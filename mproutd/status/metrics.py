"""A status as metrics: their names, meanings and values.  Pure.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters,
`_info` for a constant 1 whose labels carry text.  Invariant: a metric has a sample for each
uplink, family, code or state even where it is 0, so that an alert never meets a gap.
exporter.py prints them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mproutd.planning.uplinks import REASONS
from mproutd.status.problems import PROBLEMS
from mproutd.status.render_traffic import share_ratios

if TYPE_CHECKING:
    from mproutd.status.cost_types import DirectionLoad
    from mproutd.status.mptcp_types import MptcpStatus
    from mproutd.status.policy_types import PolicyStatus
    from mproutd.status.types import CheckStatus, Status, UplinkStatus

GAUGE, COUNTER = "gauge", "counter"


class Metric(NamedTuple):
    """What a metric is; `labels` are in the order of the samples' label values."""

    kind: str
    text: str
    labels: tuple[str, ...] = ()


_UPLINK, _FAMILY = ("uplink",), ("uplink", "family")
_DIRECTION = ("uplink", "direction")
_HOST = ("uplink", "family", "host")

METRICS = {
    "mproutd_up": Metric(GAUGE, "Whether the daemon replied; if not, there are no other metrics."),
    "mproutd_build_info": Metric(GAUGE, "Version of the daemon.", ("version",)),
    "mproutd_enabled": Metric(GAUGE, "Whether multipath is enabled in the configuration."),
    "mproutd_degraded": Metric(GAUGE, "Whether anything needs attention."),
    "mproutd_standby": Metric(
        GAUGE, "Whether this gateway of a pair is in standby; missing without a pair."
    ),
    "mproutd_configuration_rejected": Metric(
        GAUGE, "Whether the files on disk are rejected and an earlier configuration is in use."
    ),
    "mproutd_warnings": Metric(
        GAUGE, "Parts of the configuration that are valid but probably unintended."
    ),
    "mproutd_problems": Metric(GAUGE, "Problems by code.", ("code",)),
    "mproutd_pins_flows": Metric(
        GAUGE, "Whether forwarded connections keep their uplink; missing where that is not wanted."
    ),
    "mproutd_drift": Metric(GAUGE, "Differences in the kernel that the next pass will repair."),
    "mproutd_passes_total": Metric(COUNTER, "Passes since the daemon started."),
    "mproutd_writes_total": Metric(
        COUNTER, "Changes requested from the kernel since the daemon started."
    ),
    "mproutd_write_failures_total": Metric(COUNTER, "Those of them that the kernel refused."),
    "mproutd_restores_total": Metric(
        COUNTER, "Those that restored what another program had removed or changed."
    ),
    "mproutd_policy_share_ratio": Metric(
        GAUGE,
        "The part of a policy's traffic that an uplink carries; missing for those that carry none.",
        ("policy", "family", "uplink"),
    ),
    "mproutd_policy_usable": Metric(
        GAUGE, "Whether any member of a policy carries its traffic.", ("policy", "family")
    ),
    "mproutd_uplink_info": Metric(
        GAUGE, "Device and mode of an uplink.", ("uplink", "device", "mode")
    ),
    "mproutd_uplink_usable": Metric(GAUGE, "Whether an uplink can carry traffic.", _FAMILY),
    "mproutd_uplink_unusable_info": Metric(
        GAUGE, "Why it cannot; missing while it can.", ("uplink", "family", "reason")
    ),
    "mproutd_uplink_outages_total": Metric(
        COUNTER,
        "How often an uplink ceased to be usable.",
        ("uplink", "family", "reason"),
    ),
    "mproutd_uplink_since_timestamp_seconds": Metric(
        GAUGE, "When the uplink became usable or unusable.", _UPLINK
    ),
    "mproutd_uplink_default": Metric(
        GAUGE, "Whether an uplink carries the traffic that no rule selects.", _FAMILY
    ),
    "mproutd_uplink_share_ratio": Metric(
        GAUGE, "The part of new connections that no rule selects; see weight.", _FAMILY
    ),
    "mproutd_uplink_resolvers": Metric(GAUGE, "DNS servers of an uplink's provider.", _UPLINK),
    "mproutd_uplink_resolvers_used": Metric(
        GAUGE, "Those of them that resolv.conf names.", _UPLINK
    ),
    "mproutd_uplink_addresses": Metric(GAUGE, "Addresses used for new connections.", _FAMILY),
    "mproutd_uplink_lookup_mismatches": Metric(
        GAUGE, "Addresses whose packets are routed through another uplink or gateway.", _FAMILY
    ),
    "mproutd_uplink_endpoints": Metric(
        GAUGE, "Desired MPTCP endpoints by state.", ("uplink", "state")
    ),
    "mproutd_uplink_flows": Metric(
        GAUGE, "Tracked connections that keep an uplink; missing while they are not known.", _UPLINK
    ),
    "mproutd_uplink_received_bytes_total": Metric(
        COUNTER, "Bytes received by the device of an uplink.", _UPLINK
    ),
    "mproutd_uplink_sent_bytes_total": Metric(
        COUNTER, "Bytes sent by the device of an uplink.", _UPLINK
    ),
    "mproutd_uplink_effective_mode_info": Metric(
        GAUGE, "The mode in use: quotas and overflow change it.", ("uplink", "mode")
    ),
    "mproutd_uplink_quota_bytes": Metric(GAUGE, "Bytes that a period includes.", _UPLINK),
    "mproutd_uplink_quota_used_bytes": Metric(GAUGE, "Bytes used in this period.", _UPLINK),
    "mproutd_uplink_quota_end_timestamp_seconds": Metric(
        GAUGE, "When the next period begins.", _UPLINK
    ),
    "mproutd_uplink_quota_reached": Metric(GAUGE, "Whether the quota is used up.", _UPLINK),
    "mproutd_uplink_overflow_carrying": Metric(
        GAUGE, "Whether an uplink carries since the regular ones are full.", _UPLINK
    ),
    "mproutd_uplink_capacity_bytes_per_second": Metric(
        GAUGE, "What a regular uplink can carry, configured or learned.", _DIRECTION
    ),
    "mproutd_uplink_load_ratio": Metric(
        GAUGE, "Its rate over two seconds as a share of that.", _DIRECTION
    ),
    "mproutd_uplink_health_failed": Metric(
        GAUGE, "Whether the health check of an uplink has failed.", _FAMILY
    ),
    "mproutd_uplink_health_hold_seconds": Metric(
        GAUGE, "Time before the health check can pass again, after flapping.", _FAMILY
    ),
    "mproutd_uplink_health_host_reachable": Metric(
        GAUGE, "Whether a probed host answered in the last round.", _HOST
    ),
    "mproutd_uplink_health_host_loss_ratio": Metric(
        GAUGE, "Share of the recent probes to a host that were lost.", _HOST
    ),
    "mproutd_uplink_health_host_latency_seconds": Metric(
        GAUGE, "Mean latency of the recent probes to a host.", _HOST
    ),
    "mproutd_uplink_health_host_sent_total": Metric(COUNTER, "Probes sent to a host.", _HOST),
    "mproutd_uplink_health_host_replies_total": Metric(
        COUNTER, "Probes that a host answered.", _HOST
    ),
    "mproutd_mptcp_available": Metric(GAUGE, "Whether the kernel supports MPTCP."),
    "mproutd_mptcp_enabled": Metric(GAUGE, "net.mptcp.enabled."),
    "mproutd_mptcp_endpoints_max": Metric(GAUGE, "How many endpoints the kernel accepts."),
    "mproutd_mptcp_limit_max": Metric(GAUGE, "The highest limit that the kernel accepts."),
    "mproutd_mptcp_foreign_endpoints": Metric(GAUGE, "Endpoints of other programs."),
    "mproutd_mptcp_limit": Metric(GAUGE, "A limit for each connection in the kernel.", ("limit",)),
    "mproutd_mptcp_limit_desired": Metric(GAUGE, "The limit that mproutd sets.", ("limit",)),
}
"""Every metric, in the order of the output."""

ENDPOINT_STATES = ("ok", "missing", "differs", "foreign", "misrouted")

Sample = tuple[tuple[str, ...], float]
"""(label values, value)."""
_Named = tuple[str, tuple[str, ...], float]
"""(metric, label values, value)."""


def samples(status: Status | None) -> dict[str, list[Sample]]:
    """Metric → its samples.  None: the daemon did not reply."""
    collected: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for name, labels, value in _samples(status):
        collected[name].append((labels, float(value)))
    return {name: listed for name, listed in collected.items() if listed}


def _samples(status: Status | None) -> Iterator[_Named]:
    yield "mproutd_up", (), status is not None
    if status is None:
        return
    yield "mproutd_build_info", (status["mproutd"],), 1
    yield "mproutd_enabled", (), status["enabled"]
    yield "mproutd_degraded", (), status["degraded"]
    if (standby := status.get("standby")) is not None:
        yield "mproutd_standby", (), standby
    yield "mproutd_configuration_rejected", (), status["configuration"]["error"] is not None
    yield "mproutd_warnings", (), len(status["warnings"])
    codes = Counter(problem["code"] for problem in status["problems"])
    for code in [*PROBLEMS, *(code for code in codes if code not in PROBLEMS)]:
        yield "mproutd_problems", (code,), codes[code]
    if (pinned := status.get("pins_flows")) is not None:
        yield "mproutd_pins_flows", (), pinned
    yield "mproutd_drift", (), len(status["drift"])
    counts = status["counts"]
    yield "mproutd_passes_total", (), counts["passes"]
    yield "mproutd_writes_total", (), counts["writes"]
    yield "mproutd_write_failures_total", (), counts["failed_writes"]
    yield "mproutd_restores_total", (), counts["restores"]
    for policy in status["policies"]:
        yield from _policy(policy)
    shares = share_ratios(status)
    for uplink in status["uplinks"]:
        yield from _uplink(uplink, shares)
    yield from _mptcp(status["mptcp"])


def _policy(policy: PolicyStatus) -> Iterator[_Named]:
    for way in policy["ways"]:
        labels = policy["name"], way["family"]
        yield "mproutd_policy_usable", labels, bool(way["uplinks"])
        total = sum(carrier["weight"] for carrier in way["uplinks"])
        for carrier in way["uplinks"]:
            share = carrier["weight"] / total
            yield "mproutd_policy_share_ratio", (*labels, carrier["uplink"]), share


def _uplink(uplink: UplinkStatus, shares: dict[tuple[str, str], float]) -> Iterator[_Named]:
    name = uplink["name"]
    yield "mproutd_uplink_info", (name, uplink["device"], uplink["mode"]), 1
    for family in uplink["families"]:
        labels = name, family["family"]
        yield "mproutd_uplink_usable", labels, family["usable"]
        if not family["usable"]:
            yield "mproutd_uplink_unusable_info", (*labels, str(family["reason"])), 1
        for reason in REASONS:
            outages = family["outages"].get(reason, 0)
            yield "mproutd_uplink_outages_total", (*labels, reason), outages
        yield "mproutd_uplink_default", labels, labels in shares
        yield "mproutd_uplink_share_ratio", labels, shares.get(labels, 0)
        yield "mproutd_uplink_addresses", labels, len(family["addresses"])
        mismatches = sum(not lookup["matches"] for lookup in family["lookups"])
        yield "mproutd_uplink_lookup_mismatches", labels, mismatches
    if uplink["since"] is not None:
        yield "mproutd_uplink_since_timestamp_seconds", (name,), uplink["since"]
    yield "mproutd_uplink_resolvers", (name,), len(uplink["resolvers"])
    used = sum(resolver["in_use"] for resolver in uplink["resolvers"])
    yield "mproutd_uplink_resolvers_used", (name,), used
    for check in uplink.get("health") or ():
        yield from _check(name, check)
    yield from _cost(name, uplink)
    states = Counter[str](endpoint["state"] for endpoint in uplink["endpoints"])
    for state in ENDPOINT_STATES:
        yield "mproutd_uplink_endpoints", (name, state), states[state]
    if (flows := uplink.get("flows")) is not None:
        yield "mproutd_uplink_flows", (name,), flows
    if uplink["received"] is not None:
        yield "mproutd_uplink_received_bytes_total", (name,), uplink["received"]
    if uplink["sent"] is not None:
        yield "mproutd_uplink_sent_bytes_total", (name,), uplink["sent"]


def _cost(name: str, uplink: UplinkStatus) -> Iterator[_Named]:
    """Quotas and overflow, where they are configured."""
    yield "mproutd_uplink_effective_mode_info", (name, uplink["effective_mode"]), 1
    if quota := uplink.get("quota"):
        yield "mproutd_uplink_quota_bytes", (name,), quota["limit"]
        yield "mproutd_uplink_quota_used_bytes", (name,), quota["used"]
        yield "mproutd_uplink_quota_end_timestamp_seconds", (name,), quota["end"]
        yield "mproutd_uplink_quota_reached", (name,), quota["state"] == "reached"
    if overflow := uplink.get("overflow"):
        yield "mproutd_uplink_overflow_carrying", (name,), overflow["carrying"]
    if load := uplink.get("load"):
        for direction in ("download", "upload"):
            measured: DirectionLoad = load[direction]
            if measured["capacity"] is not None:
                yield (
                    "mproutd_uplink_capacity_bytes_per_second",
                    (name, direction),
                    measured["capacity"] / 8,
                )
            if measured["percent"] is not None:
                yield "mproutd_uplink_load_ratio", (name, direction), measured["percent"] / 100


def _check(uplink: str, check: CheckStatus) -> Iterator[_Named]:
    labels = uplink, check["family"]
    yield "mproutd_uplink_health_failed", labels, check["failed"]
    yield "mproutd_uplink_health_hold_seconds", labels, check["hold"]
    for host in check["hosts"]:
        host_labels = (*labels, host["host"])
        prefix = "mproutd_uplink_health_host"
        yield f"{prefix}_reachable", host_labels, bool(host["reachable"])
        yield f"{prefix}_loss_ratio", host_labels, host["loss"] / 100
        if host["latency"] is not None:
            yield f"{prefix}_latency_seconds", host_labels, host["latency"]
        yield f"{prefix}_sent_total", host_labels, host["sent"]
        yield f"{prefix}_replies_total", host_labels, host["replies"]


def _mptcp(mptcp: MptcpStatus | None) -> Iterator[_Named]:
    yield "mproutd_mptcp_available", (), mptcp is not None
    if mptcp is None:
        return
    yield "mproutd_mptcp_enabled", (), mptcp["enabled"]
    yield "mproutd_mptcp_endpoints_max", (), mptcp["endpoints_max"]
    yield "mproutd_mptcp_limit_max", (), mptcp["limit_max"]
    yield "mproutd_mptcp_foreign_endpoints", (), len(mptcp["foreign_endpoints"])
    actual, desired = mptcp["limits"]["actual"], mptcp["limits"]["desired"]
    for limit in ("subflows", "add_addr_accepted"):
        yield "mproutd_mptcp_limit", (limit,), actual[limit]
        yield "mproutd_mptcp_limit_desired", (limit,), desired[limit]
