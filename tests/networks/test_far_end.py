"""docs/far-end.md, as documented: two gateways at one server, and strangers that it refuses."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from mproutd.netlink.mptcp_info import IPPROTO_MPTCP
from tests.lab import SERVER, Daemon, Iperf, Namespace, eventually, mptcp_counters, subflows, veth
from tests.networks.far_end import TARGET, FarEnd

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    with FarEnd(2) as built:
        yield built


def connects(node: Namespace, port: int, protocol: int = IPPROTO_MPTCP) -> bool:
    """Whether the server accepts a connection; one that it does not answer takes a second."""
    with node.enter():
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    with connection:
        connection.settimeout(1)
        try:
            connection.connect((SERVER, port))
        except TimeoutError:
            return False
        return True


@pytest.fixture
def stranger(far_end: FarEnd) -> Iterator[Namespace]:
    """A host whose address no gateway may begin a connection from."""
    with Namespace("stranger") as node:
        veth(node, "eth0", far_end.internet, "stranger")
        far_end.internet.ip("address add 10.3.1.1/24 dev stranger")
        node.ip("address add 10.3.1.2/24 dev eth0", "route add default via 10.3.1.1")
        yield node


@pytest.mark.alone
def test_gateways_use_all_uplinks_and_are_counted_one_by_one(far_end):
    first, _ = far_end.clients
    server_files = far_end.configuration()
    with Daemon(far_end.server, *server_files) as server, Daemon(first):
        assert "subflows 2" not in far_end.server.ip("mptcp limits show")
        assert f"{SERVER} id 1 signal dev eth0" in far_end.server.ip("mptcp endpoint show")
        far_end.tunnel(first, 5201, TARGET)
        iperf = Iperf(first, far_end.internet, "127.0.0.1", 4, port=5201, mptcp=False)
        eventually(lambda: addresses(first) == set(first.addresses))
        connections = json.loads(server.call("connections", "--json").out)["connections"]
        (group,) = json.loads(server.call("connections", "--by", "port", "--json").out)["groups"]
        table = server.call("connections", "--by", "peer").out.splitlines()
        run = iperf.result()
    assert run.completed
    assert run.mbit > 14  # one uplink has 10
    assert {connection["local"] for connection in connections} == {f"{SERVER}:{first.port}"}
    assert (group["key"], group["addresses"]) == (str(first.port), first.addresses)
    assert group["received_rate"] > 5_000_000
    assert group["subflows"] == 2 * group["connections"]
    assert table[0].startswith("PEER ")
    assert table[1].startswith(first.addresses[0])
    assert table[2] == f"    addresses: {first.addresses[1]}"
    received, sent = far_end.counted("from_gateways"), far_end.counted("to_gateways")
    payload = run.mbit * 1e6 / 8 * iperf.seconds
    assert payload < received[first.port][1] < 1.2 * payload
    assert sent[first.port][0] > 0
    others = set(received) - {first.port}
    assert len(others) == 19
    assert {received[port] for port in others} == {sent[port] for port in others} == {(0, 0)}
    assert far_end.counter("strangers") == far_end.counter("plain_tcp") == 0


def addresses(node: Namespace) -> set[str]:
    """Where the node's subflows to the server come from."""
    return {subflow.local for subflow in subflows(node) if subflow.remote == SERVER}


def test_only_gateways_begin_connections(far_end, stranger):
    first, _ = far_end.clients
    assert not connects(stranger, first.port)
    assert far_end.counter("strangers") > 0
    assert connects(first, first.port)
    assert far_end.counter("plain_tcp") == 0
    assert connects(first, first.port, socket.IPPROTO_TCP)
    assert far_end.counter("plain_tcp") == 1
    before = mptcp_counters(far_end.server)["MPJoinNoTokenFound"]
    assert answer(stranger, first.port, JOIN) & RST
    assert mptcp_counters(far_end.server)["MPJoinNoTokenFound"] == before + 1
    # Both options are plain TCP for the kernel and a join for the firewall: the guide says so.
    assert answer(stranger, first.port, JOIN + CAPABLE) & (SYN | ACK) == SYN | ACK
    assert answer(stranger, first.port, CAPABLE) is None


def test_gateways_reach_nothing_on_the_server_itself(far_end):
    """And everything else, by the same proxy."""
    first, _ = far_end.clients
    greeting = (
        "import socket; s=socket.create_server(('{}',7000))\nwhile 1: s.accept()[0].send(b'x')"
    )
    for node, address in ((far_end.server, "127.0.0.1"), (far_end.internet, TARGET)):
        node.popen("python3", "-c", greeting.format(address))
        eventually(lambda node=node: ":7000" in node.run("ss", "-Hltn"))
    assert greeted(first, far_end.tunnel(first, 7000, TARGET))
    assert not greeted(first, far_end.tunnel(first, 7000, "127.0.0.1"))


def test_the_firewall_of_the_tunnel_is_accepted(far_end):
    text = far_end.guide.files("wireguard-server")["/etc/nftables.d/wireguard.nft"]
    far_end.server.run("nft", "-f", "-", input=text)
    assert "masquerade" in far_end.server.run("nft", "list", "table", "inet", "far_end_udp")


def greeted(node: Namespace, port: int) -> bool:
    """Whether a byte arrives through the tunnel at this port."""
    with node.enter(), socket.create_connection(("127.0.0.1", port), 10) as connection:
        try:
            return connection.recv(1) == b"x"
        except ConnectionResetError:
            return False


SYN, RST, ACK = 0x02, 0x04, 0x10
CAPABLE = bytes((30, 4, 0x01, 0x01))
"""MP_CAPABLE, version 1, with HMAC-SHA256 (RFC 8684, section 3.1)."""
JOIN = bytes((30, 12, 0x10, 7)) + bytes(range(8))
"""MP_JOIN of address 7, with a token of no connection and a nonce."""


def answer(node: Namespace, port: int, options: bytes) -> int | None:
    """The TCP flags of the server's reply to a SYN with these options; None without a reply."""
    source, destination = (socket.inet_aton(address) for address in ("10.3.1.2", SERVER))
    header = struct.pack(
        *("!HHIIBBHHH", 40000 + len(options), port, 1, 0, 20 + len(options) << 2, SYN, 65535, 0, 0)
    )
    pseudo = source + destination + struct.pack("!BBH", 0, 6, len(header + options))
    total = sum(
        struct.unpack(f"!{len(pseudo + header + options) // 2}H", pseudo + header + options)
    )
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    packet = header[:16] + struct.pack("!H", checksum) + header[18:] + options
    with node.enter():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw:
        raw.settimeout(1)
        raw.sendto(packet, (SERVER, 0))
        try:
            while True:
                reply = raw.recv(4096)[20:]
                if struct.unpack("!HH", reply[:4]) == (port, 40000 + len(options)):
                    return reply[13]
        except TimeoutError:
            return None
