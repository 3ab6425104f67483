"""Nexthop objects: what we write can be read back, and the bytes are those of linux/nexthop.h."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.model import Nexthop, NexthopObject, Operation, Route
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.nlmsg import DecodeError, messages, put, put_u32
from mproutd.netlink.rtnl_nexthops import (
    NHMSG,
    dump_nexthops,
    get_bucket,
    get_nexthop,
    nexthop_object,
)

IDS = st.integers(1, 0xFFFFFFFF)
SINGLES = st.builds(
    lambda number, device, gateway, onlink, protocol: NexthopObject(
        number, AF_INET6 if ":" in gateway else AF_INET, device, gateway, onlink, protocol=protocol
    ),
    IDS,
    st.integers(1, 0x7FFFFFFF),
    st.sampled_from(("", "10.1.1.1", "fe80::1", "2001:db8::1")),
    st.booleans(),
    st.integers(0, 255),
)
GROUPS = st.builds(
    lambda number, members, timer: NexthopObject(
        number,
        members=tuple(sorted(members.items())),
        resilient=timer is not None,
        idle_timer=timer or 0,
    ),
    IDS,
    st.dictionaries(IDS, st.integers(1, 65536), min_size=1, max_size=8),
    st.none() | st.integers(0, 86400),
)


def body(message: bytes) -> bytes:
    (only,) = messages(message)
    return only.body


@given(SINGLES | GROUPS, st.sampled_from(("add", "replace")))
def test_an_object_comes_back(value: NexthopObject, verb: str) -> None:
    written = rtnl_encode.change(Operation(verb, value), 1)  # type: ignore[arg-type]
    assert nexthop_object(body(written)) == value


def test_the_bytes_of_a_resilient_group() -> None:
    group = NexthopObject(9, members=((7, 3), (8, 300)), resilient=True, idle_timer=2)
    (message,) = messages(rtnl_encode.change(Operation("add", group), 5))
    assert (message.type, message.flags) == (104, 0x1 | 0x4 | 0x400 | 0x200)
    assert message.body == (
        pack("=BBBxL", 0, 0, 77, 0)
        + pack("=HHL", 8, 1, 9)
        + pack("=HHLBBxxLBBxx", 20, 2, 7, 2, 0, 8, 43, 1)
        + pack("=HHHxx", 6, 3, 1)
        + pack("=HHHHHxxHHL", 20, 0x8000 | 12, 6, 1, 1024, 8, 2, 200)
    )


def test_requests() -> None:
    (deletion,) = messages(rtnl_encode.change(Operation("delete", NexthopObject(9, 2, 3)), 1))
    assert (deletion.type, deletion.body) == (105, bytes(8) + pack("=HHL", 8, 1, 9))
    for written, kind in ((get_nexthop(1, 9), 106), (get_bucket(1, 9), 118)):
        (message,) = messages(written)
        assert (message.type, message.body) == (kind, deletion.body)
    assert messages(dump_nexthops(1))[0].flags == 0x301
    with pytest.raises(ValueError, match="cannot change a NexthopObject"):
        rtnl_encode.change(Operation("change", NexthopObject(9)), 1)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        NHMSG.pack(2, 0, 77, 0),
        NHMSG.pack(2, 0, 77, 0) + put(1, b"\1"),
        NHMSG.pack(2, 0, 77, 0) + put_u32(1, 5) + put(6, b"123"),
        NHMSG.pack(0, 0, 77, 0) + put_u32(1, 5) + put(2, b"123"),
        NHMSG.pack(0, 0, 77, 0) + put_u32(1, 5) + put(2, b"") + put(3, b"1"),
    ],
)
def test_broken_messages(broken: bytes) -> None:
    with pytest.raises(DecodeError):
        nexthop_object(broken)


# -- routes by nexthop objects, and through several devices -----------------------------------

ONE = pack("=HBBl", 16, 0, 2, 3) + put(5, bytes((10, 1, 1, 1)))
TWO = pack("=HBBl", 16, 0, 0, 4) + put(5, bytes((10, 2, 1, 1)))
BOTH = (Nexthop("10.1.1.1", 3, False, 3), Nexthop("10.2.1.1", 1, False, 4))


def default(protocol: int, *attributes: bytes) -> bytes:
    return rtnl_decode.RTMSG.pack(AF_INET, 0, 0, 0, 254, protocol, 0, 1, 0) + b"".join(attributes)


def test_a_route_of_ours_has_the_id_alone() -> None:
    """Whether the kernel adds the gateways (nexthop_compat_mode) or not."""
    expected = (Route(AF_INET, 254, "default", nexthop_id=9),)
    assert rtnl_decode.routes(default(77, put_u32(30, 9))) == expected
    assert rtnl_decode.routes(default(77, put_u32(30, 9), put(9, ONE + TWO))) == expected
    written = rtnl_encode.change(Operation("add", expected[0]), 1)
    assert rtnl_decode.routes(body(written)) == expected


def test_another_programs_route_is_resolved_where_the_kernel_does_so() -> None:
    (first, second) = rtnl_decode.routes(default(3, put_u32(30, 9), put(9, ONE + TWO)))
    assert (first.device, first.gateway, first.nexthop_id) == (3, "10.1.1.1", 0)
    assert (second.device, second.gateway) == (4, "10.2.1.1")
    (unresolved,) = rtnl_decode.routes(default(3, put_u32(30, 9)))
    assert (unresolved.device, unresolved.nexthop_id) == (0, 9)


def test_a_multipath_route_of_ours_is_one_value_in_one_order() -> None:
    expected = Route(AF_INET, 254, "default", nexthops=BOTH)
    for order in (ONE + TWO, TWO + ONE):
        assert rtnl_decode.routes(default(77, put(9, order))) == (expected,)
    assert rtnl_decode.routes(body(rtnl_encode.change(Operation("add", expected), 1))) == (
        expected,
    )


def test_the_reply_to_a_lookup_has_all_nexthops() -> None:
    for protocol in (3, 77):
        reply = rtnl_decode.lookup_reply(default(protocol, put_u32(30, 9), put(9, ONE + TWO)))
        assert (reply.nexthops, reply.nexthop_id) == (BOTH, 0)
        assert reply.devices == (3, 4)
    assert rtnl_decode.lookup_reply(default(3, put_u32(30, 9))).nexthop_id == 9
