"""Policies in the table `inet mproutd`: rules → the mark of a policy.  Pure.

Only a connection's first packets reach the rules, since they are asked while conntrack calls it new
and no uplink is noted in its mark.  The policy's mark is kept in the connection's mark, in the bits
of `policy_mask` beside those of the uplink.  Later packets carry both: the uplink's ip rule comes
first and goes with the uplink, then the policy's decides, so that what a policy forbids stays
forbidden when an uplink fails.

Only packets in the original direction are marked, and only of connections that do not arrive from
an uplink: replies and port forwards go where they came from.

- `sticky`: a rule with a mark of its own.  When a connection with that mark is noted on an uplink,
  its source goes into a set of this rule and uplink for `timeout` seconds, and out of those of
  other uplinks.  The source's next connection gets that uplink's mark as well, which has no effect
  while the uplink is not usable.
- `domain`: a set that dnsmasq fills; a new connection to an address starts its timeout again.
- `set`: a set that others fill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from socket import AF_INET, AF_INET6, inet_pton

from mproutd.configuration.config import Config
from mproutd.configuration.matches import Selection
from mproutd.configuration.policies import DEFAULT, RuleConfig
from mproutd.model import bits, family_of
from mproutd.netlink.nft_values import (
    ALL_BITS,
    CT_DIRECTION,
    CT_MARK,
    CT_STATE,
    DESTINATION4,
    DESTINATION6,
    DPORT,
    DSCP4,
    DSCP6,
    ETHER_SOURCE,
    IIFNAME,
    IIFTYPE,
    L4PROTO,
    META_MARK,
    NEW,
    NFPROTO,
    SOURCE4,
    SOURCE6,
    SPORT,
    Among,
    Assign,
    Chain,
    Choice,
    Forget,
    InSet,
    Jump,
    Key,
    Match,
    NamedSet,
    Remember,
    Rule,
    Statement,
    Table,
    Value,
)
from mproutd.planning.numbering import PolicyNumbers, sticky_key

DOMAIN_TIMEOUT = 86400
"""Seconds that an address of a domain stays without a new connection to it: as long as resolvers
may keep an answer, since one from a cache adds nothing to the set."""
_ORIGINAL = 0
"""IP_CT_DIR_ORIGINAL."""
_ETHERNET = 1
"""ARPHRD_ETHER (linux/if_arp.h)."""
_PROTOCOLS: dict[int, int] = {AF_INET: 2, AF_INET6: 10}
"""NFPROTO_*."""
_SOURCE: dict[int, Key] = {AF_INET: SOURCE4, AF_INET6: SOURCE6}
_DESTINATION: dict[int, Key] = {AF_INET: DESTINATION4, AF_INET6: DESTINATION6}
_SUFFIX: dict[int, str] = {AF_INET: "4", AF_INET6: "6"}
PRIORITY = -149
"""As that of the chains that keep connections on their uplinks."""


def domain_set(rule: RuleConfig, family: int) -> str:
    """The name of the set that dnsmasq fills for a rule."""
    return f"domain_{rule.name}_{_SUFFIX[family]}"


def user_set(rule: RuleConfig, family: int) -> str:
    """The name of the set that others fill for a rule."""
    return f"{rule.set}_{_SUFFIX[family]}"


def with_policies(
    config: Config,
    table: Table,
    devices: Sequence[str],
    kept: Mapping[str, str],
    numbers: Mapping[str, PolicyNumbers],
) -> Table:
    """The table with the rules of what this host forwards.

    `devices`: of all uplinks.  `kept`: uplink → its name in chains, where connections keep it.
    """
    steering = _Steering(config, kept, numbers)
    chains = {chain.name: chain for chain in table.chains}
    marked = Choice(
        CT_MARK,
        {own.mark: Jump(f"by_{own.number}", comes_back=True) for own in numbers.values()},
        config.policy_mask,
    )
    first: list[Rule] = [[Match(CT_DIRECTION, _ORIGINAL), marked]]
    incoming = chains.get("incoming", Chain("incoming", [], "prerouting", PRIORITY))
    rules = incoming.rules or [[Jump("arriving")]]
    chains["incoming"] = incoming._replace(rules=[*first, *rules])
    uplinks: dict[Value, Jump] = {device: Jump() for device in devices}
    if "arriving" in chains:
        ((noted,),) = chains["arriving"].rules
        assert isinstance(noted, Choice)
        uplinks.update(noted.targets)
    new = Match(CT_STATE, 0, NEW, equal=False)
    by_family: list[Rule] = [
        [new, _family(family), Jump(f"rules{_SUFFIX[family]}")] for family in _PROTOCOLS
    ]
    chains["arriving"] = Chain("arriving", [[Choice(IIFNAME, uplinks)], *by_family])
    for own in numbers.values():
        chains[f"by_{own.number}"] = Chain(f"by_{own.number}", [[steering.mark(META_MARK, own)]])
    for name, short in kept.items():
        note = chains[f"note_{short}"]
        extra, remembering = steering.remembering(name, short)
        chains[note.name] = note._replace(rules=[*note.rules, *extra])
        chains |= {chain.name: chain for chain in remembering}
    chains |= {chain.name: chain for chain in steering.chains()}
    return table._replace(chains=tuple(chains.values()), sets=tuple(steering.sets()))


def _family(family: int) -> Match:
    return Match(NFPROTO, _PROTOCOLS[family])


class _Steering:
    """The chains and sets of the rules of what this host forwards."""

    def __init__(
        self, config: Config, kept: Mapping[str, str], numbers: Mapping[str, PolicyNumbers]
    ) -> None:
        self._config, self._kept, self._numbers = config, kept, numbers
        self._rules = [rule for rule in config.rules if rule.forwarded]
        self._members = {
            policy.name: [member.uplink for member in policy.members if member.uplink in kept]
            for policy in config.policies
        }
        self._sticky = [rule for rule in self._rules if rule.sticky and rule.policy != DEFAULT]

    def mark(self, key: Key, own: PolicyNumbers) -> Assign:
        """Put the policy's mark into a packet's or a connection's."""
        return Assign(key, ALL_BITS & ~self._config.policy_mask, own.mark)

    def _own(self, rule: RuleConfig) -> PolicyNumbers:
        return self._numbers[sticky_key(rule) if rule.sticky else rule.policy]

    def _remembered(self, rule: RuleConfig, uplink: str, family: int) -> str:
        """The name of the set of sources that a sticky rule keeps on an uplink."""
        return f"sticky_{rule.name}_{self._kept[uplink]}_{_SUFFIX[family]}"

    # -- chains ---------------------------------------------------------------------------

    def chains(self) -> Iterator[Chain]:
        """The rules of each family, then what they lead to."""
        for family in _PROTOCOLS:
            rules = [
                [_family(family), *matches, self._target(rule)]
                for rule in self._rules
                if family in rule.families
                for matches in _matches(rule, family)
            ]
            yield Chain(f"rules{_SUFFIX[family]}", rules)
        for policy in self._config.policies:
            own = self._numbers[policy.name]
            yield Chain(f"use_{policy.name}", self._marking(own))
        for rule in self._sticky:
            found: list[Rule] = [
                [
                    _family(family),
                    InSet(_SOURCE[family], self._remembered(rule, uplink, family)),
                    Jump(f"to_{self._kept[uplink]}"),
                ]
                for uplink in self._members[rule.policy]
                for family in rule.families
            ]
            yield Chain(f"sticky_{rule.name}", [*self._marking(self._own(rule)), *found])

    def _marking(self, own: PolicyNumbers) -> list[Rule]:
        return [[self.mark(CT_MARK, own)], [self.mark(META_MARK, own)]]

    def _target(self, rule: RuleConfig) -> Jump:
        if rule.policy == DEFAULT:
            return Jump()
        return Jump(f"sticky_{rule.name}" if rule.sticky else f"use_{rule.policy}")

    def remembering(self, uplink: str, short: str) -> tuple[list[Rule], list[Chain]]:
        """What notes the source of a connection that a sticky rule led to this uplink."""
        chains: dict[Value, Chain] = {}
        for rule in self._sticky:
            if uplink in self._members[rule.policy]:
                rules = [
                    [_family(family), *self._remember(rule, uplink, family)]
                    for family in rule.families
                ]
                chains[self._own(rule).mark] = Chain(f"keep_{rule.name}_{short}", rules)
        if not chains:
            return [], []
        targets = {mark: Jump(chain.name) for mark, chain in chains.items()}
        return [[Choice(CT_MARK, targets, self._config.policy_mask)]], [*chains.values()]

    def _remember(self, rule: RuleConfig, uplink: str, family: int) -> Iterator[Statement]:
        """Note the source on this uplink, and on no other."""
        key = _SOURCE[family]
        for other in self._members[rule.policy]:
            if other != uplink:
                yield Forget(key, self._remembered(rule, other, family))
        yield Remember(key, self._remembered(rule, uplink, family), rule.timeout)

    # -- sets -----------------------------------------------------------------------------

    def sets(self) -> Iterator[NamedSet]:
        found: dict[str, NamedSet] = {}
        for rule in self._rules:
            for family in rule.families:
                if rule.domains:
                    name = domain_set(rule, family)
                    found[name] = NamedSet(name, _DESTINATION[family], DOMAIN_TIMEOUT)
                if rule.set:
                    name = user_set(rule, family)
                    found[name] = NamedSet(name, _DESTINATION[family], interval=True)
        for rule in self._sticky:
            for uplink in self._members[rule.policy]:
                for family in rule.families:
                    name = self._remembered(rule, uplink, family)
                    found[name] = NamedSet(name, _SOURCE[family])
        yield from found.values()


# -- one rule -----------------------------------------------------------------------------


def _matches(rule: RuleConfig, family: int) -> Iterator[list[Statement]]:
    """What a rule asks of a packet: one list for each code point and protocol, usually just one."""
    common: list[Statement] = []
    for prefixes, key in ((rule.sources, _SOURCE), (rule.destinations, _DESTINATION)):
        common += _addresses(prefixes, key[family], family)
    if rule.devices:
        names = [name.encode("utf-8", "surrogateescape") for name in rule.devices.values]
        common.append(_one_of(IIFNAME, [name.ljust(16, b"\0") for name in names], rule.devices))
    if rule.macs:
        macs = [bytes.fromhex(mac.replace(":", "")) for mac in rule.macs.values]
        common += [Match(IIFTYPE, _ETHERNET), _one_of(ETHER_SOURCE, macs, rule.macs)]
    if rule.set:
        common.append(InSet(_DESTINATION[family], user_set(rule, family)))
    last: list[Statement] = []
    if rule.domains:
        last.append(InSet(_DESTINATION[family], domain_set(rule, family), renew=True))
    for code_points, protocol in product(_code_points(rule.dscp, family), _protocols(rule)):
        yield [*common, *code_points, *protocol, *last]


def _protocols(rule: RuleConfig) -> Iterator[list[Statement]]:
    if not rule.protocols:
        yield []
    elif not (rule.source_ports or rule.destination_ports):
        values = [bytes((number,)) for number in rule.protocols]
        yield [_one_of(L4PROTO, values, Selection(values=rule.protocols))]
    else:
        for number in rule.protocols:
            yield [
                Match(L4PROTO, number),
                *_ports(rule.source_ports, SPORT),
                *_ports(rule.destination_ports, DPORT),
            ]


def _ports(selection: Selection, key: Key) -> Iterator[Statement]:
    if selection:
        ranges = [
            (first.to_bytes(2, "big"), last.to_bytes(2, "big")) for first, last in selection.values
        ]
        first, last = ranges[0]
        if len(ranges) == 1 and first == last:
            yield Match(key, first, equal=not selection.negated)
        else:
            yield Among(key, tuple(ranges), selection.negated)


def _one_of(key: Key, values: Sequence[bytes], selection: Selection) -> Statement:
    if len(values) == 1:
        return Match(key, values[0], equal=not selection.negated)
    return Among(key, tuple(values), selection.negated)


def _code_points(selection: Selection, family: int) -> Iterator[list[Statement]]:
    """Alternatives are rules of their own, and exclusions are all in one."""
    if family == AF_INET:
        every = [Match(DSCP4, bytes((value << 2,)), b"\xfc") for value in selection.values]
    else:
        every = [
            Match(DSCP6, (value << 6).to_bytes(2, "big"), b"\x0f\xc0") for value in selection.values
        ]
    if not selection or selection.negated:
        yield [match._replace(equal=False) for match in every]
    else:
        for match in every:
            yield [match]


def _addresses(selection: Selection, key: Key, family: int) -> Iterator[Statement]:
    prefixes = [text for text in selection.values if family_of(text) == family]
    if not prefixes:
        return
    ranges = [_range(text, family) for text in prefixes]
    size = bits(family)
    length = int(prefixes[0].partition("/")[2] or size)
    if len(prefixes) > 1:
        yield Among(key, tuple(ranges), selection.negated)
    elif length or selection.negated:
        network_mask = (((1 << length) - 1) << size - length).to_bytes(size // 8, "big")
        mask = ALL_BITS if length == size else network_mask
        yield Match(key, ranges[0][0], mask, equal=not selection.negated)


def _range(text: str, family: int) -> tuple[bytes, bytes]:
    """The first and the last address of a prefix."""
    address, _, length = text.partition("/")
    packed = inet_pton(family, address)
    hosts = bits(family) - int(length or bits(family))
    last = int.from_bytes(packed, "big") | (1 << hosts) - 1
    return packed, last.to_bytes(len(packed), "big")
