"""Delegated prefixes in the lease files of DHCPv6 clients.  Pure.

dhclient -6 -P puts no route for a delegated prefix into main, so its lease file alone says what
was delegated and through which device.  dhcpcd keeps the server's reply as it came (RFC 8415).
systemd-networkd has no such file; its unreachable route says what was delegated (delegation.py).

Invariants: a file that is damaged, truncated or too long names no prefix; a lease that has ended
or was released does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from socket import AF_INET6, inet_pton
from struct import Struct, error

from mproutd.model import prefix

SHORTEST_PREFIX = 16
"""Bits, as in planning/netifd.py."""
_FOREVER = 0xFFFFFFFF
_REPLY, _IA_PD, _IA_PREFIX = 7, 25, 26
"""RFC 8415: the message and the options."""
_OPTION = Struct("!HH")
_PREFIX = Struct("!LLB16s")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{};]|[^\s"{};]+')
_DEVICE, _LEASE, _PREFIX_WORD = "interface", "lease6", "iaprefix"


def dhclient_prefixes(text: str, now: float) -> dict[str, tuple[str, ...]]:
    """Device → the prefixes of its last lease in a file of dhclient(8); `now` in epoch seconds."""
    found: dict[str, tuple[str, ...]] = {}
    for statements in _leases(text):
        device, released = "", False
        prefixes: dict[str, None] = {}
        for words in statements:
            if words[0] == _DEVICE:
                device = words[-1].strip('"')
            elif words[0] == "released":
                released = True
            elif words[0] == _PREFIX_WORD:
                _, network, starts, life = words
                known = _checked(network)
                if known and _is_valid(starts, life, now):
                    prefixes[known] = None
        if device:
            found[device] = () if released else tuple(prefixes)
    return {device: known for device, known in found.items() if known}


def _leases(text: str) -> Iterator[list[list[str]]]:
    """The statements of each complete lease6 block: `interface NAME`, `released`, and
    `iaprefix PREFIX STARTS MAX-LIFE`."""
    blocks: list[list[str]] = []
    words: list[str] = []
    statements: list[list[str]] = []
    times: dict[str, str] = {}
    for token in _TOKEN.findall(text):
        if token == "{":
            blocks.append(words)
            if words[:1] == [_LEASE]:
                statements = []
            elif words[:1] == [_PREFIX_WORD]:
                times = {}
            words = []
        elif token == "}":
            head = blocks.pop() if blocks else []
            if head[:1] == [_PREFIX_WORD] and len(head) == 2:
                statements.append([*head, times.get("starts", ""), times.get("max-life", "")])
            elif head[:1] == [_LEASE]:
                yield statements
            words = []
        elif token == ";":
            if blocks and blocks[-1][:1] == [_PREFIX_WORD] and len(words) == 2:
                times[words[0]] = words[1]
            elif words and words[0] != _PREFIX_WORD and blocks and blocks[-1][:1] == [_LEASE]:
                statements.append(words)
            words = []
        else:
            words.append(token)


def _is_valid(starts: str, life: str, now: float) -> bool:
    if not (starts.isdecimal() and life.isdecimal()):
        return False
    return int(life) >= _FOREVER or int(starts) + int(life) > now


def _checked(text: str) -> str:
    """The prefix as the kernel would print it; empty for one that makes no sense."""
    address, _, length = text.partition("/")
    try:
        return _network(inet_pton(AF_INET6, address), int(length))
    except (OSError, ValueError):
        return ""


def _network(address: bytes, length: int) -> str:
    return prefix(address, length, AF_INET6) if SHORTEST_PREFIX <= length <= 128 else ""


def dhcpcd_prefixes(message: bytes, age: float) -> tuple[str, ...]:
    """The prefixes in a reply of a server that dhcpcd(8) wrote to a file `age` seconds ago."""
    if message[:1] != bytes((_REPLY,)):
        return ()
    found: dict[str, None] = {}
    try:
        for kind, body in _options(message, 4):
            if kind != _IA_PD:
                continue
            for inner, data in _options(body, 12):
                if inner == _IA_PREFIX:
                    _, valid, length, address = _PREFIX.unpack_from(data)
                    if valid == _FOREVER or valid > age:
                        found[_network(address, length)] = None
    except error:
        return ()
    found.pop("", None)
    return tuple(found)


def _options(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """struct.error where the data ends within an option."""
    while offset < len(data):
        kind, length = _OPTION.unpack_from(data, offset)
        offset += _OPTION.size
        if offset + length > len(data):
            raise error("truncated")
        yield kind, data[offset : offset + length]
        offset += length
