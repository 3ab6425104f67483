"""Netlink framing: broken input, acknowledgements, the probe for the cap, the memos."""

from __future__ import annotations

from socket import AF_INET
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mproutd.model import Link
from mproutd.netlink import mptcp_pm, rtnl_decode
from mproutd.netlink.bpf import is_relevant
from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    DecodeCache,
    DecodeError,
    EncodeCache,
    Message,
    acknowledgement,
    messages,
    put,
    put_u32,
    request,
)
from mproutd.netlink.packet_routes import without_usage
from tests.lab import generated, oracle

many = settings(max_examples=400, deadline=None)


def body(message: bytes) -> bytes:
    """The body of the one message in these bytes."""
    (only,) = messages(message)
    return only.body


# --- broken input ---

DECODERS = [
    rtnl_decode.link, rtnl_decode.address, rtnl_decode.routes, rtnl_decode.lookup_reply,
    rtnl_decode.rule,
    rtnl_decode.LinkCache().__getitem__, mptcp_pm.endpoint, mptcp_pm.limits, mptcp_pm.family,
    mptcp_pm.event, messages,
    *(lambda data, kind=kind, flags=flags: acknowledgement(Message(kind, flags, 0, 0, data))
      for kind in (2, 3) for flags in (0, 0x200, 0x300)),
    *(lambda data, kind=kind: is_relevant(Message(kind, 0, 0, 0, data), frozenset(), frozenset())
      for kind in (16, 17, 20, 24, 32)),
]  # fmt: skip


def tolerates(data: bytes) -> None:
    """Decode the bytes as everything that there is: a value or DecodeError, nothing else."""
    for decode in DECODERS:
        try:
            decode(data)  # type: ignore[operator]
        except DecodeError:
            pass


@many
@given(st.one_of(st.binary(max_size=200), generated.attribute_soup()))
def test_garbage_is_a_decode_error_or_a_value(data: bytes) -> None:
    tolerates(data)


@many
@given(generated.messages(), st.data())
def test_truncated_and_altered_messages_are_a_decode_error_or_a_value(
    message: bytes, data: st.DataObject
) -> None:
    inner = message[16:]
    tolerates(inner[: data.draw(st.integers(0, len(inner)))])
    position = data.draw(st.integers(0, len(inner) - 1))
    altered = bytearray(inner)
    altered[position] = data.draw(st.integers(0, 255))
    tolerates(bytes(altered))


def test_lengths_that_would_not_go_forward_are_refused() -> None:
    for length in (0, 3, 15, 17):
        with pytest.raises(DecodeError):
            messages(pack("=LHHLL", length, 16, 0, 1, 0))
    for length in (0, 1, 3, 5):
        with pytest.raises(DecodeError):
            rtnl_decode.address(
                rtnl_decode.IFADDR.pack(AF_INET, 24, 0, 0, 1) + pack("=HH", length, 1)
            )


# --- acknowledgements and the cap ---


def test_an_error_has_its_message_and_attribute_also_after_the_whole_request() -> None:
    request = mptcp_pm.probe(28, 7, 9)
    ack_attributes = put(1, b"limit greater than maximum (8)\0") + put_u32(2, 20)
    code = pack("=l", -22)
    whole = acknowledgement(Message(2, 0x200, 7, 0, code + request + ack_attributes))
    capped = acknowledgement(Message(2, 0x300, 7, 0, code + request[:16] + ack_attributes))
    assert whole == capped == (22, "limit greater than maximum (8)", 20)
    assert acknowledgement(Message(2, 0, 7, 0, code + request)) == (22, "", 0)
    assert (
        acknowledgement(Message(2, 0x300, 7, 0, bytes(4) + request[:16] + ack_attributes)).errno
        == 0
    )
    assert acknowledgement(Message(3, 0, 7, 0, bytes(4))) == (0, "", 0)


@pytest.mark.parametrize("cap", [0, 1, 8, 63, 64, 254, 255])
def test_bisection_finds_every_highest_limit(cap: int) -> None:
    sequences: list[int] = []

    def accepts(candidate: int) -> bool:
        sequences.append(candidate)
        return candidate <= cap

    assert mptcp_pm.max_limit(accepts) == cap
    assert len(sequences) <= 9


def test_a_kernel_that_does_not_name_the_attribute_has_the_old_maximum() -> None:
    assert mptcp_pm.max_limit(lambda _: None) == 8


@pytest.mark.parametrize(("limit", "endpoints"), [(0, 8), (8, 8), (9, 255), (64, 255)])
def test_how_many_endpoints_follow_from_the_highest_limit(limit: int, endpoints: int) -> None:
    assert mptcp_pm.max_endpoints(limit) == endpoints


# --- the caches ---


def test_a_memo_decodes_once_and_forgets_everything_when_full() -> None:
    seen: list[bytes] = []
    cache = DecodeCache(lambda data: seen.append(data) or len(data), limit=2)
    assert [cache[b"a"], cache[b"bb"], cache[b"a"]] == [1, 2, 1]
    assert seen == [b"a", b"bb"]
    assert cache[b"ccc"] == 3
    assert len(cache) == 1


@many
@given(st.lists(generated.links(), min_size=1, max_size=6), st.binary(min_size=296, max_size=296))
def test_the_link_cache_agrees_with_the_decoder(links: list[Link], counters: bytes) -> None:
    """Same index, other name, flags, settings and statistics: in any order."""
    cache = rtnl_decode.LinkCache()
    for link in links:
        for numbers in (bytes(296), counters, bytes(296)):
            data = body(oracle.link(link._replace(index=7), numbers))
            assert cache[data] == rtnl_decode.link(data) == link._replace(index=7)


def test_a_request_is_encoded_once_and_numbered_anew_each_time() -> None:
    encoded: list[str] = []

    def encode(operation: str, sequence: int) -> bytes:
        encoded.append(operation)
        return request(24, NLM_F_ACK, sequence, operation.encode())

    cache = EncodeCache(encode, limit=8)
    for sequence in (5, 1 << 30):
        messages_sent = [make(sequence) for make in cache.requests(["a", "bc"])]
        assert messages_sent == [request(24, NLM_F_ACK, sequence, text) for text in (b"a", b"bc")]
    assert encoded == ["a", "bc"]
    large = ["a", "b", "c"]
    assert [make(7) for make in cache.requests(large)] == [
        request(24, NLM_F_ACK, 7, text.encode()) for text in large
    ]
    assert cache.keys() == {"a", "bc"}, "a large batch is not kept"
    for letter in "defghij":
        cache.requests([letter])
    assert len(cache) <= 8


@pytest.mark.parametrize("behind", [b"", put(20, b"\0")], ids=["ipv4", "ipv6"])
def test_how_often_a_route_was_used_does_not_matter(behind: bytes) -> None:
    """RTA_CACHEINFO (12) is the last attribute, or RTA_PREF (20) follows."""
    start = bytes(12) + put_u32(15, 7002) + put_u32(4, 3)
    one, other = (start + put(12, bytes([age]) * 32) + behind for age in (1, 2))
    assert without_usage(one) == without_usage(other) == start + behind
    assert without_usage(start) == start
