"""What to set in another daemon that changes routes, rules or endpoints here too.  Pure.

Which of them run is asked by the command `status` alone (programs.speaking), and a status without
any is as the daemon tells it.  docs/beside.md has what each of them does, measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from mproutd.status.problems import problem

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
ADVICE_BESIDE = {
    ("foreign-endpoint", MPTCPD): "if it is mptcpd's: systemctl disable --now mptcp, then: "
    "ip mptcp endpoint delete id ID",
    ("foreign-endpoint", NETWORKMANAGER): _FOREIGN,
    ("removed", NETWORKD): _REMOVED,
    ("held-back", NETWORKD): _REMOVED,
}
"""What to do about a problem where that daemon runs; DEVICE is the uplink's, ID the endpoint's."""


def beside(status: dict[str, Any], running: Collection[str]) -> dict[str, Any]:
    """The status with what is known of these daemons, which run here."""
    problems = [*status["problems"], *_named(status, running)]
    told = [{**each, "advice": _advice(each, status["uplinks"], running)} for each in problems]
    return {**status, "problems": told, "degraded": status["degraded"] or bool(told)}


def _named(status: dict[str, Any], running: Collection[str]) -> Iterator[dict[str, Any]]:
    if status["enabled"] and MPTCPD in running:
        yield problem("mptcpd")


def _advice(
    found: dict[str, Any], uplinks: Sequence[dict[str, Any]], running: Collection[str]
) -> str:
    """What to do about a problem, as exactly as can be told."""
    if found.get("kind") == "endpoint":  # networkd knows nothing of them
        running = [name for name in running if name != NETWORKD]
    known = [
        text
        for (code, name), text in ADVICE_BESIDE.items()
        if code == found["code"] and name in running
    ]
    if not known:
        return str(found["advice"])
    device = next((each["device"] for each in uplinks if each["name"] == found.get("uplink")), "")
    words = found.get("found", "").split()
    number = words[words.index("id") + 1] if "id" in words else "ID"
    return "; ".join(known).replace("ID", number).replace("DEVICE", device)
