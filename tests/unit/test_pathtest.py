"""The pure parts of `mproutd test`: structs, verdicts, the listener's protocol, words."""

from __future__ import annotations

import json
import struct
from itertools import product
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.netlink import mptcp_info
from mproutd.pathtest import protocol, select, verdict
from mproutd.pathtest.client import result
from mproutd.pathtest.render import result_lines, view_text
from mproutd.pathtest.select import Peer, Source
from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES, SIDES, Evidence, diagnose

VIEW = {
    "version": 1,
    "client": "10.1.1.2:4711",
    "mptcp_enabled": True,
    "syn_mp_capable": True,
    "accepted": "mptcp",
    "mptcp": True,
    "received": 0,
    "pmtu": 1500,
    "mss": 1448,
    "unacked": 0,
}

# -- verdicts -------------------------------------------------------------------------------

GOOD = Evidence(
    synack_mp_capable=True, mptcp=True, acked=True, intact=True, full_size=True, listener=VIEW
)
PLAIN = Evidence(synack_mp_capable=False, mptcp=False, acked=True)
TCP = VIEW | {"accepted": "tcp", "mptcp": False}


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (GOOD, "works"),
        (Evidence(synack_mp_capable=True, mptcp=True, acked=True), "works"),
        (Evidence(synack_mp_capable=True, mptcp=True, acked=False), "timeout"),
        (Evidence(local="unsupported"), "local-unsupported"),
        (Evidence(local="disabled"), "local-disabled"),
        (PLAIN._replace(local="paused"), "local-paused"),
        (PLAIN, "not-negotiated"),
        (PLAIN._replace(listener=TCP | {"mptcp_enabled": False}), "peer-disabled"),
        (PLAIN._replace(listener=TCP | {"syn_mp_capable": False}), "syn-stripped"),
        (PLAIN._replace(listener=TCP | {"syn_mp_capable": True}), "synack-stripped"),
        (PLAIN._replace(listener=TCP | {"syn_mp_capable": None}), "handshake-stripped"),
        (PLAIN._replace(synack_mp_capable=True, listener=TCP), "ack-stripped"),
        (PLAIN._replace(synack_mp_capable=True, listener=VIEW | {"mptcp": False}), "data-stripped"),
        (PLAIN._replace(synack_mp_capable=True), "data-stripped"),
        (Evidence(failed="no-answer", plain_tcp=False), "no-answer"),
        (Evidence(failed="no-answer", plain_tcp=True), "syn-dropped"),
        (Evidence(failed="refused", plain_tcp=False), "refused"),
        (Evidence(failed="refused", plain_tcp=True), "syn-refused"),
        (Evidence(failed="no-route"), "no-route"),
        (Evidence(synack_mp_capable=True, mptcp=True, acked=False, plain_tcp=True), "data-dropped"),
        (Evidence(synack_mp_capable=True, mptcp=True, acked=False, plain_tcp=False), "no-data"),
        (GOOD._replace(intact=False), "data-modified"),
        (GOOD._replace(intact=False, mptcp=False), "data-modified"),
        (GOOD._replace(full_size=False, plain_full_size=True), "data-dropped"),
        (GOOD._replace(full_size=False, plain_full_size=False), "pmtu-blackhole"),
        (GOOD._replace(full_size=False), "timeout"),
    ],
)
def test_the_verdict(evidence: Evidence, code: str) -> None:
    assert diagnose(evidence) == code


def test_every_evidence_has_a_verdict_with_an_explanation() -> None:
    three = (None, True, False)
    for failed, local, listener in product(
        ("", "refused", "no-answer", "no-route"), ("", "disabled", "paused"), (None, VIEW, TCP)
    ):
        for flags in product(three, repeat=5):
            synack, mptcp, acked, plain, full = flags
            evidence = Evidence(
                local, failed, synack, mptcp, acked, full, full, plain, full, listener
            )
            assert diagnose(evidence) in EXPLANATIONS


def test_each_code_has_its_side_its_remedy_and_its_exit_status() -> None:
    sided = [code for codes in SIDES.values() for code in codes]
    assert len(sided) == len(set(sided))
    assert EXPLANATIONS.keys() - REMEDIES.keys() == {"works"}
    assert REMEDIES.keys() <= EXPLANATIONS.keys()
    for code in EXPLANATIONS:
        lost = verdict.exit_status(code) == verdict.LOST
        assert lost == (verdict.side(code) is not None), code


# -- structs --------------------------------------------------------------------------------


def info_bytes(flags: int, written: int = 7, acked: int = 7, checksums: int = 0) -> bytes:
    head = struct.pack("=6B2xIIQQQ", 0, 0, 0, 2, 0, 0, flags, 0xABCD, written, acked, 9)
    return head + struct.pack("=BBB5x", 0, 0, checksums)


def test_an_mptcp_socket() -> None:
    info = mptcp_info.parse_mptcp_info(info_bytes(2, written=17, acked=7, checksums=1))
    assert (info.fallback, info.key_received, info.checksums) == (False, True, True)
    assert (info.token, info.unacked, info.max_extra_subflows) == (0xABCD, 10, 2)
    assert (info.bytes_sent, info.bytes_received) == (None, None)
    assert mptcp_info.parse_mptcp_info(info_bytes(1)).fallback
    wrapped = info_bytes(2, written=3, acked=(1 << 64) - 2)
    assert mptcp_info.parse_mptcp_info(wrapped).unacked == 5
    assert mptcp_info.parse_mptcp_info(b"") == mptcp_info.MptcpInfo()
    counts = bytes(8) + struct.pack("=QQ", 6000, 600)
    assert mptcp_info.parse_mptcp_info(info_bytes(2) + counts[:16])[-2:] == (6000, None)
    assert mptcp_info.parse_mptcp_info(info_bytes(2) + counts + b"more")[-2:] == (6000, 600)


def test_a_tcp_socket() -> None:
    data = bytearray(248)
    for offset, value in ((16, 1448), (24, 3), (60, 1500), (68, 12_500), (100, 4)):
        struct.pack_into("=I", data, offset, value)
    struct.pack_into("=Q", data, 128, 12_000)
    struct.pack_into("=Q", data, 200, 6_000)
    whole = mptcp_info.TcpInfo(1448, 1500, 12.5, 3, 12_000, 6_000, 4)
    assert mptcp_info.parse_tcp_info(bytes(data)) == whole
    short = mptcp_info.parse_tcp_info(bytes(data[:100]))
    assert short == whole._replace(received=None, sent=None, retransmitted=None)
    assert mptcp_info.parse_tcp_info(b"") == mptcp_info.NO_TCP_INFO


def storage(address: str) -> bytes:
    if ":" in address:
        text = struct.pack("=HHI", AF_INET6, 0, 0) + inet_pton(AF_INET6, address)
    else:
        text = struct.pack("=HH", AF_INET, 0) + inet_pton(AF_INET, address)
    return text.ljust(128, b"\0")


def test_which_subflows_stand() -> None:
    ends = [("10.1.1.2", "10.9.9.9"), ("10.2.2.2", "10.9.9.9"), ("2001:db8::1", "2001:db8::2")]
    addresses = struct.pack("=IIII", 16, 3, 256, 256)
    addresses += b"".join(storage(own) + storage(peer) for own, peer in ends)
    states = struct.pack("=IIII", 16, 3, 280, 104)
    states += b"".join(bytes([state]).ljust(104, b"\0") for state in (1, 2, 1))
    assert mptcp_info.parse_subflows(states, addresses) == [ends[0], ends[2]]
    assert mptcp_info.parse_subflows(b"", b"") == []
    assert mptcp_info.parse_subflows(states, addresses[:300]) == [ends[0]]
    sizeless = struct.pack("=IIII", 16, 1, 0, 0)
    assert mptcp_info.parse_subflows(sizeless, sizeless) == []
    nowhere = struct.pack("=IIII", 16, 1, 256, 256) + bytes(256)
    assert mptcp_info.parse_subflows(states, nowhere) == [("", "")]


def test_what_getsockopt_is_given_to_fill() -> None:
    for option, size in ((mptcp_info.MPTCP_TCPINFO, 104), (mptcp_info.MPTCP_SUBFLOW_ADDRS, 256)):
        request = mptcp_info.subflow_request(option, 2)
        assert struct.unpack_from("=IIII", request) == (16, 0, 0, size)
        assert len(request) == 16 + 2 * size


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_reply_of_a_kernel_is_an_error(one: bytes, two: bytes) -> None:
    mptcp_info.parse_mptcp_info(one)
    mptcp_info.parse_tcp_info(one)
    head = struct.pack("=IIII", 16, 2, 256, 128)
    mptcp_info.parse_subflows(head + one, head + two)


def test_what_was_counted() -> None:
    text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: MPFailTx MPFailRx\nMPTcpExt: {} 4\n"
    before, after = (mptcp_info.parse_counters(text.format(number)) for number in (1, 3))
    assert mptcp_info.counter_increase(before, after) == {"MPFailTx": 2}
    assert mptcp_info.parse_counters("TcpExt: A\nTcpExt: 1\n") == {}
    assert mptcp_info.parse_counters("MPTcpExt: A\n") == {}


# -- the listener's protocol ------------------------------------------------------------------


def new_session() -> protocol.Session:
    return protocol.Session(lambda received: VIEW | {"received": received})


def test_a_test_as_the_listener_has_it() -> None:
    session = new_session()
    reply = session.receive(protocol.HELLO)
    assert protocol.parse_view(reply.data) == VIEW
    assert session.receive(b"echo 10\n12345") == (b"12345", False)
    assert session.receive(b"67890" + protocol.STATUS[:4]) == (b"67890", False)
    assert protocol.parse_view(session.receive(b"us\n").data) == VIEW | {"received": 10}
    assert not session.reportable
    session.receive(protocol.REPORT)
    assert session.reportable
    assert session.last_view["received"] == 10


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\n",
        b"x" * 65,
        protocol.HELLO + b"echo 9999999\n",
        protocol.HELLO + b"echo " + b"9" * 90 + b"\n",
        protocol.HELLO + b"echo -1\n",
        protocol.HELLO + b"quit\n",
        protocol.HELLO + protocol.HELLO,
        protocol.HELLO + protocol.STATUS * protocol.MAX_LINES,
    ],
)
def test_who_breaks_a_rule_gets_nothing_and_is_cut_off(line: bytes) -> None:
    assert new_session().receive(line) == (b"", True)


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_it_sends_little_to_whatever_a_stranger_sends(pieces: list[bytes], hello: bool) -> None:
    session, sent = new_session(), 0
    for piece in [protocol.HELLO] * hello + pieces:
        reply = session.receive(piece)
        sent += len(reply.data)
        if reply.disconnect:
            break
    assert sent <= sum(map(len, pieces)) + protocol.MAX_LINES * protocol.MAX_VIEW_BYTES


def test_no_more_than_so_many_bytes() -> None:
    session = new_session()
    session.receive(protocol.HELLO)
    for _ in range(protocol.MAX_ECHO_BYTES // (64 << 10)):
        assert not session.receive(protocol.echo(64 << 10) + bytes(64 << 10)).disconnect
    assert session.receive(protocol.echo(1)).disconnect


@given(st.binary(max_size=300))
def test_a_log_line_of_another_program_is_ignored(line: bytes) -> None:
    assert protocol.parse_view(line) is None


def test_a_line_that_is_too_long_is_not_even_read() -> None:
    padded = json.dumps(VIEW).ljust(protocol.MAX_VIEW_BYTES).encode()
    assert protocol.parse_view(padded) == VIEW
    assert protocol.parse_view(padded + b" ") is None


@pytest.mark.parametrize("name", VIEW)
def test_a_line_of_ours_must_be_whole(name: str) -> None:
    assert protocol.parse_view(json.dumps(VIEW).encode()) == VIEW
    assert protocol.parse_view(json.dumps(VIEW | {"more": 1}).encode()) == VIEW
    assert protocol.parse_view(json.dumps(VIEW | {name: []}).encode()) is None
    assert (
        protocol.parse_view(json.dumps({k: v for k, v in VIEW.items() if k != name}).encode())
        is None
    )


# -- source and peer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "require_host", "parsed"),
    [
        ("h:80", True, ("h", 80)),
        ("[2001:db8::1]:80", True, ("2001:db8::1", 80)),
        ("80", False, ("", 80)),
        ("[::1]:80", False, ("::1", 80)),
        ("127.0.0.1:80", False, ("127.0.0.1", 80)),
    ],
)
def test_host_and_port(text: str, require_host: bool, parsed: tuple[str, int]) -> None:
    assert select.parse_host_port(text, require_host) == parsed


@pytest.mark.parametrize("text", ["", "h", "80", ":80", "h:", "h:0", "h:65536", "h:²", "::1:80"])
def test_a_broken_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        select.parse_host_port(text)


def family(name: str, addresses: list[str], reason: str | None = None) -> dict[str, Any]:
    return {
        "family": name,
        "addresses": addresses,
        "sources": addresses,
        "reason": reason,
        "text": f"because {reason}",
    }


def test_where_a_test_begins() -> None:
    both = {
        "name": "wan1",
        "device": "eth1",
        "families": [
            family("ipv4", ["10.1.1.2"]),
            family("ipv6", ["2001:db8:1::2"], "check-failed"),
        ],
    }
    four, six = Source("wan1", "eth1", "10.1.1.2"), Source("wan1", "eth1", "2001:db8:1::2")
    assert select.sources(both) == ([four, six], "")
    assert select.sources(both, "ipv6") == ([six], "")
    assert select.match([four, six], [Peer("2001:db8::9", 1), Peer("10.9.9.9", 1)]) == (
        six,
        Peer("2001:db8::9", 1),
    )
    assert select.match([four], [Peer("2001:db8::9", 1)]) is None
    out = {**both, "families": [family("ipv4", ["10.1.1.2"], "no-carrier"), family("ipv6", [])]}
    assert select.sources(out) == ([], "because no-carrier")


def test_where_to_listen_needs_a_port_but_no_address_and_no_empty_one() -> None:
    assert select.parse_host_port("80", False) == ("", 80)
    with pytest.raises(ValueError, match="address"):
        select.parse_host_port(":80", False)


def test_whose_an_address_is_and_which_uplinks_could_join() -> None:
    def ends(address: str, found: bool = True, flags: str = "subflow") -> dict[str, Any]:
        return {"address": address, "actual": found or None, "flags": [flags]}

    status = {
        "uplinks": [
            {
                "name": name,
                "families": [family("ipv4", [f"10.{n}.1.2"]), family("ipv6", [])],
                "endpoints": sources,
            }
            for n, (name, sources) in enumerate(
                {
                    "wan1": [ends("10.1.1.2")],
                    "wan2": [ends("10.2.1.2"), ends("2001:db8::1")],
                    "wan3": [ends("10.3.1.2", found=False)],
                    "wan4": [ends("10.4.1.2", flags="signal")],
                    "wan5": [ends("2001:db8::5")],
                }.items(),
                1,
            )
        ]
    }
    assert select.joinable_uplinks(status, Source("wan1", "eth1", "10.1.1.2")) == ["wan2"]
    assert select.joinable_uplinks(status, Source("wan1", "eth1", "2001:db8::9")) == [
        "wan2",
        "wan5",
    ]
    assert select.uplink_of(status, "10.2.1.2") == "wan2"
    assert select.uplink_of(status, "10.9.9.9") is None


# -- text -----------------------------------------------------------------------------------

ENDS = Source("wan1", "eth1", "10.1.1.2"), Peer("10.9.9.9", 80)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_every_verdict_as_text(code: str) -> None:
    ends = ENDS[0], Peer("2001:db8::9", 80)
    facts = {"listener": VIEW, "connect_ms": 1.0, "local": "10.1.1.2:1", "checksums": True}
    for shown in (result(*ends, code), result(*ends, code, echoed=12, **facts)):
        lines = result_lines(shown)
        assert lines[0].startswith("wan1 (eth1) to [2001:db8::9]:80: ")
        assert EXPLANATIONS[code] in " ".join(" ".join(lines).split())
        assert max(map(len, lines)) <= 80
        assert ("→" in " ".join(lines)) == (code in REMEDIES)


def test_a_stranger_cannot_send_escape_sequences_to_a_terminal() -> None:
    view = VIEW | {"client": "\x1b[2J\nmproutd: all is well"}
    assert "\x1b" not in view_text(view)
    shown = result(None, None, "works", uplink="w", device="d", listener=view)
    assert not any("\x1b" in line or "\n" in line for line in result_lines(shown))


MTU = {"device": 1500, "forward": 1500, "reverse": None, "mss": None, "verified": True}
CONNECTED = {"connect_ms": 12.34, "local": "10.1.1.2:1"}
NO_LISTENER = ["no mproutd listener"]


@pytest.mark.parametrize(
    ("code", "fields", "facts"),
    [
        ("local-disabled", {}, []),
        ("no-route", {"error": "Network is unreachable"}, [["Network is unreachable"]]),
        ("works", CONNECTED, [["10.1.1.2:1", "12.3 ms"], NO_LISTENER]),
        (
            "works",
            CONNECTED | {"first_byte_ms": 20.0},
            [["10.1.1.2:1", "12.3 ms", "20.0 ms"], NO_LISTENER],
        ),
        ("works", {"echoed": 9}, [["9 bytes", "unchanged"]]),
        (
            "data-modified",
            {"echoed": 9, "checksums": True},
            [["9 bytes", "modified"], ["detected by MPTCP checksums"]],
        ),
        ("data-modified", {}, [["undetected", "net.mptcp.checksum_enabled"]]),
        ("works", {"listener": VIEW}, [["full-size"], ["10.1.1.2:4711", "MPTCP"]]),
        ("works", {"mtu": MTU}, [["1500", "verified"]]),
        (
            "works",
            {"mtu": MTU | {"forward": 1400, "reverse": 1300, "verified": False}},
            [["1400", "1300", "kernel", "1500"]],
        ),
        (
            "works",
            {
                "joins": {
                    "expected": ["wan2", "wan3"],
                    "found": [
                        {"uplink": "wan2", "local": "10.2.2.2"},
                        {"uplink": None, "local": "10.7.7.7"},
                    ],
                }
            },
            [["joined", "wan2"], ["joined", "10.7.7.7"], ["no subflow", "wan3"]],
        ),
    ],
)
def test_the_facts_behind_a_verdict(
    code: str, fields: dict[str, Any], facts: list[list[str]]
) -> None:
    """One entry for each fact, with its values in this order, and nothing else."""
    lines = result_lines(result(*ENDS, code, **fields))
    bullets = [line for line in lines if line.startswith("    ") and line[4] not in " →"]
    assert len(bullets) == len(facts)
    text = " ".join(" ".join(lines).split()).split(EXPLANATIONS[code])[1]
    for value in (value for fact in facts for value in fact):
        assert value in text
        text = text.partition(value)[2]


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ({}, "MPTCP"),
        ({"mptcp": False}, "MPTCP in the handshake, plain TCP afterwards"),
        ({"mptcp_enabled": False}, "plain TCP, MPTCP is disabled on the listener"),
        ({"accepted": "tcp", "syn_mp_capable": None}, "plain TCP"),
        ({"accepted": "tcp"}, "plain TCP after a SYN with MP_CAPABLE"),
        ({"accepted": "tcp", "syn_mp_capable": False}, "plain TCP, no MP_CAPABLE in the SYN"),
    ],
)
def test_the_view_of_a_listener_as_text(view: dict[str, Any], text: str) -> None:
    assert view_text(VIEW | view) == f"10.1.1.2:4711: {text}; 0 bytes echoed"
