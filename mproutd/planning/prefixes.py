"""Which addresses in the LAN are deprecated, since their prefix's uplink carries no traffic.  Pure.

A host chooses an uplink by the prefix of its source address.  While an uplink is out, the router's
own addresses from the prefixes delegated through it get a preferred lifetime of 0 (RFC 8475,
3.1.2); a router advertisement daemon that follows the kernel announces that, and hosts use another
prefix for new connections.  Packets of connections in use still leave through the uplink.

Invariants: on each device a prefix remains whose uplink carries traffic, or nothing is deprecated
there; an address that another program has deprecated is left alone; what is deprecated is on
record first, with the time at which its preferred lifetime would have ended, so that it can be
put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from socket import AF_INET6
from typing import Any, NamedTuple

from mproutd.lan_address import FOREVER, LanAddress
from mproutd.model import (
    DAD_FAILED,
    TEMPORARY,
    TENTATIVE,
    Operation,
    canonical,
    contains,
    leading_bits,
    split_prefix,
)
from mproutd.planning.addresses import is_ula
from mproutd.planning.json_values import integer, real
from mproutd.planning.uplinks import RANK, ObservedUplink

VERSION = 1
_PREFERENCE = {"master": 0, "on": 0, "overflow": 0, "backup": 1, "handover": 2}
"""Mode → which prefixes hosts are to use: the lowest of those that are usable on a device."""
assert _PREFERENCE.keys() == RANK.keys()
_WITHOUT_ADDRESS = ("no-address", "tentative", "dad-failed")
"""Why a path is not usable for this host itself, while it is for the hosts behind."""
_UNUSABLE = TENTATIVE | DAD_FAILED
Key = tuple[int, str]
"""(ifindex, address)."""


class Original(NamedTuple):
    """What an address had before it was deprecated."""

    uplink: str
    until: float | None
    """The end of its preferred lifetime, in seconds since the boot; None for forever."""


class Record(NamedTuple):
    """What has to outlive the process."""

    addresses: Mapping[Key, Original] = {}
    """The addresses that mproutd has deprecated, or is about to."""
    prefixes: Mapping[str, tuple[str, ...]] = {}
    """Uplink → the prefixes last delegated through it; they may be known only while it is up."""


class Changes(NamedTuple):
    """What has to be done."""

    record: Record
    """To be saved before `operations`."""
    operations: Sequence[tuple[LanAddress, Operation]]
    """Each with the address as it was read."""
    after: Record
    """Once all of them are done."""
    deprecated: Mapping[LanAddress, str]
    """identity() of each address that is to be deprecated → uplink."""


class _Claims(NamedTuple):
    """Which prefixes belong to which uplink."""

    current: Mapping[str, str]
    """Prefix → uplink."""
    stale: Mapping[str, str]
    """The same, of prefixes that another one of the same uplink has replaced."""
    remembered: Mapping[str, tuple[str, ...]]
    """Record.prefixes from now on."""


def plan_changes(
    uplinks: Sequence[ObservedUplink],
    addresses: Sequence[LanAddress],
    record: Record,
    now: float,
    enabled: bool = True,
) -> Changes:
    """What has to be done about the IPv6 addresses of all devices; `now` in seconds since the boot.

    Not `enabled`: everything is put back.
    """
    claims = _claims(uplinks if enabled else (), record.prefixes)
    behind = [address for address in addresses if _is_behind(address, uplinks)]
    wanted = _unwanted(uplinks, behind, claims, record, now) if enabled else {}
    originals: dict[Key, Original] = {}
    after: dict[Key, Original] = {}
    deprecated: dict[LanAddress, str] = {}
    operations = []
    for address in behind:
        uplink, before = wanted.get(address.key), record.addresses.get(address.key)
        if uplink is not None:
            if address.preferred:
                until = None if address.preferred == FOREVER else now + address.preferred
                before = Original(uplink, until)
                operations.append((address, _change(address, 0, uplink)))
            if before is not None:
                originals[address.key] = after[address.key] = before._replace(uplink=uplink)
                deprecated[identity(address)] = uplink
        elif before is not None and not address.preferred:
            preferred = _remaining(before, address, now)
            if preferred:
                originals[address.key] = before
                operations.append((address, _change(address, preferred, before.uplink)))
    return Changes(
        Record(originals, claims.remembered),
        operations,
        Record(after, claims.remembered),
        deprecated,
    )


def identity(address: LanAddress) -> LanAddress:
    """The deprecated address, without what changes from one renewal to the next."""
    return LanAddress(address.link, address.device, address.address, address.prefixlen, 0, 0)


def out(uplinks: Iterable[ObservedUplink], record: Record) -> bool:
    """Whether something is or may have to be deprecated: LAN addresses are worth watching."""
    ranks = {
        _rank(uplink) for uplink in uplinks if uplink.config.nat6 or has_prefixes(uplink, record)
    }
    return bool(record.addresses) or len(ranks) > 1 or None in ranks


def has_prefixes(uplink: ObservedUplink, record: Record) -> bool:
    """Whether a prefix for the hosts behind us is known to belong to the uplink."""
    return bool(known_prefixes(uplink) or record.prefixes.get(uplink.config.name))


def known_prefixes(uplink: ObservedUplink) -> tuple[str, ...]:
    """Those of the configuration count also while there is no link."""
    configured = (prefix for prefix in uplink.config.prefix if ":" in prefix)
    return tuple(dict.fromkeys((*configured, *uplink.paths[1].prefixes)))


def _rank(uplink: ObservedUplink) -> int | None:
    """The place of its prefixes among all; None for an uplink that hosts must not use."""
    v4, v6 = uplink.paths
    # Hosts need no address of the uplink's own, and many providers assign none.
    forwards = v6.reason in _WITHOUT_ADDRESS and v6.leads_out and v4.reason != "check-failed"
    if not (v6.usable or forwards) or not uplink.config.default_route:
        return None
    return _PREFERENCE.get(uplink.config.mode)


def _claims(
    uplinks: Iterable[ObservedUplink], remembered: Mapping[str, tuple[str, ...]]
) -> _Claims:
    current: dict[str, str] = {}
    delegated: dict[str, tuple[str, ...]] = {}
    for uplink in uplinks:
        name = uplink.config.name
        for prefix in known_prefixes(uplink):
            current.setdefault(prefix, name)
        delegated[name] = tuple(
            prefix for prefix in uplink.paths[1].prefixes if prefix not in uplink.config.prefix
        )
    stale: dict[str, str] = {}
    for name, known in delegated.items():
        for prefix in remembered.get(name, ()):
            if prefix in current:
                continue
            if known:
                stale[prefix] = name
            else:
                current[prefix] = name
                delegated[name] = (*delegated[name], prefix)
    return _Claims(current, stale, {name: known for name, known in delegated.items() if known})


def _is_behind(address: LanAddress, uplinks: Iterable[ObservedUplink]) -> bool:
    """Whether it is the router's own for hosts behind it."""
    own = {uplink.link.index for uplink in uplinks if uplink.link}
    return address.link not in own and not address.flags & TEMPORARY


def _unwanted(
    uplinks: Sequence[ObservedUplink],
    addresses: Iterable[LanAddress],
    claims: _Claims,
    record: Record,
    now: float,
) -> dict[Key, str]:
    """The addresses that are to be deprecated → the uplink of their prefix."""
    ranks = {uplink.config.name: _rank(uplink) for uplink in uplinks}
    translating = [
        rank
        for uplink in uplinks
        if uplink.config.nat6 and (rank := ranks[uplink.config.name]) is not None
    ]
    by_device: dict[int, list[tuple[LanAddress, str, int | None]]] = {}
    for address in addresses:
        uplink, rank = _owner(address, claims.current), None
        if uplink:
            rank = ranks[uplink]
        elif is_ula(address.address) and translating:
            rank = min(translating)
        elif address.key in record.addresses:
            uplink = _owner(address, claims.stale)
        by_device.setdefault(address.link, []).append((address, uplink, rank))
    unwanted = {}
    for listed in by_device.values():
        usable = [
            rank
            for address, _, rank in listed
            if rank is not None
            and not address.flags & _UNUSABLE
            and (address.preferred or _remaining(record.addresses.get(address.key), address, now))
        ]
        for address, uplink, rank in listed:
            if uplink and usable and (rank is None or rank > min(usable)):
                unwanted[address.key] = uplink
    return unwanted


def _owner(address: LanAddress, prefixes: Mapping[str, str]) -> str:
    """The uplink of the longest prefix with the address; empty for none."""
    matching = [prefix for prefix in prefixes if contains(prefix, address.address)]
    longest = max(matching, key=lambda prefix: leading_bits(prefix)[1], default="")
    return prefixes.get(longest, "")


def _change(address: LanAddress, preferred: int, uplink: str) -> Operation:
    return Operation("change", address._replace(preferred=preferred), uplink)


def _remaining(original: Original | None, address: LanAddress, now: float) -> int:
    """The preferred lifetime to put back; 0 if it has ended."""
    if original is None:
        return 0
    if original.until is None:
        return address.valid
    return max(0, min(int(original.until - now), address.valid))


# -- the file -----------------------------------------------------------------------------


def encode(record: Record) -> dict[str, Any]:
    """The record as plain values for JSON."""
    return {
        "version": VERSION,
        "addresses": [[*key, *original] for key, original in sorted(record.addresses.items())],
        "prefixes": {name: list(prefixes) for name, prefixes in record.prefixes.items()},
    }


def decode(data: Any) -> Record:
    """The inverse of encode().  ValueError for anything else."""
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}, not {VERSION}")
        return Record(
            {
                (integer(link, 1 << 31), canonical(address)): Original(
                    str(uplink), None if until is None else real(until)
                )
                for link, address, uplink, until in data["addresses"]
            },
            {
                str(name): tuple(_checked_prefix(prefix) for prefix in prefixes)
                for name, prefixes in data["prefixes"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"not a record of mproutd: {error}") from None


def _checked_prefix(text: str) -> str:
    split_prefix(text, AF_INET6)
    return text
