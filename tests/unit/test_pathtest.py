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
from mproutd.pathtest.render import result_lines, seen_line
from mproutd.pathtest.select import Peer, Source
from mproutd.pathtest.verdict import EXPLANATIONS, REMEDIES, SIDES, Evidence, diagnose

STATUS = {
    "version": 1,
    "client": "10.1.1.2:4711",
    "mptcp": True,
    "asked": True,
    "accepted": "mptcp",
    "kept": True,
    "received": 0,
    "path_mtu": 1500,
    "segment": 1448,
    "unacked": 0,
}

# -- verdicts -------------------------------------------------------------------------------

GOOD = Evidence(offered=True, kept=True, acked=True, same=True, big=True, peer=STATUS)
PLAIN = Evidence(offered=False, kept=False, acked=True)
TCP = STATUS | {"accepted": "tcp", "kept": False}


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (GOOD, "works"),
        (Evidence(offered=True, kept=True, acked=True), "works"),
        (Evidence(offered=True, kept=True, acked=False), "no-time"),
        (Evidence(own="off"), "own-off"),
        (PLAIN._replace(own="paused"), "own-paused"),
        (PLAIN, "not-offered"),
        (PLAIN._replace(peer=TCP | {"mptcp": False}), "peer-off"),
        (PLAIN._replace(peer=TCP | {"asked": False}), "syn-stripped"),
        (PLAIN._replace(peer=TCP | {"asked": True}), "answer-stripped"),
        (PLAIN._replace(peer=TCP | {"asked": None}), "handshake-stripped"),
        (PLAIN._replace(offered=True, peer=TCP), "ack-stripped"),
        (PLAIN._replace(offered=True, peer=STATUS | {"kept": False}), "data-stripped"),
        (PLAIN._replace(offered=True), "data-stripped"),
        (Evidence(failed="no-answer", plain=False), "no-answer"),
        (Evidence(failed="no-answer", plain=True), "syn-dropped"),
        (Evidence(failed="refused", plain=False), "refused"),
        (Evidence(failed="refused", plain=True), "syn-refused"),
        (Evidence(failed="no-route"), "no-route"),
        (Evidence(offered=True, kept=True, acked=False, plain=True), "data-dropped"),
        (Evidence(offered=True, kept=True, acked=False, plain=False), "no-data"),
        (GOOD._replace(same=False), "changed"),
        (GOOD._replace(same=False, kept=False), "changed"),
        (GOOD._replace(big=False, plain_big=True), "data-dropped"),
        (GOOD._replace(big=False, plain_big=False), "big-lost"),
        (GOOD._replace(big=False), "no-time"),
    ],
)
def test_the_verdict(evidence: Evidence, code: str) -> None:
    assert diagnose(evidence) == code


def test_every_view_has_a_verdict_that_can_be_told() -> None:
    three = (None, True, False)
    for failed, own, peer in product(
        ("", "refused", "no-answer", "no-route"), ("", "off", "paused"), (None, STATUS, TCP)
    ):
        for flags in product(three, repeat=5):
            offered, kept, acked, plain, big = flags
            evidence = Evidence(own, failed, offered, kept, acked, big, big, plain, big, peer)
            assert diagnose(evidence) in EXPLANATIONS


def test_each_code_has_its_side_its_advice_and_its_exit_status() -> None:
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
        asked = mptcp_info.subflow_request(option, 2)
        assert struct.unpack_from("=IIII", asked) == (16, 0, 0, size)
        assert len(asked) == 16 + 2 * size


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_nothing_that_a_kernel_says_is_an_error(one: bytes, two: bytes) -> None:
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


def session() -> protocol.Session:
    return protocol.Session(lambda received: STATUS | {"received": received})


def test_a_test_as_the_listener_has_it() -> None:
    client = session()
    turn = client.take(protocol.HELLO)
    assert protocol.read(turn.send) == STATUS
    assert client.take(b"echo 10\n12345") == (b"12345", False)
    assert client.take(b"67890" + protocol.STATUS[:2]) == (b"67890", False)
    assert protocol.read(client.take(b"en\n").send) == STATUS | {"received": 10}
    assert not client.told
    client.take(protocol.REPORT)
    assert client.told
    assert client.seen["received"] == 10


@pytest.mark.parametrize(
    "said",
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
def test_who_breaks_a_rule_gets_nothing_and_is_cut_off(said: bytes) -> None:
    assert session().take(said) == (b"", True)


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_it_sends_little_to_whatever_a_stranger_sends(pieces: list[bytes], polite: bool) -> None:
    client, sent = session(), 0
    for piece in [protocol.HELLO] * polite + pieces:
        turn = client.take(piece)
        sent += len(turn.send)
        if turn.broken:
            break
    assert sent <= sum(map(len, pieces)) + protocol.MAX_LINES * protocol.MAX_STATUS_BYTES


def test_no_more_than_so_many_bytes() -> None:
    client = session()
    client.take(protocol.HELLO)
    for _ in range(protocol.MAX_ECHO_BYTES // (64 << 10)):
        assert not client.take(protocol.echo(64 << 10) + bytes(64 << 10)).broken
    assert client.take(protocol.echo(1)).broken


@given(st.binary(max_size=300))
def test_a_line_of_somebody_else_is_none_of_ours(line: bytes) -> None:
    assert protocol.read(line) is None


def test_a_line_that_is_too_long_is_not_even_read() -> None:
    padded = json.dumps(STATUS).ljust(protocol.MAX_STATUS_BYTES).encode()
    assert protocol.read(padded) == STATUS
    assert protocol.read(padded + b" ") is None


@pytest.mark.parametrize("name", STATUS)
def test_a_line_of_ours_must_be_whole(name: str) -> None:
    assert protocol.read(json.dumps(STATUS).encode()) == STATUS
    assert protocol.read(json.dumps(STATUS | {"more": 1}).encode()) == STATUS
    assert protocol.read(json.dumps(STATUS | {name: []}).encode()) is None
    assert (
        protocol.read(json.dumps({k: v for k, v in STATUS.items() if k != name}).encode()) is None
    )


# -- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "found"),
    [
        ("h:80", True, ("h", 80)),
        ("[2001:db8::1]:80", True, ("2001:db8::1", 80)),
        ("80", False, ("", 80)),
        ("[::1]:80", False, ("::1", 80)),
        ("127.0.0.1:80", False, ("127.0.0.1", 80)),
    ],
)
def test_a_place_in_words(text: str, host: bool, found: tuple[str, int]) -> None:
    assert select.endpoint(text, host) == found


@pytest.mark.parametrize("text", ["", "h", "80", ":80", "h:", "h:0", "h:65536", "h:²", "::1:80"])
def test_a_place_in_wrong_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        select.endpoint(text)


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
    assert select.endpoint("80", False) == ("", 80)
    with pytest.raises(ValueError, match="it has no address"):
        select.endpoint(":80", False)


def test_whose_an_address_is_and_who_could_join() -> None:
    def ends(address: str, found: bool = True, flags: str = "subflow") -> dict[str, Any]:
        return {"address": address, "actual": found or None, "flags": [flags]}

    status = {
        "uplinks": [
            {
                "name": name,
                "families": [family("ipv4", [f"10.{n}.1.2"]), family("ipv6", [])],
                "endpoints": each,
            }
            for n, (name, each) in enumerate(
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


# -- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_every_verdict_in_words(code: str) -> None:
    where = Source("wan1", "eth1", "10.1.1.2"), Peer("2001:db8::9", 80)
    seen = {"listener": STATUS, "connect_ms": 1.0, "local": "10.1.1.2:1", "checksums": True}
    for told in (result(*where, code), result(*where, code, echoed=12, **seen)):
        lines = result_lines(told)
        assert lines[0].startswith("wan1 (eth1) to [2001:db8::9]:80: ")
        assert EXPLANATIONS[code] in " ".join(" ".join(lines).split())
        assert max(map(len, lines)) <= 80
        assert ("→" in lines[-1] or "→" in " ".join(lines)) == (code in REMEDIES)


def test_what_a_stranger_says_does_no_harm_to_a_terminal() -> None:
    seen = STATUS | {"client": "\x1b[2J\nmproutd: all is well"}
    assert "\x1b" not in seen_line(seen)
    told = result(None, None, "works", uplink="w", device="d", listener=seen)
    assert not any("\x1b" in line or "\n" in line for line in result_lines(told))


HERE = Source("wan1", "eth1", "10.1.1.2"), Peer("10.9.9.9", 80)
MTU = {"device": 1500, "there": 1500, "back": None, "segment": None, "proved": True}
ALONE = "no listener of mproutd there: one line was sent, no data compared"
CAME = {"connect_ms": 12.34, "local": "10.1.1.2:1"}


@pytest.mark.parametrize(
    ("code", "told", "grounds"),
    [
        ("own-off", {}, []),
        ("no-route", {"error": "Network is unreachable"}, ["Network is unreachable"]),
        ("works", CAME, ["connected from 10.1.1.2:1 in 12.3 ms", ALONE]),
        (
            "works",
            CAME | {"first_byte_ms": 20.0},
            ["connected from 10.1.1.2:1 in 12.3 ms, first byte back after 20.0 ms", ALONE],
        ),
        ("works", {"echoed": 9}, ["9 bytes came back, unchanged"]),
        (
            "changed",
            {"echoed": 9, "checksums": True},
            [
                "9 bytes came back, not as they were sent",
                "MPTCP's checksums noticed, and the kernel gave MPTCP up there",
            ],
        ),
        (
            "changed",
            {},
            ["without MPTCP's checksums (net.mptcp.checksum_enabled) nobody notices"],
        ),
        (
            "works",
            {"listener": STATUS},
            [
                "the time was over before full packets had come back",
                "the listener saw 10.1.1.2:4711: MPTCP",
            ],
        ),
        ("works", {"mtu": MTU}, ["packets of 1500 bytes pass"]),
        (
            "works",
            {"mtu": MTU | {"there": 1400, "back": 1300, "proved": False}},
            [
                "packets of 1400 bytes pass there, of 1300 back, as far as the kernel knows; "
                "1500 is the MTU of the device"
            ],
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
            [
                "a second subflow joined by wan2",
                "a second subflow joined by 10.7.7.7",
                "no subflow joined by wan3",
            ],
        ),
    ],
)
def test_what_a_verdict_rests_on(code: str, told: dict[str, Any], grounds: list[str]) -> None:
    text = " ".join(" ".join(result_lines(result(*HERE, code, **told))).split())
    said = f"wan1 (eth1) to 10.9.9.9:80: {EXPLANATIONS[code]}"
    assert text.partition(" → ")[0] == " ".join([said, *grounds])


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, "MPTCP"),
        ({"kept": False}, "MPTCP in the handshake, plain TCP later"),
        ({"mptcp": False}, "plain TCP, MPTCP is switched off there"),
        ({"accepted": "tcp", "asked": None}, "plain TCP"),
        ({"accepted": "tcp"}, "MPTCP in the SYN, plain TCP after it"),
        ({"accepted": "tcp", "asked": False}, "a SYN without MPTCP"),
    ],
)
def test_what_a_listener_saw(seen: dict[str, Any], words: str) -> None:
    assert seen_line(STATUS | seen) == f"10.1.1.2:4711: {words}; 0 bytes echoed"
