"""Routes and rules on the real kernel: we read what `ip` writes, and `ip` prints what we write."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.model import (
    SCOPE_LINK,
    UNREACHABLE,
    Address,
    Nexthop,
    Route,
    Rule,
    Selectors,
)
from mproutd.netlink import rtnl_decode, rtnl_encode
from tests.lab import Namespace
from tests.lab.machine import Machine, machine_in


@pytest.fixture
def machine(node: Namespace) -> Iterator[Machine]:
    with machine_in(node) as machine:
        yield machine


ROUTES = {
    "10.1.1.0/24 dev eth1 proto 77 scope link src 10.1.1.2": Route(
        AF_INET, 7001, "10.1.1.0/24", 11, source="10.1.1.2", scope=SCOPE_LINK
    ),
    "default via 10.1.1.1 dev eth1 proto 77 src 10.1.1.2 metric 5": Route(
        AF_INET, 7001, "default", 11, "10.1.1.1", "10.1.1.2", 5
    ),
    "default via 192.0.2.1 dev eth1 proto 77 onlink": Route(
        AF_INET, 7001, "default", 11, "192.0.2.1", onlink=True
    ),
    "default via 10.1.1.1 dev eth1 proto 77 mtu lock 1400 window 9000 rtt 100ms rttvar 25ms "
    "ssthresh 7 cwnd 9 advmss 1360 reordering 5 hoplimit 65 initcwnd 20 features ecn "
    "initrwnd 30 quickack 1 congctl reno fastopen_no_cookie 1": Route(
        AF_INET,
        7001,
        "default",
        11,
        "10.1.1.1",
        metrics=(
            (1, 4),
            (2, 1400),
            (3, 9000),
            (4, 800),
            (5, 100),
            (6, 7),
            (7, 9),
            (8, 1360),
            (9, 5),
            (10, 65),
            (11, 20),
            (12, 1),
            (14, 30),
            (15, 1),
            (16, "reno"),
            (17, 1),
        ),
    ),
    "default proto 77 nexthop via 10.1.1.1 dev eth1 weight 3 "
    "nexthop via 192.0.2.1 dev eth1 weight 1 onlink": Route(
        AF_INET,
        7001,
        "default",
        11,
        "10.1.1.1",
        nexthops=(Nexthop("10.1.1.1", 3), Nexthop("192.0.2.1", 1, onlink=True)),
    ),
    "default from 2001:db8:1::/56 via fe80::1 dev eth1 proto 77 metric 1024 mtu 1400 "
    "pref medium": Route(
        AF_INET6,
        7001,
        "default",
        11,
        "fe80::1",
        metric=1024,
        metrics=((2, 1400),),
        from_prefix="2001:db8:1::/56",
    ),
    "10.9.0.2 dev eth1 proto 77 scope link": Route(AF_INET, 7001, "10.9.0.2", 11, scope=SCOPE_LINK),
    "unreachable default proto 77 metric 4294967295": Route(
        AF_INET, 7001, "default", metric=0xFFFFFFFF, type=UNREACHABLE
    ),
    "10.5.0.0/16 via inet6 fe80::5 dev eth1 proto 77": Route(
        AF_INET, 7001, "10.5.0.0/16", 11, "fe80::5"
    ),
    "2001:db8:1::/64 dev eth1 proto 77 src 2001:db8:1::2 metric 1024 pref medium": Route(
        AF_INET6, 7001, "2001:db8:1::/64", 11, source="2001:db8:1::2", metric=1024
    ),
    "default via fe80::1 dev eth1 proto 77 metric 1024 pref medium": Route(
        AF_INET6, 7001, "default", 11, "fe80::1", metric=1024
    ),
    "default via 2001:db8:9::1 dev eth1 proto 77 metric 7 onlink pref medium": Route(
        AF_INET6, 7001, "default", 11, "2001:db8:9::1", metric=7, onlink=True
    ),
    "unreachable default dev lo proto 77 metric 9 pref medium": Route(
        AF_INET6, 7001, "default", metric=9, type=UNREACHABLE
    ),
    "2001:db8:5::1 dev eth1 proto 77 metric 1024 pref medium": Route(
        AF_INET6, 7001, "2001:db8:5::1", 11, metric=1024
    ),
}


@pytest.mark.parametrize("table", [100, 7001, 0xFFFFFFFE])
@pytest.mark.parametrize("line", ROUTES)
def test_a_route_is_read_printed_and_deleted(machine: Machine, line: str, table: int) -> None:
    route = ROUTES[line]._replace(table=table)
    family = 6 if route.family == AF_INET6 else 4
    typed = line.replace(" dev lo", "").replace(" pref medium", "")

    machine.node.ip(f"route add table {table} {typed}", family=family)
    assert machine.routes(table) == [route]
    assert machine.write("add", route) == 17  # EEXIST
    assert machine.write("replace", route) == 0
    assert machine.routes(table) == [route]
    assert machine.write("delete", route) == 0
    assert machine.write("delete", route) in (2, 3)  # ENOENT, ESRCH
    assert machine.routes(table) == []

    assert machine.write("add", route) == 0
    printed = machine.node.ip(f"route show table {table}", family=family)
    assert printed.split() == line.split()


def test_a_delete_hits_exactly_this_route_or_none(machine: Machine) -> None:
    """Our route beside a foreign one with another protocol, metric or device."""
    ours = Route(AF_INET, 7001, "default", 11, "10.1.1.1", metric=5)
    six = Route(AF_INET6, 7001, "default", 11, "fe80::1")
    machine.node.ip(
        "route add default via 10.1.1.1 dev eth1 metric 5 proto static table 7001",
        "route add default via 10.1.1.1 dev eth1 metric 6 proto 77 table 7001",
        "route add default via 10.1.1.9 dev eth1 metric 5 proto 77 table 7002",
    )
    machine.node.ip("route add default via fe80::1 dev eth1 metric 5 table 7001", family=6)
    machine.node.ip("route add default dev eth1 metric 1024 proto 77 table 7001", family=6)
    before = machine.routes(7001)
    assert len(before) == 4
    for route in (ours, six, ours._replace(table=7002), ours._replace(table=7003)):
        assert machine.write("delete", route) in (2, 3)
    assert machine.routes(7001) == before
    assert len(machine.routes(7002)) == 1


def test_multipath_and_foreign_routes_of_main(machine: Machine) -> None:
    machine.node.ip(
        "route add 10.6.0.0/16 proto static mtu 1400"
        " nexthop via 10.1.1.1 dev eth1 nexthop via 192.0.2.9 dev eth1 onlink",
        "route add blackhole 10.7.0.0/16",
        "route add default via 10.1.1.1 dev eth1 tos 0x10",
    )
    machine.node.ip(
        "route add default from 2001:db8:1::/64 via fe80::1 dev eth1 proto static expires 600",
        family=6,
    )
    static = [route for route in machine.routes(254) if route.protocol in (3, 4)]
    assert static == [
        Route(
            AF_INET,
            254,
            "10.6.0.0/16",
            11,
            "10.1.1.1",
            protocol=4,
            metrics=((2, 1400),),
            nexthops=(Nexthop("10.1.1.1"), Nexthop("192.0.2.9", onlink=True)),
        ),
        Route(AF_INET, 254, "10.7.0.0/16", type=6, protocol=3),
        Route(
            AF_INET6, 254, "default", 11, "fe80::1", "", 1024, protocol=4,
            from_prefix="2001:db8:1::/64",
        ),
    ]  # fmt: skip


def test_dumps_are_filtered_by_the_kernel(machine: Machine) -> None:
    machine.node.ip(
        "route add 10.8.0.0/16 dev eth2 proto 77",
        "route add 10.9.0.0/16 dev eth1 proto 77",
        "address add 10.3.3.3/24 dev eth2",
    )
    for ask, left in (
        (
            rtnl_encode.dump_routes(9, 254, family=AF_INET, protocol=77),
            {"10.8.0.0/16", "10.9.0.0/16"},
        ),
        (rtnl_encode.dump_routes(9, 254, device=11, protocol=77), {"10.9.0.0/16"}),
    ):
        answers, _ = machine.wire.ask(ask)
        assert {rtnl_decode.routes(answer.body)[0].destination for answer in answers} == left
    answers, _ = machine.wire.ask(rtnl_encode.dump_addresses(9, AF_INET, 11))
    assert [rtnl_decode.address(answer.body) for answer in answers] == [
        Address(11, "10.1.1.2", 24, flags=0x80)
    ]
    assert machine.wire.ask(rtnl_encode.dump_routes(9, 4711, family=AF_INET))[1].errno == 2


RULES = {
    "7500: from 10.1.1.2 lookup 7001 proto 77": Rule(AF_INET, 7500, 7001, "10.1.1.2"),
    "7500: from 10.1.1.0/24 to 10.2.0.0/16 lookup 100 proto 77": Rule(
        AF_INET, 7500, 100, "10.1.1.0/24", "10.2.0.0/16"
    ),
    "7100: from all fwmark 0x1000000/0x7f000000 lookup 7001 proto 77": Rule(
        AF_INET, 7100, 7001, fwmark=0x1000000, fwmask=0x7F000000
    ),
    "7300: from all oif eth1 lookup 7001 proto 77": Rule(AF_INET, 7300, 7001, oif="eth1"),
    "7700: from all iif abcdefghijklmno [detached] lookup 7001 proto 77": Rule(
        AF_INET, 7700, 7001, iif="abcdefghijklmno"
    ),
    "7010: from all lookup main suppress_prefixlength 7 proto 77": Rule(
        AF_INET, 7010, 254, suppress_prefixlength=7
    ),
    "32764: from all lookup main suppress_prefixlength 0 proto 77": Rule(
        AF_INET6, 32764, 254, suppress_prefixlength=0
    ),
    "7500: from 2001:db8:1::2 lookup 7001 proto 77": Rule(AF_INET6, 7500, 7001, "2001:db8:1::2"),
    "7500: from 2001:db8:1::/64 to 2001:db8::/32 lookup 4294967294 proto 77": Rule(
        AF_INET6, 7500, 0xFFFFFFFE, "2001:db8:1::/64", "2001:db8::/32"
    ),
}


@pytest.mark.parametrize("line", RULES)
def test_a_rule_is_read_printed_and_deleted(machine: Machine, line: str) -> None:
    rule, family = RULES[line], 6 if RULES[line].family == AF_INET6 else 4
    priority, _, selector = line.replace("proto 77", "protocol 77").partition(": ")
    typed = selector.replace(" [detached]", "")
    machine.node.ip(f"rule add priority {priority} {typed}", family=family)
    assert machine.rules() == [rule]
    assert machine.write("add", rule) == 17
    assert machine.write("delete", rule._replace(protocol=78)) == 2
    assert machine.write("delete", rule) == 0
    assert machine.write("delete", rule) == 2
    assert machine.write("add", rule) == 0
    printed = machine.node.run("ip", f"-{family}", "-d", "rule", "show", "priority", priority)
    assert printed.split() == line.split()


@pytest.mark.parametrize(
    "line",
    [
        "not from 10.1.1.2 lookup 7001",
        "from 10.1.1.2 unreachable",
        "from 10.1.1.2 goto 32766",
        "from 10.1.1.2 tos 0x10 lookup 7001",
        "from 10.1.1.2 tun_id 5 lookup 7001",
        "from 10.1.1.2 lookup 7001 suppress_ifgroup 0",
        "from 10.1.1.2 lookup 7001 realms 3/4",
    ],
)
def test_a_rule_with_further_selectors_is_not_plain(machine: Machine, line: str) -> None:
    machine.node.ip(f"rule add priority 7500 protocol 77 {line}")
    (rule,) = machine.rules()
    assert (rule.priority, rule.source, rule.plain) == (7500, "10.1.1.2", False)
    with pytest.raises(ValueError, match="selectors"):
        machine.write("delete", rule)


@pytest.mark.parametrize(
    ("line", "selectors"),
    [
        ("ipproto tcp", Selectors(protocol=6)),
        ("ipproto tcp dport 80", Selectors(dports=(80, 80), protocol=6)),
        ("sport 1-9", Selectors(sports=(1, 9))),
        ("uidrange 0-0", Selectors(uids=(0, 0))),
    ],
)
def test_a_rule_by_users_protocol_and_ports(
    machine: Machine, line: str, selectors: Selectors
) -> None:
    machine.node.ip(f"rule add priority 7500 protocol 77 from 10.1.1.2 {line} lookup 7001")
    (rule,) = machine.rules()
    assert rule == Rule(AF_INET, 7500, 7001, "10.1.1.2", selectors=selectors)
    assert machine.write("delete", rule) == 0
    assert machine.rules() == []


def test_host_bits_of_a_rule_are_cleared_as_the_kernel_compares(machine: Machine) -> None:
    machine.node.ip("rule add priority 7500 protocol 77 from 10.1.1.77/24 lookup 7001")
    assert machine.rules() == [Rule(AF_INET, 7500, 7001, "10.1.1.0/24")]


def test_lookups_report_the_table(machine: Machine) -> None:
    machine.write("add", Route(AF_INET, 7001, "default", 11, "10.1.1.1", "10.1.1.2"))
    machine.write("add", Route(AF_INET6, 7001, "default", 11, "fe80::1"))
    for rule in (
        Rule(AF_INET, 7500, 7001, "10.1.1.2"),
        Rule(AF_INET6, 7500, 7001, "2001:db8:1::2"),
        Rule(AF_INET, 7100, 7001, fwmark=9, fwmask=0xFF),
    ):
        assert machine.write("add", rule) == 0

    def look_up(destination: str, **selector: Any) -> tuple[int, int, str, str]:
        answers, end = machine.wire.ask(rtnl_encode.lookup(9, destination, **selector))
        if end.errno:
            return (end.errno, 0, "", "")
        route = rtnl_decode.lookup_reply(answers[0].body)
        return (0, route.table, route.destination, route.gateway)

    here, far, far6 = {"device": 11}, "203.0.113.1", "2001:db8:9::9"
    assert look_up(far, source="10.1.1.2", **here) == (0, 7001, far, "10.1.1.1")
    assert look_up(far, mark=9, match=True, **here) == (0, 7001, "default", "10.1.1.1")
    assert look_up(far6, source="2001:db8:1::2", **here) == (0, 7001, far6, "fe80::1")
    assert look_up(far6, source="2001:db8:1::2", match=True) == (0, 7001, "default", "fe80::1")
    # A device makes everything on-link for IPv4: success, yet no route of any table.
    assert look_up(far, **here) == (0, 0, far, "")
    assert look_up(far, match=True, **here) == (113, 0, "", "")
    assert look_up(far) == (101, 0, "", "")
    assert look_up(far, source="10.1.1.99", **here)[0] in (22, 101)
