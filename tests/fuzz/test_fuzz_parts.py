"""What the parts hear that run only where they are asked for: lines, hosts, peers, programs."""

from __future__ import annotations

import json
import os
import tempfile
from socket import AF_INET, AF_INET6
from struct import pack
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mproutd.netlink import conntrack, mptcp_info
from mproutd.netlink.nlmsg import DecodeError, put
from mproutd.pathtest import protocol
from mproutd.planning import overflow, quota
from mproutd.services.health import icmp
from mproutd.services.scripts import _read
from tests.fuzz.material import JSON, mutated, quick

FAMILIES = st.sampled_from((AF_INET, AF_INET6))


@quick
@given(
    FAMILIES,
    mutated(st.builds(icmp.request, FAMILIES, st.integers(0, 9), st.integers(0, 9), st.binary())),
    st.booleans(),
)
@example(AF_INET, b"\x4f" + bytes(19), True)
@example(AF_INET, b"\x40" + bytes(19), True)
def test_any_packet_is_an_echo_reply_or_nothing(family: int, packet: bytes, header: bool) -> None:
    reply = icmp.reply(family, packet, header)
    assert reply is None or len(reply.data) < len(packet)


TUPLES = st.builds(
    lambda kind, family, data: put(kind, put(1, put(2 if family == 2 else 4, data))),
    st.sampled_from((1, 2)),
    FAMILIES,
    st.sampled_from((bytes((10, 1, 1, 2)), bytes(16))) | st.binary(max_size=18),
)


@quick
@given(
    mutated(st.builds(lambda family, parts: bytes((family, 0, 0, 0)) + b"".join(parts), FAMILIES,
                      st.lists(TUPLES | st.binary(max_size=12), max_size=4))),
    st.sampled_from((("10.1.1.2", AF_INET), ("::", AF_INET6))),
)  # fmt: skip
def test_only_an_entry_of_the_address_is_deleted(body: bytes, owner: tuple[str, int]) -> None:
    try:
        decoded = conntrack.entry(body, *owner)
    except DecodeError:
        return
    if decoded is not None:
        packed = bytes((10, 1, 1, 2)) if owner[1] == AF_INET else bytes(16)
        assert packed in body
        assert decoded.original in body
        conntrack.delete(decoded, 1)


CLIENT_DATA = st.one_of(
    st.sampled_from((protocol.HELLO, protocol.STATUS, protocol.REPORT, b"echo 5\nabcde", b"\n")),
    st.integers(0, 1 << 20).map(protocol.echo),
    st.binary(max_size=80),
)


@quick
@given(st.lists(mutated(CLIENT_DATA), max_size=25))
@example([protocol.HELLO] + [protocol.echo(1 << 18), bytes(1 << 18)] * 2)
@example([protocol.HELLO, b"echo \xc2\xb2\n"])
@example([protocol.HELLO, b"echo " + b"9" * 58 + b"\n"])
def test_a_stranger_receives_little_more_than_it_sent(pieces: list[bytes]) -> None:
    session = protocol.Session(lambda received: {"received": received})
    sent = received = 0
    for piece in pieces:
        sent += len(piece)
        reply = session.receive(piece)
        received += len(reply.data)
        if reply.disconnect:
            break
        assert session.received <= protocol.MAX_ECHO_BYTES
    assert received <= sent + protocol.MAX_LINES * protocol.MAX_VIEW_BYTES


@quick
@given(mutated(JSON.map(lambda value: json.dumps(value).encode() + b"\n")))
@example(b"[" * 1000)
def test_any_line_is_a_view_or_none(line: bytes) -> None:
    view = protocol.parse_view(line)
    assert view is None or set(view) == set(protocol._FIELDS)


@quick
@given(st.binary(max_size=300), st.binary(max_size=600))
@example(pack("=IIII", 16, 0xFFFFFFFF, 0, 1), b"")
def test_any_struct_of_a_socket_is_read(data: bytes, more: bytes) -> None:
    for read in (mptcp_info.parse_mptcp_info, mptcp_info.parse_tcp_info):
        read(data)
    subflows: Any = mptcp_info.parse_subflows(data, more)
    assert isinstance(subflows, list)


@quick
@given(st.text(max_size=300) | st.just("MPTcpExt: A B\nMPTcpExt: 1 x\n"))
def test_any_counters_are_numbers(text: str) -> None:
    assert all(isinstance(value, int) for value in mptcp_info.parse_counters(text).values())


@quick
@given(mutated(st.just(b"wan1 up\nwan2 down\n")) | st.binary(max_size=60))
def test_any_bytes_may_be_what_was_acted_on(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        path = os.path.join(directory, "actions")
        with open(path, "wb") as file:
            file.write(data)
        assert set(_read(path).values()) <= {"up", "down"}


ENTRY = st.fixed_dictionaries(
    {
        "period": st.lists(st.floats() | JSON, max_size=3),
        "used": st.integers() | JSON,
        "stage": st.integers(0, 9) | JSON,
        "count": st.none() | st.lists(JSON | st.integers(), min_size=5, max_size=5),
        "previous": st.none() | st.lists(JSON | st.floats(), min_size=3, max_size=3),
    }
)
HOURS = st.lists(st.lists(st.floats() | st.integers() | JSON, min_size=2, max_size=4), max_size=3)


def saved(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The content of a file with something for each uplink."""
    uplinks = st.dictionaries(st.text(max_size=5), entries | JSON, max_size=3) | JSON
    return st.fixed_dictionaries(
        {"version": st.just(1) | JSON, "time": st.floats() | JSON, "uplinks": uplinks}
    )


@quick
@given(saved(ENTRY) | JSON)
def test_any_ledger_is_one_or_a_value_error(data: Any) -> None:
    try:
        ledger, written = quota.decode(data)
    except ValueError:
        return
    assert quota.decode(json.loads(json.dumps(quota.encode(ledger, written)))) == (ledger, written)


@quick
@given(saved(HOURS) | JSON)
def test_any_learned_rates_are_some_or_a_value_error(data: Any) -> None:
    try:
        hours, _ = overflow.decode(data)
    except ValueError:
        return
    learned = overflow.Learned(hours)
    learned.record("dsl", (1e6, 1e6), 0)
    assert learned.capacity("dsl", 0).rate >= 0
