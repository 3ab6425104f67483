"""Probes by themselves: the messages, who is believed, what a web server's first line says."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.eventloop import Loop, Worker
from mproutd.services.health.icmp import IcmpProber, checksum, reply, request
from mproutd.services.health.probe import ProbePath
from mproutd.services.health.tcp import Web
from mproutd.services.health.timers import Timers
from tests.lab import Namespace, eventually
from tests.unit.test_imports import loaded
from tests.unit.test_pacing import Clock

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
    told: list[str] = []
    loop = Loop()
    with node.enter():
        ear = socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        forger = socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        pings = IcmpProber(loop, ProbePath(AF_INET, "lo", 1, "192.0.2.1"), 32, 9)
    pings.ask("192.0.2.2", "", told.append)
    packet, _ = ear.recvfrom(2048)
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
    assert told == []
    forge("192.0.2.2", ident, seq, data)
    assert told == [""]
    forge("192.0.2.2", ident, seq, data)  # twice
    assert told == [""]
    stop = pings.ask("192.0.2.2", "", told.append)
    stop()
    assert not pings._asked
    pings.close()
    pings.close()
    for each in (ear, forger):
        each.close()
    loop.close()


@pytest.mark.parametrize(
    ("answer", "status", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", None, ""),
        (b"HTTP/1.0 302 Found\r\n", None, ""),
        (b"HTTP/1.1 404 Not Found\r\n", None, "status 404"),
        (b"HTTP/1.1 204 No Content\r\n", 204, ""),
        (b"HTTP/1.1 200 OK\r\n", 204, "status 200"),
        (b"HTTP/1.1 099\r\n", None, "status 99"),
        (b"HTTP/1.1 99999999999999999999999\r\n", None, "status 9999"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None, "no HTTP answer"),
        (b"HTTP/1.1", None, "no HTTP answer"),
        (b"HTTP/1.1 two\r\n", None, "no HTTP answer"),
        (b"\x15\x03\x01\x00\x02\x02", None, "no HTTP answer"),
        (b"", None, "no HTTP answer"),
    ],
)
def test_the_first_line_of_an_answer(answer: bytes, status: int | None, fault: str) -> None:
    assert Web("/", status).fault(answer) == fault


def test_what_a_web_server_is_asked() -> None:
    begin = b"GET /x HTTP/1.1\r\nHost: "
    assert Web("/x", None).request("one.example", 80).startswith(begin + b"one.example\r\n")
    assert Web("/x", None).request("2001:db8::1", 81).startswith(begin + b"[2001:db8::1]:81\r\n")
    secure = Web("/x", None, lambda: "not yet")
    assert secure.request("192.0.2.1", 443).startswith(begin + b"192.0.2.1\r\n")
    assert (secure.secure, secure.lacking()) == (True, "not yet")
    assert Web("/x", None).lacking() == ""


def test_timers_fire_in_order_and_only_once() -> None:
    clock, told = Clock(), []
    timers = Timers(clock)

    def say(word: str) -> Callable[[], None]:
        return lambda: told.append(word)

    timers.later(2, say("second"))
    timers.later(1, say("first"))
    cancelled = timers.later(0.5, say("never"))
    cancelled.cancel()
    assert timers.due() == 1
    clock.now += 1
    timers.turn()
    assert told == ["first"]
    timers.later(0, lambda: timers.later(0, say("third")))
    clock.now += 1
    timers.turn()
    assert told == ["first", "second"]
    timers.turn()
    assert told == ["first", "second", "third"]
    assert timers.due() is None


def test_a_daemon_that_checks_nothing_imports_nothing_of_it() -> None:
    assert [
        name for name in loaded("import mproutd.daemon") if "mproutd.services.health" in name
    ] == []


def test_pings_and_names_do_without_ssl() -> None:
    modules = loaded("from mproutd.services.health import checker, icmp, tcp")
    assert not modules & {"ssl", "asyncio", "stringprep", "http"}


def test_the_thread_tells_in_the_loop_and_holds_nobody_up() -> None:
    loop, told = Loop(), []
    worker = Worker(loop)
    worker.submit(lambda: 7, lambda result, error: told.append((result, error)))
    worker.submit(lambda: os.stat("/nowhere"), lambda result, error: told.append((result, error)))
    eventually(lambda: loop.run_once(0.01) or len(told) == 2)
    assert told == [(7, ""), (None, "No such file or directory")]
    worker.submit(lambda: time.sleep(1), lambda result, error: told.append((result, error)))
    begun = time.monotonic()
    worker.close()
    assert time.monotonic() - begun < 0.5
    loop.close()
