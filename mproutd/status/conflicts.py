"""The advice for problems where a certain daemon is running on this machine.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mproutd.status.problems import problem

if TYPE_CHECKING:
    from mproutd.status.types import FamilyStatus, Problem, Status, UplinkStatus

DHCPCD, MPTCPD, NETWORKD, NETWORKMANAGER = "dhcpcd", "mptcpd", "systemd-networkd", "NetworkManager"
_NETWORKD_ADVICE = (
    "if systemd-networkd removed it: set ManageForeignRoutingPolicyRules=no, "
    "ManageForeignRoutes=no and ManageForeignNextHops=no under [Network] in "
    "/etc/systemd/networkd.conf.d/mproutd.conf, then: systemctl restart systemd-networkd; "
    "otherwise: ip monitor rule route nexthop"
)

CONFLICT_ADVICE = {
    ("no-carrier", DHCPCD): "dhcpcd removes the address with the carrier, so that the uplink "
    "waits for a new lease when it recovers; to keep the address, set `nolink` in "
    "/etc/dhcpcd.conf, then: ifdown DEVICE && ifup DEVICE (or restart dhcpcd)",
    ("foreign-endpoint", MPTCPD): "if mptcpd created it: systemctl disable --now mptcp, then: "
    "ip mptcp endpoint delete id ID",
    ("foreign-endpoint", NETWORKMANAGER): "if NetworkManager created it: nmcli connection modify "
    '"$(nmcli -g GENERAL.CONNECTION device show DEVICE)" connection.mptcp-flags disabled && '
    "nmcli device reapply DEVICE; if it remains: ip mptcp endpoint delete id ID",
    ("removed-externally", NETWORKD): _NETWORKD_ADVICE,
    ("rate-limited", NETWORKD): _NETWORKD_ADVICE,
}
"""(code, daemon) → what to do instead where that daemon is running."""


def with_conflicts(status: Status, running: Collection[str]) -> Status:
    """A status with what is known about these daemons, which are running here."""
    problems = list(status["problems"])
    if status["enabled"] and MPTCPD in running:
        problems.append(problem("mptcpd-running"))
    for index, reported in enumerate(problems):
        problems[index] = {**reported, "advice": _advice(reported, status["uplinks"], running)}
    uplinks = status["uplinks"]
    if DHCPCD in running:
        uplinks = [
            {**uplink, "families": [_without_lease(family) for family in uplink["families"]]}
            for uplink in uplinks
        ]
    return {
        **status,
        "uplinks": uplinks,
        "problems": problems,
        "degraded": status["degraded"] or bool(problems),
    }


def _without_lease(family: FamilyStatus) -> FamilyStatus:
    """A family whose DHCP client removed the address with the carrier; the kernel keeps it."""
    if family["reason"] != "no-carrier" or family["sources"]:
        return family
    return {**family, "advice": f"{family['advice']}; {CONFLICT_ADVICE['no-carrier', DHCPCD]}"}


def _advice(reported: Problem, uplinks: Sequence[UplinkStatus], running: Collection[str]) -> str:
    """The most specific advice for a problem, with its device and endpoint id filled in."""
    values: Mapping[str, Any] = reported
    if values.get("kind") in ("endpoint", "nfttable"):  # systemd-networkd does not manage these
        running = [name for name in running if name != NETWORKD]
    advice = [
        text
        for (code, daemon), text in CONFLICT_ADVICE.items()
        if code == reported["code"] and daemon in running
    ]
    if not advice:
        return reported["advice"]
    devices = [uplink["device"] for uplink in uplinks if uplink["name"] == values.get("uplink")]
    words = values.get("endpoint", "").split()
    endpoint_id = words[words.index("id") + 1] if "id" in words else "ID"
    return "; ".join(advice).replace("ID", endpoint_id).replace("DEVICE", "".join(devices[:1]))
