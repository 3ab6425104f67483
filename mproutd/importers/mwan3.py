"""mwan3's configuration as ours: interfaces, members, policies and rules.  Pure.

Members, policies and rules have the same names and meanings here.  An interface becomes an uplink
with health checks, and its IPv6 half (wan6) the same uplink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mproutd.configuration.options import MAX_METRIC, MAX_WEIGHT
from mproutd.configuration.parsers import quoted
from mproutd.configuration.sections import Section
from mproutd.importers.draft import (
    Draft,
    DraftSection,
    Missing,
    Names,
    Source,
    left_out,
    unique,
)
from mproutd.importers.interfaces import Interfaces
from mproutd.importers.ipsets import domains_by_set

FILE, OTHERS = "mwan3", ("dhcp",)
"""Its file, and those that are read as well if they exist."""

SAME = (
    "reliability count size max_ttl check_quality failure_latency failure_loss recovery_latency"
    " recovery_loss timeout interval failure_interval recovery_interval down up initial_state"
).split()
"""Options of an interface with the same name and meaning."""
METHODS = {
    "ping": ("ping", ""),
    "httping": ("http", ""),
    "nping-tcp": ("tcp", ""),
    "nping-icmp": ("ping", "probes are sent by mproutd itself"),
    "nping-udp": ("ping", "there are no probes by UDP"),
    "nping-arp": (
        "ping",
        "there are no probes by ARP; `list track_ip 'gateway'` probes the router",
    ),
    "arping": ("ping", "there are no probes by ARP; `list track_ip 'gateway'` probes the router"),
}
"""Its track_method → ours, and what differs."""
MATCHES = "family proto src_ip src_port dest_ip dest_port timeout".split()
EVERYTHING = {"0.0.0.0/0": "ipv4", "::/0": "ipv6"}
CHANGES = "mproutd reports every change: mproutd monitor, and the log"
MISSING = Missing(
    "mwan3",
    {
        "globals": {
            "mmx_mask": "mproutd uses the bits of mark_mask, 0x7f000000",
            "logging": CHANGES,
            "loglevel": CHANGES,
            "rtmon_interval": "routes are followed by events, without an interval",
            "local_source": "the router's own packets have the source address of their route",
            "rt_table_lookup": "main's specific routes come first (main_routes)",
            "enabled": "globals.multipath of network activates mproutd",
        },
        "interface": {
            "keep_failure_interval": "failure_interval holds while a check fails, then "
            "recovery_interval",
            "httping_ssl": "only for track_method httping",
            "online_metric": "main's routes are left alone; `metric` of the uplink orders other "
            "traffic",
            "flush_conntrack": "connections that are not translated need no removal",
            "family": "an uplink has both families; track_ip decides which are checked",
        },
        "member": {},
        "policy": {},
        "rule": {"logging": "mproutd explain shows which rule a packet matches"},
    },
)


def interfaces(mwan3: Sequence[Section]) -> list[str]:
    """Those that mwan3 uses."""
    return [
        section.name
        for section in mwan3
        if section.type == "interface" and Source(section).flag("enabled", False)
    ]


def convert(
    files: Mapping[str, Sequence[Section]], network: Sequence[Section], draft: Draft
) -> None:
    """Fill the draft."""
    mwan3 = files[FILE]
    found = Interfaces(network, interfaces(mwan3))
    importer = _Importer(draft, found, mwan3, domains_by_set(files.get("dhcp", ())))
    for kind, convert_section in (
        ("globals", importer.globals),
        ("interface", importer.interface),
        ("member", importer.member),
        ("policy", importer.policy),
        ("rule", importer.rule),
    ):
        for section in mwan3:
            if section.type == kind:
                convert_section(section)
    for section in mwan3:
        if section.type not in MISSING.reasons:
            draft.add().comment(left_out(section, "not a section of mwan3 that mproutd knows"))
    importer.share_other_traffic()


class _Member(NamedTuple):
    name: str
    """Here."""
    uplink: str
    metric: str
    weight: str


class _Importer:
    def __init__(
        self,
        draft: Draft,
        found: Interfaces,
        mwan3: Sequence[Section],
        domains: Mapping[str, list[str]],
    ) -> None:
        self._draft, self._interfaces, self._domains = draft, found, domains
        self._enabled = set(interfaces(mwan3))
        self._names = Names(found.uplinks)
        self._members: dict[str, _Member] = {}
        self._policies: dict[str, tuple[str, list[_Member]]] = {}
        """Policy → its name and members here."""
        self._catch_all = ""
        """The policy of the first rule that matches everything."""

    def _add(self, section: Section) -> DraftSection:
        """The same section here, under a name that mproutd accepts."""
        name = self._names.make(section.name, section.type)
        added = self._draft.add(section.type, name, section)
        if section.name and name != section.name:
            added.comment(f"{section.location}: {section.title} has a new name")
        return added

    def globals(self, section: Section) -> None:
        MISSING.comment(self._draft.add(source=section), Source(section))

    def interface(self, section: Section) -> None:
        source = Source(section)
        if not source.flag("enabled", False):
            self._draft.add().comment(left_out(section, "disabled"))
            return
        uplink = self._interfaces.draft(self._draft, section.name, "on")
        if uplink is None:
            reason = self._interfaces.problem(section.name)
            self._draft.add().comment(left_out(section, reason))
            return
        previous, uplink.source = uplink.source, section
        if uplink.name != section.name:
            uplink.comment(f"{section.location}: {section.title} has the same device")
        targets = source.values("track_ip")
        if targets:
            uplink.options["track_ip"] = unique([*uplink.options.get("track_ip", []), *targets])
            self._checks(uplink, source, first=previous is None)
        self._flush(uplink, source)
        source.value("family")
        MISSING.comment(uplink, source)
        uplink.source = section

    def _checks(self, uplink: DraftSection, source: Source, first: bool) -> None:
        """How it is checked; what a second interface on the device sets differently is named."""
        method, remark = METHODS.get(source.value("track_method", "ping"), ("", "unknown method"))
        if method == "http" and source.flag("httping_ssl", False):
            method = "https"
        if remark:
            uplink.skip("track_method", remark)
        wanted = {name: source.value(name) for name in SAME}
        wanted["track_method"] = "" if method == "ping" else method
        for name, value in wanted.items():
            if first or not value or name not in uplink.options:
                uplink.set(name, value)
            elif uplink.options[name] != [value]:
                uplink.skip(name, f"the uplink has {quoted(uplink.options[name][0])} already")

    def _flush(self, uplink: DraftSection, source: Source) -> None:
        events = source.values("flush_conntrack")
        if {"ifdown", "disconnected"} & {*events}:
            uplink.set("flush_conntrack", "1")
        if {"ifup", "connected"} & {*events}:
            uplink.skip(
                "flush_conntrack",
                "on ifup and connected: set `failback 'move'` on the uplinks that come after it",
            )

    def member(self, section: Section) -> None:
        source = Source(section)
        interface = source.value("interface")
        uplink = self._interfaces.uplink(interface) if interface in self._enabled else ""
        if not uplink:
            known = self._interfaces.problem(interface) if interface in self._enabled else ""
            reason = known or f"interface {quoted(interface)} is not enabled in mwan3"
            self._draft.add().comment(left_out(section, reason))
            return
        member = self._add(section)
        metric, weight = source.value("metric", "1"), source.value("weight", "1")
        member.set("interface", uplink)
        if metric.isdecimal() and int(metric) > MAX_METRIC:
            member.skip("metric", f"the highest is {MAX_METRIC}")
            metric = str(MAX_METRIC)
        member.set("metric", metric)
        member.set("weight", weight)
        MISSING.comment(member, source)
        self._members[section.name] = _Member(member.name, uplink, metric, weight)

    def policy(self, section: Section) -> None:
        source = Source(section)
        policy = self._add(section)
        members: dict[str, _Member] = {}
        for name in unique(source.values("use_member")):
            member = self._members.get(name)
            if member is None:
                policy.comment(f"{section.location}: member {quoted(name)} is left out")
            elif member.uplink in members:
                same = members[member.uplink].name
                policy.comment(
                    f"{section.location}: {quoted(name)} is the same uplink as {quoted(same)}"
                )
            else:
                members[member.uplink] = member
        policy.set("use_member", *(member.name for member in members.values()))
        policy.set("last_resort", source.value("last_resort", "unreachable"))
        MISSING.comment(policy, source)
        if members:
            self._policies[section.name] = policy.name, [*members.values()]
        else:
            policy.type = ""
            policy.comment(left_out(section, "no member is left"))

    def rule(self, section: Section) -> None:
        source = Source(section)
        policy = source.value("use_policy")
        if policy not in self._policies and policy != "default":
            drop = "drop such packets in the firewall"
            reason = (
                f"use_policy {quoted(policy)} has no counterpart; {drop}"
                if policy in ("unreachable", "blackhole")
                else f"policy {quoted(policy)} does not exist"
            )
            self._draft.add().comment(left_out(section, reason))
            return
        rule = self._add(section)
        for option in MATCHES:
            rule.set(option, *" ".join(source.values(option)).replace("! ", "!").split())
        if rule.options.get("proto") == ["all"]:
            del rule.options["proto"]
        if rule.options.get("family") == ["any"]:
            del rule.options["family"]
        for option in ("src_ip", "dest_ip"):
            family = EVERYTHING.get(" ".join(rule.options.get(option, ())))
            if family:  # a whole family, as mwan3's default rules have it
                del rule.options[option]
                rule.set("family", family)
        rule.set("src_iface", *source.values("src_iface"))
        self._ipset(rule, source)
        if source.flag("sticky", False):
            rule.set("sticky", "1")
        elif rule.options.pop("timeout", None):
            rule.skip("timeout", "only for sticky")
        rule.set("use_policy", self._policies[policy][0] if policy != "default" else policy)
        MISSING.comment(rule, source)
        if not rule.options.keys() - {"use_policy", "sticky", "timeout", "family"}:
            self._catch_all = self._catch_all or policy

    def _ipset(self, rule: DraftSection, source: Source) -> None:
        name = source.value("ipset")
        if not name:
            return
        if name in self._domains:
            rule.set("domain", *self._domains[name])
            rule.skip("ipset", "its domains, from /etc/config/dhcp, stand here")
        else:
            rule.set("set", name)
            rule.skip(
                "ipset", "an nftables set of this name; whatever fills the ipset has to fill it"
            )

    def share_other_traffic(self) -> None:
        """The policy for everything else also holds for the router's own traffic."""
        if self._catch_all not in self._policies:
            return
        shares = {member.uplink: member for member in self._policies[self._catch_all][1]}
        weights = {
            uplink: int(member.weight) if member.weight.isdecimal() else 1
            for uplink, member in shares.items()
        }
        highest = max(weights.values())
        for section in self._draft.sections:
            if section.type != "uplink":
                continue
            if section.name not in shares:
                section.comment(
                    f"metric {MAX_METRIC}: policy {quoted(self._catch_all)} does not use it"
                )
                section.set("metric", str(MAX_METRIC))
                continue
            weight = weights[section.name]
            if highest > MAX_WEIGHT:
                section.comment(f"weight {weight}: the highest for other traffic is {MAX_WEIGHT}")
                weight = max(1, round(weight * MAX_WEIGHT / highest))
            section.set("metric", shares[section.name].metric)
            section.set("weight", str(weight))
