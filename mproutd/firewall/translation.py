"""nat6: IPv6 hosts whose addresses are of no prefix of an uplink leave by it all the same.  Pure.

`prefix` translates the prefix of a network in the LAN to one of the uplink's, and leaves the rest
of the address (NETMAP); `masquerade` translates to the uplink's own address.  The first packet of
a connection decides, and replies are translated back by connection tracking.

The rules follow from the configuration, the prefixes of the uplinks and the networks of the LAN;
which uplink a connection takes is up to the ip rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from socket import AF_INET6
from typing import NamedTuple

from mproutd.configuration.config import Config
from mproutd.configuration.parsers import is_proper_name
from mproutd.model import SCOPE_GLOBAL, TEMPORARY, Address, contains, leading_bits, prefix
from mproutd.netlink.nft_values import (
    IIF,
    NFPROTO,
    OIFNAME,
    Chain,
    Choice,
    Jump,
    Match,
    Rule,
    Source,
    Translate,
    Value,
)
from mproutd.planning.uplinks import ObservedUplink

PRIORITY = 99
"""srcnat - 1: before an administrator's rules, since the first that translates wins."""


class Translation(NamedTuple):
    """What an uplink translates."""

    name: str
    device: str
    prefixes: tuple[str, ...]
    """The uplink's own: what has a source from them is left alone."""
    networks: tuple[tuple[str, str], ...] = ()
    """(network of the LAN, network of the uplink that its addresses are translated to)."""
    masquerade: bool = False


def wants_translation(config: Config) -> bool:
    """Whether the configuration asks for it."""
    return config.enabled and any(uplink.nat6 for uplink in config.uplinks)


def translations(
    uplinks: Sequence[ObservedUplink], addresses: Iterable[Address]
) -> list[Translation]:
    """What each uplink translates; `addresses` are those of all devices."""
    if not any(uplink.config.nat6 for uplink in uplinks):
        return []
    networks = _networks(uplinks, addresses)
    found = []
    for uplink in uplinks:
        config, own = uplink.config, uplink.paths[1].prefixes
        if not config.nat6 or not is_proper_name(config.device):
            continue
        masquerade = config.nat6 == "masquerade"
        mapped = tuple(
            (network, translated(network, own[0]))
            for network in (() if masquerade or not own else networks)
            if not any(_includes(prefix, network) for prefix in own)
            and _length(network) >= _length(own[0])
        )
        if masquerade or mapped:
            found.append(Translation(config.name, config.device, own, mapped, masquerade))
    return found


def without_prefix(uplinks: Iterable[ObservedUplink]) -> list[str]:
    """The uplinks that are to translate to a prefix of theirs, and have none."""
    return [
        uplink.config.name
        for uplink in uplinks
        if uplink.config.nat6 == "prefix" and uplink.paths[1].usable
        if not uplink.paths[1].prefixes
    ]


def translated(network: str, delegated: str) -> str:
    """The network of a delegated prefix for a network of the LAN.

    It has the same number among the subnets, so that each has its own where they are numbered.
    """
    (start, length), (delegated_start, delegated_length) = map(leading_bits, (network, delegated))
    host_bits = length - delegated_length
    bits = delegated_start << host_bits | (start & (1 << host_bits) - 1)
    return prefix((bits << 128 - length).to_bytes(16, "big"), length, AF_INET6)


def chains(listed: Sequence[Translation], names: Mapping[str, str]) -> list[Chain]:
    """The chains for these translations; `names`: uplink → its name in that of a chain."""
    if not listed:
        return []
    targets: dict[Value, Jump] = {item.device: Jump(f"nat6_{names[item.name]}") for item in listed}
    made = [
        Chain("translate", [[Choice(OIFNAME, targets)]], "postrouting", PRIORITY, "nat"),
    ]
    for item in listed:
        rules: list[Rule] = [
            [Source(network), Translate(target)] for network, target in item.networks
        ]
        if item.masquerade:
            # The addresses of this host's own packets were chosen for the uplink.
            foreign: Rule = [Source(prefix, equal=False) for prefix in item.prefixes]
            ipv6 = foreign or [Match(NFPROTO, int(AF_INET6))]
            rules.append([Match(IIF, 0, equal=False), *ipv6, Translate()])
        made.append(Chain(f"nat6_{names[item.name]}", rules))
    return made


def _networks(uplinks: Iterable[ObservedUplink], addresses: Iterable[Address]) -> tuple[str, ...]:
    """The IPv6 networks of the LAN."""
    own = {uplink.link.index for uplink in uplinks if uplink.link}
    return tuple(
        sorted(
            {
                address.network
                for address in addresses
                if address.family == AF_INET6
                and address.scope == SCOPE_GLOBAL
                and address.link not in own
                and address.prefixlen < 128
                and not address.flags & TEMPORARY
            }
        )
    )


def _includes(outer: str, network: str) -> bool:
    return _length(outer) <= _length(network) and contains(outer, network.partition("/")[0])


def _length(network: str) -> int:
    return leading_bits(network)[1]
