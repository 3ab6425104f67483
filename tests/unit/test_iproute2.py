"""What is printed can be pasted: each line is what ip(8) reads and writes."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import pytest

from mproutd.iproute2 import describe, device_names, flag_names, ip_command
from mproutd.model import (
    BACKUP,
    FULLMESH,
    IMPLICIT,
    LAMINAR,
    SIGNAL,
    SUBFLOW,
    UNREACHABLE,
    Endpoint,
    Limits,
    Link,
    Object,
    Operation,
    Route,
    Rule,
    Selectors,
    Sysctl,
)

NAME = device_names({2: Link(2, "eth1"), 3: Link(3, "eth0.300")})

DESCRIBED: list[tuple[Object, str]] = [
    (
        Route(AF_INET, 7001, "default", 2, "10.1.1.1", "10.1.1.2"),
        "default via 10.1.1.1 dev eth1 table 7001 proto 77 src 10.1.1.2",
    ),
    (
        Route(AF_INET, 7001, "10.1.1.0/24", 2, "", "10.1.1.2", scope=253),
        "10.1.1.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.1.2",
    ),
    (
        Route(AF_INET, 7001, "default", 2, "10.9.0.1", onlink=True),
        "default via 10.9.0.1 dev eth1 table 7001 proto 77 onlink",
    ),
    (
        Route(AF_INET, 7001, "default", 2, "fe80::1"),
        "default via inet6 fe80::1 dev eth1 table 7001 proto 77",
    ),
    (
        # The lock bits of RTAX_LOCK: mtu (2) and rto_min (13); ip(8) leaves the latter implied.
        Route(
            AF_INET,
            7001,
            "default",
            2,
            "10.1.1.1",
            metrics=((1, 1 << 2 | 1 << 13), (2, 1400), (4, 800), (12, 1), (13, 300)),
        ),
        "default via 10.1.1.1 dev eth1 table 7001 proto 77 mtu lock 1400 rtt 100ms features ecn"
        " rto_min 300ms",
    ),
    (
        Route(AF_INET, 7001, "default", 2, metrics=((12, 3), (16, "bbr"), (99, 1))),
        "default dev eth1 table 7001 proto 77 features 3 congctl bbr",
    ),
    (
        Route(AF_INET, 7001, "default", metric=4278198272, type=UNREACHABLE),
        "unreachable default table 7001 proto 77 metric 4278198272",
    ),
    (
        Route(AF_INET6, 254, "default", 9, "fe80::1", metric=1024, protocol=9),
        "default via fe80::1 dev if9 table main proto 9 metric 1024",
    ),
    (
        Rule(AF_INET, 7101, 7001, fwmark=0x1000000, fwmask=0x7F000000),
        "7101: from all fwmark 0x1000000/0x7f000000 lookup 7001 protocol 77",
    ),
    (
        Rule(AF_INET, 100, 255, "10.0.0.0/8", "10.1.1.0/24", "br-lan", "eth1", 3, 0xFFFFFFFF),
        "100: from 10.0.0.0/8 to 10.1.1.0/24 fwmark 0x3 iif br-lan oif eth1 lookup local"
        " protocol 77",
    ),
    (
        Rule(AF_INET, 90, 254, plain=False, selectors=Selectors((0, 9), (1, 2), (443, 443), 132)),
        "90: from all uidrange 0-9 ipproto 132 sport 1-2 dport 443 lookup main protocol 77",
    ),
    (
        Rule(AF_INET, 50, 254, "10.0.0.0/8", inverted=True),
        "50: not from 10.0.0.0/8 lookup main protocol 77",
    ),
    (
        Rule(AF_INET, 32764, 254, suppress_prefixlength=0),
        "32764: from all lookup main suppress_prefixlength 0 protocol 77",
    ),
    (Endpoint("10.1.1.2", 3, SUBFLOW, 7), "10.1.1.2 id 7 subflow dev eth0.300"),
    (Endpoint("2001:db8::1", 0, SIGNAL, port=5000), "2001:db8::1 signal port 5000"),
    (Limits(8, 4), "add_addr_accepted 4 subflows 8"),
    (Sysctl("eth0.300", "rp_filter", 2), "net/ipv4/conf/eth0.300/rp_filter = 2"),
]

COMMANDS: list[tuple[Operation, str]] = [
    (
        Operation("replace", Route(AF_INET, 7000, "default", 2, "10.1.1.1")),
        "ip route replace default via 10.1.1.1 dev eth1 table 7000 proto 77",
    ),
    (
        Operation("add", Route(AF_INET6, 7001, "default", 2, "fe80::1", metric=1024)),
        "ip -6 route add default via fe80::1 dev eth1 table 7001 proto 77 metric 1024",
    ),
    (
        Operation("delete", Rule(AF_INET6, 7501, 7001, "2001:db8::1")),
        "ip -6 rule delete from 2001:db8::1 lookup 7001 protocol 77 priority 7501",
    ),
    (
        Operation("add", Endpoint("10.1.1.2", 2, SUBFLOW | BACKUP)),
        "ip mptcp endpoint add 10.1.1.2 dev eth1 subflow backup",
    ),
    (
        Operation("change", Endpoint("10.1.1.2", 2, SUBFLOW | BACKUP, 3)),
        "ip mptcp endpoint change id 3 backup nofullmesh",
    ),
    (
        Operation("change", Endpoint("10.1.1.2", 2, SUBFLOW | FULLMESH, 3)),
        "ip mptcp endpoint change id 3 nobackup fullmesh",
    ),
    (
        Operation("delete", Endpoint("10.1.1.2", 2, SUBFLOW, 3)),
        "ip mptcp endpoint delete id 3",
    ),
    (Operation("delete", Endpoint("10.1.1.2")), "ip mptcp endpoint delete id 0 10.1.1.2"),
    (
        Operation("add", Endpoint("10.1.1.2", 2, SIGNAL, port=5300)),
        "ip mptcp endpoint add 10.1.1.2 dev eth1 port 5300 signal",
    ),
    (Operation("change", Limits(8, 4)), "ip mptcp limits set subflows 8 add_addr_accepted 4"),
    (
        Operation("change", Sysctl("eth0.300", "rp_filter", 2)),
        "sysctl -w net/ipv4/conf/eth0.300/rp_filter=2",
    ),
]


@pytest.mark.parametrize(("value", "text"), DESCRIBED)
def test_describe(value: Object, text: str) -> None:
    assert describe(value, NAME) == text


@pytest.mark.parametrize(("operation", "text"), COMMANDS)
def test_command(operation: Operation, text: str) -> None:
    assert ip_command(operation, NAME) == text


def test_flags_by_name() -> None:
    every = SIGNAL | SUBFLOW | BACKUP | FULLMESH | LAMINAR | IMPLICIT
    assert flag_names(every) == "signal subflow backup fullmesh laminar implicit".split()
    assert flag_names(0) == []
