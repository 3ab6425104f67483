"""Requests, replies and event filters, byte by byte."""

from __future__ import annotations

from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    MSG_DONTWAIT,
    SOCK_DGRAM,
    SOL_SOCKET,
    inet_pton,
    socketpair,
)
from struct import pack
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from mproutd.model import PROTOCOL, Endpoint, Limits, Link, Operation, Packet, Rule, Selectors
from mproutd.netlink import conntrack, mptcp_pm, rtnl_decode, rtnl_encode, sock_diag
from mproutd.netlink.bpf import (
    SO_ATTACH_FILTER,
    Instruction,
    changes_lookups,
    event_filter,
    ifindex_of,
    is_relevant,
    sock_fprog,
    subflow_event_filter,
)
from mproutd.netlink.nlmsg import (
    NLM_F_ACK,
    Ack,
    DecodeError,
    Message,
    attributes,
    messages,
    put,
    put_u32,
    without_acknowledgement,
)
from tests.lab import oracle

# -- rtnetlink: pyroute2 reads what we ask --------------------------------------------------

SIX = "2001:db8::9"
FORGET = rtnl_encode.neighbour(rtnl_decode.RTM_DELNEIGH, 1, 7, "10.1.1.1")


@pytest.mark.parametrize(
    ("kind", "message", "fields", "attributes"),
    [
        (ifinfmsg, rtnl_encode.dump_links(1), {"family": 0}, {"IFLA_EXT_MASK": 8}),
        (
            ifinfmsg,
            rtnl_encode.get_link(1, "uplink"),
            {"family": 0, "index": 0},
            {"IFLA_EXT_MASK": 8, "IFLA_ALT_IFNAME": "uplink"},
        ),
        (ifaddrmsg, rtnl_encode.dump_addresses(1), {"family": 0, "index": 0}, {}),
        (
            ifaddrmsg,
            rtnl_encode.dump_addresses(1, AF_INET6, 7),
            {"family": AF_INET6, "index": 7},
            {},
        ),
        (rtmsg, rtnl_encode.dump_routes(1, 7001), {"family": 0, "proto": 0}, {"RTA_TABLE": 7001}),
        (
            rtmsg,
            rtnl_encode.dump_routes(1, 254, family=AF_INET, device=7, protocol=4),
            {"family": AF_INET, "proto": 4},
            {"RTA_TABLE": 254, "RTA_OIF": 7},
        ),
        (
            rtmsg,
            rtnl_encode.dump_routes(1, 0, family=AF_INET6),
            {"family": AF_INET6, "table": 0},
            {},
        ),
        (
            rtmsg,
            rtnl_encode.lookup_packet(1, Packet(AF_INET, iif=4), "10.9.9.9"),
            {"family": AF_INET, "dst_len": 32, "flags": 0x3000},
            {"RTA_DST": "10.9.9.9", "RTA_IIF": 4},
        ),
        (fibmsg, rtnl_encode.dump_rules(1, AF_INET6), {"family": AF_INET6}, {}),
        (
            rtmsg,
            rtnl_encode.lookup(1, "10.9.9.9"),
            {"family": AF_INET, "dst_len": 32, "src_len": 0, "flags": 0x1000},
            {"RTA_DST": "10.9.9.9"},
        ),
        (
            rtmsg,
            rtnl_encode.lookup(1, SIX, source="2001:db8::1", device=7, mark=5, match=True),
            {"family": AF_INET6, "dst_len": 128, "src_len": 128, "flags": 0x2000},
            {"RTA_DST": SIX, "RTA_SRC": "2001:db8::1", "RTA_OIF": 7, "RTA_MARK": 5},
        ),
        (ndmsg, FORGET, {"family": AF_INET, "ifindex": 7}, {"NDA_DST": "10.1.1.1"}),
    ],
)
def test_requests_to_rtnetlink(
    kind: Any, message: bytes, fields: dict[str, int], attributes: dict[str, Any]
) -> None:
    seen = oracle.decoded(kind, message)
    assert {name: seen[name] for name in fields} == fields
    assert dict(seen["attrs"]) == attributes


def test_only_what_changes_something_is_acknowledged() -> None:
    (forget,) = messages(FORGET)
    (ask,) = messages(rtnl_encode.neighbour(30, 1, 7, "10.1.1.1"))
    assert (forget.flags & NLM_F_ACK, ask.flags & NLM_F_ACK) == (NLM_F_ACK, 0)
    (quiet,) = messages(without_acknowledgement(FORGET))
    assert quiet == forget._replace(flags=forget.flags & ~NLM_F_ACK)


def test_a_nexthop_that_goes_nowhere() -> None:
    head = rtnl_decode.RTMSG.pack(AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
    for hop in (pack("=HBBl", 4, 0, 0, 3), pack("=HBBl", 99, 0, 0, 3)):
        with pytest.raises(DecodeError, match="nexthop of"):
            rtnl_decode.routes(head + put(rtnl_decode.RTA_MULTIPATH, hop))


@pytest.mark.parametrize(
    "selectors",
    [
        Selectors((1000, 1999)),
        Selectors(sports=(1, 9), protocol=17),
        Selectors(dports=(443, 443), protocol=6),
        Selectors((0, 0), (0, 65535), (80, 90), 132),
    ],
)
def test_a_rule_is_read_as_it_was_written(selectors: Selectors) -> None:
    rule = Rule(AF_INET, 7900, 7257, iif="lo", selectors=selectors)
    (message,) = messages(rtnl_encode.change(Operation("add", rule), 1))
    assert rtnl_decode.rule(message.body) == rule


def test_a_memo_of_links_forgets_all_when_it_is_full() -> None:
    cache = rtnl_decode.LinkCache()
    bodies = [
        next(iter(messages(oracle.link(Link(index, f"eth{index}"))))).body
        for index in range(1, 1027)
    ]
    for turn in range(2):
        for body in bodies:
            assert cache[body] == rtnl_decode.link(body), turn


@pytest.mark.parametrize(
    ("kind", "port"), [("bridge", True), ("bond", True), ("vrf", False), ("", False)]
)
def test_a_device_with_a_master(kind: str, port: bool) -> None:
    (message,) = messages(oracle.link(Link(7, "eth1")))
    info = put(18, put(4, kind.encode() + b"\0")) if kind else b""
    assert rtnl_decode.link(message.body + info) == Link(7, "eth1"), "no master, no port"
    assert rtnl_decode.link(message.body + info + put_u32(10, 3)) == Link(7, "eth1", port=port)


# -- the path manager -----------------------------------------------------------------------


def sent(message: bytes) -> tuple[int, dict[str, Any]]:
    """(command, attributes) as pyroute2 reads them."""
    seen = oracle.decoded(oracle.PmMessage, message)
    payloads = {
        name: dict(value["attrs"]) if name == "PM_ADDR" else value for name, value in seen["attrs"]
    }
    return seen["cmd"], payloads


TWO = Endpoint("10.1.1.2", 5, 6, 7)


@pytest.mark.parametrize(
    ("message", "command", "attributes"),
    [
        (mptcp_pm.dump_endpoints(28, 1), 3, {}),
        (mptcp_pm.get_endpoint(28, 1, 9), 3, {"PM_ADDR": {"ADDR_ID": 9}}),
        (mptcp_pm.get_limits(28, 1), 6, {}),
        (
            mptcp_pm.change(Operation("change", TWO), 28, 1),
            7,
            {"PM_ADDR": {"ADDR_ID": 7, "ADDR_FLAGS": 6}},
        ),
        (mptcp_pm.change(Operation("delete", TWO), 28, 1), 2, {"PM_ADDR": {"ADDR_ID": 7}}),
        (
            mptcp_pm.change(Operation("delete", Endpoint("10.1.1.2")), 28, 1),
            2,
            {"PM_ADDR": {"ADDR_ID": 0, "ADDR_FAMILY": 2, "ADDR_ADDR4": "10.1.1.2"}},
        ),
        (
            mptcp_pm.change(Operation("change", Limits(3, 4)), 28, 1),
            5,
            {"PM_RCV_ADD_ADDRS": 4, "PM_SUBFLOWS": 3},
        ),
    ],
)
def test_requests_to_the_path_manager(
    message: bytes, command: int, attributes: dict[str, Any]
) -> None:
    assert sent(message) == (command, attributes)


def test_the_familys_numbers() -> None:
    group = put(1, b"mptcp_pm_events\0") + put_u32(2, 11)
    body = bytes(4) + put(1, pack("=H", 28)) + put(7, put(1, group))
    assert mptcp_pm.family(body) == mptcp_pm.Family(28, {"mptcp_pm_events": 11})
    for broken in (bytes(4), bytes(4) + put(1, b"\1"), body + put(7, put(1, put(1, b"x\0")))):
        with pytest.raises(DecodeError):
            mptcp_pm.family(broken)


def test_an_endpoint_without_an_address_is_no_endpoint() -> None:
    with pytest.raises(DecodeError):
        mptcp_pm.endpoint(bytes(4) + put(1, put_u32(6, 2)))


def test_which_attribute_the_kernel_found_too_large() -> None:
    assert mptcp_pm.accepted(Ack(22, "", 20)) is False
    assert mptcp_pm.accepted(Ack(22, "", 28)) is True
    assert mptcp_pm.accepted(Ack(22, "", 0)) is None


# -- connections and their tracking ---------------------------------------------------------


def mptcp_socket(
    family: int, source: bytes, flags: int = 0, inode: int = 1, state: int = 1
) -> bytes:
    """struct inet_diag_msg with struct mptcp_info."""
    head = (
        bytes([family, state]) + bytes(6) + source.ljust(16, b"\0") + bytes(44) + pack("=I", inode)
    )
    return head + put(2, bytes([3]) + bytes(7) + pack("=I", flags))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            mptcp_socket(AF_INET, bytes([10, 1, 1, 2])),
            sock_diag.Connection("10.1.1.2", 3, False, True),
        ),
        (
            mptcp_socket(AF_INET6, inet_pton(AF_INET6, "::ffff:10.1.1.2"), flags=1),
            sock_diag.Connection("10.1.1.2", 3, True, True),
        ),
        (
            mptcp_socket(AF_INET6, inet_pton(AF_INET6, SIX), inode=0),
            sock_diag.Connection(SIX, 3, False, False),
        ),
        (
            mptcp_socket(AF_INET, bytes([10, 1, 1, 2]), state=5),
            sock_diag.Connection("10.1.1.2", 3, False, True, can_send=False),
        ),
        (
            mptcp_socket(AF_INET, bytes([10, 1, 1, 2]), state=9, inode=0),
            sock_diag.Connection("10.1.1.2", 3, False, False, can_send=False, delivering=True),
        ),
    ],
)
def test_a_connection(body: bytes, expected: sock_diag.Connection) -> None:
    assert sock_diag.connection(body) == expected
    for broken in (b"", body[:-20], body[:75]):
        with pytest.raises(DecodeError):
            sock_diag.connection(broken)


def tcp_socket(attributes: bytes, state: int = 1) -> bytes:
    head = bytes([AF_INET, state]) + bytes(6) + bytes([10, 1, 1, 2]).ljust(16, b"\0") + bytes(48)
    return head + attributes


@pytest.mark.parametrize(
    ("flags", "state", "initial", "initiated_locally", "established"),
    [  # as ss shows them: M m J j
        (1 << 1, 1, True, True, True),
        (1 << 0 | 1 << 1, 1, True, True, True),
        (1 << 0, 1, True, False, True),
        (1 << 3, 1, False, True, True),
        (1 << 3, 2, False, True, False),
        (1 << 2, 1, False, False, True),
    ],
)
def test_a_subflow(
    flags: int, state: int, initial: bool, initiated_locally: bool, established: bool
) -> None:
    info = put(19, put(3, put_u32(2, 0xABCD) + put_u32(8, flags)))
    expected = sock_diag.Subflow(0xABCD, "10.1.1.2", initial, initiated_locally, established)
    assert sock_diag.subflow(tcp_socket(info, state)) == expected


@pytest.mark.parametrize("by_peer", [False, True])
def test_ids_and_backup_of_a_subflow(by_peer: bool) -> None:
    flags = 1 << 3 | 1 << (4 if by_peer else 5)
    info = put(3, put_u32(2, 7) + put_u32(8, flags) + put(9, b"\5") + put(10, b"\2"))
    subflow = sock_diag.subflow(tcp_socket(put(19, info)))
    assert subflow is not None
    assert (subflow.local_id, subflow.remote_id) == (2, 5)
    assert (subflow.backup, subflow.backup_by_peer) == (not by_peer, by_peer)


def test_other_protocols_and_hidden_tokens() -> None:
    assert sock_diag.subflow(tcp_socket(put(19, put(1, b"tls\0")))) is None
    hidden = sock_diag.subflow(tcp_socket(put(19, put(1, b"mptcp\0"))))
    assert hidden is not None
    assert hidden.token == 0


def test_no_subflow_and_a_broken_one() -> None:
    assert sock_diag.subflow(tcp_socket(b"")) is None
    for broken in (put(3, put_u32(2, 1)), put(3, put(2, b"1") + put_u32(8, 1)), b"1"):
        with pytest.raises(DecodeError):
            sock_diag.subflow(tcp_socket(put(19, broken)))


ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT = 2, 4, 16, 32, 256
LAST_ACK, CLOSING = 512, 2048
"""1 << each of net/tcp_states.h."""


@pytest.mark.parametrize(
    ("message", "states", "protocol"),
    [
        (
            sock_diag.dump_mptcp(AF_INET6, 1),
            ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING,
            put_u32(3, 262),
        ),
        (
            sock_diag.dump_tcp(AF_INET6, 1),
            ESTABLISHED | SYN_SENT | CLOSE_WAIT,
            b"",
        ),
    ],
    ids=["those that live", "subflows"],
)
def test_the_requested_sockets(message: bytes, states: int, protocol: bytes) -> None:
    """struct inet_diag_req_v2: family, protocol (TCP), INET_DIAG_INFO, states; no address."""
    (request,) = messages(message)
    assert request.type == 20
    assert request.body == pack("=BBBxI", AF_INET6, 6, 2, states) + bytes(48) + protocol


@pytest.mark.parametrize(("family", "address"), [(AF_INET, "10.1.1.2"), (AF_INET6, SIX)])
def test_the_tracked_flows_of_an_address(family: int, address: str) -> None:
    wanted = put(2 if family == AF_INET else 4, inet_pton(family, address))
    ours = put(0x8000 | 1, put(0x8000 | 1, wanted))
    head = bytes([family, 0, 0, 0])
    requests = [next(iter(messages(encode(1)))) for encode in conntrack.requests(address, family)]
    assert [request.body for request in requests] == [
        head + put(0x8000 | kind, put(0x8001, wanted)) + put(0x8000 | 25, put_u32(flags, 2))
        for kind, flags in ((2, 2), (1, 1))
    ]
    original = put(0x8001, wanted)
    flow = head + ours + put(12, b"\0\0\0\7") + put(18, b"\0\1")
    entry = conntrack.entry(flow, address, family)
    assert entry == conntrack.Entry(family, original, b"\0\0\0\7", b"\0\1")
    (delete,) = messages(conntrack.delete(entry, 1))
    assert delete.body == flow
    (minimal,) = messages(conntrack.delete(entry._replace(id=b"", zone=b""), 1))
    assert minimal.body == head + ours
    other = AF_INET6 if family == AF_INET else AF_INET
    assert conntrack.entry(flow, SIX if other == AF_INET6 else "10.1.1.2", other) is None
    assert conntrack.entry(head, address, family) is None
    with pytest.raises(DecodeError):
        conntrack.entry(head[:3], address, family)


# -- event filters --------------------------------------------------------------------------


def passes(filtered: list[Instruction], message: bytes) -> bool:
    """Whether the kernel lets a message through to a socket with this filter."""
    here, there = socketpair(AF_UNIX, SOCK_DGRAM)
    with here, there:
        value, memory = sock_fprog(filtered)
        there.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, value)
        del memory
        here.send(message)
        try:
            return there.recv(4096, MSG_DONTWAIT) == message
        except BlockingIOError:
            return False


def event(kind: int, body: bytes, port: int = 0) -> bytes:
    return pack("=LHHLL", 16 + len(body), kind, 0, 0, port) + body


GATEWAY, OIF, MULTIPATH = put(5, b"\12\1\1\1"), put_u32(4, 2), put(9, bytes(8))
"""Attributes of a route: RTA_GATEWAY, RTA_OIF, RTA_MULTIPATH."""


def route_body(
    length: int, protocol: int, attributes: bytes = GATEWAY, table: int = 254, kind: int = 1
) -> bytes:
    head = rtnl_decode.RTMSG.pack(AF_INET, length, 0, 0, table, protocol, 0, kind, 0)
    return head + put_u32(15, table) + attributes


def route(length: int, protocol: int, kind: int = rtnl_decode.RTM_NEWROUTE, port: int = 0) -> bytes:
    return event(kind, route_body(length, protocol), port)


def subnet(attributes: bytes = OIF, **fields: int) -> bytes:
    return event(rtnl_decode.RTM_NEWROUTE, route_body(24, 2, attributes, **fields))


def setting(key: int, value: int, index: int = 2) -> bytes:
    """The kernel's message about net.ipv4.conf.DEVICE.KEY (linux/netconf.h)."""
    body = bytes([AF_INET, 0, 0, 0]) + put_u32(1, index) + put_u32(key, value)
    return event(rtnl_decode.RTM_NEWNETCONF, body)


@pytest.mark.parametrize(
    ("message", "through"),
    [
        (route(0, 4), True),
        (route(24, 4), False),
        (route(24, PROTOCOL), True),
        (route(24, 4, rtnl_decode.RTM_DELROUTE), False),
        (route(24, PROTOCOL, rtnl_decode.RTM_DELROUTE), True),
        (route(0, PROTOCOL, port=4711), False),
        (subnet(), True),
        (subnet(b""), True),
        (event(rtnl_decode.RTM_DELROUTE, route_body(24, 2, OIF)), True),
        (event(rtnl_decode.RTM_DELROUTE, route_body(24, 2, OIF), port=4711), False),
        (subnet(OIF + GATEWAY), False),
        (subnet(put(18, b"\12\0" + bytes(16)) + OIF), False),
        (subnet(MULTIPATH), False),
        (subnet(table=255), False),
        (subnet(kind=6), False),
        (event(rtnl_decode.RTM_NEWRULE, bytes(12)), True),
        (event(rtnl_decode.RTM_NEWRULE, bytes(12), port=4711), False),
        (setting(3, 1), True),
        (setting(3, 0), True),
        (setting(3, 2), False),  # loose: what mproutd writes itself
        (setting(2, 1), False),  # NETCONFA_FORWARDING
        (setting(6, 1), True),  # NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN
    ],
)
def test_the_filter_of_events(message: bytes, through: bool) -> None:
    assert passes(event_filter(4711), message) == through


@pytest.mark.parametrize("everything", [False, True])
def test_the_filter_of_subflows(everything: bool) -> None:
    through = {
        kind
        for kind in range(20)
        if passes(subflow_event_filter(everything), connection_event(kind))
    }
    assert through == ({3, 10, 11} if everything else {11})


def connection_event(kind: int) -> bytes:
    return event(28, bytes([kind, 1, 0, 0]))


def link(index: int, name: str = "", family: int = 0, alternative: str = "") -> Message:
    body = rtnl_decode.IFINFO.pack(family, 0, index, 0, 0)
    if name:
        body += put(3, name.encode() + b"\0")
    if alternative:
        body += put(rtnl_decode.IFLA_PROP_LIST, put(53, alternative.encode() + b"\0"))
    return Message(rtnl_decode.RTM_NEWLINK, 0, 0, 0, body)


def address(index: int, text: str, length: int) -> Message:
    body = rtnl_decode.IFADDR.pack(AF_INET, length, 0, 0, index)
    return Message(rtnl_decode.RTM_NEWADDR, 0, 0, 0, body + put(1, inet_pton(AF_INET, text)))


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        (link(2), True),
        (Message(80, 0, 0, 0, setting(3, 1)[16:]), True),
        (Message(80, 0, 0, 0, setting(3, 1, 9)[16:]), False),
        (Message(80, 0, 0, 0, setting(3, 1, 0xFFFFFFFF)[16:]), True),  # of all devices
        (Message(80, 0, 0, 0, b""), True),
        (link(9, "eth1"), True),
        (link(9, "eth9"), False),
        (link(9, "eth9", alternative="eth1"), True),
        (link(9, "eth9", alternative="dsl"), False),
        (link(9), True),  # no name: it may be ours
        (link(2, "eth1", family=7), False),
        (Message(rtnl_decode.RTM_NEWLINK, 0, 0, 0, b"short"), True),
        (Message(rtnl_decode.RTM_NEWLINK, 0, 0, 0, link(9).body + b"\1\0\3"), True),
        (Message(rtnl_decode.RTM_NEWLINK, 0, 0, 0, link(9).body + b"\2\0\3\0"), True),
        (address(2, "192.0.2.1", 24), True),
        (address(9, "10.1.1.77", 24), True),
        (address(9, "10.1.2.77", 24), False),
        (address(9, "10.1.1.77", 25), False),
        (Message(rtnl_decode.RTM_NEWADDR, 0, 0, 0, b"short"), True),
        (Message(rtnl_decode.RTM_DELRULE, 0, 0, 0, b""), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, b"short"), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, route_body(0, 4)), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, route_body(24, PROTOCOL)), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, route_body(24, 2, OIF)), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, route_body(24, 2, b"")), True),
        (Message(rtnl_decode.RTM_NEWROUTE, 0, 0, 0, route_body(24, 2, put_u32(4, 9))), False),
        (
            Message(
                rtnl_decode.RTM_NEWROUTE,
                0,
                0,
                0,
                route_body(64, 2, OIF + put(1, b"\xfe\x80" + bytes(14))),
            ),
            False,
        ),
        (Message(rtnl_decode.RTM_DELNEIGH, 0, 0, 0, b""), False),
    ],
)
def test_relevant_events(message: Message, ours: bool) -> None:
    assert is_relevant(message, {2}, {"eth1"}, {(AF_INET, 24, 0x0A0101)}) == ours


@pytest.mark.parametrize(
    ("message", "index"),
    [(link(2), 2), (address(9, "10.1.1.77", 24), 9), (Message(80, 0, 0, 0, b"short"), 0)],
)
def test_the_device_of_an_event(message: Message, index: int) -> None:
    assert ifindex_of(message) == index


@pytest.mark.parametrize(("key", "changes"), [(3, False), (6, True)])
def test_sysctls_that_decide_what_lookups_find(key: int, changes: bool) -> None:
    assert changes_lookups(setting(key, 1)[16:]) == changes
    assert not changes_lookups(b"")


def test_a_lookup_for_a_packet_has_what_a_rule_selects_by() -> None:
    """linux/rtnetlink.h: RTA_UID, RTA_IP_PROTO, RTA_SPORT and RTA_DPORT, the ports big-endian."""
    selectors = Selectors((1000, 1999), (1, 9), (443, 443), 17)
    request = rtnl_encode.lookup_packet(1, Packet(AF_INET6, selectors=selectors), SIX)
    found = attributes(request, 16 + 12)
    assert (found[25], found[27]) == (pack("=L", 1000), bytes([17]))
    assert (found[28], found[29]) == (pack(">H", 1), pack(">H", 443))
    ports = Packet(AF_INET, selectors=Selectors(dports=(53, 53)))
    assert attributes(rtnl_encode.lookup_packet(1, ports, "10.9.9.9"), 28)[27] == bytes([6])


def test_a_lookup_by_user_alone_names_no_protocol() -> None:
    packet = Packet(AF_INET, selectors=Selectors(uids=(1000, 1999)))
    found = attributes(rtnl_encode.lookup_packet(1, packet, "10.9.9.9"), 16 + 12)
    assert found[25] == pack("=L", 1000)
    assert not {27, 28, 29} & found.keys()


def test_a_link_by_its_index() -> None:
    seen = oracle.decoded(ifinfmsg, rtnl_encode.get_link(1, index=7))
    assert (seen["index"], dict(seen["attrs"])) == (7, {"IFLA_EXT_MASK": 8})


def test_what_a_rule_selects_by_is_decoded() -> None:
    """linux/fib_rules.h: FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE and FRA_DPORT_RANGE."""
    body = rtnl_decode.FIB_RULE.pack(AF_INET, 0, 0, 0, 100, 1, 0)
    body += put(20, pack("=LL", 1000, 1999)) + put(22, bytes([17]))
    body += put(23, pack("=HH", 1, 9)) + put(24, pack("=HH", 443, 443))
    rule = rtnl_decode.rule(body)
    assert rule is not None
    assert rule.selectors == Selectors((1000, 1999), (1, 9), (443, 443), 17)


def test_a_rule_of_ours_comes_back_with_what_it_selects_by() -> None:
    selectors = Selectors((1000, 1999), (1, 9), (443, 443), 17)
    rule = Rule(AF_INET6, 7900, 7256, selectors=selectors)
    (message,) = messages(rtnl_encode.change(Operation("add", rule), 1))
    assert rtnl_decode.rule(message.body) == rule


def test_another_programs_route_by_a_nexthop_object_has_its_gateway() -> None:
    """With nexthop_compat_mode 1 the kernel adds gateway and device to RTA_NH_ID."""
    found = rtnl_decode.routes(route_body(0, 4, GATEWAY + OIF + put_u32(30, 5)))
    assert [(route.gateway, route.device, route.nexthop_id) for route in found] == [
        ("10.1.1.1", 2, 0)
    ]


def test_a_dump_that_a_change_interrupted() -> None:
    assert Message(24, 0x10, 0, 0, b"").interrupted
    assert not Message(24, 0x2, 0, 0, b"").interrupted
