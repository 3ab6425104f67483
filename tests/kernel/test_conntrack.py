"""flush_conntrack: a LAN host's flows leave a dead uplink, and nobody else's are touched."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.netlink import conntrack
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.sockets import Requests
from tests.lab import SERVER, SERVER6, TWO_UPLINKS, Daemon, Wan, eventually
from tests.lab.forwarding import UDP_FLOW

pytestmark = pytest.mark.kernel

FORGETS = "config uplink 'wan1'\n\toption flush_conntrack '1'\n"

ECHO = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 7007))
while True:
    data, peer = s.recvfrom(100)
    s.sendto(peer[0].encode(), peer)
"""
ENTRIES = """
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket
import json
with NFCTSocket() as channel:
    print(json.dumps([
        [
            flow.get_attr("CTA_ID"),
            flow.get_nested("CTA_TUPLE_REPLY", "CTA_TUPLE_IP", "CTA_IP_V4_DST"),
            flow.get_nested("CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO", "CTA_PROTO_SRC_PORT"),
        ]
        for flow in channel.dump()
    ]))
"""
SNAT = """
table inet nat {
  chain out {
    type nat hook postrouting priority srcnat;
    oifname "eth1" meta nfproto ipv4 snat ip to 10.1.1.2
    oifname "eth2" meta nfproto ipv4 snat ip to 10.2.2.2
    oifname "eth1" meta nfproto ipv6 snat ip6 to 2001:db8:1::2
    oifname "eth2" meta nfproto ipv6 snat ip6 to 2001:db8:2::2
  }
  chain marks {
    type filter hook prerouting priority mangle;
    udp sport 4002 meta mark set 0x02000000
  }
}
"""

REMOVED = "wan1: removed 1 flow from connection tracking"


class Forwarding(Wan):
    """The usual world.  The gateway translates the LAN's addresses, and marks what comes from
    port 4002; the server says who asked."""

    def __init__(self) -> None:
        super().__init__(shaped=False)
        self.usual()
        self.gateway.sysctl("net.ipv4.ip_forward", 1)
        self.gateway.run("nft", "-f", "-", input=SNAT)
        self.started = [self.server.popen(sys.executable, "-c", ECHO)]

    def flow(self, port: int, to: str = SERVER, source: str = "0.0.0.0") -> Flow:
        return Flow(self, port, to, source)

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        super().close()


class Flow:
    """One UDP flow from the LAN; it sends from one port twenty times a second."""

    def __init__(self, world: Forwarding, port: int, to: str, source: str) -> None:
        assert world.lan
        self.process = world.lan.popen(
            *(sys.executable, "-c", UDP_FLOW, to, "7007", source, str(port)),
            stdout=subprocess.PIPE,
            text=True,
        )
        world.started.append(self.process)
        self.seen: list[str] = []

    def comes_from(self, address: str, tries: int = 40) -> bool:
        """Whether one of its next datagrams is answered, and came from this address."""
        assert self.process.stdout
        for _ in range(tries):
            self.seen.append(self.process.stdout.readline().strip())
            if self.seen[-1] == address:
                return True
        return False


@pytest.fixture
def world():
    with Forwarding() as world:
        yield world


def test_a_hosts_flow_moves_to_the_other_uplink(world):
    """wan1 is master; its cable is pulled: the same socket is heard from wan2's address."""
    with Daemon(world.gateway, TWO_UPLINKS, FORGETS) as daemon:
        flow = world.flow(4001)
        assert flow.comes_from("10.1.1.2")
        world.unplug(1)
        assert flow.comes_from("10.2.2.2"), flow.seen
        eventually(lambda: REMOVED in daemon.log(), 5, "its end")


def test_without_the_option_it_stays_where_it_is(world):
    """What the option is for: the kernel keeps sending into the dead uplink."""
    with Daemon(world.gateway, TWO_UPLINKS) as daemon:
        flow = world.flow(4001)
        assert flow.comes_from("10.1.1.2")
        world.unplug(1)
        assert not flow.comes_from("10.2.2.2", 20)
        assert "connection tracking" not in daemon.log()
        assert daemon.uplink("wan2")["usable"]


def test_those_of_the_lost_addresses_alone(world):
    """A flow via the other uplink, by its mark, and one that only names the address stay."""
    with Daemon(world.gateway, TWO_UPLINKS, FORGETS) as daemon:
        first, second = world.flow(4001), world.flow(4002)
        assert first.comes_from("10.1.1.2")
        assert second.comes_from("10.2.2.2")
        before = ident(world, 4002)
        world.unplug(1)
        assert first.comes_from("10.2.2.2"), first.seen
        assert ident(world, 4002) == before, "the same entry"
        eventually(lambda: daemon.log().count("connection tracking") == 1, 5, "its end")


def test_an_address_that_goes_while_the_uplink_stays(world):
    """A new address on the uplink (a new session): flows of the old one are flushed."""
    world.gateway.sysctl("net.ipv4.conf.eth1.promote_secondaries", 1)
    world.gateway.ip("address add 10.1.1.7/24 dev eth1")
    with Daemon(world.gateway, TWO_UPLINKS, FORGETS) as daemon:
        assert world.flow(4001).comes_from("10.1.1.2")
        world.gateway.ip("address delete 10.1.1.2/24 dev eth1")
        eventually(lambda: REMOVED in daemon.log(), 5, "its end")
        assert daemon.uplink("wan1")["usable"]


def test_ipv6_too(world):
    world.gateway.sysctl("net.ipv6.conf.all.forwarding", 1)
    world.gateway.ip("address add 2001:db8:70::1/64 dev br-lan nodad")
    world.lan.ip(
        "address add 2001:db8:70::10/64 dev eth0 nodad", "route add default via 2001:db8:70::1"
    )
    with Daemon(world.gateway, TWO_UPLINKS, FORGETS):
        flow = world.flow(4001, SERVER6, "2001:db8:70::10")
        assert flow.comes_from("2001:db8:1::2", 100), flow.seen
        world.unplug(1)
        assert flow.comes_from("2001:db8:2::2"), flow.seen


def test_it_finds_what_pyroute2_finds_and_deletes_no_successor(world):
    """Both dumps of an address beside a whole one; an entry's number must be the one seen."""
    with Daemon(world.gateway, TWO_UPLINKS):
        flow = world.flow(4001)
        assert flow.comes_from("10.1.1.2")
        mine = {number for number, reply, _ in entries(world) if reply == "10.1.1.2"}
        assert mine
        with world.gateway.enter():
            channel = Requests(conntrack.NETLINK_NETFILTER)
        decoded = {
            conntrack.entry(body, "10.1.1.2", AF_INET)
            for encode in conntrack.requests("10.1.1.2", AF_INET)
            for body in channel.dump(encode)
        }
        assert {int.from_bytes(entry.id, "big") for entry in decoded if entry} == mine
        (one,) = [entry for entry in decoded if entry]
        other = one._replace(id=bytes(4))
        assert channel.change([lambda n: conntrack.delete(other, n)])[0].errno == errno.ENOENT
        assert channel.change([lambda n: conntrack.delete(one, n)]) == {}
        channel.close()


@given(st.binary(max_size=80))
def test_nonsense_is_an_error_of_ours(body: bytes) -> None:
    for family, address in ((AF_INET, "10.1.1.2"), (AF_INET6, "2001:db8::1")):
        try:
            conntrack.entry(bytes([family]) + body, address, family)
        except DecodeError:
            pass


def entries(world) -> list[list]:
    """As pyroute2 reads them: number, where answers come to, source port."""
    return json.loads(world.gateway.run(sys.executable, "-c", ENTRIES))


def ident(world, port: int) -> int:
    """The kernel's number of the entry of a flow from this port."""
    numbers = [number for number, _, source in entries(world) if source == port]
    return numbers[0] if numbers else 0
