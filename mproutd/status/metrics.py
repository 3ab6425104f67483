"""A status as metrics: what each is called, what it means, and its values.  Pure.

Names by https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows,
`_info` for a 1 that carries words.  What must hold: a metric that is there has a row for each
uplink, family, code or state even where it is 0, so that a rule about it never meets a gap.
exporter.py writes them down; docs/metrics.md has the table, and a test holds the two together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mproutd.status.problems import PROBLEMS

GAUGE, COUNTER = "gauge", "counter"


class Metric(NamedTuple):
    """What it is; `labels` in the order of the rows' words."""

    kind: str
    text: str
    labels: tuple[str, ...] = ()


_UPLINK, _FAMILY = ("uplink",), ("uplink", "family")
_HOST = ("uplink", "family", "host")

METRICS = {
    "mproutd_up": Metric(GAUGE, "Whether the daemon answered; without it there is nothing else."),
    "mproutd_info": Metric(GAUGE, "The daemon's version.", ("version",)),
    "mproutd_enabled": Metric(GAUGE, "Whether globals.multipath is enable."),
    "mproutd_degraded": Metric(GAUGE, "Whether anything is not as wanted."),
    "mproutd_configuration_rejected": Metric(
        GAUGE, "Whether the files on disk are refused and the last good ones are in use."
    ),
    "mproutd_configuration_warnings": Metric(
        GAUGE, "What in the configuration is allowed, but perhaps not meant."
    ),
    "mproutd_problems": Metric(GAUGE, "Problems of the status by their code.", ("code",)),
    "mproutd_drift_changes": Metric(GAUGE, "Changes of the kernel that would be made now."),
    "mproutd_passes_total": Metric(COUNTER, "Passes made since the daemon started."),
    "mproutd_kernel_writes_total": Metric(
        COUNTER, "Changes of the kernel asked for since the daemon started."
    ),
    "mproutd_uplink_info": Metric(
        GAUGE, "An uplink's device and mode.", ("uplink", "device", "mode")
    ),
    "mproutd_uplink_usable": Metric(GAUGE, "Whether an uplink can carry traffic now.", _FAMILY),
    "mproutd_uplink_unusable_info": Metric(
        GAUGE, "Why it cannot; missing while it can.", ("uplink", "family", "reason")
    ),
    "mproutd_uplink_changed_timestamp_seconds": Metric(
        GAUGE, "When the uplink became usable or ceased to be.", _UPLINK
    ),
    "mproutd_uplink_default": Metric(
        GAUGE, "Whether an uplink carries the traffic that no rule selects.", _FAMILY
    ),
    "mproutd_uplink_addresses": Metric(GAUGE, "Addresses used for new connections.", _FAMILY),
    "mproutd_uplink_lookup_mismatches": Metric(
        GAUGE, "Addresses whose packets would not leave by the uplink.", _FAMILY
    ),
    "mproutd_uplink_endpoints": Metric(
        GAUGE, "Wanted MPTCP endpoints by what was found in their place.", ("uplink", "state")
    ),
    "mproutd_uplink_receive_bytes_total": Metric(
        COUNTER, "Bytes received by the uplink's device.", _UPLINK
    ),
    "mproutd_uplink_transmit_bytes_total": Metric(
        COUNTER, "Bytes sent by the uplink's device.", _UPLINK
    ),
    "mproutd_uplink_check_failed": Metric(
        GAUGE, "Whether the health check of an uplink has failed.", _FAMILY
    ),
    "mproutd_uplink_check_hold_seconds": Metric(
        GAUGE, "How long it stays out at least, since it failed again and again.", _FAMILY
    ),
    "mproutd_uplink_check_host_reachable": Metric(
        GAUGE, "Whether a host that is asked answered in the last round.", _HOST
    ),
    "mproutd_uplink_check_host_loss_ratio": Metric(
        GAUGE, "Share of the last probes to it that was lost.", _HOST
    ),
    "mproutd_uplink_check_host_latency_seconds": Metric(
        GAUGE, "Mean of the last probes to it that were answered.", _HOST
    ),
    "mproutd_uplink_check_probes_total": Metric(COUNTER, "Probes to a host.", _HOST),
    "mproutd_uplink_check_replies_total": Metric(COUNTER, "Answers of a host.", _HOST),
    "mproutd_mptcp_available": Metric(GAUGE, "Whether the kernel has MPTCP."),
    "mproutd_mptcp_enabled": Metric(GAUGE, "net.mptcp.enabled."),
    "mproutd_mptcp_endpoints_max": Metric(GAUGE, "How many endpoints the kernel takes."),
    "mproutd_mptcp_limit_max": Metric(GAUGE, "The highest limit that the kernel accepts."),
    "mproutd_mptcp_foreign_endpoints": Metric(GAUGE, "Endpoints of others."),
    "mproutd_mptcp_limit": Metric(GAUGE, "A limit for each connection, as found.", ("limit",)),
    "mproutd_mptcp_limit_desired": Metric(GAUGE, "The same limit, as wanted.", ("limit",)),
}
"""Every metric, in the order in which they are told."""

ENDPOINT_STATES = ("ok", "missing", "differs", "foreign", "misrouted")

Sample = tuple[tuple[str, ...], float]


def samples(status: Mapping[str, Any] | None) -> dict[str, list[Sample]]:
    """Metric → its rows (labels' words, value).  None: no daemon answered."""
    found: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for name, words, value in _all(status):
        found[name].append((words, float(value)))
    return {name: each for name, each in found.items() if each}


def _all(status: Mapping[str, Any] | None) -> Iterator[tuple[str, tuple[str, ...], float]]:
    yield "mproutd_up", (), status is not None
    if status is None:
        return
    yield "mproutd_info", (status["mproutd"],), 1
    yield "mproutd_enabled", (), status["enabled"]
    yield "mproutd_degraded", (), status["degraded"]
    yield "mproutd_configuration_rejected", (), status["configuration"]["error"] is not None
    yield "mproutd_configuration_warnings", (), len(status["warnings"])
    codes = Counter(each["code"] for each in status["problems"])
    for code in [*PROBLEMS, *(code for code in codes if code not in PROBLEMS)]:
        yield "mproutd_problems", (code,), codes[code]
    yield "mproutd_drift_changes", (), len(status["drift"])
    yield "mproutd_passes_total", (), status["counts"]["passes"]
    yield "mproutd_kernel_writes_total", (), status["counts"]["writes"]
    for uplink in status["uplinks"]:
        yield from _uplink(uplink, status["default"])
    yield from _mptcp(status["mptcp"])


def _uplink(
    uplink: Mapping[str, Any], default: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    name = uplink["name"]
    yield "mproutd_uplink_info", (name, uplink["device"], uplink["mode"]), 1
    for family in uplink["families"]:
        both = name, family["family"]
        yield "mproutd_uplink_usable", both, family["usable"]
        if not family["usable"]:
            yield "mproutd_uplink_unusable_info", (*both, family["reason"]), 1
        yield "mproutd_uplink_default", both, default.get(family["family"]) == name
        yield "mproutd_uplink_addresses", both, len(family["addresses"])
        wrong = sum(not each["matches"] for each in family["lookups"])
        yield "mproutd_uplink_lookup_mismatches", both, wrong
    if uplink["since"] is not None:
        yield "mproutd_uplink_changed_timestamp_seconds", (name,), uplink["since"]
    for check in uplink.get("health") or ():
        yield from _check(name, check)
    states = Counter(each["state"] for each in uplink["endpoints"])
    for state in ENDPOINT_STATES:
        yield "mproutd_uplink_endpoints", (name, state), states[state]
    for key, way in (("received", "receive"), ("sent", "transmit")):
        if uplink[key] is not None:
            yield f"mproutd_uplink_{way}_bytes_total", (name,), uplink[key]


def _check(uplink: str, check: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], float]]:
    begin, both = "mproutd_uplink_check", (uplink, check["family"])
    yield f"{begin}_failed", both, check["failed"]
    yield f"{begin}_hold_seconds", both, check["hold"]
    for host in check["hosts"]:
        words = (*both, host["host"])
        yield f"{begin}_host_reachable", words, bool(host["reachable"])
        yield f"{begin}_host_loss_ratio", words, host["loss"] / 100
        if host["latency"] is not None:
            yield f"{begin}_host_latency_seconds", words, host["latency"]
        yield f"{begin}_probes_total", words, host["sent"]
        yield f"{begin}_replies_total", words, host["replies"]


def _mptcp(mptcp: Mapping[str, Any] | None) -> Iterator[tuple[str, tuple[str, ...], float]]:
    yield "mproutd_mptcp_available", (), mptcp is not None
    if mptcp is None:
        return
    yield "mproutd_mptcp_enabled", (), mptcp["enabled"]
    yield "mproutd_mptcp_endpoints_max", (), mptcp["endpoints_max"]
    yield "mproutd_mptcp_limit_max", (), mptcp["limit_max"]
    yield "mproutd_mptcp_foreign_endpoints", (), len(mptcp["foreign_endpoints"])
    for limit, value in mptcp["limits"]["actual"].items():
        yield "mproutd_mptcp_limit", (limit,), value
    for limit, value in mptcp["limits"]["desired"].items():
        yield "mproutd_mptcp_limit_desired", (limit,), value
