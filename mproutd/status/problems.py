"""Everything a status can report beside the state of the uplinks: code, text and advice.  Pure.

The text says what and where, the advice what to do about it.  docs/status.md lists both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mproutd.iproute2 import DeviceNames, describe, ip_command
from mproutd.model import Endpoint, NftTable, Object
from mproutd.planning.pacing import FailedOperation

if TYPE_CHECKING:
    from mproutd.status.types import Problem, Status

PROBLEMS = {
    "no-mptcp": "the kernel does not support MPTCP: routes and rules are maintained, endpoints "
    "are not",
    "no-mptcp-diag": "the kernel does not list MPTCP connections: the last path of one may be "
    "closed, and subflows that failed unnoticed are not re-established",
    "mptcp-disabled": "net.mptcp.enabled is 0: new connections do not use MPTCP",
    "mptcp-paused": "the kernel has paused MPTCP: new connections of this machine are plain TCP, "
    "since a path dropped a SYN with MP_CAPABLE and answered one without",
    "path-manager": "the path manager is {path_manager!r}: it ignores the kernel's endpoints",
    "configuration-rejected": "the configuration on disk is invalid, the previous one stays in "
    "use: {error}",
    "state-file-error": "{error}",
    "hints-ignored": "hints from hooks are ignored: {error}",
    "netifd-unreachable": "cannot query netifd: {error}; its last known state stays in use",
    "laminar-unsupported": "{uplink}: the kernel does not support laminar endpoints (Linux 6.18 "
    "does); the option is ignored",
    "no-nexthop-objects": "the kernel has no nexthop objects (Linux 5.3 has): a change of the "
    "uplinks that share other traffic moves some of the connections in use",
    "endpoint-limit": "{uplink}: no endpoint for {address}: the kernel accepts at most "
    "{endpoints_max} endpoints",
    "foreign-endpoint": "{uplink}: another program has created an endpoint for {address}: "
    "{endpoint}; it is left unchanged",
    "endpoint-in-use": "{address}: its endpoint is to be deleted or changed, but stays until the "
    "connections that would end with it have ended ({count})",
    "misrouted": "{uplink}: routed through another device than {device}: {address} ({command}); "
    "no endpoint is kept there",
    "blackhole-default": "{uplink}: no way out via {device} for {address}: table main is looked up "
    "first, and its default route discards the packets ({route}); no endpoint is kept there",
    "foreign-rule": "{rule}: another program's rule comes before mproutd's and diverts {traffic} "
    "to {actual}",
    "mark-follows-main": "{rule}: packets with this mark follow table main to {actual} instead of "
    "{expected}",
    "traffic-diverted": "{traffic} leaves via {actual} instead of {expected}",
    "main-not-looked-up": "other traffic ({family}) has no way out: table main has a default "
    "route, but no rule looks it up",
    "off-has-default": "{uplink} is off, but the best default route in main leaves through it "
    "({device}, {family}); other traffic goes via {expected} all the same",
    "quota-reached": "{uplink}: the quota is used up: {used} of {limit}; its mode is {mode} until "
    "{until}",
    "quota-in-use": "{uplink}: the quota is used up: {used} of {limit} until {until}; it stays in "
    "use as the last usable uplink",
    "ledger-error": "quotas: {error}",
    "capacity-unknown": "{uplink} cannot carry by overflow yet: the capacity of {regular} is "
    "unknown",
    "standby-with-address": "in standby, but this gateway has the virtual address {address}",
    "active-without-address": "active, but this gateway lacks the virtual address {address}",
    "no-mark": "{uplink}: no firewall mark: `mark_mask` has no room for another uplink",
    "policy-unusable": "policy {policy} ({family}): no member is usable; its traffic: {fate}",
    "flows-not-pinned": "forwarded connections do not keep their uplink, and only the default "
    "uplink answers port forwards: {error}",
    "prefix-not-deprecated": "hosts in the LAN may keep to the IPv6 prefix of an uplink that is "
    "out: {error}",
    "announcer-ignores-kernel": "{program} announces IPv6 prefixes without the lifetimes that the "
    "kernel has: hosts keep to the prefix of an uplink that is out",
    "nat6-failed": "IPv6 is not translated (`nat6`): {error}",
    "nat6-without-prefix": "{uplink}: `nat6` is prefix, but no prefix of it is known: IPv6 from "
    "elsewhere leaves untranslated",
    "no-conntrack-netlink": "connections cannot be moved to another uplink (`flush_conntrack`, "
    "`failback`): the kernel does not list them ({error})",
    "mark-overwritten": "nftables table {table} overwrites mproutd's bits of the mark, so that "
    "connections may change their uplink: {rule}",
    "removed-externally": "{object}: removed or changed by another program {count} times "
    "recently, and restored",
    "rate-limited": "{object}: removed or changed by another program repeatedly; restored "
    "every few seconds",
    "operation-failed": "{command}: {error} (attempt {attempts}; next in {retry_in:.0f} s)",
    "family-unusable": "{uplink}: {family} is not used: {cause}",
    "check-idle": "{uplink}: its health check probes no host: {reason}; a failure would go "
    "unnoticed",
    "failed-in-use": "{uplink}: the health check fails ({families}), but no other uplink is "
    "usable: it stays in use",
    "gateway-remembered": "{uplink}: table main has had no {families} default route via {device} "
    "for {duration}; the last known gateway {gateway} stays in use",
    "address-without-gateway": "{uplink}: no gateway is known for {address}: "
    "{gateway} on {device} is in another subnet; no endpoint is kept there",
    "mptcpd-running": "mptcpd is running: it creates endpoints for all addresses, all with the "
    "same flags, and does not remove them when it stops",
    "limits-above-max": "the configured limits exceed the kernel's maximum of {limit_max}",
    "limit-not-lowered": "`{option}` is {value}, but the kernel's limit was {limit} before "
    "mproutd, which lowers none: {limit} applies",
    "resolver-diverted": "{uplink}: queries to its resolver {address} leave through {actual} "
    "instead of {device} ({command})",
    "resolver-shared": "{address}: {uplinks} name this resolver, so it has no rule; queries leave "
    "through {actual}, which does not name it",
    "resolv-conf-error": "cannot write {error}; programs that read it may ask a lost uplink's "
    "resolvers",
    "resolved-unchanged": "{device}: names may take long, since systemd-resolved does not set "
    "`default-route` of this link to {value}: {error}",
    "announced-addresses": "{uplink} is {mode}, but other traffic ({families}) leaves there, "
    "and so would subflows to announced addresses: add_addr_accepted is {limit}",
}
"""Code → text, in which {NAME} is a field of the problem."""

SUBJECTS = {
    "endpoint-limit": "address",
    "foreign-endpoint": "address",
    "endpoint-in-use": "address",
    "misrouted": "address",
    "blackhole-default": "address",
    "removed-externally": "object",
    "rate-limited": "object",
    "operation-failed": "command",
    "address-without-gateway": "address",
}
"""Code → the field that tells problems of the same cause apart."""
MAX_SIMILAR = 3
"""How many problems of one cause are listed one by one."""

ADVICE = {
    # Reasons of a path (planning.uplinks.REASONS).
    "awaiting-device": "ifup INTERFACE; details: ifstatus INTERFACE; without netifd, set `device` "
    "in the uplink's section of the file mproutd",
    "no-device": "plug it in, or correct `device` in the configuration; devices: ip link",
    "link-down": "ip link set DEVICE up, or ifup",
    "no-carrier": "check the cable, the modem and the port at the other end",
    "bridge-port": "set `device` to the bridge or the bond, and move the addresses there; its "
    "name: ip link show dev DEVICE (master)",
    "no-address": "check what assigns one (DHCP client, pppd, router advertisements); "
    "addresses: ip address show dev DEVICE",
    "tentative": "wait: detection takes a second or two, then the address is used",
    "dad-failed": "another host on the link has the same address: change one of them",
    "deprecated": "renew the lease or the prefix; connections that use the address continue",
    "no-gateway": "if its lease is older than mproutd's hooks: ifdown DEVICE; ifup DEVICE; "
    "otherwise add a default route via DEVICE, or set `gateway` (IPv6: `gateway6`) in the "
    "configuration",
    "check-failed": "ask the provider; the uplink is used again as soon as the check passes",
    "address-conflict": "change one of the two addresses; until then the other uplink uses it",
    # Problems.
    "no-mptcp": "use a kernel with CONFIG_MPTCP=y",
    "no-mptcp-diag": "modprobe mptcp_diag, or use a kernel with CONFIG_INET_MPTCP_DIAG",
    "mptcp-disabled": "sysctl -w net.mptcp.enabled=1",
    "mptcp-paused": "find the uplink: mproutd test UPLINK --to HOST:PORT; to end the pause: "
    "sysctl -w net.mptcp.blackhole_timeout=3600",
    "path-manager": "sysctl -w net.mptcp.path_manager=kernel; on older kernels: "
    "sysctl -w net.mptcp.pm_type=0",
    "configuration-rejected": "correct it, then: mproutd check && mproutd reconcile",
    "state-file-error": "make sure that the runtime directory is writable and not full; the file "
    "is rewritten at the next change",
    "hints-ignored": "the directory must belong to root and have the mode 0755",
    "netifd-unreachable": "check: ubus call network.interface dump; log: logread -e netifd",
    "laminar-unsupported": "use a newer kernel, or remove the option `laminar`",
    "no-nexthop-objects": "use a kernel from 5.3 on, or remove the options `weight` and `metric`",
    "endpoint-limit": "delete endpoints of other programs (ip mptcp endpoint), or set the mode of "
    "an uplink to off",
    "foreign-endpoint": "if it is no longer needed: ip mptcp endpoint delete id ID",
    "endpoint-in-use": "wait; or end them now: ip mptcp endpoint delete id ID",
    "misrouted": "a rule with a higher priority matches first (ip rule); move or narrow it",
    "blackhole-default": "move that route to a table that is looked up after main (table "
    "default), or add a default route via the device to main with a lower metric",
    "foreign-rule": "give it a priority behind mproutd's source rules and before 32764 (ip rule "
    "add ... priority 10000), or narrow it; docs/beside.md has WireGuard and Tailscale",
    "mark-follows-main": "let these packets follow other traffic: {command}",
    "traffic-diverted": "find the rule and the route: ip rule; ip route get ADDRESS",
    "main-not-looked-up": "restore the rule: {command}",
    "off-has-default": "if it is a VPN that should carry other traffic, remove its section: a "
    "better default route of a device without one wins; else raise the metric of that route",
    "quota-reached": "if the provider counts less, enter its figure: mproutd quota UPLINK --set "
    "AMOUNT; for more volume, raise `quota`",
    "quota-in-use": "to switch it off even then, set `quota_hard`",
    "ledger-error": "make sure that the state directory is writable and not full; after a loss, "
    "enter the provider's figure: mproutd quota UPLINK --set AMOUNT",
    "capacity-unknown": "set `download` and `upload` for each regular uplink, in kbit/s; otherwise "
    "the highest rates that mproutd sees count",
    "standby-with-address": "make keepalived's notify_master call it; now: mproutd standby off",
    "active-without-address": "if the other gateway has it: mproutd standby on; see: ip address",
    "no-mark": "widen `mark_mask`, or set `mark` for the uplink",
    "policy-unusable": "see above why its uplinks are not usable; another member or `last_resort` "
    "lets its traffic leave",
    "flows-not-pinned": "resolve the kernel's error: it needs nf_tables, nft_ct, nft_chain_nat "
    "and nf_conntrack with CONFIG_NF_CONNTRACK_MARK; mproutd retries every minute; or set "
    "`pin_flows` '0'",
    "no-conntrack-netlink": "modprobe nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink)",
    "mark-overwritten": "let that rule preserve the bits of `mark_mask` (ct mark set ct mark & "
    "0x80ffffff | VALUE), or choose another `mark_mask`",
    "removed-externally": "if this was unintended, find the program: ip monitor rule route "
    "nexthop; candidates: NetworkManager, systemd-networkd (ManageForeignRoutingPolicyRules, "
    "ManageForeignNextHops), pbr, mwan3; for a sysctl: the files in /etc/sysctl.d",
    "rate-limited": "find the program: ip monitor rule route nexthop; for a sysctl: the files in "
    "/etc/sysctl.d",
    "operation-failed": "resolve the kernel's error; mproutd retries until the command succeeds",
    "family-unusable": "add a default route of that family via DEVICE, or set `gateway` (IPv6: "
    "`gateway6`); with net.ipv6.conf.DEVICE.forwarding=1, router advertisements count only with "
    "accept_ra=2",
    "check-idle": "name hosts in `track_ip` that can be reached by the uplink's family, or by "
    "address instead of by name",
    "failed-in-use": "check whether the hosts of `track_ip` answer from elsewhere; if they do, ask "
    "the provider",
    "gateway-remembered": "restore the route, or set `gateway` (IPv6: `gateway6`) for the uplink",
    "address-without-gateway": "if the gateway serves this address too, set `gateway` for the "
    "uplink; a second modem on the same port needs a device of its own: ip link add link DEVICE "
    "name NAME type macvlan mode bridge",
    "prefix-not-deprecated": "resolve the error; mproutd retries every minute; or set "
    "`deprecate_prefixes` '0'",
    "announcer-ignores-kernel": "announce prefixes with dnsmasq or odhcpd, or write its "
    "configuration again whenever the kernel's lifetimes change (docs/ipv6.md)",
    "nat6-failed": "resolve the kernel's error: it needs nf_tables, nft_nat, nft_masq and "
    "nf_conntrack (OpenWrt: kmod-nft-nat); mproutd retries every minute",
    "nat6-without-prefix": "name it by `prefix`, or set `nat6` 'masquerade'",
    "mptcpd-running": "run only one of them: systemctl disable --now mptcp",
    "limits-above-max": "lower `subflows` or `add_addr_accepted`",
    "limit-not-lowered": "lower the limit with ip mptcp limits set, or remove the option",
    "resolver-diverted": "find the route or the rule in front: ip rule; ip route get ADDRESS; a "
    "specific route in main comes first unless `main_routes` is 0",
    "resolver-shared": "name other resolvers for these uplinks: `list dns`",
    "resolv-conf-error": "make sure that the runtime directory is writable and not full; mproutd "
    "retries every ten seconds",
    "resolved-unchanged": "install polkitd and the Python package jeepney (python3-jeepney); "
    "mproutd retries every minute; by hand: {command}",
    "announced-addresses": "set `fullmesh` on an uplink that may carry them, or give such an "
    "uplink's default route in main the lowest metric; to accept none: ip mptcp limits set "
    "add_addr_accepted 0, and remove the option",
}
"""Code → what to do; DEVICE stands for the uplink's device, ID for an endpoint's."""

ADVERTISEMENTS_IGNORED = (
    "the kernel ignores router advertisements on {device}, since forwarding is on and accept_ra "
    "is 1: sysctl -w net/ipv6/conf/{device}/accept_ra=2"
)
DEFAULT_ELSEWHERE = (
    "table {table} has a default route via {device}: set `table` '{table}' for the uplink, or "
    "`gateway` (IPv6: `gateway6`)"
)
"""Instead of the advice for a path without an address or a gateway, where that is the cause."""
NETIFD_REASONS = ("awaiting-device", "link-down")
NETIFD_UNKNOWN = "netifd has not read the interface {interface} yet: reload_config"
NETIFD_DOWN = "ifup {interface}; details: ifstatus {interface}"
"""Instead of the advice for NETIFD_REASONS, where netifd replies."""

TABLE_REMOVED = (
    "find the program: nft monitor; a firewall's service may delete all tables (flush ruleset)"
)
"""Instead of the advice for an object that others remove, for the nftables table."""
PORT_TAKEN = (
    "a program on this host listens on the port (ss -ltnp): stop it, or choose another `port`"
)
"""Instead of the advice for an operation that failed, for an endpoint whose port is in use."""


def problem(code: str, **values: Any) -> Problem:
    """One problem, with the values of its text as further fields."""
    template = PROBLEMS[code]
    return {
        "code": code,
        "text": template.format(**values),
        "template": template,
        "advice": ADVICE[code].replace("{command}", str(values.get("command", ""))),
        **values,  # type: ignore[typeddict-item]
    }


def add_problems(status: Status, problems: Collection[Problem]) -> None:
    """Add what a service has found to a status."""
    status["problems"] += problems
    status["degraded"] = status["degraded"] or bool(problems)


def merge(problems: Iterable[Problem]) -> list[Problem]:
    """The same with one problem for each cause.

    Where more than MAX_SIMILAR problems say the same about an uplink's addresses, or about objects
    of one kind, the first one stands for all; its `others` lists the rest.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for position, reported in enumerate(problems):
        values: Mapping[str, Any] = reported
        same = [values.get(key, "") for key in ("uplink", "kind", "error")]
        subject = SUBJECTS.get(reported["code"])
        groups.setdefault((reported["code"], *same, "" if subject else position), []).append(values)
    merged: list[Any] = []
    for (code, *_), group in groups.items():
        if len(group) <= MAX_SIMILAR:
            merged += group
            continue
        subject = SUBJECTS[code]
        first, *others = group
        template = PROBLEMS[code].replace(
            f"{{{subject}}}", f"{{{subject}}} and {len(others)} others"
        )
        text, rest = template.format(**first), [values[subject] for values in others]
        merged.append({**first, "text": text, "template": template, "others": rest})
    return merged


def failed_operations(
    failed: Iterable[FailedOperation], now: float, name: DeviceNames
) -> list[Problem]:
    """Operations that the kernel rejected; `now` by the clock of `failed`."""
    problems = []
    for failure in failed:
        found = problem(
            "operation-failed",
            command=ip_command(failure.operation, name),
            error=failure.error,
            attempts=failure.attempts,
            retry_in=max(0.0, failure.retry_at - now),
        )
        value = failure.operation.value
        if isinstance(value, Endpoint) and value.port:
            found["advice"] = PORT_TAKEN
        problems.append(found)
    return problems


def removed_objects(
    restored: Mapping[Object, int], rate_limited: Collection[Object], name: DeviceNames
) -> list[Problem]:
    """Objects that another program removes; those in `rate_limited` are restored with a delay."""
    problems = []
    for value, count in restored.items():
        found = problem(
            "rate-limited" if value in rate_limited else "removed-externally",
            object=describe(value, name),
            count=count,
            kind=type(value).__name__.lower(),
        )
        if isinstance(value, NftTable):
            found["advice"] = TABLE_REMOVED
        problems.append(found)
    return problems
