"""Every problem that a status can name beside the state of the uplinks, by its code.  Pure.

A text says what and where; what to do is in advice.py.  docs/status.md has both, and a test
holds the three together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mproutd.iproute2 import DeviceNames, describe, ip_command
from mproutd.model import Object
from mproutd.planning.pacing import FailedOperation

PROBLEMS = {
    "no-mptcp": "this kernel has no MPTCP: tables and rules are kept, endpoints are not",
    "mptcp-disabled": "net.mptcp.enabled is 0: no new connection uses MPTCP",
    "path-manager": "the path manager {path_manager!r} is not the kernel's: it ignores our "
    "endpoints",
    "configuration-rejected": "the configuration on disk is refused, the last good one is in use: "
    "{error}",
    "state-file-error": "{error}",
    "hints-ignored": "{error}; what hooks said is not used until then",
    "netifd-unreachable": "netifd does not answer: {error}; what it said last is used, and it is "
    "asked again",
    "laminar-unsupported": "{uplink}: this kernel does not know laminar endpoints (Linux 6.18 "
    "does); it joins as without the option",
    "endpoint-limit": "{uplink}: the kernel takes no more than {endpoints_max} endpoints: none "
    "for {address}",
    "foreign-endpoint": "{uplink}: somebody else's endpoint holds {address}: {endpoint}; "
    "it is left as it is",
    "misrouted": "{uplink}: a lookup from {address} does not leave by {device} "
    "(see: {command}); no endpoint there until it does",
    "blackhole-default": "{uplink}: nothing from {address} leaves by {device}: main is asked "
    "first, and "
    "throws away what it has no better route for ({route}); no endpoint there until that ends",
    "no-mark": "{uplink}: mark_mask has no mark left for it",
    "removed-externally": "{object}: removed by somebody else {count} times lately, and put back",
    "rate-limited": "{object}: removed by another program repeatedly; restored every few seconds",
    "operation-failed": "{command}: {error} (tried {attempts} times, next in {retry_in:.0f} s)",
    "failed-in-use": "{uplink}: its health check has failed in {families}, where no other uplink "
    "is usable: "
    "it stays in use",
    "mptcpd-running": "mptcpd runs here too: it adds endpoints for all addresses, with one set of "
    "flags, "
    "and leaves them behind",
    "limits-above-max": "the configured limits exceed what this kernel allows ({limit_max})",
}
"""Every problem that a status can name, by its code."""


def problem(code: str, **values: Any) -> dict[str, Any]:
    """One problem: its code, its text in one line, and the values in it.

    The template is for those who translate.
    """
    template = PROBLEMS[code]
    text = template.format(**values)
    return {"code": code, "text": text, "template": template, "advice": ADVICE[code], **values}


def failed_operations(
    refusals: Iterable[FailedOperation], now: float, name: DeviceNames
) -> list[dict[str, Any]]:
    """Operations that the kernel refused; `now` on the clock of the refusals."""
    return [
        problem(
            "operation-failed",
            command=ip_command(failed.operation, name),
            error=failed.error,
            attempts=failed.attempts,
            retry_in=max(0.0, failed.retry_at - now),
        )
        for failed in refusals
    ]


def removed_objects(
    counts: Mapping[Object, int], held: Collection[Object], name: DeviceNames
) -> list[dict[str, Any]]:
    """What somebody else removes; `held` is what is put back only every few seconds."""
    return [
        problem(
            "rate-limited" if value in held else "removed-externally",
            object=describe(value, name),
            count=count,
            kind=type(value).__name__.lower(),
        )
        for value, count in counts.items()
    ]


ADVICE = {
    # Why a path is not usable.
    "awaiting-device": "bring it up: ifup INTERFACE; see: ifstatus INTERFACE; without netifd, name "
    "its `device` in mproutd's section of the uplink",
    "no-device": "plug it in, or correct `device` in the configuration; see: ip link",
    "link-down": "bring it up: ifup, or ip link set DEVICE up",
    "no-carrier": "check cable, modem and the port at the other end",
    "no-address": "see what should give it one (DHCP client, pppd, router advertisements); "
    "see: ip address show dev DEVICE",
    "tentative": "wait: the kernel needs a second or two; it is used at once then",
    "dad-failed": "somebody else on that link has the address: change one of them",
    "deprecated": "renew the lease or the prefix; connections that use the address go on",
    "no-gateway": "give it a default route, or set `gateway` (`gateway6`) in the configuration",
    "check-failed": "ask who runs the line; it is used again as soon as the check succeeds",
    "address-conflict": "change one of the two addresses; until then the first uplink has it",
    # What else is not as wanted.
    "no-mptcp": "use a kernel with CONFIG_MPTCP=y",
    "mptcp-disabled": "sysctl -w net.mptcp.enabled=1",
    "path-manager": "sysctl -w net.mptcp.path_manager=kernel (older: net.mptcp.pm_type=0)",
    "configuration-rejected": "correct it, then: mproutd check && mproutd reconcile",
    "state-file-error": "see that the runtime directory can be written and is not full; "
    "what was written wrongly is replaced at the next change",
    "hints-ignored": "let it belong to root alone",
    "netifd-unreachable": "see: ubus call network.interface dump; logread -e netifd",
    "laminar-unsupported": "use a newer kernel, or take the option away",
    "endpoint-limit": "remove others (ip mptcp endpoint), or set an uplink to off",
    "foreign-endpoint": "if it is nobody's any more: ip mptcp endpoint delete id ID",
    "misrouted": "find the rule in front: ip rule; move it behind, or narrow it",
    "blackhole-default": "move it to the table that is asked last (`table default` instead of "
    "main), or "
    "give that line a default route in main with a lower metric",
    "no-mark": "widen `mark_mask`, or give the uplink a `mark`",
    "removed-externally": "nothing, if that was you; else find the daemon that removes it "
    "(NetworkManager, systemd-networkd's ManageForeignRoutingPolicyRules, pbr, mwan3)",
    "rate-limited": "find the daemon that removes it: ip monitor rule route",
    "operation-failed": "read the kernel's words; it is tried again by itself",
    "failed-in-use": "see whether the hosts of `track_ip` answer by another way; if they do, ask "
    "who runs "
    "the lines",
    "mptcpd-running": "one of the two: systemctl disable --now mptcp",
    "limits-above-max": "lower `subflows` or `add_addr_accepted`",
}


MPTCPD, NETWORKD, NETWORKMANAGER = "mptcpd", "systemd-networkd", "NetworkManager"
_FOREIGN = (
    "if it is NetworkManager's: nmcli connection modify "
    '"$(nmcli -g GENERAL.CONNECTION device show DEVICE)" connection.mptcp-flags disabled && '
    "nmcli device reapply DEVICE; if it stays: ip mptcp endpoint delete id ID"
)
_REMOVED = (
    "if it was systemd-networkd: ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no "
    "below [Network] in /etc/systemd/networkd.conf.d/mproutd.conf, then: "
    "systemctl restart systemd-networkd; else see: ip monitor rule route"
)
CONFLICT_ADVICE = {
    ("foreign-endpoint", MPTCPD): "if it is mptcpd's: systemctl disable --now mptcp, then: "
    "ip mptcp endpoint delete id ID",
    ("foreign-endpoint", NETWORKMANAGER): _FOREIGN,
    ("removed-externally", NETWORKD): _REMOVED,
    ("rate-limited", NETWORKD): _REMOVED,
}
"""What to do about a problem where that daemon runs; DEVICE is the uplink's, ID the endpoint's."""


def with_conflicts(status: dict[str, Any], running: Collection[str]) -> dict[str, Any]:
    """The status with what is known of these daemons, which run here."""
    problems = [*status["problems"], *_named(status, running)]
    told = [{**each, "advice": _advice(each, status["uplinks"], running)} for each in problems]
    return {**status, "problems": told, "degraded": status["degraded"] or bool(told)}


def _named(status: dict[str, Any], running: Collection[str]) -> Iterator[dict[str, Any]]:
    if status["enabled"] and MPTCPD in running:
        yield problem("mptcpd-running")


def _advice(
    found: dict[str, Any], uplinks: Sequence[dict[str, Any]], running: Collection[str]
) -> str:
    """What to do about a problem, as exactly as can be told."""
    if found.get("kind") == "endpoint":  # networkd knows nothing of them
        running = [name for name in running if name != NETWORKD]
    known = [
        text
        for (code, name), text in CONFLICT_ADVICE.items()
        if code == found["code"] and name in running
    ]
    if not known:
        return str(found["advice"])
    device = next((each["device"] for each in uplinks if each["name"] == found.get("uplink")), "")
    words = found.get("endpoint", "").split()
    number = words[words.index("id") + 1] if "id" in words else "ID"
    return "; ".join(known).replace("ID", number).replace("DEVICE", device)
