"""pbr's configuration as ours: each of its policies becomes rules, each interface a policy.  Pure.

A pbr policy may list addresses, MAC addresses, devices and domains together, of which any matches;
a rule here has one kind, so that such a policy becomes several rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mproutd.configuration.parsers import quoted
from mproutd.configuration.sections import Section
from mproutd.importers.draft import Draft, DraftSection, Missing, Names, Source, left_out
from mproutd.importers.interfaces import Interfaces
from mproutd.importers.selectors import (
    ADDRESS,
    DEVICE,
    DOMAIN,
    MAC,
    Group,
    classify,
    groups,
)

FILE, OTHERS = "pbr", ()
IGNORE = "ignore"
"""In place of an interface: such packets are left to the main table."""
ITSELF = "only for pbr itself"
_SOURCE_OPTIONS = {ADDRESS: "src_ip", MAC: "src_mac", DEVICE: "src_iface"}
_DESTINATION_OPTIONS = {ADDRESS: "dest_ip", DOMAIN: "domain"}
_FORWARDED = ("", "prerouting", "forward", "postrouting")
MISSING = Missing("pbr", {"policy": {}})


def interfaces(pbr: Sequence[Section]) -> list[str]:
    """Those that its policies use."""
    names = [Source(section).value("interface") for section in _enabled_policies(pbr)]
    return [name for name in names if name and name != IGNORE]


def _enabled_policies(pbr: Sequence[Section]) -> Iterator[Section]:
    for section in pbr:
        if section.type == "policy" and Source(section).flag("enabled", True):
            yield section


def convert(
    files: Mapping[str, Sequence[Section]], network: Sequence[Section], draft: Draft
) -> None:
    """Fill the draft."""
    pbr = files[FILE]
    importer = _Importer(draft, Interfaces(network, [*interfaces(pbr), *_tagged(pbr)]))
    for section in pbr:
        if section.type == "pbr":
            importer.settings(section)
    for section in pbr:
        if section.type == "policy":
            importer.policy(section)
    reasons = {
        "include": "a script of pbr; fill an nftables set from a script, and match it by `set`",
        "dns_policy": "use one resolver for all, or the host's own",
    }
    for section in pbr:
        if section.type not in ("pbr", "policy"):
            reason = reasons.get(section.type, "not a section of pbr that mproutd knows")
            draft.add().comment(left_out(section, reason))


def _tagged(pbr: Sequence[Section]) -> list[str]:
    """The interfaces with `NAME_dscp`."""
    options = [option for section in pbr if section.type == "pbr" for option in section.options]
    return [option[: -len("_dscp")] for option in options if option.endswith("_dscp")]


class _Importer:
    def __init__(self, draft: Draft, found: Interfaces) -> None:
        self._draft, self._interfaces = draft, found
        self._last_resort = "unreachable"
        self._ipv4_only = True
        self._names = Names(found.uplinks)
        self._policies: dict[str, str] = {}
        """Uplink → the policy that leads to it."""

    def settings(self, section: Section) -> None:
        source = Source(section)
        comments = self._draft.add(source=section)
        if not source.flag("enabled", False):
            comments.comment(
                f"{section.location}: pbr is disabled; its policies follow all the same"
            )
        if not source.flag("strict_enforcement", True):
            self._last_resort = "default"
        self._ipv4_only = not source.flag("ipv6_enabled", False)
        tagged = []
        for option in [*source.unused]:
            if option.endswith("_dscp"):
                tagged.append((option[: -len("_dscp")], source.value(option)))
            else:
                reason = {
                    "icmp_interface": "the router's own pings follow their source address",
                    "resolver_set": "dnsmasq fills the sets of domains: see `domain`",
                }.get(option, ITSELF)
                comments.skip(option, reason)
        for interface, value in tagged:
            policy = self._use(interface)
            if policy:
                rule = self._rule(f"dscp_{interface}", section)
                rule.set("dscp", value)
                rule.set("use_policy", policy)
            else:
                comments.skip(f"{interface}_dscp", self._interfaces.problem(interface))

    def _use(self, interface: str) -> str:
        """The policy that leads to this interface, made where it is missing; "" for none."""
        if interface == IGNORE:
            return "default"
        uplink = self._interfaces.draft(self._draft, interface, "off")
        if uplink is None:
            return ""
        if uplink.name not in self._policies:
            name = self._names.make(f"only_{uplink.name}", "policy")
            self._policies[uplink.name] = name
            member = self._draft.add("member", self._names.make(f"via_{uplink.name}", "member"))
            member.set("interface", uplink.name)
            policy = self._draft.add("policy", name)
            policy.set("use_member", member.name)
            policy.set("last_resort", self._last_resort)
        return self._policies[uplink.name]

    def policy(self, section: Section) -> None:
        source = Source(section)
        title = source.value("name", section.name or "policy")
        if not source.flag("enabled", True):
            self._skip(section, title, "disabled")
            return
        interface = source.value("interface")
        chain = source.value("chain").lower()
        if chain not in (*_FORWARDED, "output"):
            reason = f"chain {quoted(chain)}: rules are for forwarded and for own traffic"
            self._skip(section, title, reason)
            return
        sources = [classify(value) for value in source.values("src_addr")]
        destinations = [classify(value) for value in source.values("dest_addr")]
        unusable = [
            selector.value
            for listed, options in (
                (sources, _SOURCE_OPTIONS),
                (destinations, _DESTINATION_OPTIONS),
            )
            for selector in listed
            if selector.kind not in options or (selector.kind == DOMAIN and selector.negated)
        ]
        if unusable:
            self._skip(section, title, f"{quoted(unusable[0])} cannot be matched by a rule")
            return
        policy = self._use(interface)
        if not policy:
            self._skip(section, title, self._interfaces.problem(interface))
            return
        ports = {name: source.values(name) for name in ("src_port", "dest_port")}
        protocols = [proto for proto in source.values("proto") if proto not in ("all", "auto")]
        if any(ports.values()) and not protocols:
            protocols = ["tcp", "udp"]
        pairs = _pairs(groups(sources), groups(destinations))
        if not pairs:
            self._skip(section, title, "its addresses are of different families: it never matches")
            return
        for index, (left, right) in enumerate(pairs):
            rule = self._rule(title, section)
            if index == 0:
                rule.comment(f"{section.location}: {quoted(title)}")
                MISSING.comment(rule, source)
            if self._ipv4_only:
                rule.set("family", "ipv4")
            if left:
                rule.set(_SOURCE_OPTIONS[left.option_kind], *left.values)
            if right:
                rule.set(_DESTINATION_OPTIONS[right.option_kind], *right.values)
            rule.set("proto", *protocols)
            for name, values in ports.items():
                rule.set(name, *values)
            if chain == "output":
                rule.set("user", "all")
            rule.set("use_policy", policy)

    def _skip(self, section: Section, title: str, reason: str) -> None:
        self._draft.add().comment(f"{section.location}: policy {quoted(title)}: {reason}")

    def _rule(self, title: str, section: Section) -> DraftSection:
        return self._draft.add("rule", self._names.make(title.lower(), "rule"), section)


def _pairs(
    sources: Sequence[Group], destinations: Sequence[Group]
) -> list[tuple[Group | None, Group | None]]:
    """What has to match together, for each rule; addresses of two families never do."""
    return [
        (left, right)
        for left in sources or (None,)
        for right in destinations or (None,)
        if not (left and right and left.family and right.family and left.family != right.family)
    ]
