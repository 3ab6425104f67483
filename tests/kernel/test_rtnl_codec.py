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
from mproutd.netlink import mptcp_pm, rtnl_decode, rtnl_encode
from mproutd.netlink.nlmsg import messages, put, put_u32
from tests.lab import generated, oracle

many = settings(max_examples=400, deadline=None)


def body(message: bytes) -> bytes:
    """The body of the one message in these bytes."""
    (only,) = messages(message)
    return only.body


def written(value: Any, verb: Any = "add") -> bytes:
    return rtnl_encode.change(Operation(verb, value), 1)


# --- what we write, pyroute2 reads ---


@many
@given(generated.routes())
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
    assert seen["src_len"] == split_prefix(route.from_prefix or "default", route.family)[1]
    attributes = dict(seen["attrs"])
    through = attributes.get("RTA_VIA", {}).get("addr") or attributes.get("RTA_GATEWAY", "")
    assert attributes["RTA_TABLE"] == route.table
    assert attributes.get("RTA_DST", "") == address
    assert attributes.get("RTA_OIF", 0) == route.device
    assert through == route.gateway
    assert attributes.get("RTA_PREFSRC", "") == route.source
    assert attributes.get("RTA_SRC", "") == route.from_prefix.partition("/")[0]
    assert oracle.metrics(attributes.get("RTA_METRICS", {"attrs": []})) == route.metrics
    assert attributes.get("RTA_PRIORITY", 0) == (
        route.metric or (1024 if route.family == AF_INET6 else 0)
    )


@many
@given(generated.multipath_routes())
def test_pyroute2_reads_the_nexthops_that_we_write(route: Route) -> None:
    seen = oracle.decoded(rtmsg, written(route))  # its parts are decoded when they are read
    attributes = dict(seen["attrs"])
    assert not attributes.keys() & {"RTA_OIF", "RTA_GATEWAY", "RTA_VIA"}
    hops = [
        (hop["oif"], hop["hops"] + 1, hop["flags"] == 4, dict(hop["attrs"]).get("RTA_GATEWAY", ""))
        for hop in attributes["RTA_MULTIPATH"]
    ]
    assert hops == [(route.device, hop.weight, hop.onlink, hop.gateway) for hop in route.nexthops]


@many
@given(generated.rules())
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
@given(generated.endpoints())
def test_pyroute2_reads_the_endpoints_that_we_write(endpoint: Endpoint) -> None:
    seen = oracle.decoded(oracle.PmMessage, mptcp_pm.change(Operation("add", endpoint), 28, 1))
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
@given(generated.routes() | generated.multipath_routes())
def test_we_read_the_routes_that_pyroute2_writes(route: Route) -> None:
    assert rtnl_decode.routes(body(oracle.route(route))) == (route,)


@many
@given(generated.rules())
def test_we_read_the_rules_that_pyroute2_writes(rule: Rule) -> None:
    assert rtnl_decode.rule(body(oracle.rule(rule))) == rule


@many
@given(generated.addresses())
def test_we_read_the_addresses_that_pyroute2_writes(address: Address) -> None:
    assert rtnl_decode.address(body(oracle.address(address))) == address


@many
@given(generated.links())
def test_we_read_the_links_that_pyroute2_writes(link: Link) -> None:
    assert rtnl_decode.link(body(oracle.link(link))) == link


@many
@given(generated.endpoints())
def test_we_read_the_endpoints_that_pyroute2_writes(endpoint: Endpoint) -> None:
    assert mptcp_pm.endpoint(body(oracle.endpoint(endpoint))) == endpoint


# --- there and back ---


@many
@given(
    generated.routes() | generated.multipath_routes(),
    st.sampled_from(("add", "replace", "delete")),
)
def test_a_route_comes_back_whatever_the_verb(route: Route, verb: str) -> None:
    (back,) = rtnl_decode.routes(body(written(route, verb)))
    assert back == (
        route._replace(metric=1024) if route.family == AF_INET6 and not route.metric else route
    )


@many
@given(generated.rules(), st.sampled_from(("add", "delete")))
def test_a_rule_comes_back_whatever_the_verb(rule: Rule, verb: str) -> None:
    assert rtnl_decode.rule(body(written(rule, verb))) == rule


def test_a_multipath_route_is_one_value_for_each_device() -> None:
    head = rtnl_decode.RTMSG.pack(AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
    first = pack("=HBBl", 16, 0, 0, 3) + put(rtnl_decode.RTA_GATEWAY, bytes((10, 1, 1, 1)))
    second = pack("=HBBl", 16, 4, 0, 4) + put(rtnl_decode.RTA_GATEWAY, bytes((10, 2, 1, 1)))
    assert rtnl_decode.routes(head + put(rtnl_decode.RTA_MULTIPATH, first + second)) == (
        Route(AF_INET, 254, "default", 3, "10.1.1.1", protocol=3),
        Route(AF_INET, 254, "default", 4, "10.2.1.1", protocol=3, onlink=True),
    )


def test_cached_routes_and_those_for_one_type_of_service_are_left_out() -> None:
    cached = rtnl_decode.RTMSG.pack(AF_INET, 0, 0, 0, 254, 3, 0, 1, rtnl_decode.RTM_F_CLONED)
    assert rtnl_decode.routes(cached) == ()
    assert rtnl_decode.lookup_reply(cached).destination == "default"
    assert rtnl_decode.routes(rtnl_decode.RTMSG.pack(AF_INET, 0, 0, 16, 254, 3, 0, 1, 0)) == ()
    assert rtnl_decode.routes(rtnl_decode.RTMSG.pack(128, 0, 0, 0, 254, 3, 0, 1, 0)) == ()


def test_an_attribute_of_a_later_kernel_makes_a_rule_not_plain_unless_it_is_0() -> None:
    rule = Rule(AF_INET, 7500, 7001, "10.1.1.2")
    data = body(written(rule))
    assert rtnl_decode.rule(data + put_u32(99, 0)) == rule
    assert rtnl_decode.rule(data + put_u32(99, 7)) == rule._replace(plain=False)
    dscp_0 = put(25, b"\0")
    assert rtnl_decode.rule(data + dscp_0) == rule._replace(plain=False)


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
        mptcp_pm.change(Operation(verb, value), 28, 1)
