"""Members, policies and rules: which traffic leaves by which uplinks.  Pure.

Names and meanings are mwan3's.  A rule selects packets and names a policy; a policy has members; a
member is an uplink with a metric and a weight.  The first rule that matches counts.

A rule may name an uplink as well.  That is a policy of this one member; with the uplink's `strict`
its last resort is unreachable, otherwise default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.matches import (
    ANY,
    MAX_RULE_NAME,
    PROTOCOLS,
    WITH_PORTS,
    Range,
    Selection,
    families_of,
    family_names,
    name_of,
)
from mproutd.configuration.options import MEMBER, POLICY, RULE
from mproutd.configuration.parsers import quoted, suggestion
from mproutd.configuration.resolve import Resolver
from mproutd.configuration.sections import ConfigError, OptionValue, Section

RULES_OF_DEFAULT = 3
"""The ip rules that lead to main and to the table for other traffic."""
DEFAULT = "default"
"""In place of a policy's name: the traffic is left to whatever carries other traffic."""
MAX_PORT = 65535
_FAMILIES: dict[str, tuple[int, ...]] = {
    "ipv4": (AF_INET,),
    "ipv6": (AF_INET6,),
    "any": (AF_INET, AF_INET6),
}


class MemberConfig(NamedTuple):
    """An uplink in a policy."""

    name: str
    uplink: str
    metric: int = MEMBER["metric"].default_value
    weight: int = MEMBER["weight"].default_value


class PolicyConfig(NamedTuple):
    """Where traffic goes: by the usable members with the lowest metric, in shares by weight."""

    name: str
    members: tuple[MemberConfig, ...] = ()
    last_resort: str = POLICY["last_resort"].default_value
    """unreachable, blackhole or default: without a usable member."""
    location: str = ""
    """FILE:LINE; of the first rule that names it, for an uplink."""
    is_uplink: bool = False
    """Made because a rule names the uplink itself."""


class RuleConfig(NamedTuple):
    """Which packets go by which policy; an option that is not set allows any."""

    name: str
    policy: str
    """The name of a PolicyConfig, or DEFAULT."""
    families: tuple[int, ...] = (AF_INET, AF_INET6)
    protocols: tuple[int, ...] = ()
    sources: Selection = ANY
    destinations: Selection = ANY
    """Prefixes as text; those of the other family are left out of a family's rules."""
    source_ports: Selection = ANY
    destination_ports: Selection = ANY
    """Ranges."""
    devices: Selection = ANY
    """Names of devices that it arrives by."""
    macs: Selection = ANY
    dscp: Selection = ANY
    domains: tuple[str, ...] = ()
    set: str = ""
    user: str | Range | None = None
    """This host's own traffic: of these users, or of a name that is not looked up yet (uci.py).
    None: what this host forwards."""
    sticky: bool = RULE["sticky"].default_value
    timeout: int = RULE["timeout"].default_value
    """Seconds."""
    location: str = ""
    """FILE:LINE."""

    @property
    def forwarded(self) -> bool:
        """Whether it selects what this host forwards; otherwise this host's own traffic."""
        return self.user is None


class Policies(NamedTuple):
    """All of it."""

    policies: tuple[PolicyConfig, ...] = ()
    """Those that rules name: the policies in the order of the file, then uplinks."""
    rules: tuple[RuleConfig, ...] = ()
    """The enabled ones in the order of the file."""


def own_rules_of(rule: RuleConfig) -> int:
    """How many ip rules a rule takes, of one family at most; none for forwarded traffic."""
    if rule.forwarded:
        return 0
    lists = (rule.sources, rule.destinations, rule.source_ports, rule.destination_ports)
    count = max(1, len(rule.protocols))
    for selection in lists:
        count *= max(1, len(selection.values))
    return count * (RULES_OF_DEFAULT if rule.policy == DEFAULT else 1)


class _Builder:
    """Policies and rules from their sections, and what is wrong with them."""

    def __init__(self, resolver: Resolver, uplinks: Mapping[str, bool]) -> None:
        self._resolver, self._uplinks = resolver, uplinks
        self.errors: list[ConfigError] = []
        self.warnings: list[ConfigError] = []
        self._members: dict[str, MemberConfig] = {}
        self._policies: dict[str, PolicyConfig] = {}

    def build(self) -> Policies:
        for section in self._sections("member"):
            self._add_member(section)
        used: set[str] = set()
        for section in self._sections("policy"):
            self._add_policy(section, used)
        rules = [rule for section in self._sections("rule") if (rule := self._rule(section))]
        self._warn_of_unused(used, rules)
        named = {rule.policy for rule in rules}
        policies = [policy for policy in self._policies.values() if policy.name in named]
        return Policies(tuple(policies), tuple(rules))

    def _sections(self, kind: str) -> Iterator[Section]:
        parse = name_of(kind, MAX_RULE_NAME)
        for section in self._resolver.of_type(kind):
            if not section.name:
                self.errors.append(section.error(f"needs a name: config {kind} 'NAME'"))
                continue
            try:
                parse(section.name)
            except ValueError as error:
                self.errors.append(section.error(str(error)))
                continue
            yield section

    def _one(self, section: Section, option: str) -> OptionValue | None:
        return next(iter(self._resolver.parsed(section, option)), None)

    def _unknown(self, value: OptionValue, kind: str, known: Iterable[str]) -> None:
        names = tuple(known)
        near = suggestion(value.value, names)
        self.errors.append(value.error(f"there is no {kind} {quoted(value.value)}{near}"))

    # -- members and policies -------------------------------------------------------------

    def _add_member(self, section: Section) -> None:
        uplink = self._one(section, "interface")
        if uplink is None:
            self.errors.append(section.error("has no uplink: set option interface"))
            return
        if uplink.value not in self._uplinks:
            self._unknown(uplink, "uplink", self._uplinks)
        given = {name: self._one(section, name) for name in ("metric", "weight")}
        plain = {name: value.value for name, value in given.items() if value}
        self._members[section.name] = MemberConfig(section.name, uplink.value, **plain)

    def _add_policy(self, section: Section, used: set[str]) -> None:
        if section.name == DEFAULT or section.name in self._uplinks:
            what = "an uplink" if section.name in self._uplinks else "where other traffic goes"
            self.errors.append(section.error(f"{quoted(section.name)} is {what}: choose a name"))
        members: list[MemberConfig] = []
        for value in self._resolver.parsed(section, "use_member"):
            used.add(value.value)
            member = self._members.get(value.value)
            if member is None:
                if not any(s.name == value.value for s in self._resolver.of_type("member")):
                    self._unknown(value, "member", self._members)
            elif member.uplink in {other.uplink for other in members}:
                self.errors.append(value.error(f"has the uplink {member.uplink} a second time"))
            else:
                members.append(member)
        if not self._resolver.parsed(section, "use_member"):
            self.errors.append(section.error("has no member: add list use_member"))
        resort = self._one(section, "last_resort")
        policy = PolicyConfig(section.name, tuple(members), location=section.location)
        if resort:
            policy = policy._replace(last_resort=resort.value)
        self._policies[section.name] = policy

    def _warn_of_unused(self, used: set[str], rules: Sequence[RuleConfig]) -> None:
        named = {rule.policy for rule in rules}
        for section in self._resolver.of_type("member"):
            if section.name and section.name not in used:
                self.warnings.append(section.error("has no effect: no policy uses this member"))
        for section in self._resolver.of_type("policy"):
            if section.name and section.name not in named:
                self.warnings.append(section.error("has no effect: no rule uses this policy"))

    # -- rules ----------------------------------------------------------------------------

    def _rule(self, section: Section) -> RuleConfig | None:
        """The rule; None if it is not enabled, or wrong."""
        before = len(self.errors)
        rule = RuleConfig(section.name, self._policy_of(section), location=section.location)
        given = {name: self._one(section, name) for name in ("set", "user", "sticky", "timeout")}
        plain = {name: value.value for name, value in given.items() if value}
        protocols = tuple(
            dict.fromkeys(
                number
                for value in self._resolver.parsed(section, "proto")
                for number in value.value
            )
        )
        domains = (value.value for value in self._resolver.parsed(section, "domain"))
        rule = rule._replace(
            protocols=() if 0 in protocols else protocols,
            sources=self._selection(section, "src_ip"),
            destinations=self._selection(section, "dest_ip"),
            source_ports=self._selection(section, "src_port"),
            destination_ports=self._selection(section, "dest_port"),
            devices=self._devices(section),
            macs=self._selection(section, "src_mac"),
            dscp=self._selection(section, "dscp"),
            domains=tuple(dict.fromkeys(domains)),
            **plain,
        )
        rule = rule._replace(families=self._families(section, rule))
        self._check_ports(section, rule)
        if rule.user is not None:
            self._check_own(section, rule)
        elif (timeout := self._one(section, "timeout")) and not rule.sticky:
            self.warnings.append(timeout.error("has no effect without option sticky '1'"))
        enabled = self._one(section, "enabled")
        if len(self.errors) > before or (enabled and not enabled.value):
            return None
        return rule

    def _policy_of(self, section: Section) -> str:
        value = self._one(section, "use_policy")
        if value is None:
            self.errors.append(section.error("has no policy: set option use_policy"))
            return DEFAULT
        name = str(value.value)
        if name in self._uplinks and name not in self._policies:
            resort = "unreachable" if self._uplinks[name] else "default"
            member = MemberConfig(name, name)
            policy = PolicyConfig(name, (member,), resort, section.location, is_uplink=True)
            self._policies[name] = policy
        elif name != DEFAULT and name not in self._policies:
            known = (*self._policies, *self._uplinks, DEFAULT)
            self._unknown(value, "policy or uplink", known)
        return name

    def _selection(self, section: Section, option: str) -> Selection:
        """All values of an option, which are either all negated or none."""
        values = self._resolver.parsed(section, option)
        for value in values[1:]:
            if value.value.negated != values[0].value.negated:
                self.errors.append(value.error("negate all of its values with !, or none"))
        items = dict.fromkeys(item for value in values for item in value.value.values)
        return Selection(tuple(items), bool(values) and values[0].value.negated)

    def _devices(self, section: Section) -> Selection:
        """Those of src_iface, where an interface of network stands for its device."""
        selection = self._selection(section, "src_iface")
        names = []
        for value in self._resolver.parsed(section, "src_iface")[:1]:
            for name in selection.values:
                device = self._resolver.device_of_interface(name)
                if device is None:
                    reason = f"the device of interface {quoted(name)} is not known here: name it"
                    self.errors.append(value.error(reason))
                names.append(device or name)
        return Selection(tuple(dict.fromkeys(names)), selection.negated)

    def _families(self, section: Section, rule: RuleConfig) -> tuple[int, ...]:
        """Those in which it can match, of those that are configured."""
        option = self._one(section, "family")
        families: set[int] = set(_FAMILIES[option.value if option else "any"])
        for name, selection in (("src_ip", rule.sources), ("dest_ip", rule.destinations)):
            if not selection or selection.negated:
                continue
            own = families_of(selection.values)
            if not families & own:
                value = self._resolver.parsed(section, name)[0]
                reason = f"is {family_names(own)}, and the rest of the rule is "
                self.errors.append(value.error(reason + family_names(families)))
            families &= own
        return tuple(family for family in (AF_INET, AF_INET6) if family in families)

    def _check_ports(self, section: Section, rule: RuleConfig) -> None:
        if rule.protocols and WITH_PORTS.issuperset(rule.protocols):
            return
        for option in ("src_port", "dest_port"):
            for value in self._resolver.parsed(section, option)[:1]:
                names = [name for name, number in PROTOCOLS.items() if number in WITH_PORTS]
                reason = f"needs a protocol with ports: set proto to {', '.join(names[:-1])}"
                self.errors.append(value.error(f"{reason} or {names[-1]}"))

    def _check_own(self, section: Section, rule: RuleConfig) -> None:
        """What an ip rule cannot select, since this host's own traffic is routed by those."""
        for option in ("src_iface", "src_mac", "dscp", "domain", "set", "sticky"):
            for value in self._resolver.parsed(section, option)[:1]:
                if option != "sticky" or value.value:
                    reason = "cannot be combined with user: this host's own traffic is selected by "
                    reason += "src_ip, dest_ip, proto and ports"
                    self.errors.append(value.error(reason))
        for option in ("src_ip", "src_port", "dest_ip", "dest_port"):
            for value in self._resolver.parsed(section, option)[:1]:
                if value.value.negated:
                    self.errors.append(value.error("cannot be negated together with user"))
        for option in ("src_port", "dest_port"):
            for value in self._resolver.parsed(section, option)[:1]:
                if any(first == 0 or last == MAX_PORT for first, last in value.value.values):
                    reason = f"with user, ports are 1 to {MAX_PORT - 1}: ip rules take no others"
                    self.errors.append(value.error(reason))


def build_policies(
    resolver: Resolver, uplinks: Mapping[str, bool]
) -> tuple[Policies, list[ConfigError]]:
    """The policies and rules, and warnings; errors are added to the resolver's.

    `uplinks`: name → whether it is strict.
    """
    builder = _Builder(resolver, uplinks)
    policies = builder.build()
    resolver.errors += builder.errors
    return policies, builder.warnings
