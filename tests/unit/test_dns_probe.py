"""Probes by DNS: what counts as a reply, and by which way it comes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from socket import AF_INET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import ConfigError
from mproutd.eventloop import Loop
from mproutd.services.health import dns_message
from mproutd.services.health.dns import DnsProber
from mproutd.services.health.probe import ProbePath
from tests.lab import Namespace
from tests.lab.fake_world import interface, uci

ROOT = b"\0\0\2\0\1"
HEADER = b"\x12\x34\x81\x80\0\1\0\0\0\0\0\0"
OWN, PEER = "192.0.2.1", "192.0.2.2"


def test_a_query() -> None:
    assert dns_message.question(".") == ROOT
    asked = dns_message.question("www.Example.org.")
    assert asked == b"\3www\7Example\3org\0\0\1\0\1"
    assert dns_message.query(0x1234, asked) == b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + asked


@pytest.mark.parametrize(
    ("message", "good"),
    [
        (HEADER + ROOT, True),
        (HEADER + ROOT + b"rest", True),
        (HEADER[:-1], False),
        (b"\x12\x35" + HEADER[2:] + ROOT, False),
        (b"\x12\x34\x01\x00" + HEADER[4:] + ROOT, False),  # a query
        (b"\x12\x34\x91\x80" + HEADER[4:] + ROOT, False),  # a status request
        (HEADER + b"\0\0\1\0\1", False),  # another type
        (HEADER[:5] + b"\2" + HEADER[6:] + ROOT, False),
        (HEADER[:4] + bytes(8), False),  # no question, and no error
        (b"\x12\x34\x81\x85" + bytes(8), True),  # no question: REFUSED
    ],
)
def test_which_message_is_a_reply(message: bytes, good: bool) -> None:
    assert dns_message.is_reply(message, 0x1234, ROOT) == good


def test_case_of_a_name_does_not_matter() -> None:
    asked, replied = dns_message.question("a.test"), dns_message.question("A.tESt")
    assert dns_message.is_reply(HEADER + replied, 0x1234, asked)


@pytest.mark.parametrize(
    ("code", "error"), [(0, ""), (3, ""), (2, "SERVFAIL"), (5, "REFUSED"), (9, "code 9")]
)
def test_which_codes_fail(code: int, error: str) -> None:
    reply = HEADER[:3] + bytes([0x80 | code]) + HEADER[4:] + ROOT
    assert dns_message.error(reply) == error
    assert not dns_message.is_truncated(reply)


@given(st.binary(max_size=40), st.integers(0, 0xFFFF))
def test_whatever_arrives_is_a_reply_or_nothing(message: bytes, identifier: int) -> None:
    dns_message.is_reply(message, identifier, ROOT)


@pytest.mark.parametrize("name", ["www.example.org", "example.org.", ".", "_sip._tcp.example.org"])
def test_names_to_ask_for(name: str) -> None:
    health = check(f" option track_name '{name}'\n")
    assert health is not None
    assert (health.track_name, health.port) == (name, 53)
    dns_message.question(health.track_name)


@pytest.mark.parametrize("name", ["a..b", "10.1.1.1", "-a.example", "a b", "x" * 64])
def test_no_names(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a domain name"):
        check(f" option track_name '{name}'\n")


def check(options: str) -> object:
    own = f"config uplink 'wan1'\n list track_ip '9.9.9.9'\n option track_method 'dns'\n{options}"
    return uci(interface("wan1", "eth1", "master"), own).uplinks[0].health


# -- with sockets -------------------------------------------------------------------------


class Site:
    """A resolver on 192.0.2.2 of a node, and a prober on 192.0.2.1."""

    def __init__(self, node: Namespace) -> None:
        node.ip(f"address add {OWN}/32 dev lo", f"address add {PEER}/32 dev lo")
        self.node, self.loop, self.results = node, Loop(), list[str]()
        with node.enter():
            self.udp = socket.socket(AF_INET, socket.SOCK_DGRAM)
            self.tcp = socket.create_server((PEER, 53))
        self.udp.bind((PEER, 53))
        self.udp.settimeout(20)
        self.tcp.settimeout(20)
        self.prober = DnsProber(self.loop, ProbePath(AF_INET, "lo", 1, OWN), 53, 9, ".")

    def ask(self) -> Callable[[], None]:
        with self.node.enter():
            return self.prober.probe(PEER, PEER, self.results.append)

    def turn(self, times: int = 20) -> None:
        for _ in range(times):
            with self.node.enter():
                self.loop.run_once(0.005)

    def until_result(self) -> str:
        for _ in range(4000):
            self.turn(1)
            if self.results:
                return self.results.pop()
        raise AssertionError("no result")

    def close(self) -> None:
        self.prober.close()
        self.udp.close()
        self.tcp.close()
        self.loop.close()


@pytest.fixture
def site(node: Namespace) -> Iterator[Site]:
    made = Site(node)
    yield made
    made.close()


def reply(query: bytes, flags: bytes = b"\x81\x80") -> bytes:
    return query[:2] + flags + query[4:]


def test_a_reply_from_where_it_was_asked(site: Site) -> None:
    stop = site.ask()
    query, sender = site.udp.recvfrom(600)
    assert sender[0] == OWN
    with site.node.enter(), socket.socket(AF_INET, socket.SOCK_DGRAM) as forger:
        forger.bind((PEER, 0))
        forger.sendto(reply(query), sender)  # from another port
    site.udp.sendto(b"\0\0" + reply(query)[2:], sender)  # another identifier
    site.turn()
    assert site.results == []
    site.udp.sendto(reply(query), sender)
    assert site.until_result() == ""
    stop()
    assert not site.prober.queries


def test_an_error_fails(site: Site) -> None:
    site.ask()
    query, sender = site.udp.recvfrom(600)
    site.udp.sendto(reply(query, b"\x81\x85"), sender)
    assert site.until_result() == "REFUSED"


def test_nobody_listens(site: Site) -> None:
    site.udp.close()
    site.ask()
    assert site.until_result() == "connection refused"


def test_no_route_counts_as_lost(site: Site) -> None:
    with site.node.enter():
        site.prober.probe("198.51.100.1", "", site.results.append)()
    site.turn(3)
    assert site.results == []


def test_an_address_that_is_not_there_was_not_sent(site: Site) -> None:
    prober = DnsProber(site.loop, ProbePath(AF_INET, "lo", 1, "192.0.2.9"), 53, 9, ".")
    with site.node.enter(), pytest.raises(OSError, match="assign"):
        prober.probe(PEER, "", site.results.append)


def truncated(site: Site) -> socket.socket:
    """The connection by which a query comes again; its query is read."""
    site.ask()
    query, sender = site.udp.recvfrom(600)
    site.udp.sendto(reply(query, b"\x83\x80"), sender)
    site.turn()
    connection, sender = site.tcp.accept()
    assert sender[0] == OWN
    site.turn()
    assert connection.recv(600) == len(query).to_bytes(2, "big") + query
    return connection


def test_a_truncated_reply_is_asked_for_by_tcp(site: Site) -> None:
    with truncated(site) as connection:
        answer = reply(next(iter(site.prober.queries))._message) + bytes(3000)
        whole = len(answer).to_bytes(2, "big") + answer
        connection.sendall(whole[:1])
        site.turn()
        connection.sendall(whole[1:700])
        site.turn()
        assert site.results == []
        connection.sendall(whole[700:])
        assert site.until_result() == ""


def test_by_tcp_another_reply_fails(site: Site) -> None:
    with truncated(site) as connection:
        connection.sendall(b"\0\3abc")
        assert site.until_result() == "no reply to the query"


def test_a_connection_that_ends_fails(site: Site) -> None:
    truncated(site).close()
    assert site.until_result() == "the connection was closed"


def test_without_tcp_it_fails(site: Site) -> None:
    site.tcp.close()
    site.ask()
    query, sender = site.udp.recvfrom(600)
    site.udp.sendto(reply(query, b"\x83\x80"), sender)
    assert site.until_result() == "connection refused"
