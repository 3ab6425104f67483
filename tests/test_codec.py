"""The codec against pyroute2's message classes, in both directions, and against garbage."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from mproutd import codec, pm, requests
from mproutd.eventfilter import concerns
from mproutd.model import (
    Address,
    Endpoint,
    Limits,
    Link,
    Operation,
    Route,
    Rule,
    bits,
    family_of,
    split_prefix,
)
from mproutd.wire import DecodeError, Memo, Message, acknowledgement, messages, put, put_u32
from tests import oracle, values

many = settings(max_examples=400, deadline=None)


def body(message: bytes) -> bytes:
    """The body of the one message in these bytes."""
    (only,) = messages(message)
    return only.body


def written(value: Any, verb: Any = "add") -> bytes:
    return requests.change(Operation(verb, value), 1)


# --- what we write, pyroute2 reads ---


@many
@given(values.routes())
def test_pyroute2_reads_the_routes_that_we_write(route: Route) -> None:
    seen = oracle.decoded(rtmsg, written(route))
    address, length = (
        ("", 0) if route.destination == "default" else (*route.destination.split("/"), "")[:2]
    )
    assert seen["family"] == route.family
    assert seen["dst_len"] == int(length or (bits(route.family) if address else 0))
    assert seen["table"] == (route.table if route.table < 256 else 252)
    assert (seen["proto"], seen["type"], seen["scope"]) == (
        route.protocol,
        route.type,
        route.scope,
    )
    assert seen["flags"] == (4 if route.onlink else 0)
    attributes = dict(seen["attrs"])
    through = attributes.get("RTA_VIA", {}).get("addr") or attributes.get("RTA_GATEWAY", "")
    assert attributes["RTA_TABLE"] == route.table
    assert attributes.get("RTA_DST", "") == address
    assert attributes.get("RTA_OIF", 0) == route.device
    assert through == route.gateway
    assert attributes.get("RTA_PREFSRC", "") == route.source
    assert attributes.get("RTA_PRIORITY", 0) == (
        route.metric or (1024 if route.family == AF_INET6 else 0)
    )


@many
@given(values.rules())
def test_pyroute2_reads_the_rules_that_we_write(rule: Rule) -> None:
    seen = oracle.decoded(fibmsg, written(rule))
    attributes = dict(seen["attrs"])
    assert (seen["family"], seen["action"], seen["tos"]) == (rule.family, 1, 0)
    assert attributes["FRA_PRIORITY"] == rule.priority
    assert attributes["FRA_PROTOCOL"] == rule.protocol
    assert attributes["FRA_TABLE"] == rule.table
    for field, length, attribute in (
        (rule.source, seen["src_len"], "FRA_SRC"),
        (rule.destination, seen["dst_len"], "FRA_DST"),
    ):
        text = attributes.get(attribute, "")
        assert length == (split_prefix(field, rule.family)[1] if field else 0)
        assert text == field.partition("/")[0]
    assert attributes.get("FRA_IIFNAME", "") == rule.iif
    assert attributes.get("FRA_OIFNAME", "") == rule.oif
    assert attributes.get("FRA_FWMARK", 0) == rule.fwmark
    assert attributes.get("FRA_FWMASK", 0) == rule.fwmask
    assert attributes.get("FRA_SUPPRESS_PREFIXLEN", -1) == rule.suppress_prefixlength


@many
@given(values.endpoints())
def test_pyroute2_reads_the_endpoints_that_we_write(endpoint: Endpoint) -> None:
    seen = oracle.decoded(oracle.PmMessage, pm.change(Operation("add", endpoint), 28, 1))
    ((name, address),) = seen["attrs"]
    attributes = dict(address["attrs"])
    six = family_of(endpoint.address) == AF_INET6
    assert (seen["cmd"], seen["version"], name) == (1, 1, "PM_ADDR")
    assert attributes["ADDR_FAMILY"] == (AF_INET6 if six else AF_INET)
    assert attributes["ADDR_ADDR6" if six else "ADDR_ADDR4"] == endpoint.address
    assert attributes.get("ADDR_ID", 0) == endpoint.id
    assert attributes.get("ADDR_FLAGS", 0) == endpoint.flags
    assert attributes.get("ADDR_IF_IDX", 0) == endpoint.device
    assert attributes.get("ADDR_PORT", 0) == endpoint.port


# --- what pyroute2 writes, we read ---


@many
@given(values.routes())
def test_we_read_the_routes_that_pyroute2_writes(route: Route) -> None:
    assert codec.routes(body(oracle.route(route))) == (route,)


@many
@given(values.rules())
def test_we_read_the_rules_that_pyroute2_writes(rule: Rule) -> None:
    assert codec.rule(body(oracle.rule(rule))) == rule


@many
@given(values.addresses())
def test_we_read_the_addresses_that_pyroute2_writes(address: Address) -> None:
    assert codec.address(body(oracle.address(address))) == address


@many
@given(values.links())
def test_we_read_the_links_that_pyroute2_writes(link: Link) -> None:
    assert codec.link(body(oracle.link(link))) == link


@many
@given(values.endpoints())
def test_we_read_the_endpoints_that_pyroute2_writes(endpoint: Endpoint) -> None:
    assert pm.endpoint(body(oracle.endpoint(endpoint))) == endpoint


# --- there and back ---


@many
@given(values.routes(), st.sampled_from(("add", "replace", "delete")))
def test_a_route_comes_back_whatever_the_verb(route: Route, verb: str) -> None:
    (back,) = codec.routes(body(written(route, verb)))
    assert back == (
        route._replace(metric=1024) if route.family == AF_INET6 and not route.metric else route
    )


@many
@given(values.rules(), st.sampled_from(("add", "delete")))
def test_a_rule_comes_back_whatever_the_verb(rule: Rule, verb: str) -> None:
    assert codec.rule(body(written(rule, verb))) == rule


def test_a_multipath_route_is_one_value_for_each_nexthop() -> None:
    head = codec.RTMSG.pack(AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
    first = pack("=HBBl", 16, 0, 0, 3) + put(codec.RTA_GATEWAY, bytes((10, 1, 1, 1)))
    second = pack("=HBBl", 16, 4, 0, 4) + put(codec.RTA_GATEWAY, bytes((10, 2, 1, 1)))
    assert codec.routes(head + put(codec.RTA_MULTIPATH, first + second)) == (
        Route(AF_INET, 254, "default", 3, "10.1.1.1", protocol=3),
        Route(AF_INET, 254, "default", 4, "10.2.1.1", protocol=3, onlink=True),
    )


def test_cached_routes_and_those_for_one_type_of_service_are_left_out() -> None:
    cached = codec.RTMSG.pack(AF_INET, 0, 0, 0, 254, 3, 0, 1, codec.RTM_F_CLONED)
    assert codec.routes(cached) == ()
    assert codec.found(cached).destination == "default"
    assert codec.routes(codec.RTMSG.pack(AF_INET, 0, 0, 16, 254, 3, 0, 1, 0)) == ()
    assert codec.routes(codec.RTMSG.pack(128, 0, 0, 0, 254, 3, 0, 1, 0)) == ()


def test_an_attribute_of_a_later_kernel_makes_a_rule_not_plain_unless_it_is_unset() -> None:
    plain = body(written(Rule(AF_INET, 7500, 7001, "10.1.1.2")))
    for unset in (put_u32(99, 0), put_u32(codec.FRA_SUPPRESS_IFGROUP, 0xFFFFFFFF)):
        assert codec.rule(plain + unset) == Rule(AF_INET, 7500, 7001, "10.1.1.2")
    for said in (put_u32(99, 7), put_u32(codec.FRA_SUPPRESS_IFGROUP, 0)):
        assert codec.rule(plain + said) == Rule(AF_INET, 7500, 7001, "10.1.1.2", plain=False)


# --- what cannot be sent ---


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("replace", Rule(AF_INET, 7500, 7001)),
        ("change", Route(AF_INET, 7001, "default")),
        ("add", Rule(AF_INET, 7500, 7001, plain=False)),
        ("add", Rule(AF_INET, 7500, 7001, iif="sixteen-letters!")),
        ("add", Endpoint("10.1.1.2")),
        ("add", Limits(2, 2)),
    ],
)
def test_rtnetlink_refuses(verb: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        written(value, verb)


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("change", Endpoint("10.1.1.2", id=0)),
        ("replace", Endpoint("10.1.1.2", id=1)),
        ("delete", Limits(2, 2)),
        ("add", Route(AF_INET, 7001, "default")),
    ],
)
def test_the_path_manager_refuses(verb: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="mptcp_pm cannot"):
        pm.change(Operation(verb, value), 28, 1)


# --- broken input ---

DECODERS = [
    codec.link, codec.address, codec.routes, codec.found, codec.rule,
    codec.LinkMemo().__getitem__, pm.endpoint, pm.limits, pm.family, pm.event, messages,
    *(lambda data, kind=kind, flags=flags: acknowledgement(Message(kind, flags, 0, 0, data))
      for kind in (2, 3) for flags in (0, 0x200, 0x300)),
    *(lambda data, kind=kind: concerns(Message(kind, 0, 0, 0, data), frozenset(), frozenset())
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
@given(st.one_of(st.binary(max_size=200), values.attribute_soup()))
def test_garbage_is_a_decode_error_or_a_value(data: bytes) -> None:
    tolerates(data)


@many
@given(values.messages(), st.data())
def test_truncated_and_altered_messages_are_a_decode_error_or_a_value(
    message: bytes, data: st.DataObject
) -> None:
    inner = message[16:]
    tolerates(inner[: data.draw(st.integers(0, len(inner)))])
    place = data.draw(st.integers(0, len(inner) - 1))
    altered = bytearray(inner)
    altered[place] = data.draw(st.integers(0, 255))
    tolerates(bytes(altered))


def test_lengths_that_would_not_go_forward_are_refused() -> None:
    for length in (0, 3, 15, 17):
        with pytest.raises(DecodeError):
            messages(pack("=LHHLL", length, 16, 0, 1, 0))
    for length in (0, 1, 3, 5):
        with pytest.raises(DecodeError):
            codec.address(codec.IFADDR.pack(AF_INET, 24, 0, 0, 1) + pack("=HH", length, 1))


# --- acknowledgements and the cap ---


def test_an_error_names_its_words_and_its_attribute_also_behind_the_whole_request() -> None:
    request = pm.probe(28, 7, 9)
    told = put(1, b"limit greater than maximum (8)\0") + put_u32(2, 20)
    code = pack("=l", -22)
    whole = acknowledgement(Message(2, 0x200, 7, 0, code + request + told))
    capped = acknowledgement(Message(2, 0x300, 7, 0, code + request[:16] + told))
    assert whole == capped == (22, "limit greater than maximum (8)", 20)
    assert acknowledgement(Message(2, 0, 7, 0, code + request)) == (22, "", 0)
    assert acknowledgement(Message(2, 0x300, 7, 0, bytes(4) + request[:16] + told)).errno == 0
    assert acknowledgement(Message(3, 0, 7, 0, bytes(4))) == (0, "", 0)


@pytest.mark.parametrize("cap", [0, 1, 8, 63, 64, 254, 255])
def test_bisection_finds_every_cap(cap: int) -> None:
    asked: list[int] = []
    assert pm.cap(lambda candidate: bool(asked.append(candidate)) or candidate <= cap) == cap
    assert len(asked) <= 9


def test_a_kernel_that_does_not_name_the_attribute_has_the_old_cap() -> None:
    assert pm.cap(lambda _: None) == 8


# --- the memo ---


def test_a_memo_decodes_once_and_forgets_everything_when_full() -> None:
    seen: list[bytes] = []
    memo = Memo(lambda data: seen.append(data) or len(data), limit=2)
    assert [memo[b"a"], memo[b"bb"], memo[b"a"]] == [1, 2, 1]
    assert seen == [b"a", b"bb"]
    assert memo[b"ccc"] == 3
    assert len(memo) == 1


@many
@given(st.lists(values.links(), min_size=1, max_size=6), st.binary(min_size=296, max_size=296))
def test_a_link_memo_says_what_the_decoder_says(links: list[Link], counters: bytes) -> None:
    """Same index, other name, flags, settings and statistics: in any order."""
    memo = codec.LinkMemo()
    for link in links:
        for numbers in (bytes(296), counters, bytes(296)):
            data = body(oracle.link(link._replace(index=7), numbers))
            assert memo[data] == codec.link(data) == link._replace(index=7)
