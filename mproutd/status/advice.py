"""What to do about each thing that a status can name, by its code.  Pure.

The codes are the keys of paths.REASONS and problems.PROBLEMS; docs/status.md has the same list,
and a test holds the three together.
"""

from __future__ import annotations

ADVICE = {
    # Why a path is not usable.
    "no-device-yet": "bring it up: ifup INTERFACE; see: ifstatus INTERFACE; without netifd, name "
    "its `device` in mproutd's section of the uplink",
    "no-device": "plug it in, or correct `device` in the configuration; see: ip link",
    "link-down": "bring it up: ifup, or ip link set DEVICE up",
    "no-carrier": "check cable, modem and the port at the other end",
    "no-address": "see what should give it one (DHCP client, pppd, router advertisements); "
    "see: ip address show dev DEVICE",
    "tentative": "wait: the kernel needs a second or two; it is used at once then",
    "duplicate": "somebody else on that link has the address: change one of them",
    "deprecated": "renew the lease or the prefix; connections that use the address go on",
    "no-gateway": "give it a default route, or set `gateway` (`gateway6`) in the configuration",
    "failed": "ask who runs the line; it is used again as soon as the check succeeds",
    "taken": "change one of the two addresses; until then the first uplink has it",
    # What else is not as wanted.
    "no-mptcp": "use a kernel with CONFIG_MPTCP=y",
    "mptcp-disabled": "sysctl -w net.mptcp.enabled=1",
    "path-manager": "sysctl -w net.mptcp.path_manager=kernel (older: net.mptcp.pm_type=0)",
    "configuration": "correct it, then: mproutd check && mproutd reconcile",
    "state-file": "see that the runtime directory can be written and is not full; "
    "what was written wrongly is replaced at the next change",
    "hints": "let it belong to root alone",
    "netifd": "see: ubus call network.interface dump; logread -e netifd",
    "no-laminar": "use a newer kernel, or take the option away",
    "no-slot": "remove others (ip mptcp endpoint), or set an uplink to off",
    "foreign-endpoint": "if it is nobody's any more: ip mptcp endpoint delete id ID",
    "led-away": "find the rule in front: ip rule; move it behind, or narrow it",
    "discarded": "move it to the table that is asked last (`table default` instead of main), or "
    "give that line a default route in main with a lower metric",
    "no-mark": "widen `mark_mask`, or give the uplink a `mark`",
    "removed": "nothing, if that was you; else find the daemon that removes it "
    "(NetworkManager, systemd-networkd's ManageForeignRoutingPolicyRules, pbr, mwan3)",
    "held-back": "find the daemon that removes it: ip monitor rule route; docs/troubleshooting.md",
    "refused": "read the kernel's words; it is tried again by itself",
    "kept": "see whether the hosts of `track_ip` answer by another way; if they do, ask who runs "
    "the lines",
    "mptcpd": "one of the two: systemctl disable --now mptcp",
    "low-limits": "lower `subflows` or `add_addr_accepted`",
}
