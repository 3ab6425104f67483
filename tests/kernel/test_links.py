"""Devices, addresses and events of the real kernel, and the filter before them."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from mproutd.model import (
    SCOPE_LINK,
    Address,
    Link,
    Operation,
    Route,
    Rule,
)
from mproutd.netlink import rtnl_decode, rtnl_encode
from mproutd.netlink.bpf import SO_ATTACH_FILTER, event_filter, is_relevant, sock_fprog
from mproutd.netlink.nlmsg import Message, request
from tests.lab import Namespace, oracle
from tests.lab.machine import Machine, machine_in
from tests.lab.raw_netlink import GROUPS, Netlink


@pytest.fixture
def machine(node: Namespace) -> Iterator[Machine]:
    with machine_in(node) as machine:
        yield machine


def test_addresses(machine: Machine) -> None:
    machine.node.ip(
        "address flush dev eth1",
        "address add 10.9.0.1 peer 10.9.0.2/32 dev eth1",
        "address add 10.1.1.2/24 dev eth1 valid_lft 600 preferred_lft 600",
        "address add 10.1.1.3/24 dev eth1",
        "address add 2001:db8:1::2/64 dev eth1",
        "address add 2001:db8:1::3 peer 2001:db8:9::3/128 dev eth1 nodad"
        " valid_lft 9 preferred_lft 0",
    )
    answers, _ = machine.wire.ask(rtnl_encode.dump_addresses(9, device=11))
    received = [rtnl_decode.address(answer.body) for answer in answers]
    assert [address for address in received if address and address.scope != SCOPE_LINK] == [
        Address(11, "10.9.0.1", 32, "10.9.0.2", flags=0x80),
        Address(11, "10.1.1.2", 24),
        Address(11, "10.1.1.3", 24, flags=0x81),
        Address(11, "2001:db8:1::3", 128, "2001:db8:9::3", flags=0x22),
        Address(11, "2001:db8:1::2", 64, flags=0xC0),
    ]


def test_links_as_pyroute2_reads_them(machine: Machine) -> None:
    for key, value in (("rp_filter", 2), ("arp_ignore", 8), ("arp_announce", 1)):
        machine.node.sysctl(f"net.ipv4.conf.eth1.{key}", value)
    machine.node.ip("tuntap add tun1 mode tun", "link set eth2 down")
    answers, _ = machine.wire.ask(rtnl_encode.dump_links(9))
    links = {link.name: link for answer in answers if (link := rtnl_decode.link(answer.body))}
    assert links["eth1"] == Link(11, "eth1", True, False, False, 2, 8, 1)
    assert not links["eth2"].up
    assert links["tun1"].pointopoint
    cache = rtnl_decode.LinkCache()
    machine.node.ip("link set eth2 up")
    machine.node.run("ping", "-c1", "-W1", "-q", "10.1.1.1", check=False)
    for answer in answers + machine.wire.ask(rtnl_encode.dump_links(9))[0]:
        link = cache[answer.body]
        assert link == rtnl_decode.link(answer.body)
        assert link
        seen = oracle.decoded(ifinfmsg, request(16, 0, 1, answer.body))
        assert (seen["index"], seen.get_attr("IFLA_IFNAME")) == (link.index, link.name)
        assert bool(seen["flags"] & 1) == link.up
        settings = seen.get_attr("IFLA_AF_SPEC").get_attr("AF_INET")
        assert settings["rp_filter"] == link.rp_filter
        assert settings["arp_ignore"] == link.arp_ignore
        assert settings["arp_announce"] == link.arp_announce


@pytest.fixture
def events(machine: Machine) -> Iterator[Netlink]:
    """An event socket with the filter, which drops the events of machine.wire."""
    with machine.node.enter():
        listener = Netlink()
    with listener:
        listener.join(*GROUPS.values())
        value, memory = sock_fprog(event_filter(machine.wire.port))
        listener.socket.setsockopt(1, SO_ATTACH_FILTER, value)
        del memory
        yield listener


def decoded_events(events: Netlink) -> list[Any]:
    """The values of the pending events, in order."""
    decoders = {
        4: rtnl_decode.link,
        5: rtnl_decode.address,
        6: rtnl_decode.routes,
        8: rtnl_decode.rule,
    }
    return [decoders[event.type >> 2](event.body) for event in events.pending()]


def is_about_route(event: Message) -> bool:
    """Not one of the kernel's own IPv6 routes (fe80::/64, ff00::/8), which may come late."""
    return event.type >> 2 == 6 and not any(
        route.destination.startswith(("fe", "ff")) for route in rtnl_decode.routes(event.body)
    )


def test_the_filter_passes_defaults_our_routes_and_other_messages(
    machine: Machine, events: Netlink
) -> None:
    for family, near, far in ((4, "10.1.1.1", "10.7.0.0/16"), (6, "fe80::1", "2001:db8:7::/48")):
        for passes, route in (
            (True, f"{far} dev eth1"),  # perhaps the subnet of an uplink
            (False, f"{far} via {near} dev eth1"),
            (False, f"{far} dev eth1 table 7001 proto static metric 3"),
            (True, f"{far} dev eth1 table 7001 proto 77 metric 4"),
            (True, f"default via {near} dev eth1"),
            (True, "unreachable default proto static table 9 metric 9"),
        ):
            for verb, number in (("add", 24), ("del", 25)):
                machine.node.ip(f"route {verb} {route}", family=family)
                kinds = [event.type for event in events.pending() if is_about_route(event)]
                assert kinds == [number] * passes, route
    machine.node.ip("rule add priority 7500 from 10.1.1.2 lookup 7001 protocol 77")
    assert Rule(AF_INET, 7500, 7001, "10.1.1.2") in decoded_events(events)
    machine.node.ip("address add 10.9.9.9/32 dev eth1")
    assert Address(11, "10.9.9.9", 32, flags=0x80) in decoded_events(events)
    machine.node.ip("link set eth1 mtu 1400")
    assert "eth1" in {value.name for value in decoded_events(events) if isinstance(value, Link)}


def test_the_filter_drops_the_events_of_our_own_changes_only(
    machine: Machine, events: Netlink
) -> None:
    ours = [
        Route(AF_INET, 7001, "default", 11, "10.1.1.1"),
        Route(AF_INET6, 7001, "default", 11, "fe80::1", metric=1024),
        Rule(AF_INET, 7500, 7001, "10.1.1.2"),
        Rule(AF_INET6, 7500, 7001, "2001:db8:1::2"),
    ]
    for value in ours:
        assert machine.write("add", value) == 0
    assert [
        value for value in decoded_events(events) if not isinstance(value, Link | Address)
    ] == []
    with machine.node.enter():
        other_program = Netlink()
    with other_program:
        for value in ours:
            other_program.ask(rtnl_encode.change(Operation("delete", value), 3))
    decoded = [value for value in decoded_events(events) if not isinstance(value, Link | Address)]
    assert decoded == [(ours[0],), (ours[1],), *ours[2:]]


def test_events_relevant_to_a_device(machine: Machine) -> None:
    """By index and by name, also when renamed; not those of another device."""
    with machine.node.enter():
        listener = Netlink()
    with listener:
        listener.join(*GROUPS.values())

        def wakes(*lines: str, indexes: frozenset[int], names: frozenset[str]) -> bool:
            listener.pending()
            machine.node.ip(*lines)
            received = listener.pending()
            assert received
            return any(is_relevant(event, indexes, names) for event in received)

        eth1 = {"indexes": frozenset((11,)), "names": frozenset(("eth1",))}
        assert wakes("link set eth1 mtu 1400", **eth1)
        assert not wakes("link set eth2 mtu 1400", **eth1)
        assert wakes("address add 10.5.5.5/32 dev eth1", **eth1)
        assert not wakes("link add eth10 type bridge", **eth1)
        assert wakes("rule add priority 9 lookup 9", **eth1)
        assert wakes("link set eth1 down", "link set eth1 name wan", **eth1)
        lost = {"indexes": frozenset[int](), "names": frozenset(("eth1",))}
        assert not wakes("link set wan mtu 1300", **lost)
        assert wakes("link set wan name eth1", **lost)
        assert wakes("link del eth1", **lost)


def test_an_address_event_is_relevant_to_its_own_device_only(machine: Machine) -> None:
    with machine.node.enter():
        listener = Netlink()
    with listener:
        listener.join(GROUPS["ipv4 address"], GROUPS["ipv6 address"])
        machine.node.ip("address add 10.5.5.5/32 dev eth2")
        event = next(e for e in listener.pending() if e.body[0] == AF_INET)
        assert not is_relevant(event, frozenset((11,)), frozenset(("eth1", "eth2")))
        assert is_relevant(event._replace(body=b""), frozenset((11,)), frozenset())
        assert not is_relevant(Message(3, 0, 0, 0, b""), frozenset((11,)), frozenset())
