"""`mproutd test` on paths that lose MPTCP, each in its own way, beside a packet capture.

The middleboxes are nftables rules in the first router.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest

from mproutd.pathtest.verdict import EXPLANATIONS
from tests.docs.test_reference import check
from tests.lab import (
    SERVER,
    SERVER6,
    Capture,
    Daemon,
    Namespace,
    Packet,
    Wan,
    address,
    eventually,
    mptcp_counters,
)
from tests.lab.capture import ACK, SYN, TCP

pytestmark = pytest.mark.kernel
PORT, MPTCP = 7000, 262
RESOLVER = {
    "/etc/resolv.conf": "nameserver 10.66.66.66\noptions timeout:5 attempts:2\n",
    "/etc/hosts": f"127.0.0.1 localhost\n{SERVER} peer four\n{SERVER6} six\n",
}


class World:
    """Two uplinks, a daemon, a listener behind both."""

    def __init__(self, wan: Wan, daemon: Daemon) -> None:
        self.wan, self.daemon = wan, daemon
        self.listener = wan.server.popen(
            *("setpriv", "--bounding-set=-all", "--no-new-privs"),  # root without a right
            *daemon.command("test", "--listen", str(PORT)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert f"[::]:{PORT}" in self.output()

    def output(self) -> str:
        """The listener's next line."""
        assert self.listener.stdout
        return str(self.listener.stdout.readline()).rstrip()

    def test(self, to: str = f"{SERVER}:{PORT}", *words: str, by: str = "wan1") -> dict[str, Any]:
        """The result, which fits its schema, with its exit status."""
        answer = self.daemon.call("test", by, "--to", to, "--json", *words)
        assert answer.err == ""
        result: dict[str, Any] = json.loads(answer.out)
        check("test", result)
        return result | {"exit": answer.code}

    @contextmanager
    def box(self, rule: str, router: int = 1) -> Iterator[None]:
        """A middlebox: this rule for all that the router forwards."""
        node = self.wan.routers[router]
        text = f"table inet box {{ chain way {{ type filter hook forward priority 0; {rule}; }}; }}"
        node.run("nft", "-f", "-", input=text)
        try:
            yield
        finally:
            node.run("nft", "delete", "table", "inet", "box")


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    def node(name: str) -> Namespace:
        return Namespace(name, RESOLVER if name == "gateway" else None)

    with Wan(shaped=False, lan=False, node=node).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.settle()
        yield World(wan, daemon)


class Seen(NamedTuple):
    """Whether packets had MPTCP: None where there were no such packets."""

    syn_there: bool | None
    """As they came to the server."""
    answer_back: bool | None
    """As they came to the gateway."""
    data_there: bool | None
    data_back: bool | None


def captured(packets_there: list[Packet], packets_back: list[Packet]) -> Seen:
    """What arrived over the first uplink, where full-size packets are the data.

    Only of connections that began during the capture: an earlier one may still retransmit, a
    SYN-ACK too.
    """
    ours = {
        packet.sport
        for packet in packets_back
        if packet.outgoing and packet.flags & (SYN | ACK) == SYN
    }

    def any_of(packets: list[Packet], full: bool, flags: int) -> bool | None:
        options = [
            packet.mptcp
            for packet in packets
            if (packet.device, packet.outgoing, packet.protocol) == ("eth1", False, TCP)
            and not ours.isdisjoint((packet.sport, packet.dport))
            and (packet.length > 600 if full else packet.flags & (SYN | ACK) == flags)
        ]
        return any(options) if options else None

    return Seen(
        any_of(packets_there, False, SYN),
        any_of(packets_back, False, SYN | ACK),
        any_of(packets_there, True, 0),
        any_of(packets_back, True, 0),
    )


ONLY = "tcp flags & (syn|ack) =="
BOXES = {
    # verdict: the middlebox, then what the capture must show
    "works": ("counter", Seen(True, True, True, True)),
    "syn-stripped": (f"{ONLY} syn reset tcp option mptcp", Seen(False, False, False, False)),
    "synack-stripped": (
        f"{ONLY} (syn|ack) reset tcp option mptcp",
        Seen(True, False, False, False),
    ),
    "ack-stripped": (
        f'iifname "access" {ONLY} ack reset tcp option mptcp',
        Seen(True, True, False, False),
    ),
    "data-stripped": (
        f"{ONLY} ack meta length > 600 reset tcp option mptcp",
        Seen(True, True, False, False),
    ),
    "syn-dropped": (
        "tcp flags & syn == syn tcp option mptcp exists drop",
        Seen(False, False, None, None),
    ),
    "syn-refused": (
        f"{ONLY} syn tcp option mptcp exists reject with tcp reset",
        Seen(False, False, None, None),
    ),
    "data-dropped": (
        f"{ONLY} ack meta length > 600 tcp option mptcp exists drop",
        Seen(True, True, False, False),
    ),
    "data-modified": ('iifname "access" meta length > 600 @ih,800,8 set 0x79', Seen(*[True] * 4)),
}


CASES = [(verdict, SERVER) for verdict in BOXES]
CASES += [(verdict, SERVER6) for verdict in BOXES if not verdict.endswith("dropped")]
"""Drops take seconds to be detected, so in IPv4 only."""


@pytest.mark.parametrize(("verdict", "server"), CASES)
def test_a_middlebox(shared: World, verdict: str, server: str) -> None:
    rule, seen = BOXES[verdict]
    to = f"[{server}]:{PORT}" if ":" in server else f"{server}:{PORT}"
    patience = mptcp_counters(shared.wan.gateway).get("Blackhole", 0)
    if verdict == "syn-stripped":
        time.sleep(2.1)  # the listener compares counters of up to two seconds ago
    with shared.box(rule), Capture(shared.wan.gateway) as here, Capture(shared.wan.server) as there:
        result = shared.test(to)
        assert captured(there.seen(), here.seen()) == seen
    assert (result["verdict"], result["exit"]) == (verdict, 0 if verdict == "works" else 1)
    either = verdict.startswith("syn-d") or verdict == "syn-refused"
    assert result["side"] == {"works": None}.get(verdict, "peer or path" if either else "path")
    assert result["peer"] == {"address": server, "port": PORT}
    # The test ended before the kernel would have paused MPTCP.
    assert mptcp_counters(shared.wan.gateway).get("Blackhole", 0) == patience


def test_random_loss_is_not_taken_for_a_middlebox(shared: World) -> None:
    """The first three SYNs are lost; the fourth, without MP_CAPABLE, and all later ones pass."""
    three = f"{ONLY} syn limit rate over 1/hour burst 3 packets accept; {ONLY} syn drop"
    with shared.box(three):
        result = shared.test()
    assert (result["verdict"], result["error"]) == ("works", None)


STRANGE = [
    ("tcp flags & syn == 0 reset tcp option mptcp", "ack-stripped"),
    ("tcp flags & syn == 0 tcp option mptcp exists drop", "data-dropped"),
    (f'iifname "core" {ONLY} ack reset tcp option mptcp', "data-stripped"),
]


@pytest.mark.parametrize(("rule", "verdict"), STRANGE)
def test_a_middlebox_that_affects_everything_after_the_handshake(
    shared: World, rule: str, verdict: str
) -> None:
    with shared.box(rule):
        result = shared.test()
    assert (result["verdict"], result["side"], result["exit"]) == (verdict, "path", 1)


def test_the_output_of_both_ends(shared: World) -> None:
    result = shared.daemon.call("test", "wan1", "--to", f"{SERVER}:{PORT}")
    lines = result.out.splitlines()
    assert lines[0] == f"wan1 (eth1) to {SERVER}:{PORT}: {EXPLANATIONS['works']}"
    assert f"{address(1)}:" in lines[1]
    for facts in (("12000", "unchanged"), ("joined", "wan2"), ("listener", f"{address(1)}:")):
        assert any(all(fact in line for fact in facts) for line in lines), facts
    assert max(map(len, lines)) <= 80
    assert (result.code, result.err) == (0, "")
    client = lines[-1].split(": ", 1)[1]
    assert any(line.startswith(client) and "12000" in line for line in iter(shared.output, ""))


def test_a_path_that_takes_no_second_subflow(shared: World) -> None:
    with shared.box("tcp option mptcp exists drop", router=2):
        result = shared.test()
    assert (result["verdict"], result["joins"]) == ("works", {"expected": ["wan2"], "found": []})
    joined = shared.test()["joins"]["found"]
    assert joined == [{"uplink": "wan2", "local": address(2), "remote": SERVER}]


def test_it_uses_its_uplink_only(shared: World) -> None:
    dead = shared.box("tcp option mptcp exists drop", router=1)
    with dead, Capture(shared.wan.gateway) as capture:
        assert shared.test(by="wan2")["verdict"] == "works"
        syns = [p for p in capture.seen() if p.outgoing and p.flags & (SYN | ACK) == SYN]
    assert {p.device for p in syns if p.source == address(2)} == {"eth2"}


# -- the size of packets --------------------------------------------------------------------


@contextmanager
def narrow(world: World, mtu: int, icmp: bool) -> Iterator[None]:
    """The first path passes packets up to `mtu` bytes, with or without ICMP errors."""
    router = world.wan.routers[1]
    router.ip(f"link set core mtu {mtu}")
    if not icmp:
        router.run(
            "nft",
            "-f",
            "-",
            input="table inet quiet { chain out { type filter hook output priority 0;"
            " meta l4proto icmp drop; icmpv6 type packet-too-big drop; }; }",
        )
    try:
        yield
    finally:
        router.ip("link set core mtu 1500")
        if not icmp:
            router.run("nft", "delete", "table", "inet", "quiet")


@pytest.mark.parametrize("server", [SERVER, f"[{SERVER6}]"], ids=["IPv4", "IPv6"])
def test_a_small_path_mtu_with_icmp(shared: World, server: str) -> None:
    with narrow(shared, 1400, icmp=True):
        result = shared.test(f"{server}:{PORT}")
    assert (result["verdict"], result["exit"]) == ("works", 0)
    mtu = result["mtu"]
    assert (mtu["device"], mtu["forward"], mtu["verified"]) == (1500, 1400, True)


def test_a_small_path_mtu_without_icmp(shared: World) -> None:
    with narrow(shared, 1340, icmp=False):
        result = shared.test(f"[{SERVER6}]:{PORT}", "--timeout", "12")
    assert (result["verdict"], result["side"], result["exit"]) == ("pmtu-blackhole", "path", 1)
    assert result["mtu"]["forward"] == result["mtu"]["reverse"] == 1340


# -- peers ----------------------------------------------------------------------------------


@contextmanager
def service(node: Namespace, port: int, protocol: int = 0, does: str = "nothing") -> Iterator[None]:
    """A foreign service, which stays silent, greets, or ends the connection."""
    with node.enter():
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((SERVER, port))
    listening.listen()
    kept = []

    def serve() -> None:
        while True:
            try:
                connected = listening.accept()[0]
            except OSError:
                return
            kept.append(connected)
            if does == "greets":
                connected.sendall(b"220 ready\r\n")
            elif does == "closes":
                connected.recv(100)
                connected.close()
            elif does == "resets":  # what is not read makes it a reset
                time.sleep(0.2)
                connected.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for open_socket in [*kept, listening]:
            open_socket.close()


PEERS = [
    (0, "nothing", "not-negotiated", 1),
    (0, "greets", "not-negotiated", 1),
    (MPTCP, "nothing", "works", 0),
    (MPTCP, "greets", "works", 0),
    (MPTCP, "closes", "works", 0),
    (MPTCP, "resets", "works", 0),
]


@pytest.mark.parametrize(("protocol", "does", "verdict", "code"), PEERS)
def test_a_foreign_service(
    shared: World, protocol: int, does: str, verdict: str, code: int
) -> None:
    with service(shared.wan.server, 2222, protocol, does):
        result = shared.test(f"{SERVER}:2222")
    assert (result["verdict"], result["exit"], result["listener"]) == (verdict, code, None)
    assert result["side"] == (None if code == 0 else "peer or path")


def test_a_foreign_service_behind_a_middlebox(shared: World) -> None:
    with service(shared.wan.server, 2222, MPTCP):
        with shared.box("tcp flags & syn == 0 tcp option mptcp exists drop"):
            assert shared.test(f"{SERVER}:2222")["verdict"] == "data-dropped"
        with shared.box("tcp flags & syn == 0 reset tcp option mptcp"):
            assert shared.test(f"{SERVER}:2222")["verdict"] == "data-stripped"


def test_a_closed_port_and_a_path_that_loses_everything(shared: World) -> None:
    result = shared.test(f"{SERVER}:9")
    assert (result["verdict"], result["exit"], result["error"]) == (
        "refused",
        3,
        "Connection refused",
    )
    with shared.box("drop"):
        result = shared.test()
        assert (result["verdict"], result["exit"], result["side"]) == ("no-answer", 3, None)
        quick = shared.test(f"{SERVER}:{PORT}", "--timeout", "0.5")
        assert quick["verdict"] == "no-answer"
        waited = [
            float(re.findall(r"no answer within ([\d.]+) s", each["error"])[0])
            for each in (quick, result)
        ]
        assert waited[0] <= 0.5 < waited[1]
    with shared.box("tcp flags & syn == 0 meta length > 52 drop"):
        assert shared.test()["verdict"] == "no-data"
        short = shared.test(f"{SERVER}:{PORT}", "--timeout", "1")
        assert (short["verdict"], short["exit"]) == ("timeout", 3)


def test_mptcp_is_off_at_one_end(shared: World) -> None:
    server, gateway = shared.wan.server, shared.wan.gateway
    server.sysctl("net.mptcp.enabled", 0)
    with closing(
        Process(server, shared.daemon.command("test", "--listen", f"{SERVER}:7001"))
    ) as listener:
        assert "net.mptcp.enabled" in listener.line()
        assert f"{SERVER}:7001" in listener.line()
        result = shared.test(f"{SERVER}:7001")
        assert (result["verdict"], result["side"], result["exit"]) == ("peer-disabled", "peer", 1)
        assert "plain TCP, MPTCP is disabled" in listener.line()
    server.sysctl("net.mptcp.enabled", 1)
    gateway.sysctl("net.mptcp.enabled", 0)
    result = shared.test()
    gateway.sysctl("net.mptcp.enabled", 1)
    assert (result["verdict"], result["side"], result["exit"]) == ("local-disabled", "local", 1)


def test_the_kernel_has_paused_mptcp(shared: World) -> None:
    """As after a connection of another program on a path that drops SYNs with MP_CAPABLE."""
    gateway = shared.wan.gateway
    if not gateway.has_sysctl("net.mptcp.blackhole_timeout"):
        pytest.skip("this kernel does not pause MPTCP")
    with gateway.enter():
        other = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    with shared.box("tcp flags & syn == syn tcp option mptcp exists drop"), other:
        other.bind((address(1), 0))
        other.settimeout(10)
        other.connect((SERVER, PORT))
    assert "mptcp-paused" in {problem["code"] for problem in shared.daemon.status()["problems"]}
    gateway.sysctl("net.mptcp.enabled", 0)
    assert "mptcp-disabled" in {problem["code"] for problem in shared.daemon.status()["problems"]}
    gateway.sysctl("net.mptcp.enabled", 1)
    result = shared.test()
    assert (result["verdict"], result["side"], result["exit"]) == ("local-paused", "local", 1)
    gateway.sysctl("net.mptcp.blackhole_timeout", 3600)  # as the advice says
    assert shared.test()["verdict"] == "works"
    assert "mptcp-paused" not in {problem["code"] for problem in shared.daemon.status()["problems"]}


def test_checksums_detect_modified_data(shared: World) -> None:
    shared.wan.gateway.sysctl("net.mptcp.checksum_enabled", 1)
    with shared.box(BOXES["data-modified"][0]):
        result = shared.daemon.call("test", "wan1", "--to", f"{SERVER}:{PORT}")
    shared.wan.gateway.sysctl("net.mptcp.checksum_enabled", 0)
    assert result.code == 1
    assert EXPLANATIONS["data-modified"] in result.words
    assert "detected by MPTCP checksums" in result.words


# -- names, uplinks, usage ------------------------------------------------------------------


def test_names(shared: World) -> None:
    assert shared.test(f"peer:{PORT}")["peer"]["address"] == SERVER
    assert shared.test(f"six:{PORT}")["peer"]["address"] == SERVER6
    result = shared.test(f"four:{PORT}", "-6")
    assert (result["verdict"], result["exit"]) == ("no-name", 3)
    assert SERVER in result["error"]
    assert "IPv6" in result["error"]
    result = shared.test(f"nowhere.example:{PORT}", "--timeout", "1")
    assert (result["verdict"], result["exit"]) == ("no-name", 3)
    assert result["error"].startswith("nowhere.example: ")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["wan9", "--to", "h:1"], ["'wan9'", "wan1, wan2"]),
        (["wan1", "--to", "h"], ["--to", "HOST:PORT", "'h'", "65535"]),
        (["wan1", "--to", ":80"], ["--to", "':80'", "host"]),
        (["wan1", "--to", "::1:80"], ["--to", "brackets: [2001:db8::1]:PORT"]),
        (["wan1", "--to", "h:80", "--timeout", "0"], ["--timeout", "seconds", "'0'"]),
        (["wan1", "--to", "h:80", "--timeout", "nan"], ["--timeout", "seconds", "'nan'"]),
        (["--to", "h:80"], ["mproutd test UPLINK --to HOST:PORT"]),
        (["wan1", "--listen", "80"], ["--listen", "UPLINK"]),
        (["--listen", "0"], ["--listen", "[ADDRESS:]PORT", "'0'"]),
        (["--listen", f"{SERVER}:70000"], ["--listen", "[ADDRESS:]PORT", "65535"]),
    ],
)
def test_wrong_usage_is_one_line(shared: World, words: list[str], facts: list[str]) -> None:
    result = shared.daemon.call("test", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    for fact in facts:
        assert fact in result.err


def test_an_address_that_is_not_local(shared: World) -> None:
    result = shared.daemon.call("test", "--listen", "10.77.77.77:7000")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "10.77.77.77:7000: Cannot assign requested address" in result.err


@pytest.mark.parametrize("words", [["wan1", "--to", f"{SERVER}:{PORT}"], ["--listen", "7002"]])
def test_ctrl_c_ends_it_silently(shared: World, words: list[str]) -> None:
    with shared.box("drop"):
        process = Process(shared.wan.gateway, shared.daemon.command("test", *words))
        time.sleep(0.6)
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(30) == 130
        assert "Traceback" not in process.rest()


class Process:
    """A command of mproutd in a node."""

    def __init__(self, node: Namespace, argv: list[str]) -> None:
        self.popen = node.popen(
            *argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, restore_signals=True
        )

    def line(self) -> str:
        assert self.popen.stdout
        return str(self.popen.stdout.readline()).rstrip()

    def rest(self) -> str:
        assert self.popen.stdout
        return str(self.popen.stdout.read())

    def close(self) -> None:
        self.popen.terminate()
        self.popen.wait()


def test_without_a_daemon_and_an_uplink_without_carrier() -> None:
    with Wan(shaped=False, lan=False).usual() as wan:
        daemon = Daemon(wan.gateway)
        world = World(wan, daemon)
        with Capture(wan.gateway) as capture:
            result = world.test(by="wan2")
            assert (result["verdict"], result["exit"], result["joins"]["expected"]) == (
                "works",
                0,
                [],
            )
            assert capture.devices(lambda packet: packet.protocol == TCP) == {"eth2"}
        wan.unplug(2)
        eventually(lambda: "NO-CARRIER" in wan.gateway.ip("link show eth2"))
        result = world.test(by="wan2")
        assert (result["verdict"], result["exit"]) == ("uplink-unusable", 3)
        assert result["error"] == "the link has no carrier"
        wan.plug(2)
        wan.address_down(2)
        assert world.test(by="wan2")["verdict"] == "uplink-unusable"
        daemon.close()
