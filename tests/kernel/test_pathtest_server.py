"""`mproutd test --listen`: what a stranger who finds the port can and cannot make it do."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import pytest

from mproutd.pathtest import protocol
from mproutd.pathtest.baseline import PACKET_SIZES
from mproutd.pathtest.server import MAX_CONNECTIONS, MAX_SECONDS, MAX_TESTS_OF_SOURCE
from tests.lab import Daemon, Namespace, eventually

pytestmark = pytest.mark.kernel
PORT = 7000


class Listening:
    """The listener in its own node, reached over lo."""

    def __init__(self, node: Namespace, *words: str) -> None:
        self.node = node
        daemon = Daemon(node)
        self.process = node.popen(
            *daemon.command("test", "--listen", *(words or (str(PORT),))),
            stdout=subprocess.PIPE,
            text=True,
        )
        daemon.close()

    def line(self) -> str:
        return str(self.process.stdout.readline()).rstrip()  # type: ignore[union-attr]

    def stranger(self, address: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.node.enter():
            connected = socket.socket(family, socket.SOCK_STREAM)
        connected.settimeout(5)
        connected.connect((address, PORT))
        return connected


@pytest.fixture
def listening(node: Namespace) -> Listening:
    made = Listening(node)
    assert f"[::]:{PORT}" in made.line()
    return made


def cut(stranger: socket.socket) -> bool:
    """The listener closed it without sending anything."""
    return received(stranger) == b""


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, protocol.HELLO[:-1] + b"0\n"]
)
def test_without_hello_nothing_is_sent(listening: Listening, data: bytes) -> None:
    with listening.stranger() as stranger:
        stranger.sendall(data)
        assert cut(stranger)


def test_echo_and_lines_are_limited(listening: Listening) -> None:
    with listening.stranger("::1") as stranger:
        stranger.sendall(protocol.HELLO)
        seen: dict[str, Any] = json.loads(stranger.recv(1000))
        assert seen["client"].startswith("[::1]:")
        assert (seen["accepted"], seen["syn_mp_capable"]) == ("tcp", False)
        stranger.sendall(protocol.echo(protocol.MAX_ECHO_BYTES + 1))
        assert cut(stranger)
    with listening.stranger() as stranger:
        stranger.sendall(protocol.HELLO + protocol.STATUS * 100)
        came = b""
        while piece := received(stranger):
            came += piece
        assert came.count(b"\n") <= protocol.MAX_LINES


def received(stranger: socket.socket) -> bytes:
    """The next bytes; none at the end."""
    try:
        return stranger.recv(1 << 16)
    except ConnectionResetError:
        return b""


def hello(listening: Listening, stranger: socket.socket) -> bool:
    """Whether a test is accepted."""
    stranger.sendall(protocol.HELLO)
    return protocol.parse_view(received(stranger)) is not None


def test_idle_strangers_keep_no_test_out(listening: Listening) -> None:
    crowd = [listening.stranger() for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for _ in range(3):
            with listening.stranger("::1") as test:
                assert hello(listening, test)
            crowd.append(listening.stranger())
        eventually(lambda: cut(crowd[0]))
    finally:
        for connected in crowd:
            connected.close()


def test_connections_are_limited_in_number_and_time(listening: Listening) -> None:
    tests = {
        address: [listening.stranger(address) for _ in range(MAX_TESTS_OF_SOURCE)]
        for address in ("127.0.0.1", "::1")
    }
    everybody = [address for listed in tests.values() for address in listed]
    try:
        assert len(everybody) == MAX_CONNECTIONS
        assert all(hello(listening, address) for address in everybody)
        with listening.stranger() as late:
            assert cut(late)
        # One source may not have all of them.
        tests["::1"].pop().close()
        with listening.stranger() as one_more:
            assert not hello(listening, one_more)
        with listening.stranger("::1") as one_more:
            assert hello(listening, one_more)
        tests["127.0.0.1"][0].settimeout(10 * MAX_SECONDS)
        assert received(tests["127.0.0.1"][0]) == b""
    finally:
        for connected in everybody:
            connected.close()


def test_json_at_one_address_and_it_ends_by_itself(node: Namespace) -> None:
    made = Listening(node, f"127.0.0.1:{PORT}", "--json", "--timeout", "2")

    def connected() -> socket.socket:
        return made.stranger()

    with eventually(connected) as stranger:
        stranger.sendall(protocol.HELLO + protocol.REPORT)
        stranger.recv(1000)
    view = json.loads(made.line())
    assert protocol.parse_view(json.dumps(view).encode()) == view
    assert made.process.wait(5) == 0
    with pytest.raises(ConnectionRefusedError):
        made.stranger("::1")


def test_one_test_has_room_for_all_its_connections() -> None:
    assert 4 + len(PACKET_SIZES) <= MAX_TESTS_OF_SOURCE
