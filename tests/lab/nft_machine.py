"""Runs a table of nftables on a packet, statement by statement, as the kernel would.

Packets have real headers, so that offsets, masks and byte orders of the table count.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Mapping
from socket import AF_INET

from mproutd.explain.request import Request
from mproutd.netlink.nft_values import (
    CT_DIRECTION,
    CT_MARK,
    CT_STATE,
    CT_STATUS,
    IIFNAME,
    IIFTYPE,
    L4PROTO,
    META_MARK,
    NEW,
    NFPROTO,
    OIFNAME,
    Among,
    Assign,
    Choice,
    InSet,
    Jump,
    Key,
    Match,
    Remember,
    Rule,
    Table,
)

ESTABLISHED = 1 << 1
ETHERNET = 1


class Machine:
    """One packet on its way; `sets`: name → the addresses in it."""

    def __init__(
        self,
        table: Table,
        request: Request,
        sets: Mapping[str, Collection[str]],
        ct_mark: int = 0,
        new: bool = True,
        reply: bool = False,
    ) -> None:
        self._chains = {chain.name: chain for chain in table.chains}
        self._sets = sets
        self._headers = headers(request)
        self._family = request.family
        self.numbers: dict[Key, int] = {
            META_MARK: request.mark,
            CT_MARK: ct_mark,
            CT_STATE: NEW if new else ESTABLISHED,
            CT_DIRECTION: int(reply),
            CT_STATUS: 0,
            IIFTYPE: ETHERNET,
            NFPROTO: 2 if request.family == AF_INET else 10,
            L4PROTO: request.protocol,
        }
        self._names = {IIFNAME: request.iif, OIFNAME: ""}

    def run(self, chain: str) -> None:
        if chain in self._chains:
            self._chain(chain)

    def _chain(self, name: str) -> bool:
        """False where a `goto` ended everything."""
        for rule in self._chains[name].rules:
            target = self._rule(rule)
            if target is None:
                continue
            if not target.chain:
                return True
            going_on = self._chain(target.chain)
            if not (going_on and target.comes_back):
                return going_on
        return True

    def _rule(self, rule: Rule) -> Jump | None:
        for statement in rule:
            if isinstance(statement, Jump):
                return statement
            if isinstance(statement, Choice):
                jump = statement.targets.get(self._read(statement.key, statement.mask))
                if jump is None:
                    return None
                return jump
            if isinstance(statement, Assign):
                value = self.numbers[statement.key] & statement.keep | statement.value
                self.numbers[statement.key] = value
            elif isinstance(statement, Match):
                found = self._read(statement.key, statement.mask)
                if (found == _comparable(statement.key, statement.value)) is not statement.equal:
                    return None
            elif isinstance(statement, Among):
                found = self._read(statement.key)
                inside = any(
                    value[0] <= found <= value[1] if isinstance(value, tuple) else value == found
                    for value in (_each(statement.key, one) for one in statement.values)
                )
                if inside is statement.negated:
                    return None
            elif isinstance(statement, InSet):
                if self._address(statement.key) not in self._sets.get(statement.set, ()):
                    return None
            else:
                assert isinstance(statement, Remember), statement
        return None

    def _read(self, key: Key, mask: int | bytes = 0xFFFFFFFF) -> int | str | bytes:
        if key in self.numbers:
            assert isinstance(mask, int)
            return self.numbers[key] & mask
        if key in self._names:
            return self._names[key]
        part = self._part(key)
        if isinstance(mask, int):
            return part
        return bytes(byte & bit for byte, bit in zip(part, mask, strict=True))

    def _part(self, key: Key) -> bytes:
        assert key.expression == "payload"
        return self._headers[key.base][key.number : key.number + key.size]

    def _address(self, key: Key) -> str:
        return str(ipaddress.ip_address(self._part(key)))


def _comparable(key: Key, value: int | str | bytes) -> int | str | bytes:
    """As _read() gives it: a device's name without its padding, a protocol as a number."""
    if key in (IIFNAME, OIFNAME) and isinstance(value, bytes):
        return value.rstrip(b"\0").decode()
    if key == L4PROTO and isinstance(value, bytes):
        return value[0]
    return value


def _each(key: Key, value: bytes | tuple[bytes, bytes]) -> int | str | bytes | tuple[bytes, bytes]:
    return value if isinstance(value, tuple) else _comparable(key, value)


def headers(request: Request) -> dict[int, bytes]:
    """The link, network and transport headers (NFT_PAYLOAD_*) of a packet."""
    mac = bytes.fromhex((request.mac or "02:00:00:00:00:ee").replace(":", ""))
    source = ipaddress.ip_address(request.source).packed
    target = ipaddress.ip_address(request.destination).packed
    if request.family == AF_INET:
        network = struct.pack(
            "!BBHHHBBH4s4s", 0x45, request.dscp << 2, 28, 0, 0, 64, request.protocol, 0,
            source, target,
        )  # fmt: skip
    else:
        first = 6 << 28 | request.dscp << 22
        network = struct.pack("!IHBB16s16s", first, 8, request.protocol, 64, source, target)
    ports = struct.pack("!HHHH", request.source_port, request.destination_port, 8, 0)
    return {0: bytes(6) + mac + bytes(2), 1: network, 2: ports}
