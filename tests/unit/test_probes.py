"""Probes by themselves: the messages, who is believed, what a web server's first line says."""

from __future__ import annotations

import socket
import struct
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.eventloop import Loop
from mproutd.services.health.icmp import IcmpProber, checksum, reply, request
from mproutd.services.health.probe import ProbePath
from mproutd.services.health.tcp import HttpCheck
from tests.lab import Namespace
from tests.unit.test_imports import loaded

FAMILY = st.sampled_from([AF_INET, AF_INET6])
U16 = st.integers(0, 0xFFFF)


def answered(family: int, packet: bytes) -> bytes:
    """What a host makes of a request: another type (and checksum, which nobody looks at)."""
    return bytes([0 if family == AF_INET else 129]) + packet[1:]


@given(FAMILY, U16, U16, st.binary(max_size=64))
def test_a_request_comes_back_as_its_reply(family: int, ident: int, seq: int, data: bytes) -> None:
    packet = request(family, ident, seq, data)
    assert reply(family, packet, False) is None
    assert reply(family, answered(family, packet), False) == (ident, seq, data)
    header = b"\x46" + bytes(23)  # an IP header of six words
    if family == AF_INET:
        assert reply(family, header + answered(family, packet), True) == (ident, seq, data)
        assert checksum(packet) == 0


@given(FAMILY, st.binary(max_size=60), st.booleans())
def test_whatever_arrives_is_a_reply_or_nothing(family: int, packet: bytes, raw: bool) -> None:
    reply(family, packet, raw)


def test_the_checksum_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"\x01") == ~0x0100 & 0xFFFF


@pytest.mark.parametrize("allowed", [True, False], ids=["ping-sockets", "raw-sockets"])
def test_only_the_first_true_reply_counts(node: Namespace, allowed: bool) -> None:
    """The node answers nothing by itself; replies are forged, and sent by lo."""
    node.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
    node.sysctl("net.ipv4.ping_group_range", "0 2147483647" if allowed else "1 0")
    node.ip("address add 192.0.2.1/32 dev lo", "address add 192.0.2.2/32 dev lo")
    results: list[str] = []
    loop = Loop()
    with node.enter():
        receiver = socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        forger = socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        pings = IcmpProber(loop, ProbePath(AF_INET, "lo", 1, "192.0.2.1"), 32, 9)
    pings.probe("192.0.2.2", "", results.append)
    packet, _ = receiver.recvfrom(2048)
    assert packet[8] == 9  # the TTL
    assert socket.inet_ntoa(packet[12:16]) == "192.0.2.1"
    echo = packet[20:]
    kind, code, _, ident, seq = struct.unpack_from("!BBHHH", echo)
    assert (kind, code, len(echo)) == (8, 0, 8 + 32)

    def forge(source: str, ident: int, seq: int, data: bytes) -> None:
        head = struct.pack("!BBHHH", 0, 0, 0, ident, seq)
        whole = head[:2] + struct.pack("!H", checksum(head + data)) + head[4:] + data
        with node.enter(), socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as made:
            made.bind((source, 0))
            made.sendto(whole, ("192.0.2.1", 0))
        for _ in range(20):
            loop.run_once(0.005)

    data = echo[8:]
    forge("192.0.2.2", ident, seq, bytes(32))  # without the token
    forge("192.0.2.2", ident, seq, data[:-1])  # cut
    forge("192.0.2.2", ident, (seq + 1) & 0xFFFF, data)
    forge("192.0.2.2", ident ^ 1, seq, data)
    forge("192.0.2.1", ident, seq, data)  # from somebody else
    assert results == []
    forge("192.0.2.2", ident, seq, data)
    assert results == [""]
    forge("192.0.2.2", ident, seq, data)  # twice
    assert results == [""]
    stop = pings.probe("192.0.2.2", "", results.append)
    stop()
    assert not pings._pending
    pings.close()
    pings.close()
    for opened in (receiver, forger):
        opened.close()
    loop.close()


@pytest.mark.parametrize(
    ("response", "status", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", None, ""),
        (b"HTTP/1.0 302 Found\r\n", None, ""),
        (b"HTTP/1.1 404 Not Found\r\n", None, "status 404"),
        (b"HTTP/1.1 204 No Content\r\n", 204, ""),
        (b"HTTP/1.1 200 OK\r\n", 204, "status 200"),
        (b"HTTP/1.1 099\r\n", None, "status 99"),
        (b"HTTP/1.1 99999999999999999999999\r\n", None, "status 9999"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None, "no HTTP response"),
        (b"HTTP/1.1", None, "no HTTP response"),
        (b"HTTP/1.1 two\r\n", None, "no HTTP response"),
        (b"\x15\x03\x01\x00\x02\x02", None, "no HTTP response"),
        (b"", None, "no HTTP response"),
    ],
)
def test_the_first_line_of_a_reply(response: bytes, status: int | None, error: str) -> None:
    assert HttpCheck("/", status).error(response) == error


def test_the_request_to_a_web_server() -> None:
    begin = b"GET /x HTTP/1.1\r\nHost: "
    plain = HttpCheck("/x", None)
    assert plain.request("one.example", 80).startswith(begin + b"one.example\r\n")
    assert plain.request("2001:db8::1", 81).startswith(begin + b"[2001:db8::1]:81\r\n")
    secure = HttpCheck("/x", None, lambda: "not yet")
    assert secure.request("192.0.2.1", 443).startswith(begin + b"192.0.2.1\r\n")
    assert (secure.secure, secure.missing()) == (True, "not yet")
    assert plain.missing() == ""


def test_a_daemon_that_checks_nothing_imports_nothing_of_it() -> None:
    assert [
        name for name in loaded("import mproutd.daemon") if "mproutd.services.health" in name
    ] == []


def test_pings_and_names_do_without_ssl() -> None:
    modules = loaded("from mproutd.services.health import checker, icmp, tcp")
    assert not modules & {"ssl", "asyncio", "stringprep", "http"}
